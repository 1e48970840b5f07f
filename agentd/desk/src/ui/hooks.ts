import { createContext, useContext, useEffect, useLayoutEffect, useRef, useState, useSyncExternalStore } from 'react'
import type { Desk } from '../sync/desk.ts'
import type { DeskState } from '../sync/state.ts'

export const DeskContext = createContext<Desk | null>(null)

export function useDesk(): Desk {
  const desk = useContext(DeskContext)
  if (!desk) throw new Error('outside of DeskContext')
  return desk
}

/** useDeskState draws again when the state changes. */
export function useDeskState(): DeskState {
  const { store } = useDesk()
  return useSyncExternalStore(store.subscribe, () => store.state)
}

// One clock for all timers on the screen.
let second = 0
const tickers = new Set<() => void>()
function onSecond(tick: () => void): () => void {
  tickers.add(tick)
  if (!second) second = window.setInterval(() => tickers.forEach((t) => t()), 1000)
  return () => {
    tickers.delete(tick)
    if (tickers.size > 0) return
    window.clearInterval(second)
    second = 0
  }
}

/** useNow is the server's time, once a second. */
export function useNow(): number {
  const { skew } = useDeskState()
  return useSyncExternalStore(onSecond, () => Math.floor(Date.now() / 1000) * 1000) + skew
}

/** useLasting is true once value has been true for ms: short interruptions do not flicker. */
export function useLasting(value: boolean, ms: number): boolean {
  const [lasting, setLasting] = useState(false)
  useEffect(() => {
    if (!value) return setLasting(false)
    const t = window.setTimeout(() => setLasting(true), ms)
    return () => window.clearTimeout(t)
  }, [value, ms])
  return value && lasting
}

/** useMedia follows a media query. */
export function useMedia(query: string): boolean {
  return useSyncExternalStore(
    (l) => {
      const m = window.matchMedia(query)
      m.addEventListener('change', l)
      return () => m.removeEventListener('change', l)
    },
    () => window.matchMedia(query).matches,
  )
}

/** useLatest gives callbacks the present value without being renewed for it. */
export function useLatest<T>(value: T): { readonly current: T } {
  const ref = useRef(value)
  useLayoutEffect(() => {
    ref.current = value
  })
  return ref
}
