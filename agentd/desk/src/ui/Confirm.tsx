import { AlertDialog } from '@base-ui/react/alert-dialog'
import { Button } from '@base-ui/react/button'
import { useT } from '../settings.ts'

/** Confirm asks before something that people may regret. */
export function Confirm({ open, title, text, yes, onYes, onClose }: {
  open: boolean
  title: string
  text: string
  yes: string
  onYes: () => void
  onClose: () => void
}) {
  const t = useT()
  return (
    <AlertDialog.Root open={open} onOpenChange={(o) => !o && onClose()}>
      <AlertDialog.Portal>
        <AlertDialog.Backdrop className="backdrop" />
        <AlertDialog.Popup className="dialog dialog-small">
          <AlertDialog.Title>{title}</AlertDialog.Title>
          <AlertDialog.Description>{text}</AlertDialog.Description>
          <div className="dialog-foot">
            <AlertDialog.Close render={<Button className="button" data-kind="quiet" />}>{t.cancel}</AlertDialog.Close>
            <Button
              className="button"
              data-kind="primary"
              onClick={() => {
                onClose()
                onYes()
              }}
            >
              {yes}
            </Button>
          </div>
        </AlertDialog.Popup>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  )
}
