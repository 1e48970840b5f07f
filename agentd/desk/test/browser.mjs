// The desk in a real browser against test/mock.mjs. Run: node test/browser.mjs
// DESK_SHOTS=dir also writes screenshots.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { launch, Seat, shots } from './browser.lib.mjs'
import { cutter } from './cut.mjs'
import { Mock } from './mock.mjs'

const shot = shots(process.env.DESK_SHOTS)
let browser
before(async () => (browser = await launch()))
after(() => browser?.close())

/** A mock with agents Ann and Ben, and Ann at her desk behind a link that can be cut. */
async function world(t, { options, signIn = true, prepare } = {}) {
  const mock = await new Mock([
    { id: 'ann', name: 'Ann Lindqvist', password: 'right' },
    { id: 'ben', name: 'Ben Okafor', password: 'right', intent: 'away' },
  ]).start()
  prepare?.(mock)
  const link = await cutter('127.0.0.1', mock.port)
  const ann = await Seat.take(browser, link.url, options)
  t.after(async () => {
    await ann.context.close()
    await link.close()
    await mock.stop()
  })
  if (signIn) {
    await ann.signIn('ann', 'right')
    await ann.reachable()
  }
  return { mock, link, ann, page: ann.page }
}

/** until waits for a condition that the page reaches by itself. */
async function until(what, check) {
  for (const end = Date.now() + 15_000; Date.now() < end; ) {
    if (await check()) return
    await new Promise((done) => setTimeout(done, 20))
  }
  assert.fail('never: ' + what)
}

test('signing in: wrong, right, and still signed in after a reload', async (t) => {
  const { ann, page, mock } = await world(t, { signIn: false })
  await shot(page, 'sign-in')
  await ann.axe('sign in')
  await page.getByRole('button', { name: 'Sign in' }).click()
  assert.equal(await page.getByText('Please fill this in.').count(), 2)
  await page.getByLabel('Agent ID').fill('ann')
  await page.getByLabel('Password', { exact: true }).fill('wrong')
  await page.keyboard.press('Enter')
  await page.getByText('The agent ID or the password is wrong.').waitFor()
  await shot(page, 'sign-in-wrong')
  await ann.signIn('ann', 'right')
  await ann.reachable()
  const device = [...mock.sessions.keys()][0]
  await page.reload()
  await ann.reachable()
  assert.deepEqual([...mock.sessions.keys()], [device], 'the same device and session after a reload')
  await page.getByRole('button', { name: /Your status/ }).click()
  await page.getByRole('menuitem', { name: 'Sign out' }).click()
  await page.getByRole('heading', { name: 'Sign in to your desk' }).waitFor()
  assert.equal(mock.sessions.size, 0, 'the MQTT session is dropped')
})

test('a conversation appears live, is answered and resolved', async (t) => {
  const { ann, page, mock } = await world(t)
  await page.getByText('Nothing on your desk').waitFor()
  await shot(page, 'empty')
  await ann.axe('empty')
  const c = mock.customerSays('ada', 'Ada Byron', 'Hi, order 4711 has not arrived')
  await ann.row('Ada Byron').waitFor()
  await page.getByText('New conversation for you').waitFor()
  await ann.open('Ada Byron')
  await ann.stored('order 4711')
  await ann.reply('Hello Ada, let me look.')
  await ann.stored('let me look')
  mock.customerSays('ada', 'Ada Byron', 'Thank you!')
  await ann.stored('Thank you!')
  assert.deepEqual(await ann.said(), ['Hi, order 4711 has not arrived', 'Hello Ada, let me look.', 'Thank you!'])
  await page.getByRole('button', { name: 'Resolve' }).click()
  await page.getByText('comes back as a new episode').waitFor()
  assert.equal(c.state, 'resolved')
  await until('the row leaves Mine', async () => (await ann.row('Ada Byron').count()) === 0)
  await ann.tab('All')
  await page.getByRole('heading', { name: 'Recently resolved' }).waitFor()
  mock.customerSays('ada', 'Ada Byron', 'One more thing')
  await ann.stored('One more thing')
  assert.equal(c.episode, 2)
  await ann.leave()
})

