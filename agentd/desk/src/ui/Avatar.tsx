/** Hues that stay apart from each other and from the red and green of states. */
const hues = [15, 55, 95, 150, 195, 235, 275, 310, 340]

/** hueOf gives the same person the same colour everywhere. */
export function hueOf(id: string): number {
  let h = 2166136261
  for (const c of id) h = Math.imul(h ^ c.codePointAt(0)!, 16777619)
  return hues[(h >>> 0) % hues.length]!
}

/** initials are two letters of a western name and one character of a Chinese one. */
export function initials(name: string): string {
  const words = name.trim().split(/[\s._-]+/u).filter((w) => /[\p{L}\p{N}]/u.test(w))
  const first = [...(words[0] ?? '?')]
  if (/\p{Script=Han}/u.test(first[0]!)) return first[0]!
  const last = words.length > 1 ? [...words[words.length - 1]!][0]! : (first[1] ?? '')
  return (first[0]! + last).toLocaleUpperCase()
}

export function Avatar({ id, name, size = 36 }: { id: string; name: string; size?: number }) {
  return (
    <span
      className="avatar"
      aria-hidden="true"
      data-initials={initials(name || id)}
      style={{ '--hue': hueOf(id), '--size': `${size}px` } as React.CSSProperties}
    />
  )
}
