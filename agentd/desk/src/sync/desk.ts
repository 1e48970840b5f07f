// The desk without its screen: who is signed in, what is known, what is on its
// way. The screen reads state and calls the methods below; nothing here knows
// about it.

import { type Api, ApiError, statusOf } from './api.ts'
import type { Backoff } from './backoff.ts'
import { Dialer } from './dial.ts'
import { Feed } from './feed.ts'
import { pruned, withHead, withMessage, without, withSnapshot } from './heads.ts'
import type { Link, OpenLink } from './link.ts'
import type { Box, Item } from './outbox.ts'
import { Sender } from './sender.ts'
import { type DeskState, initial, Store } from './state.ts'
import { Threads } from './threads.ts'
import type { Timers } from './timers.ts'
import { uuidv7 } from './uuid.ts'
import { type Action, type Conversation, type Intent, type Message, messageOf, type Session, type Snapshot, type WireEvent } from './wire.ts'

export interface DeskOptions {
  api: Api
  open: OpenLink
  /** Of the MQTT endpoint. */
  url: string
  box: Box
  timers: Timers
  now?: () => number
  backoff?: () => Backoff
  /** Called when this window takes the desk, so that others of the browser let go. */
  claim?: () => void
}

export type SignIn = { ok: true } | { ok: false; why: 'wrong' | 'limited' | 'unreachable' | 'failed'; seconds: number | null }

const deviceKey = 'holdline.device'
/** So many resolved conversations are remembered. */
const maxRecent = 20
/** How often a conversation that a colleague holds is looked at. */
const pace = 4_000

export class Desk {
  readonly store = new Store()
  private readonly o: DeskOptions
  private readonly now: () => number
  private readonly dialer: Dialer
  private readonly feed: Feed
  private readonly threads: Threads
  private readonly sender: Sender
  private link: Link | null = null
  private live = false
  private reach = 0
  private following = 0
  private starting = 0
  private readonly asking = new Set<string>()
  /** What this window gives back, until the head says so: losing it is no news. */
  private readonly released = new Set<string>()

  constructor(o: DeskOptions) {
    this.o = o
    this.now = o.now ?? Date.now
    this.sender = new Sender(this.store, o.timers, (items) => this.doubt(items))
    this.threads = new Threads(o.api, this.store, o.timers, (messages) => this.sender.settleSaid(messages))
    this.store.onNotice((n) => {
      if (n.kind === 'refused') this.released.delete(n.item.conversation)
    })
    this.feed = new Feed(() => this.snapshot(), {
      snapshot: (s) => this.takeSnapshot(s),
      event: (e, fresh) => this.takeEvent(e, fresh),
      live: () => this.goLive(),
      failed: (err) => this.catchUpFailed(err),
    }, o.timers, o.backoff?.())
    this.dialer = new Dialer({
      api: o.api, open: o.open, url: o.url, timers: o.timers, now: this.now,
      ...(o.backoff ? { backoff: o.backoff() } : {}),
    }, {
      connecting: () => this.store.set({ link: 'connecting', retryAt: null }),
      session: (s) => this.store.set({ me: s.agent }),
      up: (link) => {
        this.link = link
        this.store.set({ link: 'syncing' })
        this.feed.begin()
      },
      event: (topic, body) => this.feed.push(topic, body),
      down: (retryAt) => {
        this.cut()
        this.store.set({ link: 'down', retryAt })
      },
      signedOut: () => this.leave('signed-out', true),
      taken: () => {
        this.cut()
        this.store.set({ phase: 'elsewhere', link: 'down', retryAt: null })
      },
    })
  }

  // ── who is signed in ──────────────────────────────────────────────────

  /** start looks whether somebody is signed in already. It tries until the server answers. */
  async start(): Promise<void> {
    this.o.timers.clear(this.starting)
    this.store.set({ phase: 'starting' })
    try {
      this.begin(await this.o.api.session(this.o.box.getItem(deviceKey)))
    } catch (err) {
      if (statusOf(err) === 401) return this.store.set({ phase: 'signed-out', unreachable: false })
      if (statusOf(err) === 403) return this.store.set({ phase: 'denied' })
      this.store.set({ unreachable: true })
      this.starting = this.o.timers.setTimeout(() => void this.start(), 3_000)
    }
  }