test('a cut link: banner, what is written waits, all heals without a reload and nothing is lost or doubled', async (t) => {
  const { ann, page, mock, link } = await world(t)
  const c = mock.customerSays('ada', 'Ada Byron', 'one')
  await ann.open('Ada Byron')
  await ann.reply('two')
  await ann.stored('two')
  link.cut()
  await page.getByTestId('banner').waitFor()
  await ann.reply('four')
  await ann.reply('five')
  await page.getByText('2 unsent items go out when it is back.').waitFor()
  assert.equal(await page.locator('[data-state=pending]').count(), 2)
  await shot(page, 'offline')
  await ann.axe('offline')
  mock.customerSays('ada', 'Ada Byron', 'three')
  mock.customerSays('bob', 'Bob Kahn', 'me too')
  link.mend()
  await page.getByTestId('banner').waitFor({ state: 'detached' })
  await ann.stored('five')
  assert.deepEqual(await ann.said(), ['one', 'two', 'three', 'four', 'five'])
  await ann.row('Bob Kahn').waitFor()
  assert.deepEqual(mock.messages.get(c.conversation).map((m) => m.text), ['one', 'two', 'three', 'four', 'five'])
  await ann.leave()
})

test('many cuts while both sides talk: one order, each once', async (t) => {
  const { ann, page, mock, link } = await world(t)
  const c = mock.customerSays('ada', 'Ada Byron', 'c0')
  await ann.open('Ada Byron')
  for (let i = 1; i <= 8; i++) {
    await ann.reply(`a${i}`)
    if (i % 2) link.cut()
    mock.customerSays('ada', 'Ada Byron', `c${i}`)
    await ann.reply(`b${i}`)
    link.mend()
    if (i % 3 === 0) await ann.stored(`b${i}`)
    await page.evaluate(() => window.dispatchEvent(new Event('online')))
  }
  await until('all stored', async () => mock.messages.get(c.conversation).length === 25)
  await until('all shown', async () => (await ann.said()).filter((s) => !s.startsWith('~')).length === 25)
  assert.deepEqual(await ann.said(), mock.messages.get(c.conversation).map((m) => m.text))
  const own = mock.messages.get(c.conversation).filter((m) => m.from.role === 'agent').map((m) => m.text)
  assert.deepEqual(own, Array.from({ length: 8 }, (_, i) => [`a${i + 1}`, `b${i + 1}`]).flat())
  await ann.leave()
})

test('unsent replies survive a reload', async (t) => {
  const { ann, page, mock } = await world(t)
  mock.customerSays('ada', 'Ada Byron', 'one')
  await ann.open('Ada Byron')
  mock.storing = false // the server has it on disk but has not stored it yet
  await ann.reply('two')
  await page.locator('[data-state=acknowledged]').waitFor()
  await page.reload()
  await page.locator('[data-state]', { hasText: 'two' }).waitFor()
  mock.storing = true
  mock.store()
  await ann.stored('two')
  assert.deepEqual(await ann.said(), ['one', 'two'])
})

test('a refused reply stays in place with its reason, and can be sent again or thrown away', async (t) => {
  const { ann, page, mock } = await world(t)
  mock.customerSays('ada', 'Ada Byron', 'one')
  await ann.open('Ada Byron')
  mock.refusing = 'not_owner'
  await ann.reply('too late')
  await page.getByText('The conversation is no longer yours.').waitFor()
  await shot(page, 'refused')
  await ann.axe('refused')
  await page.getByRole('button', { name: 'Try again' }).click()
  await ann.stored('too late')
  mock.refusing = 'invalid'
  await ann.reply('rubbish')
  await page.getByRole('button', { name: 'Discard' }).click()
  assert.deepEqual(await ann.said(), ['one', 'too late'])
  await ann.leave()
})

