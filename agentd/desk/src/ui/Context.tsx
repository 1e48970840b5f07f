import { Accordion } from '@base-ui/react/accordion'
import { Button } from '@base-ui/react/button'
import { Check, ChevronDown, Copy, X } from 'lucide-react'
import { type ReactNode, useState } from 'react'
import { useSettings, useT } from '../settings.ts'
import type { Conversation } from '../sync/wire.ts'
import { Avatar } from './Avatar.tsx'
import { useDeskState } from './hooks.ts'
import { isMine, nameOf } from './select.ts'
import { Tip } from './Tip.tsx'
import { dateTime } from './time.tsx'

/** Context is what is known around a conversation. */
export function Context({ c, onClose }: { c: Conversation; onClose: () => void }) {
  const t = useT()
  const { lang } = useSettings()
  const { me } = useDeskState()
  const name = nameOf(c)
  const mine = isMine(c, me?.id ?? '')
  const when = (at: string | undefined) => {
    const ms = Date.parse(at ?? '')
    return Number.isNaN(ms) ? null : <time dateTime={at}>{dateTime(lang, ms)}</time>
  }
  return (
    <aside className="context" aria-label={t.context}>
      <header className="context-head">
        <h2>{t.context}</h2>
        <Button className="icon-button" aria-label={t.hideContext} onClick={onClose}>
          <X size={18} />
        </Button>
      </header>
      <div className="context-person">
        <Avatar id={c.customer?.id ?? c.conversation} name={name} size={64} />
        <strong>
          <bdi>{name}</bdi>
        </strong>
        <span className="chip" data-state={c.state} data-mine={mine}>
          {mine ? t.withYou : t.state[c.state]}
        </span>
      </div>
      <Accordion.Root multiple defaultValue={['customer', 'conversation']}>
        <Section value="customer" title={t.customer}>
          <Fact name={t.customerID} copy={c.customer?.id ?? ''}>
            <bdi>{c.customer?.id}</bdi>
          </Fact>
        </Section>
        <Section value="conversation" title={t.thisConversation}>
          <Fact name={t.owner}>{c.agent ? <bdi>{c.agent.id === me?.id ? t.you : c.agent.name || c.agent.id}</bdi> : t.nobody}</Fact>
          <Fact name={t.queue}>{c.queue}</Fact>
          {c.since && <Fact name={t.waitingSince}>{when(c.since)}</Fact>}
          {c.opened && <Fact name={t.opened}>{when(c.opened)}</Fact>}
          <Fact name={t.episode}>{c.episode}</Fact>
          <Fact name={t.messageCount}>{c.last_seq}</Fact>
          <Fact name={t.conversationID} copy={c.conversation}>
            <code>{c.conversation}</code>
          </Fact>
        </Section>
      </Accordion.Root>
    </aside>
  )
}

function Section({ value, title, children }: { value: string; title: string; children: ReactNode }) {
  return (
    <Accordion.Item value={value} className="fold">
      <Accordion.Header className="fold-head">
        <Accordion.Trigger className="fold-trigger">
          {title}
          <ChevronDown size={16} aria-hidden="true" />
        </Accordion.Trigger>
      </Accordion.Header>
      <Accordion.Panel className="fold-panel">
        <dl>{children}</dl>
      </Accordion.Panel>
    </Accordion.Item>
  )
}

function Fact({ name, copy, children }: { name: string; copy?: string; children: ReactNode }) {
  const t = useT()
  const [copied, setCopied] = useState(false)
  return (
    <div className="fact">
      <dt>{name}</dt>
      <dd>
        <span>{children}</span>
        {copy && navigator.clipboard && (
          <Tip text={copied ? t.copied : t.copy}>
            <Button
              className="icon-button"
              data-size="small"
              aria-label={`${t.copy}: ${name}`}
              onClick={async () => {
                await navigator.clipboard.writeText(copy).then(() => setCopied(true), () => undefined)
                window.setTimeout(() => setCopied(false), 1500)
              }}
            >
              {copied ? <Check size={14} /> : <Copy size={14} />}
            </Button>
          </Tip>
        )}
      </dd>
    </div>
  )
}