  async signIn(id: string, password: string): Promise<SignIn> {
    try {
      this.begin(await this.o.api.signIn(id, password, this.o.box.getItem(deviceKey)))
      return { ok: true }
    } catch (err) {
      const seconds = err instanceof ApiError ? err.retryAfter : null
      switch (statusOf(err)) {
        case 0: return { ok: false, why: 'unreachable', seconds }
        case 401: return { ok: false, why: 'wrong', seconds }
        case 429: return { ok: false, why: 'limited', seconds }
        default: return { ok: false, why: 'failed', seconds }
      }
    }
  }

  /** signOut ends the session here and on the server. Without an answer nothing has happened. */
  async signOut(): Promise<void> {
    try {
      await this.o.api.signOut()
    } catch (err) {
      if (statusOf(err) !== 401) return this.store.notify({ kind: 'sign-out-failed' })
    }
    this.leave('signed-out', false)
  }

  /** yield lets go because another window of this browser has taken the desk. */
  yield(): void {
    if (this.store.state.phase !== 'desk') return
    this.dialer.stop(false)
    this.cut()
    this.store.set({ phase: 'elsewhere', link: 'down', retryAt: null })
  }

  /** hurry is called when the network may have changed, or by an impatient person. */
  hurry(): void {
    if (this.store.state.phase === 'desk') this.dialer.hurry()
    else if (this.store.state.phase === 'starting' && this.store.state.unreachable) void this.start()
  }

  private begin(s: Session): void {
    keep(this.o.box, deviceKey, s.device)
    this.store.set({ ...initial, phase: 'desk', me: s.agent, ...readBox(this.o.box, s.agent.id) })
    this.sender.open(this.o.box, s.agent.id)
    this.o.claim?.()
    this.dialer.start(s)
  }

  private leave(phase: 'signed-out' | 'denied', expired: boolean): void {
    this.dialer.stop(!expired)
    this.cut()
    this.threads.clear()
    this.follow(null)
    this.sender.close()
    this.store.set({ ...initial, phase, expired })
  }

  // ── catching up ───────────────────────────────────────────────────────

  private async snapshot() {
    const { snapshot, serverTime } = await this.o.api.desk()
    const skew = serverTime === null ? 0 : serverTime - this.now()
    this.store.set({ skew: Math.abs(skew) < 2_000 ? 0 : skew })
    return snapshot
  }

  private takeSnapshot(s: Snapshot): void {
    const { heads, gone } = withSnapshot(this.store.state.heads, s.conversations, s.more ?? false)
    // Those that are not open any more are forgotten, unless somebody looks at
    // them or wants something of them: then their true head is asked for.
    const wanted = gone.filter((id) => this.store.state.threads.has(id) || this.sender.items.some((i) => i.conversation === id))
    const seen = new Map([...this.store.state.seen].filter(([id]) => heads.has(id)))
    this.store.set({
      me: s.me,
      heads: without(heads, gone.filter((id) => !wanted.includes(id))),
      seen,
      ready: true,
    })
    for (const id of wanted) void this.loadHead(id)
    for (const i of this.sender.items) if (!heads.has(i.conversation)) void this.loadHead(i.conversation)
    for (const c of s.conversations) this.settleByEffect(c)
  }

  private takeEvent(e: WireEvent, fresh: boolean): void {
    const message = messageOf(e)
    if (e.type === 'done' && e.id) this.sender.settle(e.id)
    if (e.type === 'refused' && e.id) this.sender.refuse(e.id, e.reason ?? '', e.detail ?? '')
    if (message) {
      this.sender.settleSaid([message])
      if (fresh) {
        this.store.set({ heads: withMessage(this.store.state.heads, message) })
        this.meet(message)
      }
      this.threads.live(message)
      if (fresh && message.from.role === 'customer') this.store.notify({ kind: 'message', message })
    }
    if (fresh && e.type === 'conversation' && e.conversation && e.head) {
      this.takeHead({ ...e.head, conversation: e.conversation }, true)
    }
  }

  /** meet asks for the head of a conversation whose first words came alone. Mostly the head follows at once. */
  private meet(m: Message): void {
    const unknown = () => !this.store.state.heads.has(m.conversation)
    if (unknown()) this.o.timers.setTimeout(() => unknown() && this.live && void this.loadHead(m.conversation), 500)
  }

