// Keeps one connection up: a fresh token for every attempt, patience between
// them, a new connection before the token runs out.

import { ApiError, type Api, statusOf } from './api.ts'
import { Backoff } from './backoff.ts'
import type { Down, Link, OpenLink } from './link.ts'
import type { Timers } from './timers.ts'
import type { Session } from './wire.ts'

export interface DialEvents {
  connecting(): void
  /** The server knows the session; its fresh copy. */
  session(s: Session): void
  up(link: Link): void
  event(topic: string, payload: string): void
  /** The connection is gone and the next attempt is due at retryAt. */
  down(retryAt: number): void
  /** The server no longer knows the session. */
  signedOut(): void
  /** Another window has the connection now. */
  taken(): void
}

export interface DialOptions {
  api: Api
  open: OpenLink
  url: string
  timers: Timers
  now: () => number
  backoff?: Backoff
}

const longest = 12 * 3600_000 // between renewals, whatever the token says

export class Dialer {
  private readonly o: DialOptions
  private readonly on: DialEvents
  private readonly backoff: Backoff
  private link: Link | null = null
  private device: string | null = null
  private round = 0
  private retry = 0
  private renewal = 0
  private waiting = false

  constructor(o: DialOptions, on: DialEvents) {
    this.o = o
    this.on = on
    this.backoff = o.backoff ?? new Backoff()
  }

  /** start connects with a session that was just given. */
  start(s: Session): void {
    this.stop(false)
    this.device = s.device
    this.connect(s)
  }

  /** stop ends the connection and all attempts; with forget the server drops the session. */
  stop(forget: boolean): void {
    this.round++
    this.waiting = false
    this.o.timers.clear(this.retry)
    this.o.timers.clear(this.renewal)
    this.link?.close(forget)
    this.link = null
  }

  /** steady tells that all went well: the next attempt may be a quick one. */
  steady(): void {
    this.backoff.reset()
  }

  /**
   * hurry is called when the network may have changed: a waiting attempt is
   * made now, a standing connection has to prove that it is alive.
   */
  hurry(): void {
    if (this.waiting) {
      this.o.timers.clear(this.retry)
      void this.dial()
    } else this.link?.probe()
  }

  private async dial(): Promise<void> {
    const round = ++this.round
    this.waiting = false
    this.on.connecting()
    let s: Session
    try {
      s = await this.o.api.session(this.device)
    } catch (err) {
      if (round !== this.round) return
      if (statusOf(err) === 401) {
        this.stop(false)
        this.on.signedOut()
      } else this.later(err instanceof ApiError ? err.retryAfter : null)
      return
    }
    if (round !== this.round) return
    this.on.session(s)
    this.connect(s)
  }

  private connect(s: Session): void {
    const round = ++this.round
    this.device = s.device
    const { url, timers } = this.o
    const link = this.o.open({ url, timers, device: s.device, token: s.token }, {
      up: () => {
        if (round === this.round) this.on.up(link)
      },
      event: (topic, payload) => {
        if (round === this.round) this.on.event(topic, payload)
      },
      down: (why) => {
        if (round === this.round) this.lost(why)
      },
    })
    this.link = link
    this.o.timers.clear(this.renewal)
    this.renewal = timers.setTimeout(() => void this.renew(), this.lifetime(s))
  }

  private lost(why: Down): void {
    this.link = null
    this.o.timers.clear(this.renewal)
    if (why === 'taken') {
      this.stop(false)
      this.on.taken()
    } else this.later(null)
  }

  private later(seconds: number | null): void {
    const wait = Math.max(this.backoff.next(), (seconds ?? 0) * 1000)
    this.waiting = true
    this.on.down(this.o.now() + wait)
    this.retry = this.o.timers.setTimeout(() => void this.dial(), wait)
  }

  /** renew replaces the connection while it is still good. */
  private async renew(): Promise<void> {
    const round = this.round
    let s: Session
    try {
      s = await this.o.api.session(this.device)
    } catch (err) {
      if (round !== this.round) return
      if (statusOf(err) === 401) {
        this.stop(false)
        this.on.signedOut()
        return
      }
      // The connection stands meanwhile; should it be lost, dial takes over.
      this.renewal = this.o.timers.setTimeout(() => void this.renew(), 30_000)
      return
    }
    if (round !== this.round) return
    this.on.connecting()
    this.on.session(s)
    this.link?.close(false)
    this.connect(s)
  }

  /** lifetime is how long to use a token: all but its last tenth, at most a minute of it. */
  private lifetime(s: Session): number {
    const left = Date.parse(s.expires) - this.o.now()
    if (!(left > 0)) return 60_000 // the browser's clock is wrong; the token was fresh a moment ago
    return Math.min(Math.max(left - Math.max(60_000, left / 10), left / 2), longest)
  }
}
