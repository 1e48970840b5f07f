// Loads the messages of conversations, and again when some are missing.

import { type Api, statusOf } from './api.ts'
import type { Store } from './state.ts'
import { emptyThread, lastSeq, pageSize, type Thread, withLive, withOlder, withTail } from './thread.ts'
import type { Timers } from './timers.ts'
import type { Message } from './wire.ts'

/** So many stay loaded; the longest unused is forgotten first. */
const maxLoaded = 30
/** How long a message may come after the head that counts it before it is asked for. */
const settling = 300
const attempts = 6

export class Threads {
  private readonly api: Api
  private readonly store: Store
  private readonly timers: Timers
  private readonly loaded: (messages: readonly Message[]) => void
  private readonly loading = new Map<string, { again: boolean }>()
  private readonly checks = new Map<string, { timer: number; tries: number }>()
  private open: string | null = null

  constructor(api: Api, store: Store, timers: Timers, loaded: (messages: readonly Message[]) => void) {
    this.api = api
    this.store = store
    this.timers = timers
    this.loaded = loaded
  }

  /** show marks the conversation on the screen, and loads it. */
  show(id: string | null): void {
    this.open = id
    if (!id) return
    const t = this.store.state.threads.get(id)
    const threads = new Map(this.store.state.threads)
    threads.delete(id) // to the end: last used
    threads.set(id, t ?? emptyThread)
    for (const old of [...threads.keys()].slice(0, Math.max(0, threads.size - maxLoaded))) threads.delete(old)
    this.store.set({ threads })
    if (!t || t.status === 'failed') void this.tail(id)
    else this.check(id)
  }

  /** clear forgets everything. */
  clear(): void {
    for (const c of this.checks.values()) this.timers.clear(c.timer)
    this.checks.clear()
    this.loading.clear()
    this.open = null
  }

  /** live takes a message that arrived as an event. */
  live(m: Message): void {
    const t = this.store.state.threads.get(m.conversation)
    if (!t) return
    const { thread, hole } = withLive(t, m)
    if (thread !== t) this.put(m.conversation, thread)
    if (hole) this.check(m.conversation)
  }

  /** check makes sure, after a moment, that what is loaded reaches the head. */
  check(id: string, tries = 0): void {
    const t = this.store.state.threads.get(id)
    const head = this.store.state.heads.get(id)
    if (!t || !head || head.last_seq <= lastSeq(t) || this.checks.has(id) || tries >= attempts) return
    const timer = this.timers.setTimeout(() => {
      this.checks.delete(id)
      const now = this.store.state.threads.get(id)
      if (!now || (this.store.state.heads.get(id)?.last_seq ?? 0) <= lastSeq(now)) return
      if (this.open === id) void this.tail(id, tries + 1)
      else this.drop(id) // it is loaded when somebody looks at it
    }, settling * 2 ** tries)
    this.checks.set(id, { timer, tries })
  }

  /** tail loads the newest page. */
  async tail(id: string, tries = 0): Promise<void> {
    const running = this.loading.get(id)
    if (running) {
      running.again = true
      return
    }
    const load = { again: false }
    this.loading.set(id, load)
    const t = this.store.state.threads.get(id)
    if (t && t.status !== 'ready') this.put(id, { ...t, status: 'loading' })
    try {
      const page = await this.api.messages(id, null, pageSize)
      if (this.loading.get(id) !== load) return
      this.loaded(page.messages)
      const now = this.store.state.threads.get(id)
      if (now) this.put(id, withTail(now, page.messages, page.more))
    } catch (err) {
      if (this.loading.get(id) !== load) return
      const now = this.store.state.threads.get(id)
      if (now && statusOf(err) === 403) this.put(id, { ...now, status: 'denied' })
      else if (now && now.messages.length === 0) this.put(id, { ...now, status: 'failed' })
    }
    this.loading.delete(id)
    if (load.again) void this.tail(id)
    else this.check(id, tries)
  }

  /** older loads the page before what is there. */
  async older(id: string): Promise<void> {
    const t = this.store.state.threads.get(id)
    const first = t?.messages[0]
    if (!t || !first || !t.more || t.loadingOlder) return
    this.put(id, { ...t, loadingOlder: true })
    try {
      const page = await this.api.messages(id, first.seq, pageSize)
      const now = this.store.state.threads.get(id)
      if (now) this.put(id, withOlder(now, page.messages, page.more))
    } catch {
      const now = this.store.state.threads.get(id)
      if (now) this.put(id, { ...now, loadingOlder: false })
    }
  }

  /** resume is called when the link is back: what failed or fell behind is loaded. */
  resume(): void {
    for (const [id, t] of this.store.state.threads) {
      if (this.open === id && t.status !== 'ready' && t.status !== 'denied') void this.tail(id)
      else this.check(id)
    }
  }

  private drop(id: string): void {
    const threads = new Map(this.store.state.threads)
    threads.delete(id)
    this.store.set({ threads })
  }

  private put(id: string, t: Thread): void {
    if (!this.store.state.threads.has(id)) return
    this.store.set({ threads: new Map(this.store.state.threads).set(id, t) })
  }
}
