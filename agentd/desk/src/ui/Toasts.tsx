import { Button } from '@base-ui/react/button'
import { Toast } from '@base-ui/react/toast'
import { X } from 'lucide-react'
import { useEffect, useState } from 'react'
import { useT } from '../settings.ts'
import type { Notice } from '../sync/state.ts'
import { Avatar } from './Avatar.tsx'
import { useDesk, useLatest } from './hooks.ts'
import { go } from './route.ts'
import { isMine, nameOf } from './select.ts'

interface About {
  id: string
  name: string
}

/** Toasts tells what happened elsewhere than where one looks; Announcer what is said where one does. */
export function Toasts({ selected }: { selected: string | null }) {
  const t = useT()
  const desk = useDesk()
  const manager = Toast.useToastManager<{ about?: About }>()
  const latest = useLatest({ t, selected, manager })
  const [spoken, setSpoken] = useState('')

  useEffect(() => {
    return desk.store.onNotice((n: Notice) => {
      const { t, selected, manager } = latest.current
      const s = desk.store.state
      const toast = (conversation: string, title: string, description: string) => {
        const c = s.heads.get(conversation)
        manager.add({
          id: conversation, // one word about each at a time
          title,
          description: description || (c ? nameOf(c) : ''),
          data: c ? { about: { id: c.customer?.id ?? conversation, name: nameOf(c) } } : {},
          ...(conversation === selected ? {} : { actionProps: { children: t.openIt, onClick: () => go(conversation) } }),
        })
      }
      switch (n.kind) {
        case 'assigned':
          return toast(n.conversation, t.toastAssigned, s.heads.get(n.conversation)?.last_text ?? '')
        case 'taken-away':
          return toast(n.conversation, t.toastTaken, '')
        case 'refused':
          if (n.item.conversation !== selected) toast(n.item.conversation, t.toastRefused, n.item.refused ? t.reason[n.item.refused.reason] : '')
          return
        case 'message': {
          const c = s.heads.get(n.message.conversation)
          const heard = c && (n.message.conversation === selected || isMine(c, s.me?.id ?? ''))
          if (heard) setSpoken(t.announceMessage(n.message.from.name || n.message.from.id, n.message.text.slice(0, 200)))
          return
        }
        case 'full':
          return void manager.add({ title: t.toastFull })
        case 'intent-failed':
          return void manager.add({ title: t.intentFailed })
        case 'sign-out-failed':
          return void manager.add({ title: t.signOutFailed })
      }
    })
  }, [desk, latest])

  // Whoever looks at the conversation needs to be told no more.
  useEffect(() => {
    if (selected) latest.current.manager.close(selected)
  }, [selected, latest])

  return (
    <>
      <p className="vh" aria-live="polite">
        {spoken}
      </p>
      <Toast.Portal>
        <Toast.Viewport className="toasts" aria-label={t.notifications}>
          {manager.toasts.map((toast) => (
            <Toast.Root key={toast.id} toast={toast} className="toast" swipeDirection={['right', 'down']}>
              {toast.data?.about && <Avatar id={toast.data.about.id} name={toast.data.about.name} size={36} />}
              <div className="toast-text">
                <Toast.Title className="toast-title" />
                <Toast.Description className="toast-description" />
              </div>
              {toast.actionProps && <Toast.Action className="link" />}
              <Toast.Close render={<Button className="icon-button" data-size="small" aria-label={t.close} />}>
                <X size={16} />
              </Toast.Close>
            </Toast.Root>
          ))}
        </Toast.Viewport>
      </Toast.Portal>
    </>
  )
}
