import { Button } from '@base-ui/react/button'
import { Keyboard, MessagesSquare } from 'lucide-react'
import { useT } from '../settings.ts'
import { Logo } from './Logo.tsx'
import { Preferences } from './Preferences.tsx'
import { go } from './route.ts'
import { StatusMenu } from './StatusMenu.tsx'
import { Tip } from './Tip.tsx'

/** Rail leads to the places of the desk. There is one today; the next ones go below it. */
export function Rail({ onHelp, onSignOut }: { onHelp: () => void; onSignOut: () => void }) {
  const t = useT()
  return (
    <nav className="rail" aria-label={t.app}>
      <Logo size={32} />
      <Tip text={t.conversations} side="inline-end">
        <a
          className="rail-place"
          href="/"
          aria-current="page"
          aria-label={t.conversations}
          onClick={(e) => {
            e.preventDefault()
            go(null)
          }}
        >
          <MessagesSquare size={20} />
        </a>
      </Tip>
      <span className="rail-gap" />
      <Tip text={t.help} keys="?" side="inline-end">
        <Button className="icon-button only-wide" aria-label={t.help} onClick={onHelp}>
          <Keyboard size={20} />
        </Button>
      </Tip>
      <Preferences />
      <StatusMenu onSignOut={onSignOut} />
    </nav>
  )
}