test('two agents accept at once: one has it, the other is told why not', async (t) => {
  const { ann, page, mock } = await world(t, { prepare: (m) => (m.dealing = false) })
  const c = mock.customerSays('ada', 'Ada Byron', 'one')
  await ann.tab('Queue')
  await ann.open('Ada Byron')
  mock.storing = false
  await page.getByRole('button', { name: 'Accept to reply' }).click()
  await page.getByRole('button', { name: 'Accepting…' }).first().waitFor()
  mock.give(c, mock.agents.get('ben'))
  mock.tellHead(c)
  mock.storing = true
  mock.store()
  await page.getByText('Another agent has it.').waitFor()
  await page.getByText('Ben Okafor is answering.').waitFor()
  await shot(page, 'conflict')
  await ann.axe('conflict')
  await page.getByRole('button', { name: 'Discard' }).click()
  await ann.leave()
})

test('lost events and a restored backup are noticed and healed', async (t) => {
  const { ann, page, mock } = await world(t)
  mock.customerSays('ada', 'Ada Byron', 'one')
  await ann.open('Ada Byron')
  const before = mock.log.snapshots
  mock.losing = 1
  mock.customerSays('ada', 'Ada Byron', 'two')
  mock.customerSays('ada', 'Ada Byron', 'three')
  await ann.stored('three')
  assert.deepEqual(await ann.said(), ['one', 'two', 'three'])
  assert.equal(mock.log.snapshots, before + 1, 'one new snapshot')
  mock.restored()
  mock.customerSays('ada', 'Ada Byron', 'four')
  await ann.stored('four')
  assert.deepEqual(await ann.said(), ['one', 'two', 'three', 'four'])
  assert.equal(mock.log.snapshots, before + 2)
  await ann.leave()
  void page
})

test('the keyboard alone is enough', async (t) => {
  const { ann, page, mock } = await world(t)
  for (const [id, name] of [['ada', 'Ada Byron'], ['bob', 'Bob Kahn'], ['cleo', 'Cleo Diaz']]) mock.customerSays(id, name, 'hello from ' + id)
  await ann.row('Cleo Diaz').waitFor()
  await page.keyboard.press('j')
  await page.locator('.thread-who h2', { hasText: 'Cleo' }).waitFor()
  assert.notEqual(await page.evaluate(() => document.activeElement?.tagName), 'TEXTAREA', 'the next key would be written')
  await page.keyboard.press('j')
  await page.locator('.thread-who h2', { hasText: 'Bob' }).waitFor()
  await page.keyboard.press('k')
  await page.locator('.thread-who h2', { hasText: 'Cleo' }).waitFor()
  await page.keyboard.press('a')
  await until('accepted', () => [...mock.conversations.values()].find((c) => c.customer.id === 'cleo').accepted)
  await page.keyboard.press('r')
  await page.keyboard.type('jkaer?', { delay: 5 })
  await page.keyboard.press('Shift+Enter')
  await page.keyboard.type('second line')
  await page.keyboard.press('Enter')
  await ann.stored('second line')
  assert.equal((await ann.said()).at(-1), 'jkaer?\nsecond line')
  await page.keyboard.type('a draft')
  await page.keyboard.press('Escape')
  await page.keyboard.press('e')
  const dialog = page.getByRole('alertdialog')
  await dialog.waitFor()
  await ann.axe('alert dialog')
  await page.keyboard.press('Escape')
  await dialog.waitFor({ state: 'detached' })
  await page.keyboard.press('r')
  await page.keyboard.press('Control+a')
  await page.keyboard.press('Delete')
  await page.keyboard.press('Escape')
  await page.keyboard.press('e')
  await page.getByText('comes back as a new episode').waitFor()
  await page.keyboard.press('?')
  await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor()
  await shot(page, 'shortcuts')
  await ann.axe('shortcuts')
  await page.keyboard.press('j')
  await page.keyboard.press('Escape')
  await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor({ state: 'detached' })
  await page.keyboard.press('Escape')
  await page.getByText('Pick a conversation').waitFor()
  await ann.leave()
})

