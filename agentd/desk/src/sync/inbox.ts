// Counts the events of each inbox, so that a lost one is noticed and a
// repeated one is dropped.

/** parseEventID splits "{incarnation}-{n}"; null when it is not of that form. */
export function parseEventID(id: string): { incarnation: string; n: number } | null {
  const i = id.lastIndexOf('-')
  if (i <= 0 || !/^\d{1,15}$/.test(id.slice(i + 1))) return null
  return { incarnation: id.slice(0, i), n: Number(id.slice(i + 1)) }
}

/** The inbox of the signed-in agent; the others are named by their queue. */
export const own = 'own'

/**
 * inboxOf names the inbox a topic belongs to; null for other topics.
 * The server escapes a queue id to fit one level.
 */
export function inboxOf(topic: string): string | null {
  if (topic === 'down/event') return own
  const m = /^queue\/([^/]+)\/event$/.exec(topic)
  return m ? 'queue ' + unescapeLevel(m[1]!) : null
}

function unescapeLevel(s: string): string {
  return s.replace(/%(25|2F|2B|23|24)/g, (x) => decodeURIComponent(x))
}

/**
 * Verdict on an event: `next` is applied; `known` was seen before; `lost` means
 * that something in between is missing (or the server's storage was restored)
 * and only a new snapshot helps.
 */
export type Verdict = 'next' | 'known' | 'lost'

export class Inboxes {
  private readonly at = new Map<string, { incarnation: string; n: number }>()

  /** reset takes the positions of a snapshot, which replace all that was known. */
  reset(events: { own: string; queues: Record<string, string> }): void {
    this.at.clear()
    this.place(own, events.own)
    for (const [queue, id] of Object.entries(events.queues)) this.place('queue ' + queue, id)
  }

  private place(inbox: string, id: string): void {
    const at = parseEventID(id)
    if (at) this.at.set(inbox, at)
  }

  /**
   * admit judges the next event of an inbox and moves its position.
   *
   * An inbox without a position starts with whatever comes first: it was
   * empty or unknown when the snapshot was taken.
   */
  admit(inbox: string, id: string): Verdict {
    const e = parseEventID(id)
    if (!e) return 'lost'
    const at = this.at.get(inbox)
    if (at && at.incarnation !== e.incarnation) return 'lost'
    if (at && e.n <= at.n) return 'known'
    if (at && e.n > at.n + 1) return 'lost'
    this.at.set(inbox, e)
    return 'next'
  }
}
