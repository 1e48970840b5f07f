// What the screen shows. Everything in it is replaced, never changed, so that
// whoever draws it can tell by identity what is new.

import type { Heads } from './heads.ts'
import type { Item } from './outbox.ts'
import type { Thread } from './thread.ts'
import type { Agent, Message } from './wire.ts'

export interface DeskState {
  /**
   * `starting` until it is known whether somebody is signed in; `elsewhere` while
   * another window of this browser has the desk; `denied` when the account may
   * not use it.
   */
  phase: 'starting' | 'signed-out' | 'desk' | 'denied' | 'elsewhere'
  /** The session ended by itself, not by signing out. */
  expired: boolean
  /** At the start: the server does not answer. */
  unreachable: boolean
  me: Agent | null
  link: 'connecting' | 'syncing' | 'live' | 'down'
  /** When the next attempt is due while the link is down, in ms of the browser's clock. */
  retryAt: number | null
  /** The list has been filled once. */
  ready: boolean
  heads: Heads
  threads: ReadonlyMap<string, Thread>
  outbox: readonly Item[]
  /** Items that the server has on disk, though their outcome is still to come. */
  acknowledged: ReadonlySet<string>
  /** False when the browser would not store the outbox. */
  durable: boolean
  /** How far each conversation was read here. */
  seen: ReadonlyMap<string, number>
  /** Heads that could not be had, by conversation: an HTTP status, 0 for no answer. */
  missing: ReadonlyMap<string, number>
  /** The last conversations that were worked on here and are resolved now, newest first. */
  recent: readonly string[]
  /** The server's clock minus the browser's, in ms. */
  skew: number
}

export const initial: DeskState = {
  phase: 'starting',
  expired: false,
  unreachable: false,
  me: null,
  link: 'connecting',
  retryAt: null,
  ready: false,
  heads: new Map(),
  threads: new Map(),
  outbox: [],
  acknowledged: new Set(),
  durable: true,
  seen: new Map(),
  missing: new Map(),
  recent: [],
  skew: 0,
}

/** Notice is something that happened and is worth a word; it is not kept. */
export type Notice =
  | { kind: 'assigned' | 'taken-away'; conversation: string }
  | { kind: 'message'; message: Message }
  | { kind: 'refused'; item: Item }
  | { kind: 'full' | 'intent-failed' | 'sign-out-failed' }

/** Store holds the state and tells who draws it. */
export class Store {
  state: DeskState = initial
  private readonly listeners = new Set<() => void>()
  private readonly hearers = new Set<(n: Notice) => void>()
  private told = true

  set(change: Partial<DeskState>): void {
    this.state = { ...this.state, ...change }
    if (!this.told) return
    // A burst of events is drawn once.
    this.told = false
    queueMicrotask(() => {
      this.told = true
      for (const l of this.listeners) l()
    })
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  notify(n: Notice): void {
    for (const h of this.hearers) h(n)
  }

  readonly onNotice = (hear: (n: Notice) => void): (() => void) => {
    this.hearers.add(hear)
    return () => this.hearers.delete(hear)
  }
}
