// Replies that are being written, kept per conversation until they are sent.

import { useSyncExternalStore } from 'react'
import { box, put } from './settings.ts'

/** So many are kept; the one not touched for longest is forgotten first. */
const most = 50

let agent = ''
let drafts: ReadonlyMap<string, string> = new Map()
const listeners = new Set<() => void>()

const key = () => 'holdline.drafts.' + agent

/** openDrafts takes up what an agent left in this browser. */
export function openDrafts(who: string): void {
  if (who === agent) return
  agent = who
  drafts = read()
  for (const l of listeners) l()
}

function read(): ReadonlyMap<string, string> {
  try {
    const list: unknown = JSON.parse(box.getItem(key()) ?? '[]')
    if (!Array.isArray(list)) return new Map()
    return new Map(list.filter((e): e is [string, string] => Array.isArray(e) && typeof e[0] === 'string' && typeof e[1] === 'string'))
  } catch {
    return new Map()
  }
}

export function setDraft(conversation: string, text: string): void {
  if ((drafts.get(conversation) ?? '') === text) return
  const next = new Map(drafts)
  next.delete(conversation)
  if (text !== '') next.set(conversation, text)
  for (const old of [...next.keys()].slice(0, Math.max(0, next.size - most))) next.delete(old)
  drafts = next
  put(key(), next.size > 0 ? JSON.stringify([...next]) : null)
  for (const l of listeners) l()
}

export const draftOf = (conversation: string): string => drafts.get(conversation) ?? ''

export function useDrafts(): ReadonlyMap<string, string> {
  return useSyncExternalStore(
    (l) => {
      listeners.add(l)
      return () => listeners.delete(l)
    },
    () => drafts,
  )
}