test('drafts are kept per conversation and over a reload', async (t) => {
  const { ann, page, mock } = await world(t)
  mock.customerSays('ada', 'Ada Byron', 'one')
  mock.customerSays('bob', 'Bob Kahn', 'two')
  await ann.open('Ada Byron')
  await page.getByRole('textbox', { name: 'Your reply' }).fill('for Ada')
  await ann.open('Bob Kahn')
  assert.equal(await page.getByRole('textbox', { name: 'Your reply' }).inputValue(), '')
  await ann.row('Ada Byron').getByText('for Ada').waitFor()
  await page.reload()
  await ann.open('Ada Byron')
  assert.equal(await page.getByRole('textbox', { name: 'Your reply' }).inputValue(), 'for Ada')
})

test('the list holds still under the pointer', async (t) => {
  const { ann, page, mock } = await world(t)
  for (const [id, name] of [['ada', 'Ada Byron'], ['bob', 'Bob Kahn']]) mock.customerSays(id, name, 'hi')
  await ann.row('Bob Kahn').waitFor()
  const names = () => page.locator('.row-name').allTextContents()
  assert.deepEqual(await names(), ['Bob Kahn', 'Ada Byron'])
  await ann.row('Bob Kahn').hover()
  mock.customerSays('cleo', 'Cleo Diaz', 'new')
  mock.customerSays('ada', 'Ada Byron', 'again')
  await page.getByRole('button', { name: 'Show 2 new or changed' }).waitFor()
  assert.deepEqual(await names(), ['Bob Kahn', 'Ada Byron'])
  await shot(page, 'frozen')
  await page.getByRole('button', { name: 'Show 2 new or changed' }).click()
  assert.deepEqual(await names(), ['Ada Byron', 'Cleo Diaz', 'Bob Kahn'])
  mock.customerSays('bob', 'Bob Kahn', 'once more')
  await page.getByRole('button', { name: 'Show 1 new or changed' }).waitFor()
  await page.keyboard.press('Shift') // whoever types is not about to click
  await until('the list moves on', async () => (await names())[0] === 'Bob Kahn')
  await ann.leave()
})

test('status and reachability are two things', async (t) => {
  const { ann, page, mock, link } = await world(t)
  await page.getByRole('button', { name: /Your status/ }).click()
  await shot(page, 'status-menu')
  await ann.axe('status menu')
  await page.getByRole('menuitemradio', { name: /Busy/ }).click()
  await until('busy on the server', () => mock.agents.get('ann').intent === 'busy')
  await page.locator('.status-trigger .dot[data-intent=busy][data-reachable=true]').waitFor()
  link.cut()
  await page.locator('.status-trigger .dot[data-intent=busy][data-reachable=false]').waitFor()
  link.mend()
  await ann.reachable()
  assert.equal(mock.agents.get('ann').intent, 'busy', 'losing the link does not change the intent')
  await ann.leave()
})

test('the newest window has the desk, the older lets go', async (t) => {
  const { ann, page, mock } = await world(t)
  const second = await ann.context.newPage()
  await second.goto(ann.url)
  await second.locator('.status-trigger .dot[data-reachable=true]').waitFor()
  await page.getByText('Your desk is open in another window').waitFor()
  await shot(page, 'elsewhere')
  await ann.axe('elsewhere')
  const connects = mock.log.connects
  await page.getByRole('button', { name: 'Use it here' }).click()
  await ann.reachable()
  await second.getByText('Your desk is open in another window').waitFor()
  assert.equal(mock.log.connects, connects + 1, 'no fight over the connection')
  await ann.leave()
})

test('a session that ends leads to signing in, and unsent words go out after it', async (t) => {
  const { ann, page, mock, link } = await world(t)
  const c = mock.customerSays('ada', 'Ada Byron', 'one')
  await ann.open('Ada Byron')
  link.cut()
  await page.getByTestId('banner').waitFor()
  await ann.reply('two')
  mock.agents.get('ann').signedOut = true
  link.mend()
  await page.getByText('Your session has ended.', { exact: false }).waitFor()
  await shot(page, 'expired')
  mock.agents.get('ann').signedOut = false
  await ann.signIn('ann', 'right')
  await until('stored', () => mock.messages.get(c.conversation).length === 2)
  await ann.stored('two')
  await ann.leave()
})

