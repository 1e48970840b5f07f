import { AlertCircle, Check, Clock, PencilLine } from 'lucide-react'
import { memo } from 'react'
import { useDrafts } from '../drafts.ts'
import { useT } from '../settings.ts'
import type { Conversation } from '../sync/wire.ts'
import { Avatar } from './Avatar.tsx'
import { useDeskState } from './hooks.ts'
import { belongs, isMine, nameOf, unread as countUnread, unsentOf, type Tab } from './select.ts'
import { ShortTime, WaitTimer } from './time.tsx'

export const Row = memo(function Row({ c, tab, selected, onSelect }: {
  c: Conversation
  tab: Tab
  selected: boolean
  onSelect: (id: string) => void
}) {
  const t = useT()
  const state = useDeskState()
  const draft = useDrafts().get(c.conversation)
  const me = state.me?.id ?? ''
  const mine = isMine(c, me)
  const fresh = mine && !selected ? countUnread(c, state) : 0
  const { waiting, refused } = unsentOf(state, c.conversation)
  const name = nameOf(c)
  const unanswered = mine && c.last_from === 'customer'
  const gone = !belongs(c, tab, me) && c.state !== 'resolved'

  return (
    <li>
      <button
        type="button"
        className="row"
        data-id={c.conversation}
        data-unread={fresh > 0}
        data-gone={gone || (c.state === 'resolved' && tab !== 'all')}
        aria-current={selected ? 'true' : undefined}
        onClick={() => onSelect(c.conversation)}
      >
        <Avatar id={c.customer?.id ?? c.conversation} name={name} size={40} />
        <span className="row-name">
          <bdi>{name}</bdi>
        </span>
        <span className="row-time">
          {c.state === 'waiting' ? (
            <WaitTimer since={c.since} label={t.waitingFor} />
          ) : unanswered ? (
            <WaitTimer since={c.last_at} label={t.unansweredSince} />
          ) : (
            <ShortTime at={c.last_at} />
          )}
        </span>
        <span className="row-text">
          {draft && !selected ? (
            <>
              <PencilLine size={13} aria-hidden="true" />
              <em>{t.draft}:</em> <bdi>{draft}</bdi>
            </>
          ) : (
            <>
              {c.last_from === 'agent' && <span className="row-who">{mine || c.agent?.id === me ? t.you : (c.agent?.name ?? t.agent)}: </span>}
              <bdi>{c.last_text}</bdi>
            </>
          )}
        </span>
        <span className="row-marks">
          {refused > 0 && <AlertCircle size={16} className="mark-bad" role="img" aria-label={t.notSent} />}
          {waiting > 0 && <Clock size={14} className="mark-wait" role="img" aria-label={t.pending} />}
          {fresh > 0 && (
            <span className="badge">
              <span aria-hidden="true">{fresh > 99 ? '99+' : fresh}</span>
              <span className="vh">{t.unread(fresh)}</span>
            </span>
          )}
          {c.state === 'resolved' && <Check size={15} className="mark-quiet" role="img" aria-label={t.state.resolved} />}
          {c.state === 'held' && !mine && c.agent && (
            <span className="row-owner">
              <span className="vh">{t.withAgent(c.agent.name || c.agent.id)}</span>
              <Avatar id={c.agent.id} name={c.agent.name} size={20} />
            </span>
          )}
          {mine && !c.accepted && <span className="fresh">{t.assignedToYou}</span>}
        </span>
      </button>
    </li>
  )
})
