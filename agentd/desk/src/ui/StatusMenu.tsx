import { Menu } from '@base-ui/react/menu'
import { Check, LogOut } from 'lucide-react'
import { useState } from 'react'
import { useT } from '../settings.ts'
import type { Intent } from '../sync/wire.ts'
import { Avatar } from './Avatar.tsx'
import { useDesk, useDeskState } from './hooks.ts'
import { isMine } from './select.ts'

/**
 * StatusMenu shows who one is, what one wants (the intent) and whether the
 * server agrees that one is there (the dot): two things that are not the same.
 */
export function StatusMenu({ onSignOut }: { onSignOut: () => void }) {
  const t = useT()
  const desk = useDesk()
  const [host, setHost] = useState<HTMLElement | null>(null) // menus stay in the landmark of their button
  const { me, link, heads } = useDeskState()
  if (!me) return null
  const reachable = link === 'live' && me.reachable
  const load = [...heads.values()].filter((c) => isMine(c, me.id)).length
  const label = `${t.setStatus}: ${t.intent[me.intent]}, ${reachable ? t.reachable : t.notReachable}`
  return (
    <Menu.Root>
      <span ref={setHost} className="menu-host" />
      <Menu.Trigger className="status-trigger" aria-label={label} title={label}>
        <Avatar id={me.id} name={me.name} size={36} />
        <span className="dot" data-reachable={reachable} data-intent={me.intent} aria-hidden="true" />
      </Menu.Trigger>
      <Menu.Portal container={host}>
        <Menu.Positioner className="layer" side="inline-end" align="end" sideOffset={16} collisionPadding={8}>
          <Menu.Popup className="menu menu-status">
            <div className="menu-person">
              <Avatar id={me.id} name={me.name} size={40} />
              <div>
                <strong dir="auto">{me.name || me.id}</strong>
                <span>{t.load(load, me.capacity)}</span>
              </div>
            </div>
            <p className="menu-reach" data-reachable={reachable}>
              <span className="dot" data-reachable={reachable} data-intent="available" aria-hidden="true" />
              {reachable ? t.reachableText : t.notReachableText}
            </p>
            <Menu.Separator className="menu-line" />
            <Menu.RadioGroup value={me.intent} onValueChange={(v: Intent) => void desk.setIntent(v)}>
              <Menu.GroupLabel className="menu-label">{t.setStatus}</Menu.GroupLabel>
              {(['available', 'busy', 'away'] as const).map((v) => (
                <Menu.RadioItem key={v} className="menu-item" value={v} closeOnClick disabled={link !== 'live'}>
                  <span className="intent" data-intent={v} aria-hidden="true" />
                  <span className="menu-two">
                    <span>{t.intent[v]}</span>
                    <small>{t.intentHint[v]}</small>
                  </span>
                  <Menu.RadioItemIndicator className="menu-end">
                    <Check size={16} />
                  </Menu.RadioItemIndicator>
                </Menu.RadioItem>
              ))}
            </Menu.RadioGroup>
            <Menu.Separator className="menu-line" />
            <Menu.Item className="menu-item" onClick={onSignOut}>
              <LogOut size={16} aria-hidden="true" />
              {t.signOut}
            </Menu.Item>
          </Menu.Popup>
        </Menu.Positioner>
      </Menu.Portal>
    </Menu.Root>
  )
}
