import { Button } from '@base-ui/react/button'
import { CircleCheck, CornerDownLeft, Hand, Headset, SendHorizontal } from 'lucide-react'
import { useEffect, useLayoutEffect, useRef } from 'react'
import { draftOf, setDraft, useDrafts } from '../drafts.ts'
import { useT } from '../settings.ts'
import { type Conversation, maxTextBytes } from '../sync/wire.ts'
import { useDesk, useDeskState } from './hooks.ts'
import { focusStays } from './keys.ts'
import { nameOf } from './select.ts'

const encoder = new TextEncoder()

export function Composer({ c, mine }: { c: Conversation; mine: boolean }) {
  const t = useT()
  const desk = useDesk()
  const { outbox } = useDeskState()
  const accepting = outbox.some((i) => i.conversation === c.conversation && i.do === 'accept' && !i.refused)

  if (mine) return <Writing c={c} />
  return (
    <div className="composer-bar" data-state={c.state}>
      {c.state === 'waiting' ? (
        <>
          <Hand size={18} aria-hidden="true" />
          <p>{t.waitingBar}</p>
          <Button className="button" data-kind="primary" disabled={accepting} focusableWhenDisabled onClick={() => desk.command(c.conversation, 'accept')}>
            {accepting ? t.pendingCommand.accept : t.acceptToReply}
          </Button>
        </>
      ) : c.state === 'held' ? (
        <>
          <Headset size={18} aria-hidden="true" />
          <p>{t.heldBar(c.agent?.name || c.agent?.id || '')}</p>
        </>
      ) : (
        <>
          <CircleCheck size={18} aria-hidden="true" />
          <p>{t.resolvedBar}</p>
        </>
      )}
    </div>
  )
}

function Writing({ c }: { c: Conversation }) {
  const t = useT()
  const desk = useDesk()
  const { durable } = useDeskState()
  const text = useDrafts().get(c.conversation) ?? ''
  const area = useRef<HTMLTextAreaElement>(null)
  const bytes = text.length * 3 < maxTextBytes ? 0 : encoder.encode(text.trim()).length
  const left = maxTextBytes - bytes
  const ready = text.trim() !== '' && left >= 0

  useLayoutEffect(() => {
    const el = area.current
    if (!el) return
    el.style.blockSize = 'auto'
    el.style.blockSize = `${el.scrollHeight}px`
  }, [text])

  // Whoever takes a conversation by mouse or key wants to write next; a finger does not want the keyboard yet.
  useEffect(() => {
    const stays = focusStays.on === c.conversation
    focusStays.on = ''
    if (!stays && window.matchMedia('(pointer: fine)').matches) area.current?.focus({ preventScroll: true })
  }, [])

  function send() {
    const said = draftOf(c.conversation).trim()
    if (said === '' || encoder.encode(said).length > maxTextBytes) return
    if (desk.say(c.conversation, said)) setDraft(c.conversation, '')
    area.current?.focus()
  }

  return (
    <form
      className="composer"
      onSubmit={(e) => {
        e.preventDefault()
        send()
      }}
    >
      {!durable && (
        <p className="callout" data-tone="warn" role="alert">
          {t.notDurable}
        </p>
      )}
      <div className="composer-box">
        <textarea
          ref={area}
          rows={1}
          dir="auto"
          aria-label={t.composer}
          aria-describedby="composer-hint"
          aria-invalid={left < 0}
          placeholder={t.composerPlaceholder(nameOf(c))}
          value={text}
          onChange={(e) => setDraft(c.conversation, e.target.value)}
          onKeyDown={(e) => {
            // While an input method composes, Enter belongs to it.
            if (e.key !== 'Enter' || e.shiftKey || e.ctrlKey || e.altKey || e.metaKey || e.nativeEvent.isComposing) return
            e.preventDefault()
            send()
          }}
        />
        <div className="composer-foot">
          <span className="composer-hint" id="composer-hint">
            {left < 0 ? (
              <strong>{t.tooLong}</strong>
            ) : bytes > 0 && left < 2048 ? (
              t.bytesLeft(left)
            ) : (
              <>
                <CornerDownLeft size={13} aria-hidden="true" />
                {t.composerHint}
              </>
            )}
          </span>
          <Button className="button" data-kind="primary" type="submit" disabled={!ready} focusableWhenDisabled>
            {t.send}
            <SendHorizontal size={16} className="mirrored" aria-hidden="true" />
          </Button>
        </div>
      </div>
    </form>
  )
}
