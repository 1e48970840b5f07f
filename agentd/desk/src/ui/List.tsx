import { Button } from '@base-ui/react/button'
import { Tabs } from '@base-ui/react/tabs'
import { ArrowUp, Coffee, Inbox, Users } from 'lucide-react'
import { useEffect, useMemo, useRef, useState } from 'react'
import { useT } from '../settings.ts'
import type { Conversation } from '../sync/wire.ts'
import { Empty } from './Empty.tsx'
import { useFrozen } from './frozen.ts'
import { useDesk, useDeskState } from './hooks.ts'
import { Row } from './Row.tsx'
import { belongs, inOrder, isMine, isOpen, tabs, type Tab } from './select.ts'

/** So many resolved conversations are shown; older ones are a matter for search. */
const mostResolved = 50

export function List({ tab, onTab, selected, onSelect, onOrder }: {
  tab: Tab
  onTab: (t: Tab) => void
  selected: string | null
  onSelect: (id: string) => void
  /** Told what is on the screen in which order, for the keyboard. */
  onOrder: (ids: readonly string[]) => void
}) {
  const t = useT()
  const state = useDeskState()
  const me = state.me?.id ?? ''
  const open = useMemo(() => [...state.heads.values()].filter(isOpen), [state.heads])
  const counts = useMemo(() => ({
    mine: open.filter((c) => isMine(c, me)).length,
    queue: open.filter((c) => c.state === 'waiting').length,
    all: open.length,
  }), [open, me])
  const names: Record<Tab, string> = { mine: t.tabMine, queue: t.tabQueue, all: t.tabAll }

  return (
    <Tabs.Root className="list" value={tab} onValueChange={(v) => onTab(v as Tab)} render={<section aria-label={t.conversations} />}>
      <header className="list-head">
        <h1>{t.conversations}</h1>
        <Tabs.List className="tabs" aria-label={t.conversations}>
          {tabs.map((v) => (
            <Tabs.Tab key={v} value={v} className="tab">
              {names[v]}
              <span className="tab-count">{v === 'mine' && state.me ? `${counts.mine}/${state.me.capacity}` : counts[v]}</span>
            </Tabs.Tab>
          ))}
          <Tabs.Indicator className="tab-indicator" />
        </Tabs.List>
      </header>
      <Tabs.Panel value={tab} className="list-body" tabIndex={-1}>
        {state.ready ? (
          <Rows tab={tab} open={open} selected={selected} onSelect={onSelect} onOrder={onOrder} />
        ) : (
          <Skeleton />
        )}
      </Tabs.Panel>
    </Tabs.Root>
  )
}

function Rows({ tab, open, selected, onSelect, onOrder }: {
  tab: Tab
  open: Conversation[]
  selected: string | null
  onSelect: (id: string) => void
  onOrder: (ids: readonly string[]) => void
}) {
  const t = useT()
  const desk = useDesk()
  const { heads, me } = useDeskState()
  const [pointed, setPointed] = useState(false)
  const box = useRef<HTMLDivElement>(null)

  const ids = useMemo(
    () => inOrder(open.filter((c) => belongs(c, tab, me?.id ?? '')), tab).map((c) => c.conversation),
    [open, tab, me?.id],
  )
  const marks = useMemo(() => new Map([...heads.values()].map((c) => [c.conversation, c.last_seq])), [heads])
  const frozen = useFrozen(ids, marks, pointed, tab)
  const resolved = useMemo(() => {
    if (tab !== 'all') return []
    const list = [...heads.values()].filter((c) => c.state === 'resolved' && !frozen.ids.includes(c.conversation))
    return inOrder(list, 'all').slice(0, mostResolved).map((c) => c.conversation)
  }, [tab, heads, frozen.ids])

  // A pointer that rests here while its owner types is not about to click.
  useEffect(() => {
    if (!pointed) return
    const typing = () => setPointed(false)
    window.addEventListener('keydown', typing)
    return () => window.removeEventListener('keydown', typing)
  }, [pointed])
  useEffect(() => {
    if (tab === 'all') desk.loadRecent()
  }, [tab, desk])
  useEffect(() => onOrder([...frozen.ids, ...resolved]), [frozen.ids, resolved, onOrder])
  useEffect(() => {
    if (selected) box.current?.querySelector(`[data-id="${CSS.escape(selected)}"]`)?.scrollIntoView({ block: 'nearest' })
  }, [selected, tab])

  const row = (id: string) => {
    const c = heads.get(id)
    return c && <Row key={id} c={c} tab={tab} selected={id === selected} onSelect={onSelect} />
  }

  return (
    <div
      className="rows-frame"
      onPointerMove={(e) => e.pointerType === 'mouse' && setPointed(true)}
      onPointerLeave={() => setPointed(false)}
    >
      {frozen.news > 0 && (
        <Button
          className="news"
          aria-label={t.newRowsLabel(frozen.news)}
          onClick={() => {
            frozen.release()
            box.current?.scrollTo({ top: 0 })
          }}
        >
          <ArrowUp size={14} aria-hidden="true" />
          {t.newRows(frozen.news)}
        </Button>
      )}
      <div ref={box} className="rows">
        {frozen.ids.length > 0 && <ul>{frozen.ids.map(row)}</ul>}
        {frozen.ids.length === 0 && resolved.length === 0 && <Nothing tab={tab} />}
        {resolved.length > 0 && (
          <>
            <h2 className="rows-title">{t.resolvedSection}</h2>
            <ul>{resolved.map(row)}</ul>
          </>
        )}
      </div>
    </div>
  )
}

function Nothing({ tab }: { tab: Tab }) {
  const t = useT()
  const { me } = useDeskState()
  switch (tab) {
    case 'mine':
      return <Empty icon={<Coffee />} title={t.emptyMine} text={me?.intent === 'available' ? t.emptyMineAvailable : t.emptyMineAway} />
    case 'queue':
      return <Empty icon={<Users />} title={t.emptyQueue} text={t.emptyQueueText} />
    case 'all':
      return <Empty icon={<Inbox />} title={t.emptyAll} text={t.emptyAllText} />
  }
}

function Skeleton() {
  const t = useT()
  return (
    <div className="rows" role="status">
      <span className="vh">{t.loading}</span>
      {[72, 54, 63, 45, 68].map((w, i) => (
        <div key={i} className="row-skeleton" aria-hidden="true">
          <i className="bone bone-round" />
          <span>
            <i className="bone" style={{ inlineSize: `${w - 20}%` }} />
            <i className="bone" style={{ inlineSize: `${w + 20}%` }} />
          </span>
        </div>
      ))}
    </div>
  )
}

