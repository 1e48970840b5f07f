// What of the state belongs on which list, and in which order.

import type { DeskState } from '../sync/state.ts'
import type { Conversation } from '../sync/wire.ts'

/** The tabs of the list. Offers will stand between Mine and Queue. */
export const tabs = ['mine', 'queue', 'all'] as const
export type Tab = (typeof tabs)[number]

export const isOpen = (c: Conversation): boolean => c.state === 'waiting' || c.state === 'held'
export const isMine = (c: Conversation, me: string): boolean => c.state === 'held' && c.agent?.id === me

/** belongs reports whether an open conversation is on a tab. */
export function belongs(c: Conversation, tab: Tab, me: string): boolean {
  switch (tab) {
    case 'mine':
      return isMine(c, me)
    case 'queue':
      return c.state === 'waiting'
    case 'all':
      return isOpen(c)
  }
}

const text = (a = '', b = '') => (a < b ? -1 : a > b ? 1 : 0)

/** Who waits longest is first in the queue; elsewhere what is new is on top. */
export function inOrder(list: Conversation[], tab: Tab): Conversation[] {
  return list.sort((a, b) =>
    tab === 'queue'
      ? text(a.since, b.since) || text(a.conversation, b.conversation)
      : text(b.last_at, a.last_at) || text(a.conversation, b.conversation),
  )
}

/** unread counts what came in after the reading mark; what one said oneself is read. */
export function unread(c: Conversation, s: DeskState): number {
  if (c.last_from !== 'customer') return 0
  return Math.max(0, c.last_seq - (s.seen.get(c.conversation) ?? 0))
}

/** nameOf is what to call the customer. */
export const nameOf = (c: Conversation): string => c.customer?.name || c.customer?.id || c.conversation

/** unsent counts what of a conversation is still on its way or was refused. */
export function unsentOf(s: DeskState, conversation: string): { waiting: number; refused: number } {
  let waiting = 0
  let refused = 0
  for (const i of s.outbox) {
    if (i.conversation !== conversation) continue
    if (i.refused) refused++
    else if (i.kind === 'say') waiting++
  }
  return { waiting, refused }
}
