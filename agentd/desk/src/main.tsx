import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import '@fontsource-variable/inter/wght.css'
import './styles/index.css'
import { api } from './api.ts'
import { openDrafts } from './drafts.ts'
import { box } from './settings.ts'
import { Desk } from './sync/desk.ts'
import { openLink } from './sync/link.ts'
import { workerTimers } from './sync/timers.ts'
import { App } from './ui/App.tsx'

// One window of a browser has the desk: its MQTT session is the device's. The
// newest one takes it, the others let go.
const windows = new BroadcastChannel('holdline.desk')

const desk = new Desk({
  api,
  open: openLink,
  url: `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/mqtt`,
  box,
  timers: workerTimers(() => new Worker(new URL('./sync/timer.worker.ts', import.meta.url), { type: 'module' })),
  claim: () => windows.postMessage('claim'),
})
desk.store.subscribe(() => openDrafts(desk.store.state.me?.id ?? ''))
windows.onmessage = () => desk.yield()

// The network may be back, or a sleeping laptop awake: do not wait for a timer.
for (const event of ['online', 'offline', 'focus', 'pageshow']) window.addEventListener(event, () => desk.hurry())
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') desk.hurry()
})

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <App desk={desk} />
  </StrictMode>,
)
void desk.start()
