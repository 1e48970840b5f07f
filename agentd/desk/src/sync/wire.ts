// The words of topics.md and of the HTTP API, as the desk uses them.

export type Role = 'customer' | 'agent' | 'device' | 'service'
export type State = 'waiting' | 'held' | 'resolved'
export type Intent = 'available' | 'busy' | 'away'
export type Action = 'accept' | 'release' | 'resolve'

export const reasons = [
  'invalid',
  'too_large',
  'forbidden',
  'not_found',
  'conflict',
  'not_owner',
  'closed',
  'internal',
] as const
export type Reason = (typeof reasons)[number]

export interface Person {
  role: Role
  id: string
  name: string
}

/** Head is a conversation without its messages: a whole picture, the newest one wins. */
export interface Head {
  state: State
  agent?: Person
  episode: number
  last_seq: number
  customer?: Person
  queue?: string
  epoch?: number
  accepted?: boolean
  opened?: string
  since?: string
  last_at?: string
  last_text?: string
  last_from?: Role
}

export interface Conversation extends Head {
  conversation: string
}

/** Message is something said; seq counts without gaps in its conversation. */
export interface Message {
  conversation: string
  seq: number
  id: string
  from: Person
  kind: string
  text: string
  at: string
}

/** WireEvent is the union that arrives on down/event and queue/{queue}/event. */
export interface WireEvent {
  event: string
  type: string
  conversation?: string
  seq?: number
  id?: string
  from?: Person
  kind?: string
  text?: string
  at?: string
  reason?: string
  detail?: string
  head?: Head
}

export interface Agent {
  id: string
  name: string
  intent: Intent
  capacity: number
  load: number
  reachable: boolean
}

export interface Session {
  agent: Agent
  token: string
  device: string
  expires: string
}

/** Snapshot is GET /api/v1/desk. Its event ids were read before its rows. */
export interface Snapshot {
  me: Agent
  agents: Agent[]
  queues: { id: string }[]
  conversations: Conversation[]
  events: { own: string; queues: Record<string, string> }
  /** There are more open conversations than fit into one snapshot. */
  more?: boolean
}

/** The server's bound on the text of one message, in UTF-8 bytes. */
export const maxTextBytes = 16 << 10

/** messageOf reads a message out of an event; null when it is none. */
export function messageOf(e: WireEvent): Message | null {
  if (e.type !== 'message' || !e.conversation || !e.seq || !e.id || !e.from) return null
  return {
    conversation: e.conversation,
    seq: e.seq,
    id: e.id,
    from: e.from,
    kind: e.kind ?? 'text',
    text: e.text ?? '',
    at: e.at ?? '',
  }
}
