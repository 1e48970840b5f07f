// Timers that keep their pace while the page is in the background.

export interface Timers {
  setTimeout(run: () => void, ms: number): number
  setInterval(run: () => void, ms: number): number
  clear(id: number): void
}

/** What the page tells the worker; the worker answers with the id that is due. */
export type Order = { do: 'once' | 'every'; id: number; ms: number } | { do: 'clear'; id: number }

/** pageTimers are the page's own. */
export const pageTimers: Timers = {
  setTimeout: (run, ms) => Number(setTimeout(run, ms)),
  setInterval: (run, ms) => Number(setInterval(run, ms)),
  clear(id) {
    clearTimeout(id)
    clearInterval(id)
  },
}

interface Waiting {
  run: () => void
  every: boolean
  ms: number
  page?: number
}

/** workerTimers has a worker keep the time, and the page itself where the worker cannot run. */
export function workerTimers(start: () => Worker): Timers {
  const waiting = new Map<number, Waiting>()
  let worker: Worker | null = null
  let last = 0

  const due = (id: number) => {
    const t = waiting.get(id)
    if (!t) return
    if (!t.every) waiting.delete(id)
    t.run()
  }
  const byPage = (id: number, t: Waiting) => {
    t.page = t.every ? pageTimers.setInterval(t.run, t.ms) : pageTimers.setTimeout(() => due(id), t.ms)
  }
  try {
    worker = start()
    worker.onmessage = (e: MessageEvent<number>) => due(e.data)
    worker.onerror = () => {
      worker = null
      for (const [id, t] of waiting) byPage(id, t)
    }
  } catch {
    // no workers here
  }
  const add = (run: () => void, ms: number, every: boolean) => {
    const id = ++last
    const t: Waiting = { run, every, ms }
    waiting.set(id, t)
    if (worker) worker.postMessage({ do: every ? 'every' : 'once', id, ms } satisfies Order)
    else byPage(id, t)
    return id
  }
  return {
    setTimeout: (run, ms) => add(run, ms, false),
    setInterval: (run, ms) => add(run, ms, true),
    clear(id) {
      const t = waiting.get(id)
      waiting.delete(id)
      if (t?.page !== undefined) pageTimers.clear(t.page)
      else if (t) worker?.postMessage({ do: 'clear', id } satisfies Order)
    },
  }
}
