// What a person has chosen in this browser. public/first-paint.js reads the
// same keys before anything is drawn.

import { useSyncExternalStore } from 'react'
import { type Dict, dictionaries, type Lang } from './i18n.ts'

export type Theme = 'system' | 'light' | 'dark'

export interface Settings {
  theme: Theme
  lang: Lang
  /** Single-key shortcuts; people who speak to their computer want them off (WCAG 2.1.4). */
  keys: boolean
  /** The context panel is open. */
  context: boolean
}

/** box is localStorage, or a stand-in for as long as the page lives where that is switched off. */
export const box: Storage | MemoryBox = storage()

class MemoryBox {
  private readonly map = new Map<string, string>()
  getItem(key: string): string | null {
    return this.map.get(key) ?? null
  }
  setItem(key: string, value: string): void {
    this.map.set(key, value)
  }
  removeItem(key: string): void {
    this.map.delete(key)
  }
}

function storage(): Storage | MemoryBox {
  try {
    const s = window.localStorage
    s.setItem('holdline.probe', '1')
    s.removeItem('holdline.probe')
    return s
  } catch {
    return new MemoryBox()
  }
}

/** put stores a preference; a browser that will not is no reason to stop. */
export function put(key: string, value: string | null): void {
  try {
    if (value === null) box.removeItem(key)
    else box.setItem(key, value)
  } catch {
    // full: the choice lasts as long as the page
  }
}

function browserLang(): Lang {
  for (const l of navigator.languages) {
    if (/^zh\b/i.test(l)) return 'zh-CN'
    if (/^en\b/i.test(l)) return 'en'
  }
  return 'en'
}

const theme = box.getItem('holdline.theme')
const lang = box.getItem('holdline.lang')
let settings: Settings = {
  theme: theme === 'light' || theme === 'dark' ? theme : 'system',
  lang: lang === 'en' || lang === 'zh-CN' ? lang : browserLang(),
  keys: box.getItem('holdline.keys') !== 'off',
  context: box.getItem('holdline.context') !== 'closed',
}
const listeners = new Set<() => void>()

function apply(): void {
  const root = document.documentElement
  if (settings.theme === 'system') delete root.dataset.theme
  else root.dataset.theme = settings.theme
  root.lang = settings.lang
}
apply()

export function choose(change: Partial<Settings>): void {
  settings = { ...settings, ...change }
  if (change.theme) put('holdline.theme', change.theme === 'system' ? null : change.theme)
  if (change.lang) put('holdline.lang', change.lang)
  if (change.keys !== undefined) put('holdline.keys', change.keys ? null : 'off')
  if (change.context !== undefined) put('holdline.context', change.context ? null : 'closed')
  apply()
  for (const l of listeners) l()
}

export function useSettings(): Settings {
  return useSyncExternalStore(
    (l) => {
      listeners.add(l)
      return () => listeners.delete(l)
    },
    () => settings,
  )
}

/** useT gives the words of the chosen language. */
export function useT(): Dict {
  return dictionaries[useSettings().lang]
}
