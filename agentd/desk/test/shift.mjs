// A shift at a real desk: agents in Chromium against a running holdline.
//
//   DESK_URL        http://127.0.0.1:8080
//   DESK_AGENT      agents who sign in, by id, separated by commas
//   DESK_PASSWORD   their passwords, in the same order
//   DESK_TOKENS     tokens of customers (holdline token customer NAME), separated
//                   by commas; this script then plays their phones and compares
//                   what they saw. Without it customers come from outside:
//   DESK_CONVERSATIONS  how many conversations to wait for (1)
//   DESK_SHOTS      directory for screenshots
//   DESK_TIMEOUT    patience with one step, in ms (15000)
//
// It prints one line of JSON at the end, and fails with the reason on stderr.

import assert from 'node:assert/strict'
import { launch, Seat, shots } from './browser.lib.mjs'
import { Customer } from './customer.mjs'
import { cutter } from './cut.mjs'

const env = (name, otherwise) => {
  const v = process.env[name] ?? otherwise
  if (v === undefined) throw new Error(`${name} is not set`)
  return v
}
const list = (s) => s.split(',').map((x) => x.trim()).filter(Boolean)

const url = env('DESK_URL').replace(/\/$/, '')
const agents = list(env('DESK_AGENT'))
const passwords = list(env('DESK_PASSWORD'))
const tokens = list(env('DESK_TOKENS', ''))
const patience = Number(env('DESK_TIMEOUT', '15000'))
const shot = shots(process.env.DESK_SHOTS)
assert.equal(agents.length, passwords.length, 'as many passwords as agents')

async function until(what, check) {
  for (const end = Date.now() + patience; Date.now() < end; ) {
    if (await check()) return
    await new Promise((done) => setTimeout(done, 50))
  }
  assert.fail('never: ' + what)
}

const began = Date.now()
const link = await cutter(new URL(url).hostname, Number(new URL(url).port || 80))
const browser = await launch()
const customers = []
const seats = []
try {
  // Agents take their seats.
  for (const [i, id] of agents.entries()) {
    const seat = await Seat.take(browser, link.url)
    seat.agent = id
    seats.push(seat)
    if (i === 0) {
      await shot(seat.page, 'shift-sign-in')
      await seat.axe('sign in')
    }
    await seat.signIn(id, passwords[i])
    await seat.reachable()
    await seat.page.getByRole('button', { name: /Your status/ }).click()
    await seat.page.getByRole('menuitemradio', { name: /Available/ }).click()
  }

  // Customers write; every one appears on one desk, without a reload.
  customers.push(...(await Promise.all(tokens.map((t) => Customer.join(url, t)))))
  await Promise.all(customers.map((c) => c.say(`Hello, this is ${c.name}. Order 4711 has not arrived.`)))
  const expected = customers.length || Number(env('DESK_CONVERSATIONS', '1'))
  const names = (seat) => seat.page.locator('.row .row-name').allTextContents()
  await until(`${expected} conversations on the desks`, async () => {
    const all = (await Promise.all(seats.map(names))).flat()
    return customers.length > 0 ? customers.every((c) => all.includes(c.name)) : all.length >= expected
  })
  for (const seat of seats) {
    const all = await names(seat)
    seat.mine = customers.length > 0 ? all.filter((n) => customers.some((c) => c.name === n)) : all
  }
  assert.equal(new Set(seats.flatMap((s) => s.mine)).size, seats.flatMap((s) => s.mine).length, 'nobody is on two desks')

  // Each is answered.
  await Promise.all(seats.map(async (seat) => {
    for (const name of seat.mine) {
      await seat.open(name)
      await seat.page.locator('.said-item[data-seq]').first().waitFor()
      await seat.reply(`Hello ${name}, ${seat.agent} here.`)
      await seat.stored(`${seat.agent} here.`)
    }
  }))
  await Promise.all(customers.map((c) => until(`${c.name} has the answer`, () => c.said().some((s) => s.endsWith('here.')))))
  await Promise.all(customers.map((c) => c.say('Thank you!')))
  for (const seat of seats) if (customers.length > 0 && seat.mine.length > 0) await seat.stored('Thank you!')
  await shot(seats[0].page, 'shift-light')
  await seats[0].axe('light')
  await seats[0].page.emulateMedia({ colorScheme: 'dark' })
  await shot(seats[0].page, 'shift-dark')
  await seats[0].axe('dark')
  await seats[0].page.emulateMedia({ colorScheme: 'light' })

  // The link of all desks is cut; both sides go on talking.
  link.cut()
  await Promise.all(seats.map((s) => s.page.getByTestId('banner').waitFor()))
  for (const seat of seats) {
    if (seat.mine.length === 0) continue
    await seat.reply('Written without a connection, one.')
    await seat.reply('Written without a connection, two.')
  }
  await shot(seats[0].page, 'shift-offline')
  await Promise.all(customers.map((c) => c.say('Are you still there?')))
  link.mend()
  await Promise.all(seats.map((s) => s.page.getByTestId('banner').waitFor({ state: 'detached' })))
  for (const seat of seats) if (seat.mine.length > 0) await seat.stored('one.').then(() => seat.stored('two.'))

  // Both sides show the same, each word once.
  const seen = {}
  for (const seat of seats) {
    for (const name of seat.mine) {
      await seat.open(name)
      const c = customers.find((x) => x.name === name)
      if (!c) continue
      await until(`${name} and ${seat.agent} see the same`, async () => {
        const screen = await seat.said()
        seen[name] = screen
        return JSON.stringify(screen.slice(-c.said().length)) === JSON.stringify(c.said()) && c.said().includes('Are you still there?')
      })
      assert.equal(seen[name].filter((s) => s.startsWith('Written without')).length, name === seat.mine.at(-1) ? 2 : 0)
    }
  }
  for (const c of customers) {
    assert.deepEqual(c.doubled, [], `${c.name} heard something twice`)
    assert.deepEqual(c.refused, [], `${c.name} was refused`)
    assert.ok(c.gapless(), `${c.name} misses a number`)
  }

  // All is resolved, and leaves the desk.
  await Promise.all(seats.map(async (seat) => {
    for (const name of seat.mine) {
      await seat.open(name)
      await seat.page.keyboard.press('Escape')
      await seat.page.keyboard.press('e')
      await seat.page.getByText('comes back as a new episode').waitFor()
    }
    await seat.page.mouse.move(700, 20)
    await until(`${seat.agent} is done`, async () => (await names(seat)).every((n) => !seat.mine.includes(n)))
  }))
  await shot(seats[0].page, 'shift-done')
  for (const seat of seats) await seat.leave()
  console.log(JSON.stringify({
    ok: true, agents: agents.length, customers: customers.length, conversations: seats.flatMap((s) => s.mine).length,
    perDesk: Object.fromEntries(seats.map((s) => [s.agent, s.mine.length])), ms: Date.now() - began,
  }))
} catch (err) {
  for (const [i, seat] of seats.entries()) await shot(seat.page, `shift-failed-${i}`).catch(() => undefined)
  throw err
} finally {
  await Promise.all(customers.map((c) => c.leave().catch(() => undefined)))
  await browser.close()
  await link.close()
}
