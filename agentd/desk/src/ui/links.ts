/** Part is a piece of a message: plain, or an address that can be opened. */
export interface Part {
  text: string
  href?: string
}

const address = /\bhttps?:\/\/[^\s<>"'`，。、；：！？（）【】《》“”‘’]+/giu

/** linked finds the web addresses in what was said. Only http and https are ever links. */
export function linked(text: string): Part[] {
  const parts: Part[] = []
  let done = 0
  for (const m of text.matchAll(address)) {
    const href = trimmed(m[0])
    if (!URL.canParse(href)) continue
    if (m.index > done) parts.push({ text: text.slice(done, m.index) })
    parts.push({ text: href, href })
    done = m.index + href.length
  }
  if (done < text.length) parts.push({ text: text.slice(done) })
  return parts
}

/** trimmed leaves the end of the sentence out of the address, and a bracket that was opened before it. */
function trimmed(s: string): string {
  // How many more of each bracket close than open; once through, whatever is sent.
  const surplus: Record<string, number> = { ')': 0, ']': 0 }
  for (const c of s) {
    if (c === '(') surplus[')']!--
    else if (c === '[') surplus[']']!--
    else if (c in surplus) surplus[c]!++
  }
  let end = s.length
  for (; end > 0; end--) {
    const last = s[end - 1]!
    if ((surplus[last] ?? 0) > 0) surplus[last]!--
    else if (!'.,;:!?'.includes(last)) break
  }
  return s.slice(0, end)
}
