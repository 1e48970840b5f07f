import assert from 'node:assert/strict'
import { test } from 'node:test'
import { emptyThread, type Thread, withLive, withOlder, withTail } from '../../src/sync/thread.ts'
import { message } from './fakes.ts'

const page = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => message('c1', from + i))
const seqs = (t: Thread) => t.messages.map((m) => m.seq)
const thread = (from: number, to: number, more = from > 1): Thread => ({ ...emptyThread, status: 'ready', messages: page(from, to), more })

test('a live message follows the last one', () => {
  const { thread: t, hole } = withLive(thread(1, 3), message('c1', 4))
  assert.deepEqual(seqs(t), [1, 2, 3, 4])
  assert.equal(hole, false)
})

test('a repeated message changes nothing', () => {
  const t = thread(1, 3)
  for (const seq of [1, 2, 3]) assert.deepEqual(withLive(t, message('c1', seq)), { thread: t, hole: false })
})

test('a skipped message is a hole and is not shown out of its place', () => {
  const t = thread(1, 3)
  assert.deepEqual(withLive(t, message('c1', 5)), { thread: t, hole: true })
})

test('the newest page closes a hole when it touches', () => {
  const t = withTail(thread(1, 60, false), page(30, 80), true)
  assert.deepEqual(seqs(t), seqs(thread(1, 80)))
  assert.equal(t.more, false)
})

test('the newest page begins anew when it does not touch', () => {
  const t = withTail(thread(1, 20, false), page(51, 100), true)
  assert.deepEqual(seqs(t), seqs(thread(51, 100)))
  assert.equal(t.more, true)
})

test('what joined live while the page was on its way is kept', () => {
  let t: Thread = { ...emptyThread }
  t = withTail(t, page(51, 100), true)
  t = withLive(t, message('c1', 101)).thread
  t = withTail(t, page(51, 100), true)
  assert.deepEqual(seqs(t), seqs(thread(51, 101)))
})

test('older pages go in front, once', () => {
  const first = withOlder(thread(51, 100), page(1, 50), false)
  assert.deepEqual(seqs(first), seqs(thread(1, 100)))
  assert.equal(first.more, false)
  assert.deepEqual(seqs(withOlder(first, page(1, 50), false)), seqs(first))
})

test('an older page that leaves a hole is ignored', () => {
  assert.deepEqual(seqs(withOlder(thread(51, 100), page(1, 40), false)), seqs(thread(51, 100)))
})

test('an empty conversation is ready and empty', () => {
  const t = withTail(emptyThread, [], false)
  assert.equal(t.status, 'ready')
  assert.equal(t.more, false)
})
