import { useRef, useState } from 'react'

/**
 * Frozen is a list that holds still while somebody points at it: rows neither
 * move nor appear nor vanish under the pointer. news counts what would.
 */
export interface Frozen {
  ids: readonly string[]
  news: number
  /** release shows the list as it is now, and holds still again. */
  release: () => void
}

/** useFrozen holds ids still while held; marks tells of each row how new it is. */
export function useFrozen(ids: readonly string[], marks: ReadonlyMap<string, number>, held: boolean, key: string): Frozen {
  const kept = useRef<{ key: string; ids: readonly string[]; marks: ReadonlyMap<string, number> }>({ key, ids, marks })
  const [, again] = useState(0)
  if (!held || kept.current.key !== key || kept.current.ids.length === 0) kept.current = { key, ids, marks }
  const before = kept.current
  const moved = before.ids !== ids && (before.ids.length !== ids.length || before.ids.some((id, i) => id !== ids[i]))
  const news = moved ? ids.filter((id) => (marks.get(id) ?? 0) > (before.marks.get(id) ?? -1)).length : 0
  return {
    ids: before.ids,
    news,
    release() {
      kept.current = { key, ids, marks }
      again((n) => n + 1)
    },
  }
}
