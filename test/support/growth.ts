/** Measures how the time of a function grows with the size of its input. */

const bestOf = 5

/** The processor time of a function, in milliseconds: independent of other load on the machine. */
export const cpuMs = (run: () => void): number => {
  const before = process.cpuUsage()
  run()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}

/** The least time of several runs: garbage collection disturbs the others. */
const least = (run: () => void): number => {
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < bestOf; i++) {
    best = Math.min(best, cpuMs(run))
  }
  return best
}

/**
 * The factor of the time for eight times the size: about 8 for linear growth, 64 for quadratic. Times below a
 * millisecond count as one.
 */
export const growth = <A>(make: (size: number) => A, use: (value: A) => void, size: number): number => {
  const time = (size: number) => {
    const value = make(size)
    return Math.max(
      1,
      least(() => use(value))
    )
  }
  return time(8 * size) / time(size)
}

/** The largest factor of linear growth on a busy machine. */
export const linear = 24
