// What both browser tests need: Chromium as Debian ships it, and a desk in it.

import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

const axeSource = createRequire(import.meta.url).resolve('axe-core/axe.min.js')

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--force-color-profile=srgb',
    ],
  })

/** still waits until nothing moves any more but what never stops. */
const still = (page) =>
  page.evaluate(() => {
    const ends = document.getAnimations().filter((a) => a.effect.getComputedTiming().iterations !== Infinity)
    return Promise.all(ends.map((a) => a.finished.catch(() => undefined))).then(() => undefined)
  })

/** shots says where screenshots go, if anywhere. */
export function shots(dir) {
  if (!dir) return async () => undefined
  mkdirSync(dir, { recursive: true })
  return async (page, name) => {
    await page.evaluate(() => document.fonts.ready)
    await still(page)
    await page.screenshot({ path: join(dir, name + '.png') })
  }
}

/** Seat is one browser profile at one desk. What its page complains about fails the test. */
export class Seat {
  static async take(browser, url, options = {}) {
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: 'light', locale: 'en-US', bypassCSP: false, ...options })
    const page = await context.newPage()
    const seat = new Seat()
    Object.assign(seat, { context, page, url, complaints: [], cutting: false })
    page.on('pageerror', (e) => seat.complaints.push(String(e)))
    page.on('console', (m) => {
      // While the link is cut the browser itself reports what it cannot reach.
      if (m.type() === 'error' && !/Failed to load resource|WebSocket connection to|WebSocket is already in/.test(m.text())) seat.complaints.push(m.text())
    })
    page.setDefaultTimeout(Number(process.env.DESK_TIMEOUT ?? 15_000))
    await page.goto(url)
    return seat
  }

  async signIn(id, password) {
    const { page } = this
    await page.getByLabel('Agent ID').fill(id)
    await page.getByLabel('Password', { exact: true }).fill(password)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('tab', { name: /Mine/ }).waitFor()
    await page.evaluate(() => (window.neverReloaded = true))
  }

  /** reachable waits until the dot says that the server sees this desk. */
  async reachable() {
    await this.page.locator('.status-trigger .dot[data-reachable=true]').waitFor()
  }

  row(name) {
    return this.page.locator('.row', { has: this.page.locator('.row-name', { hasText: name }) })
  }

  tab(name) {
    return this.page.getByRole('tab', { name: new RegExp(name) }).click()
  }

  async open(name) {
    await this.row(name).click()
    await this.page.locator('.thread-who h2', { hasText: name }).waitFor()
  }

  async reply(text) {
    const box = this.page.getByRole('textbox', { name: 'Your reply' })
    await box.fill(text)
    await box.press('Enter')
  }

  /** stored waits until a bubble has its place in the conversation. */
  async stored(text) {
    await this.page.locator('.said-item[data-seq]', { hasText: text }).waitFor()
  }

  /** said is the conversation on the screen, in order, with what is not stored marked by a ~. */
  said() {
    return this.page.locator('.said-item').evaluateAll((list) =>
      list.map((li) => (li.dataset.seq ? '' : '~') + li.querySelector('.bubble > p').textContent))
  }

  async axe(where) {
    // The policy forbids injected scripts, as it should; the debugger may.
    await this.page.evaluate(readFileSync(axeSource, 'utf8'))
    // What is still fading in has no contrast yet.
    await still(this.page)
    const { violations } = await this.page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
    const found = violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target} ${n.any[0]?.message ?? ''}`).join('; ')}`)
    if (found.length > 0) throw new Error(`axe, ${where}:\n${found.join('\n')}`)
  }

  /** leave checks that the page was never reloaded behind our back and never complained. */
  async leave() {
    const reloaded = !(await this.page.evaluate(() => window.neverReloaded === true))
    await this.context.close()
    if (this.complaints.length > 0) throw new Error('the page complained:\n' + this.complaints.join('\n'))
    if (reloaded) throw new Error('the page was reloaded')
  }
}
