// Keeps the time for workerTimers: a worker's timers are not slowed in the background.

import type { Order } from './timers.ts'

const running = new Map<number, ReturnType<typeof setTimeout>>()

self.onmessage = (e: MessageEvent<Order>) => {
  const o = e.data
  switch (o.do) {
    case 'once':
      running.set(
        o.id,
        setTimeout(() => {
          running.delete(o.id)
          self.postMessage(o.id)
        }, o.ms),
      )
      return
    case 'every':
      running.set(
        o.id,
        setInterval(() => self.postMessage(o.id), o.ms),
      )
      return
    case 'clear':
      clearTimeout(running.get(o.id))
      clearInterval(running.get(o.id))
      running.delete(o.id)
  }
}
