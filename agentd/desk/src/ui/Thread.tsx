import { useEffect } from 'react'
import { Lock, MessagesSquare, SearchX, TriangleAlert } from 'lucide-react'
import { Button } from '@base-ui/react/button'
import { useT } from '../settings.ts'
import type { Conversation } from '../sync/wire.ts'
import { CommandNotes } from './CommandNotes.tsx'
import { Composer } from './Composer.tsx'
import { Empty } from './Empty.tsx'
import { Header } from './Header.tsx'
import { useDesk, useDeskState } from './hooks.ts'
import { Messages } from './Messages.tsx'
import { isMine, nameOf } from './select.ts'

/** Thread is one conversation: who it is, what was said, what to say. */
export function Thread({ id, onBack, onResolve, onContext, contextOpen }: {
  id: string | null
  onBack: () => void
  onResolve: (id: string) => void
  onContext: () => void
  contextOpen: boolean
}) {
  const t = useT()
  const desk = useDesk()
  const { heads, missing, ready } = useDeskState()
  const c = id ? heads.get(id) : undefined

  useEffect(() => desk.show(ready ? id : null), [desk, id, ready])

  if (!id) {
    return (
      <div className="thread thread-none">
        <Empty icon={<MessagesSquare />} title={t.pickTitle} text={t.pickText} />
      </div>
    )
  }
  if (!c) {
    const status = missing.get(id)
    return (
      <div className="thread thread-none">
        {status === undefined ? (
          <div className="thread-loading" role="status">
            <span className="vh">{t.loading}</span>
          </div>
        ) : status === 403 ? (
          <Empty icon={<Lock />} title={t.threadDenied} />
        ) : status === 404 || status === 400 || status === 422 ? (
          <Empty icon={<SearchX />} title={t.threadMissing} text={t.threadMissingText} />
        ) : (
          <Empty icon={<TriangleAlert />} title={t.threadFailed}>
            <Button className="button" data-kind="quiet" onClick={() => desk.reload(id)}>
              {t.retry}
            </Button>
          </Empty>
        )}
      </div>
    )
  }
  return <Conversing key={id} c={c} onBack={onBack} onResolve={onResolve} onContext={onContext} contextOpen={contextOpen} />
}

function Conversing({ c, onBack, onResolve, onContext, contextOpen }: {
  c: Conversation
  onBack: () => void
  onResolve: (id: string) => void
  onContext: () => void
  contextOpen: boolean
}) {
  const t = useT()
  const { me } = useDeskState()
  return (
    <section className="thread" aria-label={`${t.conversation}: ${nameOf(c)}`}>
      <Header c={c} onBack={onBack} onResolve={onResolve} onContext={onContext} contextOpen={contextOpen} />
      <CommandNotes conversation={c.conversation} />
      <Messages c={c} />
      <Composer c={c} mine={isMine(c, me?.id ?? '')} />
    </section>
  )
}
