// A clock that moves when told, storage in memory, and builders of what the server says.

import type { Box, Item } from '../../src/sync/outbox.ts'
import type { Timers } from '../../src/sync/timers.ts'
import type { Agent, Conversation, Message, Session, Snapshot, WireEvent } from '../../src/sync/wire.ts'

/** Clock runs timers in the order in which they are due, and nothing by itself. */
export class Clock implements Timers {
  now = 1_800_000_000_000
  private last = 0
  private readonly waiting = new Map<number, { at: number; run: () => void; every: number }>()

  setTimeout(run: () => void, ms: number): number {
    this.waiting.set(++this.last, { at: this.now + ms, run, every: 0 })
    return this.last
  }
  setInterval(run: () => void, ms: number): number {
    this.waiting.set(++this.last, { at: this.now + ms, run, every: ms })
    return this.last
  }
  clear(id: number): void {
    this.waiting.delete(id)
  }

  /** pass lets time go by, and what was started in it come to rest. */
  async pass(ms: number): Promise<void> {
    const until = this.now + ms
    await rest()
    for (;;) {
      const [id, t] = [...this.waiting].sort((a, b) => a[1].at - b[1].at || a[0] - b[0])[0] ?? []
      if (!t || id === undefined || t.at > until) break
      this.now = t.at
      if (t.every) t.at += t.every
      else this.waiting.delete(id)
      t.run()
      await rest()
    }
    this.now = until
  }
}

/** tick is the time one answer takes. */
export const tick = (): Promise<void> => new Promise((done) => void setImmediate(done))

/** rest lets everything come to rest: a few answers that wait for each other. */
export async function rest(): Promise<void> {
  for (let i = 0; i < 8; i++) await tick()
}

export class MemoryBox implements Box {
  readonly map = new Map<string, string>()
  full = false
  getItem(k: string): string | null {
    return this.map.get(k) ?? null
  }
  setItem(k: string, v: string): void {
    if (this.full) throw new Error('QuotaExceededError')
    this.map.set(k, v)
  }
  removeItem(k: string): void {
    this.map.delete(k)
  }
}

export const ann: Agent = { id: 'ann', name: 'Ann', intent: 'available', capacity: 5, load: 0, reachable: false }

export const session = (token = 't1'): Session => ({
  agent: ann,
  token,
  device: 'desk-1',
  expires: new Date(1_800_000_000_000 + 3600_000).toISOString(),
})

export const conversation = (id: string, c: Partial<Conversation> = {}): Conversation => ({
  conversation: id,
  state: 'waiting',
  episode: 1,
  last_seq: 1,
  customer: { role: 'customer', id: 'ada', name: 'Ada' },
  queue: 'main',
  ...c,
})

export const held = (id: string, epoch: number, c: Partial<Conversation> = {}): Conversation =>
  conversation(id, { state: 'held', epoch, agent: { role: 'agent', id: 'ann', name: 'Ann' }, ...c })

export const message = (conversation: string, seq: number, m: Partial<Message> = {}): Message => ({
  conversation,
  seq,
  id: `m${seq}`,
  from: { role: 'customer', id: 'ada', name: 'Ada' },
  kind: 'text',
  text: `text ${seq}`,
  at: '2026-11-21T09:30:02.120Z',
  ...m,
})

export const messageEvent = (event: string, m: Message): WireEvent => ({ event, type: 'message', ...m })

export const headEvent = (event: string, c: Conversation): WireEvent => {
  const { conversation, ...head } = c
  return { event, type: 'conversation', conversation, head }
}

export const snapshot = (s: Partial<Snapshot> = {}): Snapshot => ({
  me: ann,
  agents: [],
  queues: [{ id: 'main' }],
  conversations: [],
  events: { own: 'k1-0', queues: { main: 'k1-0' } },
  ...s,
})

export const say = (id: string, conversation: string, text = 'hello'): Item => ({
  id,
  kind: 'say',
  conversation,
  epoch: 1,
  text,
  at: 0,
  tries: 0,
})