test('long threads load page by page and keep their place', async (t) => {
  const { ann, page, mock } = await world(t, {
    prepare(m) {
      const c = m.customerSays('ada', 'Ada Byron', 'line 1')
      for (let i = 2; i <= 130; i++) i % 3 ? m.customerSays('ada', 'Ada Byron', `line ${i}`) : m.agentSays(c, 'ben', `line ${i}`)
    },
  })
  await ann.open('Ada Byron')
  await ann.stored('line 130')
  assert.equal((await ann.said()).length, 50)
  const box = page.locator('.messages')
  await box.evaluate((el) => el.scrollTo(0, 0))
  await until('the next page', async () => (await ann.said()).length === 100)
  assert.ok((await box.evaluate((el) => el.scrollTop)) > 400, 'what was read stays where it was')
  mock.customerSays('ada', 'Ada Byron', 'line 131')
  await page.getByRole('button', { name: 'New messages' }).waitFor()
  await shot(page, 'scrolled-up')
  await ann.axe('scrolled up')
  await box.evaluate((el) => el.scrollTo(0, 0))
  await until('the first page', async () => (await ann.said()).length === 131)
  await page.getByText('Beginning of the conversation').waitFor()
  assert.deepEqual(await ann.said(), Array.from({ length: 131 }, (_, i) => `line ${i + 1}`))
  await ann.leave()
})

test('loading, missing and forbidden look like what they are', async (t) => {
  const { ann, page, mock } = await world(t)
  const c = mock.customerSays('ada', 'Ada Byron', 'one')
  await ann.row('Ada Byron').waitFor()
  mock.slow = 1500
  await ann.row('Ada Byron').click()
  await page.locator('.messages-skeleton').waitFor()
  await shot(page, 'loading')
  mock.slow = 0
  await ann.stored('one')
  await page.goto(ann.url + '/c/' + 'ff'.repeat(13))
  await page.getByText('There is no such conversation').waitFor()
  await shot(page, 'missing')
  await page.goto(ann.url + '/c/not-an-id')
  await page.getByText('There is no such conversation').waitFor()
  c.secret = true
  await page.goto(ann.url + '/c/' + c.conversation)
  await page.getByText('You may not read this conversation').waitFor()
  await ann.axe('denied')
})

const customers = [
  ['ada', 'Ada Byron', 'Hi, order 4711 has not arrived. Tracking says it left the depot on Tuesday.'],
  ['wang', '王小明', '你好，我要申请退款，订单号 4711'],
  ['omar', 'عمر خالد', 'مرحبا، لم يصل طلبي بعد'],
  ['jo', 'Josefine Übermäßig-Langenscheidt', 'The app says “payment failed” but the money is gone 😟'],
  ['kim', 'Kim Park', 'Thanks, that worked!'],
  ['lee', 'Lee Wong', 'Can I change the delivery address of an order that was already sent?'],
  ['mia', 'Mia Rossi', 'hello?'],
]

/** A desk in the middle of a shift. */
async function busy(t, options) {
  const w = await world(t, {
    options,
    prepare(m) {
      m.agents.get('ann').capacity = 8
      const minutes = (n) => (m.clock = Date.now() - n * 60_000)
      const real = m.now
      m.now = () => new Date((m.clock += 1700)).toISOString()
      minutes(24 * 60 + 40)
      const c = m.customerSays(...customers[0])
      m.give(c, m.agents.get('ann'))
      m.agentSays(c, 'ben', 'Hello Ada, I have asked the carrier and will be back tomorrow.')
      minutes(14)
      m.customerSays('ada', 'Ada Byron', 'Good morning! Any news?')
      m.customerSays('ada', 'Ada Byron', 'I will be at home all day, so they can come any time.')
      m.agentSays(c, 'ann', 'Good morning Ada. The parcel was held at the depot: the label was damaged. A new one is on, and it is out for delivery.')
      m.agentSays(c, 'ann', 'You can follow it here: https://example.com/track/4711-0099-2231-ABCD')
      c.accepted = true
      m.customerSays('ada', 'Ada Byron', 'Great. And if nobody is home, can the driver leave it with the neighbour on the ground floor? She is in all day and knows me well.')
      for (const [i, x] of customers.slice(1).entries()) {
        minutes([9, 7, 4, 3, 1.2, 0.3][i])
        const o = m.customerSays(...x)
        if (i < 3) m.give(o, m.agents.get('ann'))
        if (i === 3) {
          m.give(o, m.agents.get('ben'))
          o.accepted = true
          m.agentSays(o, 'ben', 'Glad to hear it!')
        }
        if (i === 2) {
          o.accepted = true
          m.agentSays(o, 'ann', 'I am looking into it.')
        }
      }
      m.clock = Date.now()
      m.now = real
      m.dealing = false
    },
  })
  return w
}

