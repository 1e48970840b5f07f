import { Button } from '@base-ui/react/button'
import { Dialog } from '@base-ui/react/dialog'
import { Switch } from '@base-ui/react/switch'
import { X } from 'lucide-react'
import { choose, useSettings, useT } from '../settings.ts'

export function CheatSheet({ open, onOpen }: { open: boolean; onOpen: (open: boolean) => void }) {
  const t = useT()
  const { keys } = useSettings()
  const list: [string[], string][] = [
    [['J'], t.keyNext],
    [['K'], t.keyPrevious],
    [['R'], t.keyReply],
    [['A'], t.keyAccept],
    [['E'], t.keyResolve],
    [['?'], t.keyHelp],
    [['Esc'], t.keyEscape],
    [['Enter'], t.keySend],
    [['Shift', 'Enter'], t.keyNewline],
  ]
  return (
    <Dialog.Root open={open} onOpenChange={onOpen}>
      <Dialog.Portal>
        <Dialog.Backdrop className="backdrop" />
        <Dialog.Popup className="dialog">
          <header className="dialog-head">
            <div>
              <Dialog.Title>{t.keysTitle}</Dialog.Title>
              <Dialog.Description>{t.keysLead}</Dialog.Description>
            </div>
            <Dialog.Close render={<Button className="icon-button" aria-label={t.close} />}>
              <X size={18} />
            </Dialog.Close>
          </header>
          <dl className="keys">
            {list.map(([k, what]) => (
              <div key={what}>
                <dt>{what}</dt>
                <dd>
                  {k.map((x) => (
                    <kbd key={x}>{x}</kbd>
                  ))}
                </dd>
              </div>
            ))}
          </dl>
          <label className="switch-row">
            <span>
              {t.keysOn}
              <small>{t.keysOnHint}</small>
            </span>
            <Switch.Root className="switch" checked={keys} onCheckedChange={(v) => choose({ keys: v })}>
              <Switch.Thumb className="switch-thumb" />
            </Switch.Root>
          </label>
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  )
}
