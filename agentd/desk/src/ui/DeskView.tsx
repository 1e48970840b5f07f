import { useCallback, useEffect, useMemo, useRef, useState } from 'react'
import { draftOf } from '../drafts.ts'
import { choose, useSettings, useT } from '../settings.ts'
import { Banner } from './Banner.tsx'
import { CheatSheet } from './CheatSheet.tsx'
import { Confirm } from './Confirm.tsx'
import { Context } from './Context.tsx'
import { useDesk, useDeskState, useMedia } from './hooks.ts'
import { focusStays, useKeys } from './keys.ts'
import { List } from './List.tsx'
import { Rail } from './Rail.tsx'
import { go, useConversation } from './route.ts'
import { isMine, type Tab, unread } from './select.ts'
import { Thread } from './Thread.tsx'
import { Toasts } from './Toasts.tsx'

export function DeskView() {
  const t = useT()
  const desk = useDesk()
  const state = useDeskState()
  const selected = useConversation()
  const settings = useSettings()
  const [tab, setTab] = useState<Tab>('mine')
  const [help, setHelp] = useState(false)
  const [resolving, setResolving] = useState<string | null>(null)
  const [leaving, setLeaving] = useState(false)
  const order = useRef<readonly string[]>([])
  // Where there is no room beside the thread, details are a drawer that starts closed.
  const roomy = useMedia('(min-width: 1180px)')
  const [drawer, setDrawer] = useState(false)
  const contextOpen = roomy ? settings.context : drawer
  const setContext = useCallback((open: boolean) => (roomy ? choose({ context: open }) : setDrawer(open)), [roomy])

  const me = state.me?.id ?? ''
  const c = selected ? state.heads.get(selected) : undefined
  const mine = c !== undefined && isMine(c, me)

  const waiting = useMemo(
    () => [...state.heads.values()].filter((h) => isMine(h, me) && h.conversation !== selected).reduce((n, h) => n + (unread(h, state) > 0 ? 1 : 0), 0),
    [state, me, selected],
  )
  useEffect(() => {
    document.title = waiting > 0 ? `(${waiting}) ${t.app}` : t.app
  }, [waiting, t])
  useEffect(() => setDrawer(false), [selected])

  const onOrder = useCallback((ids: readonly string[]) => {
    order.current = ids
  }, [])
  const resolve = useCallback(
    (id: string) => {
      if (draftOf(id).trim() !== '') setResolving(id)
      else desk.command(id, 'resolve')
    },
    [desk],
  )

  useKeys({
    step(by) {
      const ids = order.current
      if (ids.length === 0) return
      const i = selected ? ids.indexOf(selected) : -1
      const next = i < 0 ? (by > 0 ? 0 : ids.length - 1) : Math.min(Math.max(i + by, 0), ids.length - 1)
      focusStays.on = ids[next]!
      go(ids[next]!)
      // Moving on with the keyboard goes on with the keyboard: focus stays out of the composer.
      requestAnimationFrame(() => document.querySelector<HTMLElement>('.row[aria-current]')?.focus({ preventScroll: true }))
    },
    reply: () => document.querySelector<HTMLElement>('.composer textarea')?.focus(),
    accept() {
      if (c && (c.state === 'waiting' || (mine && !c.accepted))) desk.command(c.conversation, 'accept')
    },
    resolve() {
      if (c && mine) resolve(c.conversation)
    },
    help: () => setHelp(true),
    escape() {
      if (!roomy && drawer) setDrawer(false)
      else if (selected) go(null)
    },
  })

  return (
    <div className="desk" data-selected={selected !== null} data-context={contextOpen && c !== undefined}>
      <Rail onHelp={() => setHelp(true)} onSignOut={() => (state.outbox.some((i) => !i.refused) ? setLeaving(true) : void desk.signOut())} />
      <Banner />
      <main className="work">
        <List tab={tab} onTab={setTab} selected={selected} onSelect={go} onOrder={onOrder} />
        <div className="main">
          <Thread id={selected} onBack={() => go(null)} onResolve={resolve} onContext={() => setContext(!contextOpen)} contextOpen={contextOpen} />
          {c && contextOpen && <Context c={c} onClose={() => setContext(false)} />}
        </div>
      </main>
      <Toasts selected={selected} />
      <CheatSheet open={help} onOpen={setHelp} />
      <Confirm
        open={resolving !== null}
        title={t.resolveDraftTitle}
        text={t.resolveDraft}
        yes={t.resolveAnyway}
        onYes={() => resolving && desk.command(resolving, 'resolve')}
        onClose={() => setResolving(null)}
      />
      <Confirm
        open={leaving}
        title={t.signOutUnsentTitle}
        text={t.signOutUnsent(state.outbox.filter((i) => !i.refused).length)}
        yes={t.signOut}
        onYes={() => void desk.signOut()}
        onClose={() => setLeaving(false)}
      />
    </div>
  )
}