test('a shift in light and dark, in English and Chinese, wide and narrow: no barrier, nothing cut off', async (t) => {
  const { ann, page } = await busy(t)
  await ann.open('Ada Byron')
  await page.getByRole('textbox', { name: 'Your reply' }).fill('Yes, I have added a note for the driver.')
  await page.mouse.move(700, 450)
  await shot(page, 'light')
  await ann.axe('light')
  await page.emulateMedia({ colorScheme: 'dark' })
  await shot(page, 'dark')
  await ann.axe('dark')
  await page.getByRole('button', { name: 'Settings' }).click()
  await ann.axe('settings menu, dark')
  await page.getByRole('menuitemradio', { name: 'Light' }).click()
  await page.locator('html[data-theme=light]').waitFor()
  await page.getByRole('button', { name: 'Settings' }).click()
  await page.getByRole('menuitemradio', { name: '简体中文' }).click()
  await page.getByRole('heading', { name: '会话', exact: true, level: 1 }).waitFor()
  await page.mouse.move(700, 450)
  await shot(page, 'zh-CN')
  await ann.axe('zh-CN')
  await page.getByRole('tab', { name: /全部/ }).click()
  await page.reload()
  assert.equal(await page.locator('html').getAttribute('lang'), 'zh-CN', 'the choice is kept')
  await page.evaluate(() => localStorage.removeItem('holdline.lang'))
  await page.reload()
  await ann.tab('All')
  await ann.open('Kim Park')
  await shot(page, 'colleague')
  await ann.axe('all')
  await ann.tab('Queue')
  await ann.open('Lee Wong')
  await shot(page, 'queue')
  await ann.axe('queue')
  for (const width of [1024, 800]) {
    await page.setViewportSize({ width, height: 800 })
    await shot(page, 'width-' + width)
  }
  await page.getByRole('button', { name: 'Show details' }).click()
  await shot(page, 'width-800-details')
  await ann.axe('drawer')
  await page.evaluate(() => (document.documentElement.dir = 'rtl'))
  await page.setViewportSize({ width: 1440, height: 900 })
  await shot(page, 'rtl')
})

test('a phone in the hand: one column, everything in reach', async (t) => {
  const { ann, page } = await busy(t, { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 })
  await ann.row('Ada Byron').waitFor()
  await shot(page, 'phone-list')
  await ann.axe('phone list')
  await ann.open('Ada Byron')
  await ann.stored('neighbour')
  await shot(page, 'phone-thread')
  await ann.axe('phone thread')
  assert.ok(await page.getByRole('button', { name: 'Resolve' }).isVisible())
  await ann.reply('On its way.')
  await ann.stored('On its way.')
  for (const width of [390, 320]) {
    await page.setViewportSize({ width, height: 844 })
    const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
    assert.ok(over <= 0, `nothing sticks out at ${width} px (${over})`)
  }
  await page.setViewportSize({ width: 390, height: 844 })
  await page.getByRole('button', { name: 'Show details' }).click()
  await shot(page, 'phone-details')
  await page.getByRole('complementary').getByRole('button', { name: 'Hide details' }).click()
  await page.getByRole('button', { name: 'Back to the list' }).click()
  await ann.row('Josefine').waitFor()
  await page.goBack().catch(() => undefined)
})
