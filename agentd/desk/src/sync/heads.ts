// Keeps the newest head of every conversation, whatever order they arrive in:
// the same change comes through the agent's inbox and through a queue's, and
// the two do not wait for each other.

import type { Conversation, Head, Message } from './wire.ts'

export type Heads = ReadonlyMap<string, Conversation>

/** isOlder reports whether a is an earlier picture of a conversation than b. */
export function isOlder(a: Head, b: Head): boolean {
  const ea = a.epoch ?? 0
  const eb = b.epoch ?? 0
  return ea !== eb ? ea < eb : a.last_seq < b.last_seq
}

/**
 * newer is what to believe after hearing b when a was known. Under one owner
 * epoch a confirmation is never taken back, so that much of the older picture
 * is kept.
 */
export function newer(a: Conversation | undefined, b: Conversation): Conversation {
  if (!a) return b
  const [old, best] = isOlder(b, a) ? [b, a] : [a, b]
  if ((old.epoch ?? 0) === (best.epoch ?? 0) && old.accepted && !best.accepted) return { ...best, accepted: true }
  return best
}

/** withHead returns heads with c heard; the same map when that changes nothing. */
export function withHead(heads: Heads, c: Conversation): Heads {
  const before = heads.get(c.conversation)
  const after = newer(before, c)
  if (after === before) return heads
  return new Map(heads).set(c.conversation, after)
}

const previewChars = 160

/** withMessage brings the head up to date with a message that is newer than it. */
export function withMessage(heads: Heads, m: Message): Heads {
  const c = heads.get(m.conversation)
  if (!c || m.seq <= c.last_seq) return heads
  return new Map(heads).set(m.conversation, {
    ...c,
    last_seq: m.seq,
    last_at: m.at,
    last_text: m.text.length > previewChars ? m.text.slice(0, previewChars) + '…' : m.text,
    last_from: m.from.role,
    ...(m.from.role === 'agent' && m.from.id === c.agent?.id ? { accepted: true } : {}),
  })
}

/**
 * withSnapshot takes over what the server holds. An open conversation that the
 * snapshot lacks is not open any more: it is returned in gone (and kept, for
 * whoever looks at it, until its true head is known). Resolved ones stay. A
 * partial snapshot lacks open ones too: then nothing is gone.
 */
export function withSnapshot(heads: Heads, all: readonly Conversation[], partial = false): { heads: Heads; gone: string[] } {
  const next = new Map(heads)
  const present = new Set<string>()
  for (const c of all) {
    present.add(c.conversation)
    next.set(c.conversation, newer(next.get(c.conversation), c))
  }
  if (partial) return { heads: next, gone: [] }
  const gone = [...next.values()].filter((c) => c.state !== 'resolved' && !present.has(c.conversation))
  return { heads: next, gone: gone.map((c) => c.conversation) }
}

/** without forgets conversations. */
export function without(heads: Heads, ids: readonly string[]): Heads {
  if (ids.length === 0) return heads
  const next = new Map(heads)
  for (const id of ids) next.delete(id)
  return next
}

/** So many are kept; then the resolved ones that nobody looks at are forgotten. */
const maxHeads = 1000

/** pruned bounds what a long day leaves behind. */
export function pruned(heads: Heads, keep: ReadonlyMap<string, unknown>): Heads {
  if (heads.size <= maxHeads) return heads
  return new Map([...heads].filter(([id, c]) => c.state !== 'resolved' || keep.has(id)))
}
