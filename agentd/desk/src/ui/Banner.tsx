import { Button } from '@base-ui/react/button'
import { LoaderCircle, WifiOff } from 'lucide-react'
import { useEffect, useRef, useState } from 'react'
import { useT } from '../settings.ts'
import { useDesk, useDeskState, useLasting, useNow } from './hooks.ts'

/** Banner says when the desk is not in step with the server, and what that means. */
export function Banner() {
  const t = useT()
  const desk = useDesk()
  const { link, retryAt, outbox, ready, skew } = useDeskState()
  const now = useNow()
  const off = useLasting(link !== 'live', ready ? 1200 : 3000)
  const unsent = outbox.filter((i) => !i.refused).length
  // What a screen reader is told does not count down with the clock.
  const said = off ? `${t.offline}. ${t.offlineText}` : ''
  const wasOff = useRef(false)
  const [healed, setHealed] = useState('')
  useEffect(() => {
    if (wasOff.current && !off) setHealed(t.backOnline)
    if (off) setHealed('')
    wasOff.current = off
  }, [off, t])

  const seconds = retryAt === null ? 0 : Math.ceil((retryAt + skew - now) / 1000)
  return (
    <>
      <p className="vh" role="status">
        {said || healed}
      </p>
      {off && (
        <section className="banner" aria-label={t.connection} data-link={link} data-testid="banner">
          {link === 'down' ? <WifiOff size={16} aria-hidden="true" /> : <LoaderCircle size={16} className="spin" aria-hidden="true" />}
          <p>
            <strong>{link === 'down' ? t.offline : link === 'syncing' ? t.syncing : t.reconnecting}</strong>{' '}
            {unsent > 0 ? t.unsent(unsent) : t.offlineText}{' '}
            {link === 'down' && seconds > 0 && <span className="banner-next">{t.nextTry(seconds)}</span>}
          </p>
          <Button className="button" data-kind="banner" disabled={link !== 'down'} focusableWhenDisabled onClick={() => desk.hurry()}>
            {t.tryNow}
          </Button>
        </section>
      )}
    </>
  )
}
