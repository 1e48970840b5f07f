import { Button } from '@base-ui/react/button'
import { ArrowDown, LoaderCircle, Lock, TriangleAlert } from 'lucide-react'
import { Fragment, useEffect, useLayoutEffect, useMemo, useRef, useState } from 'react'
import { useT } from '../settings.ts'
import type { Item } from '../sync/outbox.ts'
import { emptyThread } from '../sync/thread.ts'
import type { Conversation, Message } from '../sync/wire.ts'
import { Bubble, PendingBubble } from './Bubble.tsx'
import { Empty } from './Empty.tsx'
import { useDesk, useDeskState, useNow } from './hooks.ts'
import { isMine } from './select.ts'
import { dayOf, useDay } from './time.tsx'

/** Messages of one sender within this follow each other without a new name. */
const together = 5 * 60_000
/** So near to its end a thread stays there when something new comes. */
const nearEnd = 80

export function Messages({ c }: { c: Conversation }) {
  const t = useT()
  const desk = useDesk()
  const state = useDeskState()
  const { threads, outbox, me } = state
  const thread = threads.get(c.conversation) ?? emptyThread
  const pending = useMemo(() => outbox.filter((i) => i.kind === 'say' && i.conversation === c.conversation), [outbox, c.conversation])
  const box = useRef<HTMLDivElement>(null)
  const atEnd = useRef(true)
  const [away, setAway] = useState(false)
  const [newBelow, setNewBelow] = useState(false)
  const newest = thread.messages[thread.messages.length - 1]
  const oldest = thread.messages[0]?.seq
  // Where reading had got to when the conversation was opened: the line stays there.
  const [mark] = useState(() => (isMine(c, me?.id ?? '') ? (state.seen.get(c.conversation) ?? 0) : Infinity))

  // Older messages are put in front without moving what is read.
  const before = useRef({ height: 0, oldest: 0 })
  useLayoutEffect(() => {
    const el = box.current
    if (!el) return
    const grewAbove = before.current.oldest > 0 && oldest !== undefined && oldest < before.current.oldest
    if (grewAbove && !atEnd.current) el.scrollTop += el.scrollHeight - before.current.height
    else if (atEnd.current) el.scrollTop = el.scrollHeight
    before.current = { height: el.scrollHeight, oldest: oldest ?? 0 }
  }, [thread.messages, pending, oldest, thread.status])

  // The end stays in view when the composer grows or the window shrinks.
  useEffect(() => {
    const el = box.current
    if (!el) return
    const o = new ResizeObserver(() => {
      if (atEnd.current) el.scrollTop = el.scrollHeight
    })
    o.observe(el)
    return () => o.disconnect()
  }, [])

  // What one says oneself brings one to the end.
  const lastPending = pending[pending.length - 1]?.id
  useEffect(() => {
    if (lastPending && box.current) {
      atEnd.current = true
      box.current.scrollTop = box.current.scrollHeight
    }
  }, [lastPending])

  useEffect(() => {
    if (!newest) return
    if (!atEnd.current && newest.from.role === 'customer') setNewBelow(true)
    const read = () => {
      if (atEnd.current && document.visibilityState === 'visible' && document.hasFocus()) desk.sawUpTo(c.conversation, newest.seq)
    }
    read()
    window.addEventListener('focus', read)
    document.addEventListener('visibilitychange', read)
    return () => {
      window.removeEventListener('focus', read)
      document.removeEventListener('visibilitychange', read)
    }
  }, [newest, away, desk, c.conversation])

  function scrolled() {
    const el = box.current!
    atEnd.current = el.scrollHeight - el.scrollTop - el.clientHeight < nearEnd
    setAway(!atEnd.current)
    if (atEnd.current) setNewBelow(false)
    if (el.scrollTop < 200 && thread.more && !thread.loadingOlder) desk.older(c.conversation)
  }

  if (thread.status === 'denied') {
    return (
      <div className="messages">
        <Empty icon={<Lock />} title={t.threadDenied} />
      </div>
    )
  }
  if (thread.status === 'failed') {
    return (
      <div className="messages">
        <Empty icon={<TriangleAlert />} title={t.threadFailed}>
          <Button className="button" data-kind="quiet" onClick={() => desk.reload(c.conversation)}>
            {t.retry}
          </Button>
        </Empty>
      </div>
    )
  }
  const loading = thread.status === 'loading' && thread.messages.length === 0
  return (
    <div className="messages-frame">
      {/* It takes focus so that the keyboard can scroll it. New words are read out by Toasts, older ones that are loaded are not. */}
      <div className="messages" ref={box} onScroll={scrolled} role="log" aria-live="off" aria-label={t.messages} aria-busy={loading} tabIndex={0}>
        {loading ? (
          <Skeleton />
        ) : (
          <>
            <div className="messages-top">
              {thread.loadingOlder ? (
                <LoaderCircle size={18} className="spin" aria-label={t.loading} />
              ) : thread.more ? (
                <Button className="button" data-kind="quiet" onClick={() => desk.older(c.conversation)}>
                  {t.loadOlder}
                </Button>
              ) : (
                <span>{thread.messages.length > 0 ? t.beginning : pending.length === 0 ? t.noMessages : ''}</span>
              )}
            </div>
            <Said messages={thread.messages} pending={pending} mark={mark} me={me?.id ?? ''} />
          </>
        )}
      </div>
      {away && (
        <Button
          className="to-end"
          data-new={newBelow}
          onClick={() => {
            atEnd.current = true
            box.current!.scrollTo({ top: box.current!.scrollHeight, behavior: 'smooth' })
          }}
        >
          {newBelow ? t.newBelow : <span className="vh">{t.jumpToEnd}</span>}
          <ArrowDown size={16} aria-hidden="true" />
        </Button>
      )}
    </div>
  )
}

