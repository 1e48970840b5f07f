// The messages of one conversation, in the one order that everybody sees.

import type { Message } from './wire.ts'

/**
 * Thread is the loaded end of a conversation. messages is sorted by seq and
 * has no hole; more tells whether there are older ones to load.
 */
export interface Thread {
  messages: readonly Message[]
  more: boolean
  status: 'loading' | 'ready' | 'failed' | 'denied'
  loadingOlder: boolean
}

export const emptyThread: Thread = { messages: [], more: false, status: 'loading', loadingOlder: false }

export const pageSize = 50

/** withTail takes the newest page that the server has. Messages that joined it live meanwhile are kept. */
export function withTail(t: Thread, page: readonly Message[], more: boolean): Thread {
  const first = page[0]
  const last = page[page.length - 1]
  if (!first || !last) return { ...t, messages: t.messages, more: t.messages.length > 0 && t.more, status: 'ready' }
  const have = t.messages
  const oldest = have[0]
  const newest = have[have.length - 1]
  // What is loaded already and touches the page is kept in front of it;
  // otherwise there is a hole in between and the page begins anew.
  const touches = oldest && newest && newest.seq + 1 >= first.seq && oldest.seq < first.seq
  const before = touches ? have.filter((m) => m.seq < first.seq) : []
  const after = run(
    have.filter((m) => m.seq > last.seq),
    last.seq + 1,
  )
  return {
    ...t,
    messages: [...before, ...page, ...after],
    more: touches ? t.more : more,
    status: 'ready',
  }
}

/** withOlder puts an older page in front. A page that does not touch is ignored. */
export function withOlder(t: Thread, page: readonly Message[], more: boolean): Thread {
  const first = t.messages[0]
  const last = page[page.length - 1]
  if (!first || !last || last.seq + 1 < first.seq) return { ...t, loadingOlder: false, more: page.length > 0 && more }
  const older = page.filter((m) => m.seq < first.seq)
  return { ...t, messages: [...older, ...t.messages], more, loadingOlder: false }
}

/**
 * withLive appends a message that arrived as an event. hole is true when
 * messages before it are missing: then the tail has to be loaded again.
 */
export function withLive(t: Thread, m: Message): { thread: Thread; hole: boolean } {
  const last = t.messages[t.messages.length - 1]
  if (last ? m.seq <= last.seq : false) return { thread: t, hole: false }
  const next = last ? last.seq + 1 : 1
  if (m.seq !== next) return { thread: t, hole: true }
  return { thread: { ...t, messages: [...t.messages, m] }, hole: false }
}

/** lastSeq of what is loaded; 0 when nothing is. */
export function lastSeq(t: Thread): number {
  return t.messages[t.messages.length - 1]?.seq ?? 0
}

/** run keeps the gapless beginning of a sorted list. */
function run(messages: readonly Message[], from: number): Message[] {
  const out: Message[] = []
  for (const m of messages) {
    if (m.seq !== from + out.length) break
    out.push(m)
  }
  return out
}
