import { Button } from '@base-ui/react/button'
import { Field } from '@base-ui/react/field'
import { Eye, EyeOff, LoaderCircle } from 'lucide-react'
import { useState } from 'react'
import { useT } from '../settings.ts'
import type { SignIn as Outcome } from '../sync/desk.ts'
import { useDesk, useDeskState } from './hooks.ts'
import { Logo } from './Logo.tsx'
import { Preferences } from './Preferences.tsx'

export function SignIn() {
  const t = useT()
  const desk = useDesk()
  const { expired } = useDeskState()
  const [id, setID] = useState('')
  const [password, setPassword] = useState('')
  const [visible, setVisible] = useState(false)
  const [busy, setBusy] = useState(false)
  const [tried, setTried] = useState(false)
  const [outcome, setOutcome] = useState<Outcome | null>(null)

  async function submit(e: React.FormEvent) {
    e.preventDefault()
    setTried(true)
    if (busy || id.trim() === '' || password === '') return
    setBusy(true)
    setOutcome(null)
    const result = await desk.signIn(id.trim(), password)
    setBusy(false)
    setOutcome(result)
    if (!result.ok && result.why === 'wrong') setPassword('')
  }

  const error = outcome && !outcome.ok ? errorText() : null
  function errorText(): string {
    const o = outcome as Exclude<Outcome, { ok: true }>
    switch (o.why) {
      case 'wrong':
        return t.errorWrong
      case 'limited':
        return t.errorLimited(o.seconds)
      case 'unreachable':
        return t.errorUnreachable
      case 'failed':
        return t.errorFailed
    }
  }

  return (
    <main className="gate">
      <div className="gate-corner">
        <Preferences />
      </div>
      <form className="card" onSubmit={submit} noValidate aria-busy={busy}>
        <div className="brand">
          <Logo size={36} />
          <span>{t.app}</span>
        </div>
        <h1>{t.signInTitle}</h1>
        <p className="lead">{t.signInLead}</p>
        {expired && !outcome && (
          <p className="callout" data-tone="info" role="status">
            {t.sessionEnded}
          </p>
        )}
        <Field.Root className="field" invalid={tried && id.trim() === ''}>
          <Field.Label>{t.agentID}</Field.Label>
          <Field.Control
            name="username"
            autoComplete="username"
            autoCapitalize="none"
            spellCheck={false}
            autoFocus
            value={id}
            onValueChange={(v) => setID(String(v))}
          />
          <Field.Error match={tried && id.trim() === ''}>{t.required}</Field.Error>
        </Field.Root>
        <Field.Root className="field" invalid={tried && password === '' && !busy && !error}>
          <Field.Label>{t.password}</Field.Label>
          <div className="field-row">
            <Field.Control
              name="password"
              type={visible ? 'text' : 'password'}
              autoComplete="current-password"
              value={password}
              onValueChange={(v) => setPassword(String(v))}
            />
            <Button
              className="icon-button"
              aria-label={visible ? t.hidePassword : t.showPassword}
              aria-pressed={visible}
              onClick={() => setVisible(!visible)}
            >
              {visible ? <EyeOff size={18} /> : <Eye size={18} />}
            </Button>
          </div>
          <Field.Error match={tried && password === '' && !busy && !error}>{t.required}</Field.Error>
        </Field.Root>
        <p className="callout" data-tone="bad" role="alert" hidden={!error}>
          {error}
        </p>
        <Button className="button" data-kind="primary" data-wide type="submit" disabled={busy} focusableWhenDisabled>
          {busy && <LoaderCircle size={16} className="spin" aria-hidden="true" />}
          {busy ? t.signingIn : t.signIn}
        </Button>
      </form>
    </main>
  )
}
