import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Api, ApiError } from '../../src/sync/api.ts'
import { Backoff } from '../../src/sync/backoff.ts'
import { Desk } from '../../src/sync/desk.ts'
import type { LinkEvents, Published } from '../../src/sync/link.ts'
import type { Notice } from '../../src/sync/state.ts'
import type { Conversation, Message, Snapshot, WireEvent } from '../../src/sync/wire.ts'
import { ann, Clock, conversation, headEvent, held, MemoryBox, message, messageEvent, rest, session, snapshot, tick } from './fakes.ts'

/** A desk on a server that is one object the test can turn the knobs of. */
function desk(box = new MemoryBox()) {
  const clock = new Clock()
  const server = {
    down: false,
    signedIn: true,
    snapshot: snapshot(),
    messages: new Map<string, Message[]>(),
    heads: new Map<string, Conversation>(),
    reachable: true,
    sessions: 0,
  }
  const answer = async <T>(value: () => T): Promise<T> => {
    await tick()
    if (server.down) throw new ApiError(0, 'no connection')
    if (!server.signedIn) throw new ApiError(401, 'sign in')
    return value()
  }
  const api: Api = {
    signIn: (_, password) => answer(() => {
      if (password !== 'right') throw new ApiError(401, 'wrong')
      return session()
    }),
    session: () => answer(() => session(`t${++server.sessions}`)),
    signOut: () => answer(() => undefined),
    me: () => answer(() => ({ ...ann, reachable: server.reachable })),
    setIntent: (intent) => answer(() => ({ ...ann, intent })),
    desk: () => answer(() => ({ snapshot: server.snapshot, serverTime: null })),
    conversation: (id) => answer(() => {
      const c = server.heads.get(id)
      if (!c) throw new ApiError(404, 'no such conversation')
      return c
    }),
    messages: (id, before, limit) => answer(() => {
      const all = (server.messages.get(id) ?? []).filter((m) => before === null || m.seq < before)
      return { messages: all.slice(-limit), more: all.length > limit }
    }),
  }
  const links: { token: string; device: string; on: LinkEvents; closed: string | null; sent: { topic: string; body: any; answer(p: Published): Promise<void> }[] }[] = []
  const d = new Desk({
    api, box, timers: clock, url: 'ws://x/mqtt', now: () => clock.now, backoff: () => new Backoff(() => 1),
    open: (o, on) => {
      const l = { token: o.token, device: o.device, on, closed: null as string | null, sent: [] as (typeof links)[number]['sent'] }
      links.push(l)
      return {
        publish: (topic, body) => new Promise((resolve) => {
          l.sent.push({ topic, body: JSON.parse(body), answer: (p) => (resolve(p), rest()) })
        }),
        probe: () => undefined,
        close: (forget) => (l.closed = forget ? 'forget' : 'keep'),
      }
    },
  })
  const notices: Notice[] = []
  d.store.onNotice((n) => notices.push(n))
  const link = () => links.at(-1)!
  const push = (e: WireEvent, topic = 'down/event') => (link().on.event(topic, JSON.stringify(e)), rest())
  const online = async () => {
    void d.start()
    await clock.pass(10)
    link().on.up()
    await clock.pass(10)
    assert.equal(d.store.state.link, 'live')
  }
  return { d, clock, server, links, link, push, online, notices, box, state: () => d.store.state }
}

const mine = (seq: number, id: string, text = 'hello') =>
  message('c1', seq, { id, text, from: { role: 'agent', id: 'ann', name: 'Ann' } })

test('it starts signed out without a session and live with one', async () => {
  const a = desk()
  a.server.signedIn = false
  await a.d.start()
  assert.equal(a.state().phase, 'signed-out')
  assert.equal(a.state().expired, false)
  assert.deepEqual(await a.d.signIn('ann', 'wrong'), { ok: false, why: 'wrong', seconds: null })
  a.server.signedIn = true
  assert.deepEqual(await a.d.signIn('ann', 'right'), { ok: true })
  a.link().on.up()
  await a.clock.pass(10)
  assert.equal(a.state().link, 'live')
  assert.equal(a.link().device, 'desk-1')
  assert.equal(a.box.getItem('holdline.device'), 'desk-1')
})

