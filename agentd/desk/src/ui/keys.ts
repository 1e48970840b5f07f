import { useEffect } from 'react'
import { useSettings } from '../settings.ts'
import { useLatest } from './hooks.ts'

/** focusStays is the conversation that a key moved to: its composer leaves the focus where it is. */
export const focusStays = { on: '' }

export interface KeyActions {
  step(by: 1 | -1): void
  reply(): void
  accept(): void
  resolve(): void
  help(): void
  escape(): void
}

/** useKeys listens for single keys wherever nobody is typing and nothing is open on top. */
export function useKeys(actions: KeyActions): void {
  const { keys } = useSettings()
  const latest = useLatest(actions)
  useEffect(() => {
    function onKey(e: KeyboardEvent) {
      if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return
      const target = e.target as HTMLElement
      if (document.querySelector('.dialog, .menu')) return
      const typing = target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)
      if (e.key === 'Escape') {
        if (typing) target.blur()
        else latest.current.escape()
        return
      }
      if (typing || !keys) return
      const run = {
        j: () => latest.current.step(1),
        k: () => latest.current.step(-1),
        r: () => latest.current.reply(),
        a: () => latest.current.accept(),
        e: () => latest.current.resolve(),
        '?': () => latest.current.help(),
      }[e.key.toLowerCase()]
      if (!run || (e.repeat && !'jk'.includes(e.key.toLowerCase()))) return
      e.preventDefault()
      run()
    }
    window.addEventListener('keydown', onKey)
    return () => window.removeEventListener('keydown', onKey)
  }, [keys, latest])
}
