// What the desk needs of the HTTP API. src/api.ts speaks it over fetch, the
// tests bring their own.

import type { Agent, Conversation, Intent, Message, Session, Snapshot } from './wire.ts'

export interface Api {
  signIn(id: string, password: string, device: string | null): Promise<Session>
  /** session returns a fresh token while the cookie is valid. */
  session(device: string | null): Promise<Session>
  signOut(): Promise<void>
  me(): Promise<Agent>
  setIntent(intent: Intent): Promise<Agent>
  desk(): Promise<{ snapshot: Snapshot; serverTime: number | null }>
  conversation(id: string): Promise<Conversation>
  messages(id: string, before: number | null, limit: number): Promise<{ messages: Message[]; more: boolean }>
}

/** ApiError is an answer that is not the expected one. status 0 means that there was no answer. */
export class ApiError extends Error {
  readonly status: number
  /** For 429: how many seconds to wait. */
  readonly retryAfter: number | null

  constructor(status: number, message: string, retryAfter: number | null = null) {
    super(message)
    this.status = status
    this.retryAfter = retryAfter
  }
}

/** statusOf is the HTTP status of an error, 0 when the server was not reached. */
export function statusOf(err: unknown): number {
  return err instanceof ApiError ? err.status : 0
}
