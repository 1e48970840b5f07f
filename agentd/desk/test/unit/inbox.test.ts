import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Inboxes, inboxOf, own, parseEventID } from '../../src/sync/inbox.ts'

test('an event id is split at its last dash', () => {
  assert.deepEqual(parseEventID('k3-7'), { incarnation: 'k3', n: 7 })
  assert.deepEqual(parseEventID('a-b-12'), { incarnation: 'a-b', n: 12 })
  for (const bad of ['', '7', '-7', 'k3-', 'k3-x', 'k3--1x', 'k3-9999999999999999']) assert.equal(parseEventID(bad), null, bad)
})

test('topics name their inbox, with the queue unescaped', () => {
  assert.equal(inboxOf('down/event'), own)
  assert.equal(inboxOf('queue/main/event'), 'queue main')
  assert.equal(inboxOf('queue/a%2Fb%25/event'), 'queue a/b%')
  for (const other of ['down/reply', 'queue/main', 'queue/a/b/event']) assert.equal(inboxOf(other), null, other)
})

test('each inbox counts by itself', () => {
  const i = new Inboxes()
  i.reset({ own: 'k1-4', queues: { main: 'k1-9' } })
  assert.equal(i.admit(own, 'k1-5'), 'next')
  assert.equal(i.admit('queue main', 'k1-10'), 'next')
  assert.equal(i.admit(own, 'k1-6'), 'next')
})

test('what a snapshot or an earlier event told is known', () => {
  const i = new Inboxes()
  i.reset({ own: 'k1-4', queues: {} })
  assert.equal(i.admit(own, 'k1-3'), 'known')
  assert.equal(i.admit(own, 'k1-4'), 'known')
  assert.equal(i.admit(own, 'k1-5'), 'next')
  assert.equal(i.admit(own, 'k1-5'), 'known')
})

test('a gap is lost and stays so until a snapshot', () => {
  const i = new Inboxes()
  i.reset({ own: 'k1-4', queues: {} })
  assert.equal(i.admit(own, 'k1-6'), 'lost')
  assert.equal(i.admit(own, 'k1-7'), 'lost')
  i.reset({ own: 'k1-7', queues: {} })
  assert.equal(i.admit(own, 'k1-8'), 'next')
})

test('another incarnation is lost, also when its number would fit', () => {
  const i = new Inboxes()
  i.reset({ own: 'k1-4', queues: {} })
  assert.equal(i.admit(own, 'k2-5'), 'lost')
  assert.equal(i.admit(own, 'k2-1'), 'lost')
  assert.equal(i.admit(own, 'rubbish'), 'lost')
})

test('an inbox without a position starts with what comes first', () => {
  const i = new Inboxes()
  i.reset({ own: '', queues: {} })
  assert.equal(i.admit(own, 'k1-1'), 'next')
  assert.equal(i.admit('queue new', 'k1-40'), 'next')
  assert.equal(i.admit('queue new', 'k1-42'), 'lost')
})
