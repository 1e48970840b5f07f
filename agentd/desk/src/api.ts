// The HTTP API over fetch. The session travels as a cookie that scripts cannot read.

import { ApiError, type Api } from './sync/api.ts'
import type { Agent, Conversation, Message, Session, Snapshot } from './sync/wire.ts'

const patience = 10_000

async function call(method: string, path: string, body?: unknown): Promise<Response> {
  let r: Response
  try {
    r = await fetch('/api/v1' + path, {
      method,
      signal: AbortSignal.timeout(patience),
      cache: 'no-store',
      ...(body === undefined
        ? {}
        : { headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }),
    })
  } catch (err) {
    throw new ApiError(0, String(err))
  }
  if (r.ok) return r
  const problem = (await r.json().catch(() => null)) as { detail?: string; title?: string } | null
  const after = Number(r.headers.get('Retry-After'))
  throw new ApiError(r.status, problem?.detail ?? problem?.title ?? r.statusText, after > 0 ? after : null)
}

async function json<T>(method: string, path: string, body?: unknown): Promise<T> {
  const r = await call(method, path, body)
  try {
    return (await r.json()) as T
  } catch (err) {
    throw new ApiError(0, String(err)) // cut off in the middle
  }
}

function query(params: Record<string, string | number | null>): string {
  const q = new URLSearchParams()
  for (const [k, v] of Object.entries(params)) if (v !== null && v !== '') q.set(k, String(v))
  const s = q.toString()
  return s ? '?' + s : ''
}

const conversationPath = (id: string) => '/conversations/' + encodeURIComponent(id)

export const api: Api = {
  signIn: (id, password, device) =>
    json<Session>('POST', '/session', { id, password, ...(device ? { device } : {}) }),
  session: (device) => json<Session>('GET', '/session' + query({ device })),
  async signOut() {
    await call('DELETE', '/session')
  },
  me: () => json<Agent>('GET', '/me'),
  setIntent: (intent) => json<Agent>('PUT', '/me/intent', { intent }),
  async desk() {
    const r = await call('GET', '/desk')
    const date = Date.parse(r.headers.get('Date') ?? '')
    try {
      const s = (await r.json()) as Snapshot
      return {
        snapshot: { ...s, agents: s.agents ?? [], queues: s.queues ?? [], conversations: s.conversations ?? [] },
        serverTime: Number.isNaN(date) ? null : date,
      }
    } catch (err) {
      throw new ApiError(0, String(err))
    }
  },
  conversation: (id) => json<Conversation>('GET', conversationPath(id)),
  async messages(id, before, limit) {
    const r = await json<{ messages: Message[] | null; more: boolean }>(
      'GET',
      conversationPath(id) + '/messages' + query({ before, limit }),
    )
    return { messages: r.messages ?? [], more: r.more }
  },
}
