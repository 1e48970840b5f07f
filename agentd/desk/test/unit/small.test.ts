import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Backoff } from '../../src/sync/backoff.ts'
import { uuidv7 } from '../../src/sync/uuid.ts'

test('the bound of the back-off doubles from one second to thirty, and starts over', () => {
  const b = new Backoff(() => 1)
  assert.deepEqual([0, 0, 0, 0, 0, 0, 0].map(() => b.next()), [1000, 2000, 4000, 8000, 16000, 30000, 30000])
  b.reset()
  assert.equal(b.next(), 1000)
})

test('the wait is anywhere below the bound', () => {
  const b = new Backoff(() => 0.25)
  assert.deepEqual([0, 0].map(() => b.next()), [250, 500])
})

test('ids sort by time and do not repeat', () => {
  const ids = [...Array(1000).keys()].map((i) => uuidv7(1_700_000_000_000 + i))
  assert.deepEqual([...ids].sort(), ids)
  assert.equal(new Set([...Array(1000)].map(() => uuidv7(5))).size, 1000)
  assert.match(uuidv7(0x0199_1234_5678), /^01991234-5678-7/)
})
