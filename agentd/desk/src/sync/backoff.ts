/**
 * Backoff spreads the attempts of many desks that lost the same server: each
 * waits a random time up to a bound that doubles from one second to thirty
 * (full jitter).
 */
export class Backoff {
  private attempts = 0
  private readonly random: () => number

  constructor(random: () => number = Math.random) {
    this.random = random
  }

  /** next is how many milliseconds to wait before the next attempt. */
  next(): number {
    const bound = Math.min(30_000, 1_000 * 2 ** this.attempts)
    this.attempts = Math.min(this.attempts + 1, 16)
    return Math.round(this.random() * bound)
  }

  /** reset starts over, once something has worked. */
  reset(): void {
    this.attempts = 0
  }
}
