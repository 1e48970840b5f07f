// Writes dist.sum after a build: what dist was made from, and what it is.
// desk_test.go computes both again, so that a change of the source without a
// build, or of dist by hand, is noticed on a machine that has no node.

import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Everything that a build reads. */
const sources = ['.npmrc', 'index.html', 'package-lock.json', 'package.json', 'public', 'src', 'tsconfig.json', 'vite.config.ts']

const dist = process.argv[2] ?? 'dist'

function files(p) {
  return statSync(p).isDirectory() ? readdirSync(p).flatMap((f) => files(join(p, f))) : [p]
}

function sum(paths, root = '') {
  const h = createHash('sha256')
  for (const p of paths.flatMap(files).sort()) {
    const body = readFileSync(p)
    const name = p.slice(root.length).replaceAll('\\', '/')
    h.update(`${name}\0${body.length}\0`)
    h.update(body)
  }
  return h.digest('hex')
}

const text = `sources ${sum(sources)}\ndist ${sum([dist], dist + '/')}\n`
if (process.argv[3]) writeFileSync(process.argv[3], text)
else writeFileSync('dist.sum', text)