  private takeHead(c: Conversation, tell: boolean): void {
    const before = this.store.state.heads.get(c.conversation)
    const heads = withHead(this.store.state.heads, c)
    if (heads === this.store.state.heads) return
    this.store.set({ heads: pruned(heads, this.store.state.threads) })
    const after = heads.get(c.conversation)!
    this.settleByEffect(after)
    this.threads.check(c.conversation)
    const mine = before?.state === 'held' && before.agent?.id === this.me()
    const isMine = after.state === 'held' && after.agent?.id === this.me()
    if (mine && after.state === 'resolved') this.remember(c.conversation)
    if (!tell) return
    if (!mine && isMine && !after.accepted) this.store.notify({ kind: 'assigned', conversation: c.conversation })
    if (mine && !isMine && !this.released.delete(c.conversation) && after.state !== 'resolved') {
      this.store.notify({ kind: 'taken-away', conversation: c.conversation })
    }
  }

  private remember(id: string): void {
    const recent = [id, ...this.store.state.recent.filter((r) => r !== id)].slice(0, maxRecent)
    this.store.set({ recent })
    keep(this.o.box, recentKey(this.me()), JSON.stringify(recent))
  }

  /**
   * settleByEffect recognises a command by what it did, for the case that its
   * own event went to a session that has expired meanwhile.
   */
  private settleByEffect(c: Conversation): void {
    for (const i of this.sender.items) {
      if (i.kind !== 'command' || i.conversation !== c.conversation || i.refused || i.tries === 0) continue
      const moved = (c.epoch ?? 0) > i.epoch
      const accepted = i.do === 'accept' && c.state === 'held' && c.agent?.id === this.me() && c.accepted
      const released = i.do === 'release' && moved && c.state === 'waiting'
      const resolved = i.do === 'resolve' && moved && c.state === 'resolved'
      if (accepted || released || resolved) this.sender.settle(i.id)
    }
  }

  private goLive(): void {
    this.live = true
    this.dialer.steady()
    this.store.set({ link: 'live', retryAt: null })
    this.threads.resume()
    // What was on its way when the link was lost may have been stored: look.
    this.doubt(this.sender.items.filter((i) => i.tries > 0 && !i.refused))
    if (this.link) this.sender.connect(this.link)
    this.watchReach(500)
  }

  private catchUpFailed(err: unknown): boolean {
    switch (statusOf(err)) {
      case 401:
        this.leave('signed-out', true)
        return true
      case 403:
        this.leave('denied', false)
        return true
    }
    return false
  }

  /** doubt looks whether items took effect without a word of it. */
  private doubt(items: readonly Item[]): void {
    const of = (kind: Item['kind']) => new Set(items.filter((i) => i.kind === kind).map((i) => i.conversation))
    for (const id of of('say')) void this.threads.tail(id)
    for (const id of of('command')) void this.loadHead(id)
  }

  private cut(): void {
    this.link = null
    this.live = false
    this.o.timers.clear(this.reach)
    this.feed.stop()
    this.sender.cut()
    const me = this.store.state.me
    if (me) this.store.set({ me: { ...me, reachable: false } })
  }

  /**
   * watchReach asks until the server counts this desk as reachable: it learns
   * of the connection by way of the journal, a moment after it stands.
   */
  private watchReach(wait: number): void {
    this.o.timers.clear(this.reach)
    if (this.store.state.me?.reachable) return
    this.reach = this.o.timers.setTimeout(async () => {
      const link = this.link
      const me = await this.o.api.me().catch(() => null)
      if (link !== this.link || !this.live) return
      if (me) this.store.set({ me })
      this.watchReach(Math.min(wait * 2, 15_000))
    }, wait)
  }

  // ── what the agent does ───────────────────────────────────────────────

  /** say sends a reply. False when the outbox is full. */
  say(conversation: string, text: string): boolean {
    return this.send({ kind: 'say', conversation, text })
  }

  /** command accepts, releases or resolves. The same command is not given twice while it is on its way. */
  command(conversation: string, action: Action): boolean {
    const items = this.sender.items
    if (items.some((i) => i.conversation === conversation && i.do === action && !i.refused)) return true
    for (const i of items) if (i.conversation === conversation && i.kind === 'command' && i.refused) this.sender.settle(i.id)
    if (action === 'release') this.released.add(conversation)
    return this.send({ kind: 'command', conversation, do: action })
  }

  /** retry says a refused item again. */
  retry(id: string): void {
    const item = this.sender.items.find((i) => i.id === id)
    if (item) this.sender.retry(id, uuidv7(this.now()), this.epoch(item), this.now())
  }

