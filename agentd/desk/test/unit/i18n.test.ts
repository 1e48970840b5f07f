import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { dictionaries } from '../../src/i18n.ts'

/** What is the same in every language. */
const names = new Set(['app'])

/** flat lists every entry by its path, functions called with numbers. */
function flat(x: unknown, path = ''): [string, string][] {
  if (typeof x === 'string') return [[path, x]]
  if (typeof x === 'function') return [[path, (x as (...a: number[]) => string)(3, 7)]]
  return Object.entries(x as object).flatMap(([k, v]) => flat(v, path ? `${path}.${k}` : k))
}

test('nothing is left untranslated or empty', () => {
  const en = new Map(flat(dictionaries.en))
  for (const [path, text] of flat(dictionaries['zh-CN'])) {
    assert.notEqual(text.trim(), '', path)
    if (names.has(path)) continue
    assert.notEqual(text, en.get(path), path)
    assert.match(text, path === 'announceMessage' || path === 'load' ? /./ : /\p{Script=Han}/u, path)
  }
})

test('every entry is used', () => {
  const root = join(import.meta.dirname ?? '.', '../../..')
  const ui = join(root, 'src/ui')
  const source = readdirSync(ui).map((f) => readFileSync(join(ui, f), 'utf8')).join('\n')
  const unused = Object.keys(dictionaries.en).filter((key) => !new RegExp(`\\bt\\.${key}\\b`).test(source))
  assert.deepEqual(unused, [])
})

test('every kind of refusal has its words', () => {
  for (const d of Object.values(dictionaries)) assert.equal(new Set(Object.values(d.reason)).size, Object.keys(d.reason).length)
})
