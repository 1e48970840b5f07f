import { Button } from '@base-ui/react/button'
import { AlertCircle, Check, Clock } from 'lucide-react'
import { memo } from 'react'
import { draftOf, setDraft } from '../drafts.ts'
import { useSettings, useT } from '../settings.ts'
import type { Item } from '../sync/outbox.ts'
import type { Message } from '../sync/wire.ts'
import { Avatar } from './Avatar.tsx'
import { useDesk, useDeskState } from './hooks.ts'
import { linked } from './links.ts'
import { isMine } from './select.ts'
import { clockTime, dateTime } from './time.tsx'

export const Bubble = memo(function Bubble({ m, follows, mine }: { m: Message; follows: boolean; mine: boolean }) {
  const t = useT()
  const { lang } = useSettings()
  const at = Date.parse(m.at)
  if (m.kind === 'system') {
    return (
      <li className="system" data-seq={m.seq}>
        {m.text}
      </li>
    )
  }
  const side = m.from.role === 'customer' ? 'start' : 'end'
  const name = mine ? t.you : m.from.name || m.from.id
  return (
    <li className="said-item" data-side={side} data-follows={follows} data-mine={mine} data-seq={m.seq} data-message={m.id}>
      {side === 'start' && <span className="said-avatar">{!follows && <Avatar id={m.from.id} name={m.from.name} size={32} />}</span>}
      <div className="said-body">
        <p className={follows ? 'vh' : 'said-who'}>
          <bdi>{name}</bdi>
        </p>
        <div className="bubble">
          <p dir="auto">
            {linked(m.text).map((p, i) =>
              p.href ? (
                <a key={i} href={p.href} target="_blank" rel="noopener noreferrer nofollow">
                  {p.text}
                </a>
              ) : (
                p.text
              ),
            )}
          </p>
          <span className="bubble-meta">
            <time dateTime={m.at} title={dateTime(lang, at)}>
              {clockTime(lang, at)}
            </time>
            {mine && <Check size={13} role="img" aria-label={t.stored} />}
          </span>
        </div>
      </div>
    </li>
  )
})

/** PendingBubble is what was said but has no place in the conversation yet, or never will. */
export function PendingBubble({ item }: { item: Item }) {
  const t = useT()
  const desk = useDesk()
  const { lang } = useSettings()
  const { acknowledged, heads, me } = useDeskState()
  const c = heads.get(item.conversation)
  const mine = c !== undefined && isMine(c, me?.id ?? '')
  const state = item.refused ? 'refused' : acknowledged.has(item.id) ? 'acknowledged' : 'pending'
  return (
    <li className="said-item" data-side="end" data-follows="true" data-mine="true" data-state={state} data-message={item.id}>
      <div className="said-body">
        <p className="vh">{t.you}</p>
        <div className="bubble">
          <p dir="auto">{item.text}</p>
          <span className="bubble-meta">
            {state === 'refused' ? t.notSent : clockTime(lang, item.at)}
            {state === 'refused' ? (
              <AlertCircle size={14} aria-hidden="true" />
            ) : (
              <Clock size={13} role="img" aria-label={state === 'acknowledged' ? t.acknowledged : t.pending} />
            )}
          </span>
        </div>
        {item.refused && (
          <div className="refused" role="alert">
            <span>{t.reason[item.refused.reason]}</span>
            {mine && (
              <Button className="link" onClick={() => desk.retry(item.id)}>
                {t.retry}
              </Button>
            )}
            {mine && (
              <Button
                className="link"
                onClick={() => {
                  const before = draftOf(item.conversation)
                  setDraft(item.conversation, before ? `${before}\n${item.text}` : item.text!)
                  desk.discard(item.id)
                }}
              >
                {t.edit}
              </Button>
            )}
            <Button className="link" onClick={() => desk.discard(item.id)}>
              {t.discard}
            </Button>
          </div>
        )}
      </div>
    </li>
  )
}