  /** discard forgets a refused item. */
  discard(id: string): void {
    this.sender.settle(id)
  }

  async setIntent(intent: Intent): Promise<void> {
    try {
      const me = await this.o.api.setIntent(intent)
      // Reachability is watched apart, and an answer may be older than it.
      this.store.set({ me: { ...me, reachable: me.reachable || (this.live && (this.store.state.me?.reachable ?? false)) } })
    } catch {
      this.store.notify({ kind: 'intent-failed' })
    }
  }

  /** show tells which conversation is on the screen. */
  show(id: string | null): void {
    this.threads.show(id)
    if (id && !this.store.state.heads.has(id)) void this.loadHead(id)
    this.follow(id)
  }

  /**
   * follow keeps what a colleague holds fresh while one looks at it: what is
   * said there goes to the colleague's inbox, not to the queue's.
   */
  private follow(id: string | null): void {
    this.o.timers.clear(this.following)
    if (!id) return
    this.following = this.o.timers.setTimeout(async () => {
      const c = this.store.state.heads.get(id)
      const following = this.following
      if (this.live && c?.state === 'held' && c.agent?.id !== this.me()) await this.loadHead(id)
      if (following === this.following) this.follow(id)
    }, pace)
  }

  /** reload tries again what failed to load. */
  reload(id: string): void {
    if (!this.store.state.heads.has(id)) void this.loadHead(id)
    void this.threads.tail(id)
  }

  older(id: string): void {
    void this.threads.older(id)
  }

  /** sawUpTo moves the reading mark, forwards only. */
  sawUpTo(id: string, seq: number): void {
    if ((this.store.state.seen.get(id) ?? 0) >= seq || !this.store.state.me) return
    const seen = new Map(this.store.state.seen).set(id, seq)
    this.store.set({ seen })
    keep(this.o.box, seenKey(this.me()), JSON.stringify(Object.fromEntries(seen)))
  }

  /** loadRecent fetches the heads of the conversations last worked on here. */
  loadRecent(): void {
    for (const id of this.store.state.recent) if (!this.store.state.heads.has(id)) void this.loadHead(id)
  }

  private send(what: Pick<Item, 'kind' | 'conversation' | 'text' | 'do'>): boolean {
    return this.sender.send({ ...what, id: uuidv7(this.now()), epoch: this.epoch(what), at: this.now(), tries: 0 })
  }

  private async loadHead(id: string): Promise<void> {
    if (this.asking.has(id)) return
    this.asking.add(id)
    const set = (status: number | null) => {
      const missing = new Map(this.store.state.missing)
      if (status === null) missing.delete(id)
      else missing.set(id, status)
      this.store.set({ missing })
    }
    try {
      const c = await this.o.api.conversation(id)
      set(null)
      this.takeHead(c, false)
      this.settleByEffect(c)
    } catch (err) {
      const status = statusOf(err)
      set(status)
      if (status === 403 || status === 404) this.store.set({ heads: without(this.store.state.heads, [id]) })
    } finally {
      this.asking.delete(id)
    }
  }

  /** epoch is the owner epoch to speak under; accepting is for those who own nothing yet. */
  private epoch(what: Pick<Item, 'conversation' | 'do'>): number {
    return what.do === 'accept' ? 0 : (this.store.state.heads.get(what.conversation)?.epoch ?? 0)
  }

  private me(): string {
    return this.store.state.me?.id ?? ''
  }
}

const seenKey = (agent: string) => 'holdline.seen.' + agent
const recentKey = (agent: string) => 'holdline.recent.' + agent

/** readBox is what the last page of this agent left behind. Rubbish counts as nothing. */
function readBox(box: Box, agent: string): Pick<DeskState, 'seen' | 'recent'> {
  const read = (key: string): unknown => {
    try {
      return JSON.parse(box.getItem(key) ?? 'null')
    } catch {
      return null
    }
  }
  const seen = Object.entries(read(seenKey(agent)) ?? {}).filter((e): e is [string, number] => typeof e[1] === 'number')
  const recent = read(recentKey(agent))
  return {
    seen: new Map(seen),
    recent: Array.isArray(recent) ? recent.filter((r) => typeof r === 'string').slice(0, maxRecent) : [],
  }
}

/** keep stores what only makes the next start nicer: failing to is no harm. */
function keep(box: Box, key: string, value: string): void {
  try {
    box.setItem(key, value)
  } catch {
    // storage is full or switched off
  }
}
