// The order in which a desk catches up: subscribe, keep what arrives, take a
// snapshot, put what was kept on top, go live. Whatever is lost in between
// shows as a gap in the numbers and leads to a new snapshot.

import { Backoff } from './backoff.ts'
import { Inboxes, inboxOf } from './inbox.ts'
import type { Timers } from './timers.ts'
import type { Snapshot, WireEvent } from './wire.ts'

/** Where a Feed pours what it has put in order. */
export interface Sink {
  /** A whole picture: it replaces what is known, but never by something older. */
  snapshot(s: Snapshot): void
  /** One event. fresh is false when a snapshot or an earlier event has told it already. */
  event(e: WireEvent, fresh: boolean): void
  /** Everything up to now is in. */
  live(): void
  /** The snapshot could not be had; true means that trying again is pointless. */
  failed(err: unknown): boolean
}

/** More than this is not kept while a snapshot is on its way: another one is cheaper. */
export const maxKept = 10_000

export class Feed {
  private readonly inboxes = new Inboxes()
  private readonly fetch: () => Promise<Snapshot>
  private readonly sink: Sink
  private readonly timers: Timers
  private readonly backoff: Backoff
  private kept: { inbox: string; e: WireEvent }[] | null = null
  private overflow = false
  private run = 0
  private timer = 0

  constructor(fetch: () => Promise<Snapshot>, sink: Sink, timers: Timers, backoff = new Backoff()) {
    this.fetch = fetch
    this.sink = sink
    this.timers = timers
    this.backoff = backoff
  }

  /** begin is called once everything is subscribed: events are kept from now on. */
  begin(): void {
    this.kept ??= []
    void this.catchUp()
  }

  /** stop is called when the connection is lost or given up. */
  stop(): void {
    this.run++
    this.timers.clear(this.timer)
    this.kept = null
    this.overflow = false
  }

  /** push takes what arrived. Topics that are no inbox and payloads that are no event are ignored. */
  push(topic: string, payload: string): void {
    const inbox = inboxOf(topic)
    const e = inbox && parse(payload)
    if (!inbox || !e) return
    if (this.kept) this.keep(inbox, e)
    else if (!this.apply(inbox, e)) {
      this.kept = []
      this.keep(inbox, e)
      void this.catchUp()
    }
  }

  private keep(inbox: string, e: WireEvent): void {
    if (this.kept!.length >= maxKept) {
      this.kept = []
      this.overflow = true
    }
    this.kept!.push({ inbox, e })
  }

  /** apply returns false when something before e is missing. */
  private apply(inbox: string, e: WireEvent): boolean {
    const verdict = this.inboxes.admit(inbox, e.event)
    if (verdict === 'lost') return false
    this.sink.event(e, verdict === 'next')
    return true
  }

  private async catchUp(): Promise<void> {
    const run = ++this.run
    let s: Snapshot
    try {
      s = await this.fetch()
    } catch (err) {
      if (run === this.run && !this.sink.failed(err)) this.again()
      return
    }
    if (run !== this.run) return
    this.inboxes.reset(s.events)
    this.sink.snapshot(s)
    const kept = this.kept ?? []
    if (this.overflow || !kept.every((k) => this.apply(k.inbox, k.e))) {
      // What is kept stays kept: the next snapshot will know it.
      this.overflow = false
      return this.again()
    }
    this.kept = null
    this.backoff.reset()
    this.sink.live()
  }

  private again(): void {
    const run = this.run
    this.timer = this.timers.setTimeout(() => {
      if (run === this.run) void this.catchUp()
    }, this.backoff.next())
  }
}

function parse(payload: string): WireEvent | null {
  try {
    const e: unknown = JSON.parse(payload)
    if (typeof e !== 'object' || e === null) return null
    const { event, type } = e as WireEvent
    return typeof event === 'string' && typeof type === 'string' ? (e as WireEvent) : null
  } catch {
    return null
  }
}
