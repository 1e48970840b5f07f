// A customer's phone for the whole-system test: MQTT over WebSocket with a
// token, as topics.md describes it. It keeps what it was told, by seq.

import { randomUUID } from 'node:crypto'
import mqtt from 'mqtt'

export class Customer {
  /** join connects with a token, whose claims say who it is. */
  static async join(url, token) {
    const claims = JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString())
    const c = new Customer()
    Object.assign(c, { id: claims.sub, name: claims.name ?? claims.sub, messages: new Map(), refused: [], doubled: [], events: new Set() })
    c.client = mqtt.connect(url.replace(/^http/, 'ws') + '/mqtt', {
      protocolVersion: 5, clientId: claims.device ?? `shift-${claims.sub}`, username: claims.sub, password: token,
      clean: false, properties: { sessionExpiryInterval: 3600 }, reconnectPeriod: 500, keepalive: 60,
    })
    c.client.on('message', (_, body) => c.hear(JSON.parse(body.toString())))
    await c.client.subscribeAsync('down/#', { qos: 1 })
    return c
  }

  hear(e) {
    if (this.events.has(e.event)) return // QoS 1 may repeat; the number says so
    this.events.add(e.event)
    if (e.type === 'refused') this.refused.push(e)
    if (e.type !== 'message') return
    this.conversation = e.conversation
    const before = this.messages.get(e.seq)
    if (before || [...this.messages.values()].some((m) => m.id === e.id && m.from.id === e.from.id)) this.doubled.push(e)
    this.messages.set(e.seq, e)
  }

  /** say resolves when the server has it on disk. */
  say(text) {
    return this.client.publishAsync('up/message', JSON.stringify({ id: randomUUID(), text }), { qos: 1 })
  }

  /** said is the conversation as the phone shows it, from the first message this phone saw. */
  said() {
    return [...this.messages.values()].sort((a, b) => a.seq - b.seq).map((m) => m.text)
  }

  /** gapless reports whether no number is missing between the first and the last. */
  gapless() {
    const seqs = [...this.messages.keys()].sort((a, b) => a - b)
    return seqs.every((s, i) => i === 0 || s === seqs[i - 1] + 1)
  }

  leave() {
    return this.client.endAsync()
  }
}
