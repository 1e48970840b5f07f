// One MQTT connection, from CONNECT to its end. Connecting again is the
// business of Desk: every attempt needs a fresh token, so the library's own
// reconnecting is switched off.

import mqtt, { type IClientOptions } from 'mqtt'
import type { Timers } from './timers.ts'

/** What a connection tells its owner. After down nothing more is told. */
export interface LinkEvents {
  /** Subscribed to everything: from now on events arrive. */
  up(): void
  event(topic: string, payload: string): void
  down(why: Down): void
}

/**
 * Why a connection ended: `taken` by another connection of the same device,
 * `denied` by the server for good, or simply `lost`.
 */
export type Down = 'taken' | 'denied' | 'lost'

/** How a publish ended: on disk, not now, or never. */
export type Published = { ok: true } | { ok: false; final: boolean; reason: string }

export interface Link {
  publish(topic: string, payload: string): Promise<Published>
  /** probe drops the connection unless the server answers within a few seconds. */
  probe(): void
  /** close ends it; with forget the server drops the session as well. */
  close(forget: boolean): void
}

export interface LinkOptions {
  url: string
  device: string
  token: string
  timers: Timers
}

export type OpenLink = (o: LinkOptions, on: LinkEvents) => Link

/** From the start until everything is subscribed. */
const patience = 15_000
const probeTimeout = 5_000
const ackTimeout = 20_000
const sessionSeconds = 3600

const takenOver = 0x8e
const denied = new Set([0x86, 0x87, 0x8a])
const refusedForGood = new Map([
  [0x87, 'forbidden'],
  [0x90, 'forbidden'],
  [0x95, 'too_large'],
  [0x99, 'invalid'],
])

/** openLink connects and subscribes. It returns at once; on tells how it goes. */
export const openLink: OpenLink = (o, on) => {
  const options: IClientOptions & { manualConnect: true } = {
    protocolVersion: 5,
    clientId: o.device,
    username: o.device,
    password: o.token,
    clean: false,
    keepalive: 30,
    connectTimeout: patience,
    reconnectPeriod: 0,
    resubscribe: false,
    properties: { sessionExpiryInterval: sessionSeconds, receiveMaximum: 64 },
    // A page in the background has its timers slowed to one a minute, which
    // would cost the connection; a worker's are not.
    timerVariant: { set: o.timers.setInterval, clear: (id) => o.timers.clear(id as number) },
    manualConnect: true,
  }
  const client = mqtt.connect(o.url, options)
  let ended = false
  let why: Down = 'lost'

  const end = (cause: Down) => {
    if (ended) return
    ended = true
    o.timers.clear(tooLong)
    client.end(true)
    on.down(cause)
  }
  const tooLong = o.timers.setTimeout(() => end('lost'), patience)

  client.on('connect', () => {
    client.subscribe({ 'down/#': { qos: 1 }, 'queue/+/event': { qos: 1 } }, (err, granted) => {
      if (ended) return
      if (err) return end('lost')
      if (granted?.some((g) => g.qos >= 0x80)) return end('denied')
      o.timers.clear(tooLong)
      on.up()
    })
  })
  client.on('message', (topic, body) => {
    if (!ended) on.event(topic, body.toString())
  })
  client.on('disconnect', (p) => {
    if (p.reasonCode === takenOver) why = 'taken'
  })
  client.on('error', (err) => {
    if ('code' in err && denied.has(err.code as number)) why = 'denied'
    end(why)
  })
  client.on('close', () => end(why))
  client.connect()

  return {
    publish(topic, payload) {
      return new Promise((resolve) => {
        const timer = o.timers.setTimeout(() => {
          end('lost') // the server is silent: find out by connecting anew
          resolve({ ok: false, final: false, reason: 'timeout' })
        }, ackTimeout)
        client.publish(topic, payload, { qos: 1 }, (err) => {
          o.timers.clear(timer)
          if (!err) return resolve({ ok: true })
          const code = 'code' in err ? (err.code as number) : 0
          const reason = refusedForGood.get(code)
          resolve({ ok: false, final: reason !== undefined, reason: reason ?? String(code) })
        })
      })
    },
    probe() {
      if (ended || !client.connected) return
      const timer = o.timers.setTimeout(() => end('lost'), probeTimeout)
      client.once('packetreceive', () => o.timers.clear(timer))
      client.sendPing()
    },
    close(forget) {
      if (ended) return
      ended = true
      o.timers.clear(tooLong)
      if (client.connected) client.end(false, forget ? { properties: { sessionExpiryInterval: 0 } } : {})
      else client.end(true)
    },
  }
}
