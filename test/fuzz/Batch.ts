/** Frames that belong together, and what can go wrong with one of them. */

/** How long a server may take for what it has to do at once, in milliseconds: busy machines are no fault of it. */
export const patienceMs = 30_000

/** Frames from one number to before another. */
export interface Batch {
  readonly seed: number
  readonly from: number
  readonly to: number
}

/** What went wrong, and at which frame. */
export class Fault extends Error {
  constructor(
    readonly frame: number,
    message: string
  ) {
    super(message)
  }
}
