/** Chance that can be repeated: the same seed gives the same run, on every machine. */

/** Mixes numbers into one seed, so that every frame has its own and can be made without those before it. */
export const mix = (...numbers: ReadonlyArray<number>): number => {
  let hash = 0x9e3779b9
  for (const number of numbers) {
    hash = Math.imul(hash ^ (number >>> 0), 0x85ebca6b)
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
    hash ^= hash >>> 16
  }
  return hash >>> 0
}

/** A generator of 32 bits of state (mulberry32): plenty for one frame. */
export class Random {
  constructor(private state: number) {}

  private next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let t = this.state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return (t ^ (t >>> 14)) >>> 0
  }

  /** From 0 to below the limit. */
  below(limit: number): number {
    return this.next() % limit
  }

  /** True so often in a hundred. */
  percent(chance: number): boolean {
    return this.below(100) < chance
  }

  pick<A>(values: ReadonlyArray<A>): A {
    const value = values[this.below(values.length)]
    if (value === undefined) throw new Error("nothing to pick from")
    return value
  }

  /** One of several, each as often as its weight says. */
  weighted<A>(values: ReadonlyArray<readonly [weight: number, value: A]>): A {
    let left = this.below(values.reduce((sum, [weight]) => sum + weight, 0))
    for (const [weight, value] of values) {
      if (left < weight) return value
      left -= weight
    }
    throw new Error("nothing to pick from")
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)))
  }

  list<A>(maximum: number, make: () => A): Array<A> {
    return Array.from({ length: this.below(maximum + 1) }, make)
  }
}
