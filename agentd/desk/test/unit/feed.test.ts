import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Backoff } from '../../src/sync/backoff.ts'
import { Feed, maxKept } from '../../src/sync/feed.ts'
import type { Snapshot, WireEvent } from '../../src/sync/wire.ts'
import { Clock, message, messageEvent, rest, snapshot } from './fakes.ts'

/** A Feed whose snapshots are handed out by the test, and a log of what it poured. */
function feed() {
  const clock = new Clock()
  const asked: { give(s: Snapshot): Promise<void>; fail(): Promise<void> }[] = []
  const log: string[] = []
  const f = new Feed(
    () =>
      new Promise((give, fail) => {
        asked.push({
          give: (s) => (give(s), rest()),
          fail: () => (fail(new Error('no')), rest()),
        })
      }),
    {
      snapshot: (s) => log.push(`snapshot ${s.events.own}`),
      event: (e, fresh) => log.push(`${fresh ? 'event' : 'known'} ${e.event}`),
      live: () => log.push('live'),
      failed: () => false,
    },
    clock,
    new Backoff(() => 1),
  )
  const event = (id: string): string => JSON.stringify(messageEvent(id, message('c1', 1)) satisfies WireEvent)
  return { f, clock, asked, log, push: (id: string, topic = 'down/event') => f.push(topic, event(id)) }
}

const at = (own: string, main = 'k1-0') => snapshot({ events: { own, queues: { main } } })

test('what arrives before the snapshot is put on top of it, what it knows is told as known', async () => {
  const { f, asked, log, push } = feed()
  f.begin()
  push('k1-3')
  push('k1-4')
  push('k1-5')
  assert.deepEqual(log, [], 'nothing before the snapshot')
  await asked[0]!.give(at('k1-4'))
  assert.deepEqual(log, ['snapshot k1-4', 'known k1-3', 'known k1-4', 'event k1-5', 'live'])
  push('k1-6')
  assert.equal(log.at(-1), 'event k1-6')
})

test('a gap leads to a new snapshot, and what came after it is not lost', async () => {
  const { f, asked, log, push } = feed()
  f.begin()
  await asked[0]!.give(at('k1-1'))
  push('k1-2')
  push('k1-4')
  push('k1-5')
  assert.equal(asked.length, 2)
  await asked[1]!.give(at('k1-4'))
  assert.deepEqual(log.slice(2), ['event k1-2', 'snapshot k1-4', 'known k1-4', 'event k1-5', 'live'])
})

test('a gap that the snapshot does not close leads to the next one, with patience', async () => {
  const { f, asked, log, push, clock } = feed()
  f.begin()
  push('k1-9')
  await asked[0]!.give(at('k1-4'))
  assert.deepEqual(log, ['snapshot k1-4'])
  assert.equal(asked.length, 1, 'not at once')
  await clock.pass(1000)
  assert.equal(asked.length, 2)
  await asked[1]!.give(at('k1-9'))
  assert.deepEqual(log.slice(1), ['snapshot k1-9', 'known k1-9', 'live'])
})

test('another incarnation leads to a new snapshot', async () => {
  const { f, asked, log, push } = feed()
  f.begin()
  await asked[0]!.give(at('k1-7'))
  push('k2-1')
  await asked[1]!.give(at('k2-0'))
  assert.deepEqual(log, ['snapshot k1-7', 'live', 'snapshot k2-0', 'event k2-1', 'live'])
})

test('queues count apart from the own inbox', async () => {
  const { f, asked, log, push } = feed()
  f.begin()
  await asked[0]!.give(at('k1-7', 'k1-100'))
  push('k1-101', 'queue/main/event')
  push('k1-8')
  assert.deepEqual(log.slice(2), ['event k1-101', 'event k1-8'])
})

test('a snapshot that cannot be had is tried again, later and later', async () => {
  const { f, asked, clock, push, log } = feed()
  f.begin()
  push('k1-1')
  await asked[0]!.fail()
  await clock.pass(999)
  assert.equal(asked.length, 1)
  await clock.pass(1)
  assert.equal(asked.length, 2)
  await asked[1]!.fail()
  await clock.pass(1999)
  assert.equal(asked.length, 2)
  await clock.pass(1)
  await asked[2]!.give(at('k1-0'))
  assert.deepEqual(log, ['snapshot k1-0', 'event k1-1', 'live'])
})

test('a snapshot asked for on an old connection is not taken on the next one', async () => {
  const { f, asked, log } = feed()
  f.begin()
  f.stop()
  f.begin()
  await asked[0]!.give(at('k1-1'))
  assert.deepEqual(log, [])
  await asked[1]!.give(at('k1-2'))
  assert.deepEqual(log, ['snapshot k1-2', 'live'])
})

test('after stop nothing is asked for any more', async () => {
  const { f, asked, clock } = feed()
  f.begin()
  await asked[0]!.fail()
  f.stop()
  await clock.pass(60_000)
  assert.equal(asked.length, 1)
})

test('what is kept is bounded: beyond it another snapshot is taken', async () => {
  const { f, asked, log, push, clock } = feed()
  f.begin()
  for (let n = 1; n <= maxKept + 5; n++) push(`k1-${n}`)
  await asked[0]!.give(at('k1-0'))
  assert.deepEqual(log, ['snapshot k1-0'])
  await clock.pass(1000)
  await asked[1]!.give(at(`k1-${maxKept + 5}`))
  assert.equal(log.at(-1), 'live')
})

test('topics and payloads that are none of ours are ignored', async () => {
  const { f, asked, log } = feed()
  f.begin()
  await asked[0]!.give(at('k1-0'))
  f.push('down/reply', '{"request":"r1"}')
  for (const bad of ['', '{', 'null', '7', '{"event":7}', '{"type":"message"}']) f.push('down/event', bad)
  assert.deepEqual(log, ['snapshot k1-0', 'live'])
  assert.equal(asked.length, 1)
})