function Said({ messages, pending, mark, me }: { messages: readonly Message[]; pending: readonly Item[]; mark: number; me: string }) {
  const t = useT()
  const day = useDay()
  const now = useNow()
  let previous: Message | undefined
  // The line stands above the first customer's message past the mark, and only if something was read before.
  const first = mark > 0 ? messages.find((m) => m.seq > mark && m.from.role === 'customer')?.seq : undefined
  const stored = new Set(messages.map((m) => m.id))
  return (
    <ol className="said">
      {messages.map((m) => {
        const at = Date.parse(m.at)
        const newDay = !previous || dayOf(Date.parse(previous.at)) !== dayOf(at)
        const line = m.seq === first
        const follows =
          !newDay && !line && previous !== undefined && previous.from.id === m.from.id && previous.from.role === m.from.role && at - Date.parse(previous.at) < together
        previous = m
        return (
          <Fragment key={m.from.id === me ? m.id : `${m.from.role}/${m.seq}`}>
            {newDay && <li className="day"><span>{day(at, now)}</span></li>}
            {line && <li className="unread-line"><span>{t.unreadFrom}</span></li>}
            <Bubble m={m} follows={follows} mine={m.from.role === 'agent' && m.from.id === me} />
          </Fragment>
        )
      })}
      {pending.filter((i) => !stored.has(i.id)).map((i) => (
        <Fragment key={i.id}>
          <PendingBubble item={i} />
        </Fragment>
      ))}
    </ol>
  )
}

function Skeleton() {
  const t = useT()
  return (
    <div className="messages-skeleton" role="status">
      <span className="vh">{t.loading}</span>
      {[46, 62, 30, 54, 38].map((w, i) => (
        <i key={i} className="bone bone-bubble" data-side={i % 3 === 1 ? 'end' : 'start'} style={{ inlineSize: `${w}%` }} aria-hidden="true" />
      ))}
    </div>
  )
}
