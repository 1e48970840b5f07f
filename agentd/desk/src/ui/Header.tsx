import { Button } from '@base-ui/react/button'
import { ArrowLeft, Check, CornerUpLeft, Hand, LoaderCircle, PanelRight } from 'lucide-react'
import { useT } from '../settings.ts'
import type { Action, Conversation } from '../sync/wire.ts'
import { Avatar } from './Avatar.tsx'
import { useDesk, useDeskState } from './hooks.ts'
import { isMine, nameOf } from './select.ts'
import { Tip } from './Tip.tsx'
import { WaitTimer } from './time.tsx'

export function Header({ c, onBack, onResolve, onContext, contextOpen }: {
  c: Conversation
  onBack: () => void
  onResolve: (id: string) => void
  onContext: () => void
  contextOpen: boolean
}) {
  const t = useT()
  const desk = useDesk()
  const { me, outbox } = useDeskState()
  const mine = isMine(c, me?.id ?? '')
  const name = nameOf(c)
  const pending = new Set(
    outbox.filter((i) => i.conversation === c.conversation && i.kind === 'command' && !i.refused).map((i) => i.do),
  )
  const act = (action: Action, icon: React.ReactNode, kind: 'primary' | 'quiet', run: () => void, keys?: string, hint?: string) => (
    <Tip text={hint ?? t.action[action]} {...(keys ? { keys } : {})}>
      <Button
        className="button action"
        data-kind={kind}
        data-action={action}
        disabled={pending.size > 0}
        focusableWhenDisabled
        onClick={run}
      >
        {pending.has(action) ? <LoaderCircle size={16} className="spin" aria-hidden="true" /> : icon}
        <span>{pending.has(action) ? t.pendingCommand[action] : t.action[action]}</span>
      </Button>
    </Tip>
  )

  return (
    <header className="thread-head">
      <Button className="icon-button only-narrow" aria-label={t.back} onClick={onBack}>
        <ArrowLeft size={20} className="mirrored" />
      </Button>
      <Avatar id={c.customer?.id ?? c.conversation} name={name} size={40} />
      <div className="thread-who">
        <h2>
          <bdi>{name}</bdi>
        </h2>
        <p>
          <span className="chip" data-state={c.state} data-mine={mine}>
            {c.state === 'held' ? (mine ? t.withYou : t.withAgent(c.agent?.name || c.agent?.id || '')) : t.state[c.state]}
          </span>
          {c.state === 'waiting' && <WaitTimer since={c.since} label={t.waitingFor} />}
          {c.queue && <span className="thread-queue">{c.queue}</span>}
        </p>
      </div>
      <div className="thread-actions">
        {(c.state === 'waiting' || (mine && !c.accepted)) &&
          act('accept', <Hand size={16} aria-hidden="true" />, 'primary', () => desk.command(c.conversation, 'accept'), 'A')}
        {mine && act('release', <CornerUpLeft size={16} className="mirrored" aria-hidden="true" />, 'quiet', () => desk.command(c.conversation, 'release'), undefined, t.releaseHint)}
        {mine && act('resolve', <Check size={16} aria-hidden="true" />, c.accepted ? 'primary' : 'quiet', () => onResolve(c.conversation), 'E')}
        <Tip text={contextOpen ? t.hideContext : t.showContext}>
          <Button className="icon-button" aria-label={contextOpen ? t.hideContext : t.showContext} aria-expanded={contextOpen} onClick={onContext}>
            <PanelRight size={20} className="mirrored" />
          </Button>
        </Tip>
      </div>
    </header>
  )
}
