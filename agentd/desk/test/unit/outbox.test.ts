import assert from 'node:assert/strict'
import { test } from 'node:test'
import { maxItems, Outbox, payload } from '../../src/sync/outbox.ts'
import { MemoryBox, message, say } from './fakes.ts'

const ids = (o: Outbox) => o.items.map((i) => i.id)
const due = (o: Outbox) => o.due().map((i) => i.id)

function outbox(...items: [id: string, conversation: string][]) {
  const box = new MemoryBox()
  const o = new Outbox(box, 'ann')
  for (const [id, c] of items) o.add(say(id, c))
  return { o, box }
}

test('of each conversation one is on its way, in order', () => {
  const { o } = outbox(['a1', 'a'], ['a2', 'a'], ['b1', 'b'])
  assert.deepEqual(due(o), ['a1', 'b1'])
  o.started('a1')
  o.started('b1')
  assert.deepEqual(due(o), [])
  o.acknowledged('a1')
  assert.deepEqual(due(o), ['a2'])
})

test('an acknowledged item stays until its own event', () => {
  const { o } = outbox(['a1', 'a'])
  o.started('a1')
  o.acknowledged('a1')
  assert.deepEqual(ids(o), ['a1'])
  assert.equal(o.isAcknowledged('a1'), true)
  assert.equal(o.settle('a1'), true)
  assert.deepEqual(ids(o), [])
  assert.equal(o.settle('a1'), false)
})

test('after a cut everything unanswered is sent again, in the old order', () => {
  const { o } = outbox(['a1', 'a'], ['a2', 'a'], ['a3', 'a'])
  for (const id of ['a1', 'a2']) {
    o.started(id)
    o.acknowledged(id)
  }
  o.settle('a1')
  o.cut()
  assert.deepEqual(due(o), ['a2'])
  o.started('a2')
  assert.deepEqual(due(o), [])
  o.acknowledged('a2')
  assert.deepEqual(due(o), ['a3'])
})

test('what cannot be taken now holds back its conversation, and no other', () => {
  const { o } = outbox(['a1', 'a'], ['a2', 'a'], ['b1', 'b'])
  o.started('a1')
  o.notNow('a1')
  assert.deepEqual(due(o), ['a1', 'b1'])
})

test('it survives the page', () => {
  const { o, box } = outbox(['a1', 'a'], ['a2', 'a'])
  o.started('a1')
  o.refuse('a2', 'not_owner', 'not yours')
  const again = new Outbox(box, 'ann')
  assert.deepEqual(again.items, o.items)
  assert.deepEqual(due(again), ['a1'])
  assert.deepEqual(new Outbox(box, 'ben').items, [])
})

test('a refused item stays in place, is not sent, and lets others pass', () => {
  const { o } = outbox(['a1', 'a'], ['a2', 'a'])
  o.started('a1')
  o.acknowledged('a1')
  assert.equal(o.refuse('a1', 'not_owner', 'why'), true)
  assert.deepEqual(o.items[0]!.refused, { reason: 'not_owner', detail: 'why' })
  assert.deepEqual(due(o), ['a2'])
  assert.equal(o.unanswered(), 1)
  assert.equal(o.refuse('nobody', 'invalid', ''), false)
})

test('a reason from a newer server is still a refusal', () => {
  const { o } = outbox(['a1', 'a'])
  o.refuse('a1', 'brand_new', 'text')
  assert.equal(o.items[0]!.refused!.reason, 'internal')
})

test('trying again is something new: another id, the present epoch, at the end', () => {
  const { o } = outbox(['a1', 'a'], ['a2', 'a'])
  assert.equal(o.retry('a1', 'x', 9, 5), false, 'only what was refused')
  o.refuse('a1', 'not_owner', '')
  assert.equal(o.retry('a1', 'a9', 9, 5), true)
  assert.deepEqual(ids(o), ['a2', 'a9'])
  assert.deepEqual(o.items[1], { ...say('a9', 'a'), epoch: 9, at: 5 })
})

test('what is found among the stored messages is settled, other agents’ ids are not', () => {
  const { o } = outbox(['a1', 'a'], ['a2', 'a'])
  const from = { role: 'agent' as const, id: 'ann', name: 'Ann' }
  o.settleSaid([message('a', 1, { id: 'a1', from }), message('a', 2, { id: 'a2', from: { ...from, id: 'ben' } })], 'ann')
  assert.deepEqual(ids(o), ['a2'])
})

test('it is bounded, and says so', () => {
  const { o } = outbox()
  for (let i = 0; i < maxItems; i++) assert.equal(o.add(say(`m${i}`, 'a')), true)
  assert.equal(o.add(say('more', 'a')), false)
  assert.equal(o.items.length, maxItems)
  const { o: big } = outbox()
  assert.equal(big.add(say('huge', 'a', 'x'.repeat(1_000_001))), false)
})

test('a browser that will not store is noticed, and nothing is lost on the page', () => {
  const { o, box } = outbox(['a1', 'a'])
  box.full = true
  assert.equal(o.add(say('a2', 'a')), true)
  assert.equal(o.durable, false)
  assert.deepEqual(ids(o), ['a1', 'a2'])
  box.full = false
  o.add(say('a3', 'a'))
  assert.equal(o.durable, true)
})

test('rubbish in storage is no reason to fail', () => {
  for (const junk of ['{', '7', '[1, null, {"id": 3}]', '{"id":"x"}']) {
    const box = new MemoryBox()
    box.map.set('holdline.outbox.ann', junk)
    assert.deepEqual(new Outbox(box, 'ann').items, [], junk)
  }
})

test('payloads are those of topics.md', () => {
  assert.deepEqual(payload(say('m1', 'c1', 'Hi')), {
    topic: 'up/message',
    body: '{"id":"m1","conversation":"c1","text":"Hi","epoch":1}',
  })
  assert.deepEqual(payload({ id: 'm2', kind: 'command', conversation: 'c1', do: 'accept', epoch: 0, at: 0, tries: 0 }), {
    topic: 'up/command',
    body: '{"id":"m2","do":"accept","conversation":"c1"}',
  })
})
