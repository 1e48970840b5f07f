// A stand-in for holdline that the browser test can push around: the HTTP API,
// and MQTT over WebSocket with sessions that resume. It keeps the promises the
// desk builds on (numbered events, one order, saying twice is harmless) and
// breaks them when told to, as a bad day would.

import { createServer } from 'node:http'
import { existsSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import mqttPacket from 'mqtt-packet'
import { WebSocketServer } from 'ws'

const here = fileURLToPath(new URL('..', import.meta.url))
const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.woff2': 'font/woff2' }
/** The policy of the real handler, read from its source, so that the test runs under it. */
const policy = [...readFileSync(join(here, 'embed.go'), 'utf8').match(/const policy = ([^]*?)\n\n/)[1].matchAll(/"([^"]*)"/g)].map((m) => m[1]).join('')

export class Mock {
  constructor(agents) {
    this.agents = new Map(agents.map((a) => [a.id, { name: a.id, capacity: 5, intent: 'available', ...a }]))
    this.conversations = new Map()
    this.messages = new Map()
    this.said = new Map()
    this.inboxes = new Map()
    this.sessions = new Map()
    this.incarnation = 'k1'
    this.dealing = true // new conversations go to agents
    this.storing = true // false: what arrives is acknowledged but stored later
    this.refusing = null // a reason: the next input is refused
    this.losing = 0 // so many events are never delivered
    this.slow = 0 // ms before an API answer
    this.broken = null // a status that the API answers with
    this.held = []
    this.log = { pageLoads: 0, sessions: 0, snapshots: 0, connects: 0 }
    this.clock = Date.now()
  }

  async start() {
    this.server = createServer((q, r) => void this.http(q, r))
    const sockets = new WebSocketServer({ noServer: true, handleProtocols: (p) => (p.has('mqtt') ? 'mqtt' : false) })
    this.server.on('upgrade', (q, socket, head) => {
      if (new URL(q.url, 'http://x').pathname !== '/mqtt' || new URL(q.headers.origin).host !== q.headers.host) return socket.destroy()
      sockets.handleUpgrade(q, socket, head, (ws) => this.connection(ws))
    })
    await new Promise((done) => this.server.listen(0, '127.0.0.1', done))
    this.port = this.server.address().port
    return this
  }

  async stop() {
    for (const s of this.sessions.values()) s.ws?.terminate()
    this.server.closeAllConnections()
    await new Promise((done) => this.server.close(done))
  }

  // ── HTTP ──────────────────────────────────────────────────────────────

  async http(q, r) {
    const url = new URL(q.url, 'http://x')
    if (!url.pathname.startsWith('/api/')) return this.page(url, q, r)
    let body = ''
    for await (const chunk of q) body += chunk
    if (this.slow) await new Promise((done) => setTimeout(done, this.slow))
    const answer = (status, value, headers = {}) => {
      r.writeHead(status, { 'Content-Type': status < 400 ? 'application/json' : 'application/problem+json', ...headers })
      r.end(status === 204 ? undefined : JSON.stringify(value))
    }
    if (this.broken) return answer(this.broken, { title: 'broken' })
    const who = this.agents.get(/holdline_session=([^;]+)/.exec(q.headers.cookie ?? '')?.[1])
    const session = (a, device) => ({
      agent: this.agent(a), token: `token-${a.id}-${++this.log.sessions}`, device: device || `desk-${a.id}-${this.log.sessions}`,
      expires: new Date(Date.now() + 3600_000).toISOString(),
    })
    const path = url.pathname.slice('/api/v1'.length)
    if (path === '/session' && q.method === 'POST') {
      const { id, password, device } = JSON.parse(body)
      const a = this.agents.get(id)
      if (!a || a.password !== password) return answer(401, { title: 'wrong id or password' })
      return answer(200, session(a, device), { 'Set-Cookie': `holdline_session=${id}; HttpOnly; SameSite=Strict; Path=/` })
    }
    if (!who || who.signedOut) return answer(401, { title: 'sign in first' })
    if (path === '/session' && q.method === 'DELETE') {
      return answer(204, null, { 'Set-Cookie': 'holdline_session=; Max-Age=0; HttpOnly; SameSite=Strict; Path=/' })
    }
    if (path === '/session') return answer(200, session(who, url.searchParams.get('device')))
    if (path === '/me') return answer(200, this.agent(who))
    if (path === '/me/intent') {
      who.intent = JSON.parse(body).intent
      this.deal()
      return answer(200, this.agent(who))
    }
    if (path === '/desk') {
      this.log.snapshots++
      return answer(200, {
        me: this.agent(who), agents: [...this.agents.values()].map((a) => this.agent(a)), queues: [{ id: 'main' }],
        conversations: [...this.conversations.values()].filter((c) => c.state !== 'resolved'),
        events: { own: this.position('own ' + who.id), queues: { main: this.position('queue main') } }, more: false,
      })
    }
    const m = /^\/conversations\/([0-9a-f]{26})(\/messages)?$/.exec(path)
    const c = m && this.conversations.get(m[1])
    if (!m) return answer(path.startsWith('/conversations/') ? 422 : 404, { title: 'not found' })
    if (!c) return answer(404, { title: 'not found' })
    if (c.secret) return answer(403, { title: 'forbidden' })
    if (!m[2]) return answer(200, c)
    const before = Number(url.searchParams.get('before') ?? Infinity)
    const all = this.messages.get(c.conversation).filter((x) => x.seq < before)
    const page = all.slice(-Number(url.searchParams.get('limit') ?? 50))
    answer(200, { messages: page, more: page.length < all.length })
  }

  page(url, q, r) {
    let path = join(here, 'dist', url.pathname)
    if (!extname(path)) {
      path = join(here, 'dist', 'index.html')
      this.log.pageLoads++
    }
    if (!path.startsWith(here) || !existsSync(path)) return r.writeHead(404).end()
    r.writeHead(200, {
      'Content-Type': types[extname(path)], 'Cache-Control': 'no-cache',
      'Content-Security-Policy': policy.replaceAll('HOST', q.headers.host), 'X-Content-Type-Options': 'nosniff',
    })
    r.end(readFileSync(path))
  }

  agent(a) {
    const load = [...this.conversations.values()].filter((c) => c.state === 'held' && c.agent?.id === a.id).length
    return { id: a.id, name: a.name, intent: a.intent, capacity: a.capacity, load, reachable: this.reachable(a.id) }
  }

  reachable(id) {
    return [...this.sessions.values()].some((s) => s.agent === id && s.ws)
  }

  // ── MQTT ──────────────────────────────────────────────────────────────

  connection(ws) {
    const parser = mqttPacket.parser({ protocolVersion: 5 })
    const send = (p) => ws.readyState === ws.OPEN && ws.send(mqttPacket.generate(p, { protocolVersion: 5 }))
    let session = null
    ws.on('message', (data) => parser.parse(data))
    ws.on('close', () => {
      if (session?.ws === ws) session.ws = null
    })
    parser.on('error', () => ws.terminate())
    parser.on('packet', (p) => {
      switch (p.cmd) {
        case 'connect': {
          this.log.connects++
          const agent = /^token-(.+)-\d+$/.exec(p.password.toString())?.[1]
          if (!this.agents.has(agent) || this.agents.get(agent).signedOut) {
            send({ cmd: 'connack', reasonCode: 0x86, sessionPresent: false })
            return ws.close()
          }
          const present = !p.clean && this.sessions.has(p.clientId)
          session = this.sessions.get(p.clientId) ?? { agent, acked: new Map(), sent: new Map(), inflight: new Map(), topics: new Set(), mid: 0 }
          if (session.ws) {
            session.send({ cmd: 'disconnect', reasonCode: 0x8e })
            session.ws.close()
          }
          Object.assign(session, { ws, send })
          session.sent = new Map(session.acked)
          session.inflight.clear()
          this.sessions.set(p.clientId, session)
          send({ cmd: 'connack', reasonCode: 0, sessionPresent: present, properties: { sessionExpiryInterval: 3600, receiveMaximum: 32 } })
          this.deal()
          return this.deliver(session)
        }
        case 'subscribe': {
          const granted = p.subscriptions.map((s) => {
            if (s.topic !== 'down/#' && s.topic !== 'queue/+/event') return 0x87
            if (!session.topics.has(s.topic)) {
              session.topics.add(s.topic)
              for (const inbox of this.watched(session)) if (!session.acked.has(inbox)) {
                session.acked.set(inbox, this.inbox(inbox).length)
                session.sent.set(inbox, this.inbox(inbox).length)
              }
            }
            return 1
          })
          send({ cmd: 'suback', messageId: p.messageId, granted, reasonCode: granted })
          return this.deliver(session)
        }
        case 'publish': {
          const body = JSON.parse(p.payload.toString())
          this.held.push({ agent: session.agent, topic: p.topic, body })
          send({ cmd: 'puback', messageId: p.messageId, reasonCode: 0 })
          return this.store()
        }
        case 'puback': {
          const done = session.inflight.get(p.messageId)
          if (!done) return
          session.inflight.delete(p.messageId)
          session.acked.set(done.inbox, Math.max(session.acked.get(done.inbox) ?? 0, done.n))
          return
        }
        case 'pingreq':
          return send({ cmd: 'pingresp' })
        case 'disconnect':
          if (p.properties?.sessionExpiryInterval === 0 && session) this.sessions.delete([...this.sessions].find(([, s]) => s === session)?.[0])
          return
      }
    })
  }

  inbox(name) {
    if (!this.inboxes.has(name)) this.inboxes.set(name, [])
    return this.inboxes.get(name)
  }

  position(name) {
    return `${this.incarnation}-${this.inbox(name).length}`
  }

  watched(s) {
    return [...(s.topics.has('down/#') ? ['own ' + s.agent] : []), ...(s.topics.has('queue/+/event') ? ['queue main'] : [])]
  }

  deliver(s) {
    if (!s.ws) return
    for (const name of this.watched(s)) {
      const events = this.inbox(name)
      for (let n = (s.sent.get(name) ?? 0) + 1; n <= events.length; n++) {
        s.sent.set(name, n)
        if (this.losing > 0) {
          this.losing--
          continue
        }
        const messageId = (s.mid = (s.mid % 32767) + 1)
        s.inflight.set(messageId, { inbox: name, n })
        s.send({
          cmd: 'publish', topic: name === 'queue main' ? 'queue/main/event' : 'down/event', qos: 1, messageId, dup: false, retain: false,
          payload: JSON.stringify({ event: `${this.incarnation}-${n}`, ...events[n - 1] }),
        })
      }
    }
  }

  tell(inbox, event) {
    this.inbox(inbox).push(event)
    for (const s of this.sessions.values()) this.deliver(s)
  }

  /** restored is what a backup of the storage looks like: numbers start again in another incarnation. */
  restored() {
    this.incarnation = 'k' + (Number(this.incarnation.slice(1)) + 1)
    for (const [name] of this.inboxes) this.inboxes.set(name, [])
    for (const s of this.sessions.values()) for (const m of [s.acked, s.sent]) m.clear()
  }

  // ── what the bridge and agentd would do ───────────────────────────────

  now() {
    this.clock = Math.max(this.clock + 1, Date.now())
    return new Date(this.clock).toISOString()
  }

  store() {
    while (this.storing && this.held.length > 0) {
      const { agent, topic, body } = this.held.shift()
      if (this.said.has(`${agent} ${body.id}`)) continue // a repeat changes nothing and tells nothing
      const reason = this.refusing ?? this.act(agent, topic, body)
      this.refusing = null
      if (reason) this.tell('own ' + agent, { type: 'refused', id: body.id, reason, detail: reason, at: this.now() })
      else this.said.set(`${agent} ${body.id}`, true)
    }
  }

  act(agent, topic, b) {
    const c = this.conversations.get(b.conversation)
    const a = this.agents.get(agent)
    if (!c) return 'not_found'
    const owns = c.state === 'held' && c.agent.id === agent && (b.epoch ?? 0) === c.epoch
    if (topic === 'up/message') {
      if (!owns) return c.state === 'resolved' ? 'closed' : 'not_owner'
      const confirmed = c.accepted
      this.add(c, { role: 'agent', id: agent, name: a.name }, b.text, b.id)
      c.accepted = true
      if (!confirmed) this.tellHead(c)
      return null
    }
    if (b.do === 'accept') {
      if (c.state === 'resolved') return 'closed'
      if (c.state === 'held' && c.agent.id !== agent) return 'conflict'
      if (c.state === 'waiting') this.give(c, a)
      c.accepted = true
      this.tellHead(c)
    } else {
      if (!owns) return c.state === 'resolved' ? 'closed' : 'not_owner'
      c.epoch++
      if (b.do === 'release') {
        c.state = 'waiting'
        delete c.agent
        c.accepted = false
      } else c.state = 'resolved'
      this.tellHead(c, agent)
    }
    this.tell('own ' + agent, { type: 'done', id: b.id, conversation: c.conversation, at: this.now() })
    this.deal(b.do === 'release' ? agent : null)
    return null
  }

  give(c, a) {
    Object.assign(c, { state: 'held', agent: { role: 'agent', id: a.id, name: a.name }, accepted: false, epoch: c.epoch + 1 })
  }

  deal(not = null) {
    if (!this.dealing) return
    for (const c of this.conversations.values()) {
      if (c.state !== 'waiting') continue
      const free = [...this.agents.values()].filter((a) => a.id !== not && a.intent === 'available' && this.reachable(a.id) && this.agent(a).load < a.capacity)
      free.sort((x, y) => this.agent(x).load - this.agent(y).load)
      if (!free[0]) continue
      this.give(c, free[0])
      this.tellHead(c)
    }
  }

  tellHead(c, former) {
    const { conversation, ...head } = c
    const e = { type: 'conversation', conversation, head: structuredClone(head) }
    this.tell('queue main', e)
    if (c.agent) this.tell('own ' + c.agent.id, e)
    if (former && former !== c.agent?.id) this.tell('own ' + former, e)
  }

  add(c, from, text, id) {
    const m = { type: 'message', conversation: c.conversation, seq: ++c.last_seq, id, from, kind: 'text', text, at: this.now() }
    this.messages.get(c.conversation).push(m)
    Object.assign(c, { last_at: m.at, last_text: text.slice(0, 160), last_from: from.role })
    this.tell(c.state === 'held' ? 'own ' + c.agent.id : 'queue main', m)
  }

  /** customerSays is a phone that publishes; it returns the conversation. */
  customerSays(customer, name, text) {
    let c = [...this.conversations.values()].find((x) => x.customer.id === customer)
    const opens = !c || c.state === 'resolved'
    if (!c) {
      const id = '5c' + [...customer].reduce((h, x) => (h * 31n + BigInt(x.codePointAt(0))) % 2n ** 90n, 7n).toString(16).padStart(24, '0')
      c = { conversation: id, state: 'waiting', episode: 0, last_seq: 0, customer: { role: 'customer', id: customer, name }, queue: 'main', epoch: 0, accepted: false }
      this.conversations.set(id, c)
      this.messages.set(id, [])
    }
    if (opens) {
      if (c.episode > 0) c.epoch++
      delete c.agent
      Object.assign(c, { state: 'waiting', accepted: false, episode: c.episode + 1, opened: this.now(), since: this.now() })
    }
    this.add(c, { role: 'customer', id: customer, name }, text, `${customer}-${c.last_seq + 1}`)
    if (opens) this.tellHead(c)
    this.deal()
    return c
  }

  /** agentSays puts words into a conversation as a colleague's desk would. */
  agentSays(c, agent, text) {
    this.add(c, { role: 'agent', id: agent, name: this.agents.get(agent).name }, text, `x-${this.clock}-${c.last_seq}`)
  }
}
