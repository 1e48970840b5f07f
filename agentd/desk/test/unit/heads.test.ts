import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Heads, newer, pruned, withHead, withMessage, withSnapshot } from '../../src/sync/heads.ts'
import { conversation, held, message } from './fakes.ts'

test('an older head never overwrites, whichever way it comes', () => {
  const known = held('c1', 3, { last_seq: 7 })
  for (const old of [held('c1', 2, { last_seq: 9 }), held('c1', 3, { last_seq: 6 }), conversation('c1', { last_seq: 9 })]) {
    assert.equal(newer(known, old), known)
    const heads: Heads = new Map([['c1', known]])
    assert.equal(withHead(heads, old).get('c1'), known)
    assert.equal(withSnapshot(heads, [old]).heads.get('c1'), known)
  }
})

test('a head of the same moment is the later word', () => {
  const a = held('c1', 3, { last_seq: 7 })
  const b = held('c1', 3, { last_seq: 7, last_text: 'renamed' })
  assert.equal(newer(a, b), b)
})

test('any order of the same heads ends the same', () => {
  const story = [
    conversation('c1', { last_seq: 1 }),
    held('c1', 1, { last_seq: 1 }),
    held('c1', 1, { last_seq: 1, accepted: true }),
    held('c1', 1, { last_seq: 3, accepted: true }),
    conversation('c1', { epoch: 2, last_seq: 3 }),
    held('c1', 3, { last_seq: 3 }),
    conversation('c1', { epoch: 4, last_seq: 5, state: 'resolved' }),
  ]
  for (const order of permutations(story)) {
    let heads: Heads = new Map()
    for (const c of order) heads = withHead(heads, c)
    assert.equal(heads.get('c1')!.state, 'resolved')
    assert.equal(heads.get('c1')!.last_seq, 5)
  }
})

test('a confirmation is kept within its owner epoch, and only there', () => {
  const confirmed = held('c1', 1, { accepted: true })
  assert.equal(newer(confirmed, held('c1', 1)).accepted, true)
  assert.equal(newer(held('c1', 1), confirmed).accepted, true)
  assert.equal(newer(confirmed, held('c1', 3)).accepted, undefined)
})

test('a message brings its head up to date, an old one does not', () => {
  const heads: Heads = new Map([['c1', held('c1', 1, { last_seq: 4, last_text: 'four' })]])
  assert.equal(withMessage(heads, message('c1', 4)), heads)
  assert.equal(withMessage(heads, message('c2', 9)), heads)
  const after = withMessage(heads, message('c1', 5, { text: 'x'.repeat(500) })).get('c1')!
  assert.equal(after.last_seq, 5)
  assert.equal(after.last_text!.length, 161)
  assert.equal(after.last_from, 'customer')
})

test('a snapshot names the open conversations it lacks, and leaves resolved ones alone', () => {
  const heads: Heads = new Map([
    ['open', held('open', 1)],
    ['done', conversation('done', { state: 'resolved', epoch: 2 })],
  ])
  const r = withSnapshot(heads, [conversation('new')])
  assert.deepEqual(r.gone, ['open'])
  assert.deepEqual([...r.heads.keys()].sort(), ['done', 'new', 'open'])
})

test('a long day is bounded: resolved ones are forgotten, open and used ones are not', () => {
  const heads = new Map([...Array(1200).keys()].map((i) => [`c${i}`, conversation(`c${i}`, i < 1100 ? { state: 'resolved' } : {})]))
  const left = pruned(heads, new Map([['c3', 1]]))
  assert.equal(left.size, 101)
  assert.ok(left.has('c3'))
})

function permutations<T>(list: T[]): T[][] {
  if (list.length < 2) return [list]
  return list.flatMap((x, i) => permutations([...list.slice(0, i), ...list.slice(i + 1)]).map((rest) => [x, ...rest]))
}
