import { Menu } from '@base-ui/react/menu'
import { Check, Settings2 } from 'lucide-react'
import { useState } from 'react'
import { type Lang, languages } from '../i18n.ts'
import { choose, type Theme, useSettings, useT } from '../settings.ts'
import { Tip } from './Tip.tsx'

/** Preferences is the menu for theme and language. */
export function Preferences() {
  const t = useT()
  const s = useSettings()
  const [host, setHost] = useState<HTMLElement | null>(null) // menus stay in the landmark of their button
  return (
    <Menu.Root>
      <span ref={setHost} className="menu-host" />
      <Tip text={t.settings} side="inline-end">
        <Menu.Trigger className="icon-button" aria-label={t.settings}>
          <Settings2 size={20} />
        </Menu.Trigger>
      </Tip>
      <Menu.Portal container={host}>
        <Menu.Positioner className="layer" side="inline-end" align="end" sideOffset={16} collisionPadding={8}>
          <Menu.Popup className="menu">
            <Menu.RadioGroup value={s.theme} onValueChange={(v: Theme) => choose({ theme: v })}>
              <Menu.GroupLabel className="menu-label">{t.appearance}</Menu.GroupLabel>
              {(['system', 'light', 'dark'] as const).map((v) => (
                <Choice key={v} value={v} text={t.theme[v]} />
              ))}
            </Menu.RadioGroup>
            <Menu.Separator className="menu-line" />
            <Menu.RadioGroup value={s.lang} onValueChange={(v: Lang) => choose({ lang: v })}>
              <Menu.GroupLabel className="menu-label">{t.language}</Menu.GroupLabel>
              {(Object.keys(languages) as Lang[]).map((v) => (
                <Choice key={v} value={v} text={languages[v]} lang={v} />
              ))}
            </Menu.RadioGroup>
          </Menu.Popup>
        </Menu.Positioner>
      </Menu.Portal>
    </Menu.Root>
  )
}

function Choice({ value, text, lang }: { value: string; text: string; lang?: string }) {
  return (
    <Menu.RadioItem className="menu-item" value={value} closeOnClick lang={lang}>
      <span className="menu-check">
        <Menu.RadioItemIndicator>
          <Check size={16} />
        </Menu.RadioItemIndicator>
      </span>
      {text}
    </Menu.RadioItem>
  )
}
