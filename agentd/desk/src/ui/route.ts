// The conversation on the screen is in the address, so that a reload and the
// back button do what people expect.

import { useSyncExternalStore } from 'react'

const listeners = new Set<() => void>()
window.addEventListener('popstate', () => listeners.forEach((l) => l()))

function current(): string | null {
  const m = /^\/c\/([^/]+)$/.exec(location.pathname)
  try {
    return m ? decodeURIComponent(m[1]!) : null
  } catch {
    return null
  }
}

/** go shows a conversation, or none. */
export function go(conversation: string | null): void {
  if (conversation === current()) return
  const path = conversation ? '/c/' + encodeURIComponent(conversation) : '/'
  // From one conversation to the next the history does not grow: back leads to the list.
  if (conversation && current()) history.replaceState(null, '', path)
  else history.pushState(null, '', path)
  listeners.forEach((l) => l())
}

export function useConversation(): string | null {
  return useSyncExternalStore(
    (l) => {
      listeners.add(l)
      return () => listeners.delete(l)
    },
    current,
  )
}