test('it keeps trying while the server does not answer at the start', async () => {
  const { d, server, clock, state } = desk()
  server.down = true
  void d.start()
  await clock.pass(10)
  assert.equal(state().unreachable, true)
  server.down = false
  await clock.pass(3_000)
  assert.equal(state().phase, 'desk')
})

test('a conversation that appears live is in the list and announced', async () => {
  const { online, push, state, notices } = desk()
  await online()
  await push(headEvent('k1-1', conversation('c1')), 'queue/main/event')
  assert.equal(state().heads.get('c1')?.state, 'waiting')
  await push(headEvent('k1-1', held('c1', 1)))
  assert.deepEqual(notices, [{ kind: 'assigned', conversation: 'c1' }])
  await push(headEvent('k1-2', conversation('c1')), 'queue/main/event')
  assert.equal(state().heads.get('c1')?.state, 'held', 'the queue’s older picture comes late')
})

test('a reply is pending until its own event and is never shown twice', async () => {
  const { d, online, push, link, state, server } = desk()
  server.snapshot = snapshot({ conversations: [held('c1', 3)] })
  server.messages.set('c1', [message('c1', 1)])
  await online()
  d.show('c1')
  await rest()
  d.say('c1', 'hello')
  const sent = link().sent[0]!
  assert.deepEqual({ ...sent.body, id: '' }, { id: '', conversation: 'c1', text: 'hello', epoch: 3 })
  assert.match(sent.body.id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  assert.equal(state().outbox.length, 1)
  await sent.answer({ ok: true })
  assert.equal(state().outbox.length, 1, 'on disk, but not yet stored')
  assert.ok(state().acknowledged.has(sent.body.id))
  for (const n of [1, 1]) await push(messageEvent(`k1-${n}`, mine(2, sent.body.id)))
  assert.deepEqual(state().outbox, [])
  assert.deepEqual(state().threads.get('c1')!.messages.map((m) => m.seq), [1, 2])
})

test('a cut loses nothing: unanswered items go out again under a fresh token, in order', async () => {
  const { d, online, clock, link, links, state, server } = desk()
  server.snapshot = snapshot({ conversations: [held('c1', 3)] })
  await online()
  d.say('c1', 'one')
  d.say('c1', 'two')
  const first = link().sent[0]!.body.id
  await link().sent[0]!.answer({ ok: true })
  link().on.down('lost')
  assert.equal(state().link, 'down')
  d.say('c1', 'three')
  d.command('c1', 'resolve')
  assert.equal(state().outbox.length, 4)
  await clock.pass(1_000)
  assert.equal(links.length, 2)
  assert.notEqual(links[1]!.token, links[0]!.token)
  link().on.up()
  await clock.pass(10)
  for (let i = 0; i < 4; i++) await link().sent[i]!.answer({ ok: true })
  assert.deepEqual(link().sent.map((s) => s.body.text ?? s.body.do), ['one', 'two', 'three', 'resolve'])
  assert.equal(link().sent[0]!.body.id, first, 'the same id: saying twice is harmless')
})

test('what was stored while the link was down is found among the messages', async () => {
  const { d, online, clock, link, state, server } = desk()
  server.snapshot = snapshot({ conversations: [held('c1', 3)] })
  await online()
  d.say('c1', 'hello')
  const id = link().sent[0]!.body.id
  link().on.down('lost')
  server.messages.set('c1', [message('c1', 1), mine(2, id)])
  await clock.pass(1_000)
  link().on.up()
  await clock.pass(10)
  assert.deepEqual(state().outbox, [])
})

test('the outbox survives a reload and goes out from the new page', async () => {
  const a = desk()
  a.server.snapshot = snapshot({ conversations: [held('c1', 3)] })
  await a.online()
  a.link().on.down('lost')
  a.d.say('c1', 'written offline')
  const b = desk(a.box)
  b.server.snapshot = a.server.snapshot
  await b.online()
  assert.equal(b.link().sent[0]!.body.text, 'written offline')
  assert.equal(b.link().sent[0]!.body.id, a.state().outbox[0]!.id)
})

test('a refusal stays in place with its reason and can be said again as something new', async () => {
  const { d, online, push, link, state, server, notices } = desk()
  server.snapshot = snapshot({ conversations: [held('c1', 3)] })
  await online()
  d.say('c1', 'hello')
  const id = link().sent[0]!.body.id
  await link().sent[0]!.answer({ ok: true })
  await push({ event: 'k1-1', type: 'refused', id, reason: 'not_owner', detail: 'taken' })
  assert.deepEqual(state().outbox[0]!.refused, { reason: 'not_owner', detail: 'taken' })
  assert.equal(notices[0]!.kind, 'refused')
  await push(headEvent('k1-2', held('c1', 5)))
  d.retry(id)
  assert.equal(link().sent[1]!.body.epoch, 5)
  assert.notEqual(link().sent[1]!.body.id, id)
})

test('a refusal at the PUBACK is final, a busy server is asked again', async () => {
  const { d, online, link, state, server, clock } = desk()
  server.snapshot = snapshot({ conversations: [held('c1', 3), held('c2', 1)] })
  await online()
  d.say('c1', 'a')
  await link().sent[0]!.answer({ ok: false, final: true, reason: 'too_large' })
  assert.equal(state().outbox[0]!.refused?.reason, 'too_large')
  d.say('c2', 'b')
  await link().sent[1]!.answer({ ok: false, final: false, reason: '151' })
  assert.equal(link().sent.length, 2)
  await clock.pass(2_000)
  assert.equal(link().sent[2]!.body.id, link().sent[1]!.body.id)
})

test('a command is given once, and its outcome ends it', async () => {
  const { d, online, push, link, state, server, notices } = desk()
  server.snapshot = snapshot({ conversations: [held('c1', 3, { accepted: true })] })
  await online()
  d.command('c1', 'release')
  d.command('c1', 'release')
  assert.equal(link().sent.length, 1)
  await link().sent[0]!.answer({ ok: true })
  await push({ event: 'k1-1', type: 'done', id: link().sent[0]!.body.id, conversation: 'c1' })
  assert.deepEqual(state().outbox, [])
  await push(headEvent('k1-2', conversation('c1', { epoch: 4 })))
  assert.equal(notices.length, 0, 'giving it back is no news to who did it')
  await push(headEvent('k1-3', held('c1', 5)))
  await push(headEvent('k1-4', conversation('c1', { epoch: 6 })))
  assert.deepEqual(notices.map((n) => n.kind), ['assigned', 'taken-away'])
})

test('a command whose answer went to an expired session is known by its effect', async () => {
  const { d, online, clock, link, state, server } = desk()
  server.snapshot = snapshot({ conversations: [held('c1', 3)] })
  await online()
  d.command('c1', 'resolve')
  link().on.down('lost')
  server.snapshot = snapshot()
  server.heads.set('c1', held('c1', 4, { state: 'resolved' }))
  await clock.pass(1_000)
  link().on.up()
  await clock.pass(10)
  assert.deepEqual(state().outbox, [])
  assert.equal(state().heads.get('c1')!.state, 'resolved')
})

test('an open conversation that is gone from the snapshot leaves the list', async () => {
  const { online, clock, link, state, server } = desk()
  server.snapshot = snapshot({ conversations: [held('c1', 3), conversation('c2')] })
  await online()
  link().on.down('lost')
  server.snapshot = snapshot({ conversations: [held('c1', 3)] })
  await clock.pass(1_000)
  link().on.up()
  await clock.pass(10)
  assert.deepEqual([...state().heads.keys()], ['c1'])
})

test('a snapshot that says it is not all of it takes nothing away', async () => {
  const { online, clock, link, state, server } = desk()
  server.snapshot = snapshot({ conversations: [held('c1', 3), conversation('c2')] })
  await online()
  link().on.down('lost')
  server.snapshot = snapshot({ conversations: [held('c1', 3)], more: true })
  await clock.pass(1_000)
  link().on.up()
  await clock.pass(10)
  assert.deepEqual([...state().heads.keys()], ['c1', 'c2'])
})

test('a conversation whose first words came alone is looked up', async () => {
  const { online, push, clock, state, server } = desk()
  await online()
  server.heads.set('c1', conversation('c1'))
  await push(messageEvent('k1-1', message('c1', 1)), 'queue/main/event')
  assert.equal(state().heads.size, 0)
  await clock.pass(600)
  assert.equal(state().heads.get('c1')?.state, 'waiting')
})

test('what a colleague holds is followed while one looks at it, and no longer', async () => {
  const { d, online, clock, state, server } = desk()
  const ben = { role: 'agent' as const, id: 'ben', name: 'Ben' }
  server.snapshot = snapshot({ conversations: [held('c1', 1, { agent: ben })] })
  server.messages.set('c1', [message('c1', 1)])
  await online()
  d.show('c1')
  await clock.pass(10)
  server.messages.set('c1', [message('c1', 1), message('c1', 2)])
  server.heads.set('c1', held('c1', 1, { agent: ben, last_seq: 2 }))
  await clock.pass(6_000)
  assert.equal(state().threads.get('c1')!.messages.length, 2)
  d.show(null)
  server.heads.set('c1', held('c1', 1, { agent: ben, last_seq: 3 }))
  await clock.pass(60_000)
  assert.equal(state().heads.get('c1')!.last_seq, 2)
})

test('what was resolved here is remembered over a reload', async () => {
  const a = desk()
  a.server.snapshot = snapshot({ conversations: [held('c1', 3)] })
  await a.online()
  await a.push(headEvent('k1-1', held('c1', 4, { state: 'resolved' })))
  assert.deepEqual(a.state().recent, ['c1'])
  const b = desk(a.box)
  b.server.heads.set('c1', held('c1', 4, { state: 'resolved' }))
  await b.online()
  b.d.loadRecent()
  await b.clock.pass(10)
  assert.equal(b.state().heads.get('c1')?.state, 'resolved')
})

test('a hole in a thread is loaded, also when its message never came', async () => {
  const { d, online, push, clock, state, server } = desk()
  server.snapshot = snapshot({ conversations: [held('c1', 3)] })
  server.messages.set('c1', [message('c1', 1)])
  await online()
  d.show('c1')
  await clock.pass(10)
  server.messages.set('c1', [1, 2, 3].map((n) => message('c1', n)))
  await push(headEvent('k1-1', held('c1', 3, { last_seq: 3 })))
  await clock.pass(1_000)
  assert.deepEqual(state().threads.get('c1')!.messages.map((m) => m.seq), [1, 2, 3])
})

test('older messages come page by page until there are no more', async () => {
  const { d, online, clock, state, server } = desk()
  server.snapshot = snapshot({ conversations: [held('c1', 3, { last_seq: 120 })] })
  server.messages.set('c1', Array.from({ length: 120 }, (_, i) => message('c1', i + 1)))
  await online()
  d.show('c1')
  await clock.pass(10)
  const seqs = () => state().threads.get('c1')!.messages.map((m) => m.seq)
  assert.equal(seqs()[0], 71)
  for (const first of [21, 1, 1]) {
    d.older('c1')
    await clock.pass(10)
    assert.equal(seqs()[0], first)
  }
  assert.equal(seqs().length, 120)
  assert.equal(state().threads.get('c1')!.more, false)
})

test('waiting for the next attempt ends at once when the network is back', async () => {
  const { d, online, clock, link, links, server } = desk()
  await online()
  server.down = true
  link().on.down('lost')
  await clock.pass(8_000)
  assert.equal(links.length, 1)
  server.down = false
  d.hurry()
  await clock.pass(10)
  assert.equal(links.length, 2)
})

test('the connection is renewed before its token runs out', async () => {
  const { online, clock, links } = desk()
  await online()
  await clock.pass(53 * 60_000)
  assert.equal(links.length, 1)
  await clock.pass(2 * 60_000)
  assert.equal(links.length, 2)
  assert.equal(links[0]!.closed, 'keep')
  assert.notEqual(links[1]!.token, links[0]!.token)
})

test('a session that ended leads to signing in, and what was unsent is still there after it', async () => {
  const { d, online, clock, link, state, server } = desk()
  server.snapshot = snapshot({ conversations: [held('c1', 3)] })
  await online()
  link().on.down('lost')
  d.say('c1', 'unsent')
  server.signedIn = false
  await clock.pass(1_000)
  assert.deepEqual([state().phase, state().expired], ['signed-out', true])
  server.signedIn = true
  await d.signIn('ann', 'right')
  assert.equal(state().outbox[0]!.text, 'unsent')
})

test('another window takes the desk over; nobody fights for it', async () => {
  const { d, online, clock, link, links, state } = desk()
  await online()
  link().on.down('taken')
  assert.equal(state().phase, 'elsewhere')
  await clock.pass(120_000)
  assert.equal(links.length, 1)
  void d.start()
  await clock.pass(10)
  assert.equal(links.length, 2)
})

test('signing out drops the session, and without a connection it does not pretend', async () => {
  const { d, online, link, state, server, notices } = desk()
  await online()
  server.down = true
  await d.signOut()
  assert.equal(state().phase, 'desk')
  assert.equal(notices[0]!.kind, 'sign-out-failed')
  server.down = false
  await d.signOut()
  assert.equal(state().phase, 'signed-out')
  assert.equal(link().closed, 'forget')
})

test('reachability is what the server says, asked until it says so', async () => {
  const { online, clock, state, server } = desk()
  server.reachable = false
  await online()
  await clock.pass(5_000)
  assert.equal(state().me!.reachable, false)
  server.reachable = true
  await clock.pass(10_000)
  assert.equal(state().me!.reachable, true)
})

test('how far was read is kept and only moves forwards', async () => {
  const { d, online, state, box } = desk()
  await online()
  d.sawUpTo('c1', 4)
  d.sawUpTo('c1', 2)
  assert.equal(state().seen.get('c1'), 4)
  assert.equal(box.getItem('holdline.seen.ann'), '{"c1":4}')
})

// A whole random shift against a model server: whatever is cut, repeated or
// lost on the way, what the agent said is stored once and in order.
test('random cuts neither lose, double nor reorder what is said', async () => {
  for (let seed = 1; seed <= 40; seed++) {
    const { d, clock, link, links, push, server, online, state } = desk()
    const random = lcg(seed)
    server.snapshot = snapshot({ conversations: [held('c1', 3, { last_seq: 0 })] })
    const stored: Message[] = []
    server.messages.set('c1', stored)
    await online()
    d.show('c1')
    await clock.pass(10)
    let events = 0
    const positions = (): Snapshot => snapshot({ conversations: [held('c1', 3, { last_seq: stored.length })], events: { own: `k1-${events}`, queues: { main: 'k1-0' } } })
    const inbox: WireEvent[] = []
    let said = 0
    let up = true
    for (let step = 0; step < 60; step++) {
      const dice = random()
      if (dice < 0.35 && said < 20) d.say('c1', `line ${++said}`)
      else if (dice < 0.75 && up) {
        // The server takes the next publish; the answer or the event may be lost.
        const next = link().sent.shift()
        if (!next) continue
        if (!stored.some((m) => m.id === next.body.id)) {
          stored.push(mine(stored.length + 1, next.body.id, next.body.text))
          inbox.push(messageEvent(`k1-${++events}`, stored.at(-1)!))
          server.snapshot = positions()
        }
        if (random() < 0.8) await next.answer({ ok: true })
      } else if (dice < 0.9 && up) {
        for (const e of inbox.splice(0)) if (random() < 0.7) await push(e)
      } else if (up) {
        link().on.down('lost')
        up = false
      } else {
        const before = links.length
        await clock.pass(31_000)
        assert.equal(links.length, before + 1)
        link().on.up()
        await clock.pass(10)
        up = true
      }
    }
    if (up) link().on.down('lost')
    await clock.pass(31_000)
    link().on.up()
    await clock.pass(10)
    for (let i = 0; i < 40; i++) {
      const next = link().sent.shift()
      if (!next) break
      if (!stored.some((m) => m.id === next.body.id)) {
        stored.push(mine(stored.length + 1, next.body.id, next.body.text))
        server.snapshot = positions()
        await push(messageEvent(`k1-${++events}`, stored.at(-1)!))
      }
      await next.answer({ ok: true })
    }
    await clock.pass(60_000)
    assert.deepEqual(stored.map((m) => m.text), Array.from({ length: said }, (_, i) => `line ${i + 1}`), `seed ${seed}`)
    assert.deepEqual(state().outbox, [], `seed ${seed}`)
    assert.deepEqual(state().threads.get('c1')!.messages.map((m) => m.seq), stored.map((m) => m.seq), `seed ${seed}`)
  }
})

function lcg(seed: number): () => number {
  let s = seed * 2654435761
  return () => (s = (s * 1103515245 + 12345) % 2147483648) / 2147483648
}
