// What the agent said and did that the server has not yet answered. It is on
// the screen and in the browser's storage from the first moment, and leaves
// only when its own event says how it ended.

import type { Action, Message, Reason } from './wire.ts'
import { reasons } from './wire.ts'

/** Item is one reply or command. Its id is its identity for ever: saying it twice is harmless. */
export interface Item {
  id: string
  kind: 'say' | 'command'
  conversation: string
  /** The owner epoch it was said under. */
  epoch: number
  text?: string
  do?: Action
  /** When it was made, in ms of the browser's clock; for display only. */
  at: number
  /** How often it was handed to a connection. */
  tries: number
  refused?: { reason: Reason; detail: string }
}

/** Box is the part of localStorage that is needed, so that tests can bring their own. */
export interface Box {
  getItem(key: string): string | null
  setItem(key: string, value: string): void
  removeItem(key: string): void
}

/** How much may wait: what is more is not taken, and the composer says so. */
export const maxItems = 200
export const maxChars = 1_000_000

export class Outbox {
  /** In the order in which they were made. A new array after each change. */
  items: readonly Item[] = []
  /** False when the browser would not store the last change: then it lives only as long as the page. */
  durable = true
  private readonly box: Box
  private readonly key: string
  private readonly flying = new Set<string>()
  private readonly acked = new Set<string>()

  constructor(box: Box, agent: string) {
    this.box = box
    this.key = 'holdline.outbox.' + agent
    this.items = read(box, this.key)
  }

  /** add takes an item; false when the outbox is full. */
  add(item: Item): boolean {
    const chars = this.items.reduce((n, i) => n + (i.text?.length ?? 0), item.text?.length ?? 0)
    if (this.items.length >= maxItems || chars > maxChars) return false
    this.save([...this.items, item])
    return true
  }

  /**
   * due lists what may be sent now: of each conversation the first item that
   * is not on its way, provided that everything before it was acknowledged.
   */
  due(): Item[] {
    const out: Item[] = []
    const held = new Set<string>()
    for (const i of this.items) {
      if (i.refused || this.acked.has(i.id) || held.has(i.conversation)) continue
      held.add(i.conversation)
      if (!this.flying.has(i.id)) out.push(i)
    }
    return out
  }

  /** started marks an item as handed to the connection. */
  started(id: string): void {
    this.flying.add(id)
    this.replace(id, (i) => ({ ...i, tries: i.tries + 1 }))
  }

  /** acknowledged marks that the server has the item on disk: the next one may follow. */
  acknowledged(id: string): void {
    if (this.flying.delete(id)) this.acked.add(id)
  }

  /** isAcknowledged reports whether the server of this connection has it. */
  isAcknowledged(id: string): boolean {
    return this.acked.has(id)
  }

  /** notNow takes an item back that the server could not take at the moment. */
  notNow(id: string): void {
    this.flying.delete(id)
  }

  /** cut forgets what the lost connection knew: everything unanswered is sent again. */
  cut(): void {
    this.flying.clear()
    this.acked.clear()
  }

  /** settle removes an item whose outcome is known. It reports whether there was one. */
  settle(id: string): boolean {
    this.flying.delete(id)
    this.acked.delete(id)
    if (!this.items.some((i) => i.id === id)) return false
    this.save(this.items.filter((i) => i.id !== id))
    return true
  }

  /** settleSaid removes what the agent finds again among the messages of a conversation. */
  settleSaid(messages: readonly Message[], agent: string): void {
    if (!this.items.some((i) => i.kind === 'say')) return
    for (const m of messages) if (m.from.role === 'agent' && m.from.id === agent) this.settle(m.id)
  }

  /** refuse keeps an item in place with the reason why the server will never take it. */
  refuse(id: string, reason: string, detail: string): boolean {
    this.flying.delete(id)
    this.acked.delete(id)
    const known = reasons.find((r) => r === reason) ?? 'internal'
    return this.replace(id, (i) => ({ ...i, refused: { reason: known, detail } }))
  }

  /**
   * retry says a refused item again, as something new: at the end, under a new
   * id and the present epoch. The refused one was never stored.
   */
  retry(id: string, newID: string, epoch: number, now: number): boolean {
    const item = this.items.find((i) => i.id === id && i.refused)
    if (!item) return false
    const { refused: _, ...rest } = item
    this.save([...this.items.filter((i) => i.id !== id), { ...rest, id: newID, epoch, at: now, tries: 0 }])
    return true
  }

  /** unanswered counts what is neither settled nor refused. */
  unanswered(): number {
    return this.items.reduce((n, i) => n + (i.refused ? 0 : 1), 0)
  }

  private replace(id: string, change: (i: Item) => Item): boolean {
    if (!this.items.some((i) => i.id === id)) return false
    this.save(this.items.map((i) => (i.id === id ? change(i) : i)))
    return true
  }

  private save(items: readonly Item[]): void {
    this.items = items
    try {
      if (items.length === 0) this.box.removeItem(this.key)
      else this.box.setItem(this.key, JSON.stringify(items))
      this.durable = true
    } catch {
      this.durable = false
    }
  }
}

/** payload is what goes on the wire, and where to. */
export function payload(i: Item): { topic: string; body: string } {
  const epoch = i.epoch > 0 ? { epoch: i.epoch } : {}
  return i.kind === 'say'
    ? { topic: 'up/message', body: JSON.stringify({ id: i.id, conversation: i.conversation, text: i.text, ...epoch }) }
    : { topic: 'up/command', body: JSON.stringify({ id: i.id, do: i.do, conversation: i.conversation, ...epoch }) }
}

function read(box: Box, key: string): Item[] {
  try {
    const list: unknown = JSON.parse(box.getItem(key) ?? '[]')
    return Array.isArray(list) ? list.filter(isItem) : []
  } catch {
    return [] // storage is switched off, or holds something that is not ours
  }
}

function isItem(x: unknown): x is Item {
  const i = x as Item
  return (
    typeof i === 'object' &&
    i !== null &&
    typeof i.id === 'string' &&
    typeof i.conversation === 'string' &&
    typeof i.epoch === 'number' &&
    typeof i.at === 'number' &&
    typeof i.tries === 'number' &&
    ((i.kind === 'say' && typeof i.text === 'string') || (i.kind === 'command' && typeof i.do === 'string'))
  )
}
