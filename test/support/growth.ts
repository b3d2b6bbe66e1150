/** How the time of something grows with the size of what it is given. */

const bestOf = 5

/** The processor's time that something takes, in milliseconds: how busy the machine is with others does not show. */
export const cpuMs = (run: () => void): number => {
  const before = process.cpuUsage()
  run()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}

/** The least time of several: garbage is collected in the others. */
const least = (run: () => void): number => {
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < bestOf; i++) {
    best = Math.min(best, cpuMs(run))
  }
  return best
}

/**
 * How many times longer eight times as much takes: about 8 if time grows with the size, 64 if with its square. Small
 * times count as a millisecond, which is nothing to measure by.
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

/** The most that is linear on a busy machine. */
export const linear = 24
