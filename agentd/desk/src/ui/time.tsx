import { useMemo } from 'react'
import type { Lang } from '../i18n.ts'
import { useSettings, useT } from '../settings.ts'
import { useNow } from './hooks.ts'

const formats = new Map<string, Intl.DateTimeFormat>()

function format(lang: Lang, o: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = lang + JSON.stringify(o)
  let f = formats.get(key)
  if (!f) formats.set(key, (f = new Intl.DateTimeFormat(lang, o)))
  return f
}

export const clockTime = (lang: Lang, at: number): string =>
  format(lang, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }).format(at)

export const dateTime = (lang: Lang, at: number): string =>
  format(lang, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }).format(at)

/** dayOf numbers the local days, so that two times can be compared. */
export function dayOf(at: number): number {
  const d = new Date(at)
  return Math.round(Date.UTC(d.getFullYear(), d.getMonth(), d.getDate()) / 86_400_000)
}

/** useDay names the day of a time: today, yesterday, or its date. */
export function useDay(): (at: number, now: number) => string {
  const t = useT()
  const { lang } = useSettings()
  return useMemo(
    () => (at, now) => {
      const ago = dayOf(now) - dayOf(at)
      if (ago === 0) return t.today
      if (ago === 1) return t.yesterday
      const sameYear = new Date(at).getFullYear() === new Date(now).getFullYear()
      return format(lang, { weekday: 'short', day: 'numeric', month: 'long', ...(sameYear ? {} : { year: 'numeric' }) }).format(at)
    },
    [t, lang],
  )
}

/** ShortTime is the hour today and the day before that. */
export function ShortTime({ at }: { at: string | undefined }) {
  const { lang } = useSettings()
  const t = useT()
  const now = useNow()
  const ms = Date.parse(at ?? '')
  if (Number.isNaN(ms)) return null
  const ago = dayOf(now) - dayOf(ms)
  const text = ago === 0 ? clockTime(lang, ms) : ago === 1 ? t.yesterday : format(lang, { day: 'numeric', month: 'short' }).format(ms)
  return (
    <time dateTime={at} title={dateTime(lang, ms)}>
      {text}
    </time>
  )
}

/** span writes a duration as people read it on a clock: 0:07, 12:30, 1 h 05. */
export function span(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000))
  if (s < 3600) return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, '0')}`
  return `${Math.floor(s / 86_400)} d`
}

/** After these it is getting long, and too long. */
const long = 2 * 60_000
const tooLong = 5 * 60_000

/** WaitTimer counts how long somebody has been waiting, and shows when that gets long. */
export function WaitTimer({ since, label }: { since: string | undefined; label: (time: string) => string }) {
  const { lang } = useSettings()
  const now = useNow()
  const ms = Date.parse(since ?? '')
  if (Number.isNaN(ms)) return null
  const waited = now - ms
  const level = waited >= tooLong ? 'late' : waited >= long ? 'soon' : 'calm'
  return (
    <span className="wait" data-level={level}>
      <span className="wait-ring" aria-hidden="true" />
      <span aria-hidden="true">{span(waited)}</span>
      <span className="vh">{label(clockTime(lang, ms))}</span>
    </span>
  )
}
