import { Button } from '@base-ui/react/button'
import { TriangleAlert } from 'lucide-react'
import { useT } from '../settings.ts'
import { useDesk, useDeskState } from './hooks.ts'

/** CommandNotes shows in place what could not be done, and why. */
export function CommandNotes({ conversation }: { conversation: string }) {
  const t = useT()
  const desk = useDesk()
  const { outbox } = useDeskState()
  const refused = outbox.filter((i) => i.conversation === conversation && i.kind === 'command' && i.refused)
  if (refused.length === 0) return null
  return (
    <div className="notes">
      {refused.map((i) => (
        <div key={i.id} className="callout" data-tone="bad" role="alert">
          <TriangleAlert size={16} aria-hidden="true" />
          <p>
            <strong>{t.refusedCommand[i.do!]}.</strong> {t.reason[i.refused!.reason]}
          </p>
          <Button className="link" onClick={() => desk.retry(i.id)}>
            {t.retry}
          </Button>
          <Button className="link" onClick={() => desk.discard(i.id)}>
            {t.discard}
          </Button>
        </div>
      ))}
    </div>
  )
}
