import { CSPProvider } from '@base-ui/react/csp-provider'
import { Button } from '@base-ui/react/button'
import { Toast } from '@base-ui/react/toast'
import { Tooltip } from '@base-ui/react/tooltip'
import { AppWindow, LoaderCircle, Lock, ServerOff } from 'lucide-react'
import { useT } from '../settings.ts'
import type { Desk } from '../sync/desk.ts'
import { DeskView } from './DeskView.tsx'
import { Empty } from './Empty.tsx'
import { DeskContext, useDesk, useDeskState, useLasting } from './hooks.ts'
import { SignIn } from './SignIn.tsx'

export function App({ desk }: { desk: Desk }) {
  return (
    <CSPProvider disableStyleElements>
      <DeskContext value={desk}>
        <Tooltip.Provider delay={500}>
          <Toast.Provider timeout={7000} limit={3}>
            <Phase />
          </Toast.Provider>
        </Tooltip.Provider>
      </DeskContext>
    </CSPProvider>
  )
}

function Phase() {
  const t = useT()
  const desk = useDesk()
  const { phase, unreachable } = useDeskState()
  const slow = useLasting(phase === 'starting', 400)
  switch (phase) {
    case 'signed-out':
      return <SignIn />
    case 'desk':
      return <DeskView />
    case 'denied':
      return (
        <main className="gate">
          <Empty page icon={<Lock />} title={t.denied} text={t.deniedText}>
            <Button className="button" data-kind="quiet" onClick={() => void desk.signOut()}>
              {t.signOut}
            </Button>
          </Empty>
        </main>
      )
    case 'elsewhere':
      return (
        <main className="gate">
          <Empty page icon={<AppWindow />} title={t.elsewhere} text={t.elsewhereText}>
            <Button className="button" data-kind="primary" onClick={() => void desk.start()}>
              {t.useHere}
            </Button>
          </Empty>
        </main>
      )
    case 'starting':
      if (!slow) return null
      return (
        <main className="gate">
          {unreachable ? (
            <Empty page icon={<ServerOff />} title={t.startUnreachable} text={t.startUnreachableText}>
              <Button className="button" data-kind="quiet" onClick={() => desk.hurry()}>
                {t.tryNow}
              </Button>
            </Empty>
          ) : (
            <Empty page icon={<LoaderCircle className="spin" />} title={t.starting} />
          )}
        </main>
      )
  }
}
