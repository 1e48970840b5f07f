import assert from 'node:assert/strict'
import { test } from 'node:test'
import { linked } from '../../src/ui/links.ts'

const links = (text: string) => linked(text).filter((p) => p.href).map((p) => p.href)

test('addresses become links without the sentence around them', () => {
  for (const [text, want] of [
    ['see https://a.example/x?y=1#z.', ['https://a.example/x?y=1#z']],
    ['(https://a.example/x)', ['https://a.example/x']],
    ['https://a.example/w_(x), ok', ['https://a.example/w_(x)']],
    ['http://a.example and HTTPS://B.example!', ['http://a.example', 'HTTPS://B.example']],
    ['请看https://a.example/订单。谢谢', ['https://a.example/订单']],
    ['no link: example.com, ftp://a, javascript:alert(1), data:text/html,x', []],
    ['https://', []],
    ['', []],
  ] as const) assert.deepEqual(links(text), want, text)
})

test('nothing of the text is lost or added', () => {
  for (const text of ['a https://b.example. c', 'https://a https://b', 'https://[', '\n x \n', 'x'.repeat(9000) + ' https://a.example/' + ')'.repeat(500)]) {
    assert.equal(linked(text).map((p) => p.text).join(''), text)
  }
})

test('a message made to be slow is not', () => {
  const began = performance.now()
  linked('https://a.example/' + ')'.repeat(16_000))
  linked('https://a.example/' + '(.'.repeat(8_000))
  linked('https://'.repeat(2_000))
  assert.ok(performance.now() - began < 500)
})
