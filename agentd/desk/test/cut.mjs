// A TCP proxy whose link can be cut: connections die, and new ones are refused
// until it is mended.

import { connect, createServer } from 'node:net'

export async function cutter(host, port) {
  let down = false
  const open = new Set()
  const server = createServer((from) => {
    if (down) return from.destroy()
    const to = connect(port, host)
    for (const [a, b] of [[from, to], [to, from]]) {
      open.add(a)
      a.on('error', () => b.destroy())
      a.on('close', () => {
        open.delete(a)
        b.destroy()
      })
      a.pipe(b)
    }
  })
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut() {
      down = true
      for (const s of open) s.destroy()
    },
    mend() {
      down = false
    },
    async close() {
      down = true
      for (const s of open) s.destroy()
      await new Promise((done) => server.close(done))
    },
  }
}
