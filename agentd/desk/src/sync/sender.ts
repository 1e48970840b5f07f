// Moves the outbox over whatever connection there is, and keeps the screen's
// copy of it.

import type { Link } from './link.ts'
import { type Box, type Item, Outbox, payload } from './outbox.ts'
import type { Store } from './state.ts'
import type { Timers } from './timers.ts'
import type { Message } from './wire.ts'

/** So many publishes are on their way at once; the server allows an agent 32. */
const window = 16
/** What the server could not take at the moment is offered again after this. */
const pause = 2_000
/** An acknowledged item whose outcome does not come is looked after at this pace. */
const patience = 15_000

export class Sender {
  private readonly store: Store
  private readonly timers: Timers
  private readonly doubt: (items: readonly Item[]) => void
  private outbox: Outbox | null = null
  private agent = ''
  private link: Link | null = null
  private flights = 0
  private pausing = 0
  private doubting = 0

  /** doubt is called with items that are on the server's disk but have had no answer for long. */
  constructor(store: Store, timers: Timers, doubt: (items: readonly Item[]) => void) {
    this.store = store
    this.timers = timers
    this.doubt = doubt
  }

  get items(): readonly Item[] {
    return this.outbox?.items ?? []
  }

  /** open takes over what the agent left unsent in this browser. */
  open(box: Box, agent: string): void {
    this.outbox = new Outbox(box, agent)
    this.agent = agent
    this.changed()
  }

  /** close leaves it in the browser's storage for the next time. */
  close(): void {
    this.cut()
    this.outbox = null
  }

  /** connect starts sending. */
  connect(link: Link): void {
    this.link = link
    this.flush()
  }

  /** cut is called when the connection is lost: what is unanswered will be sent again. */
  cut(): void {
    this.link = null
    this.flights = 0
    this.timers.clear(this.pausing)
    this.timers.clear(this.doubting)
    this.outbox?.cut()
    this.changed()
  }

  /** send shows and sends an item. False when the outbox is full: then it is not taken. */
  send(item: Item): boolean {
    if (!this.outbox?.add(item)) {
      this.store.notify({ kind: 'full' })
      return false
    }
    this.changed()
    this.flush()
    return true
  }

  retry(id: string, newID: string, epoch: number, now: number): void {
    this.outbox?.retry(id, newID, epoch, now)
    this.changed()
    this.flush()
  }

  settle(id: string): void {
    if (this.outbox?.settle(id)) this.changed()
  }

  settleSaid(messages: readonly Message[]): void {
    this.outbox?.settleSaid(messages, this.agent)
    this.changed()
  }

  refuse(id: string, reason: string, detail: string): void {
    if (!this.outbox?.refuse(id, reason, detail)) return
    this.changed()
    this.store.notify({ kind: 'refused', item: this.outbox.items.find((i) => i.id === id)! })
  }

  private flush(): void {
    const { link, outbox } = this
    if (!link || !outbox) return
    for (const item of outbox.due().slice(0, Math.max(0, window - this.flights))) {
      outbox.started(item.id)
      this.flights++
      const { topic, body } = payload(item)
      void link.publish(topic, body).then((r) => {
        if (link !== this.link || outbox !== this.outbox) return
        this.flights--
        if (r.ok) {
          outbox.acknowledged(item.id)
          this.look()
        } else if (r.final) {
          this.refuse(item.id, r.reason, '')
        } else {
          outbox.notNow(item.id)
          this.timers.clear(this.pausing)
          this.pausing = this.timers.setTimeout(() => this.flush(), pause)
          return this.changed()
        }
        this.changed()
        this.flush()
      })
    }
    this.changed()
  }

  private look(): void {
    this.timers.clear(this.doubting)
    this.doubting = this.timers.setTimeout(() => {
      const silent = this.items.filter((i) => this.outbox?.isAcknowledged(i.id))
      if (silent.length === 0) return
      this.doubt(silent)
      this.look()
    }, patience)
  }

  private changed(): void {
    const outbox = this.outbox
    if (!outbox) return
    const { state } = this.store
    const acknowledged = outbox.items.filter((i) => outbox.isAcknowledged(i.id)).map((i) => i.id)
    const same = acknowledged.length === state.acknowledged.size && acknowledged.every((id) => state.acknowledged.has(id))
    if (same && state.outbox === outbox.items && state.durable === outbox.durable) return
    this.store.set({ outbox: outbox.items, acknowledged: new Set(acknowledged), durable: outbox.durable })
  }
}
