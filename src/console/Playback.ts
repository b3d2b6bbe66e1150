/**
 * Plays a recording. On the way it keeps the screen every few seconds: to go back, it begins at the last one before.
 *
 * @since 0.1.0
 */
import { type Cast, readSize } from "./Cast.js"
import { PlayerClock } from "./PlayerClock.js"
import type { Size } from "./Wire.js"

/** What shows it. */
export interface Stage {
  readonly reset: (size: Size, screen: string) => void
  readonly output: (text: string) => void
  readonly resize: (size: Size) => void
  /** Calls back when everything is shown that was given before, and nothing that is given after. */
  readonly mark: (listener: () => void) => void
  /** What `reset` shows again. */
  readonly snapshot: () => string
}

interface Checkpoint {
  /** The next event. */
  readonly index: number
  readonly atMs: number
  readonly size: Size
  /** Undefined until all before it is shown. */
  readonly screen: string | undefined
}

/** How far screens are apart, in milliseconds. */
const checkpointMs = 5000

/** How much is given to the stage before it has shown the rest, in characters. */
const maxPending = 262_144

/** A recording that is played. */
export class Playback {
  /** Its clock. */
  readonly clock: PlayerClock
  private index = 0
  private size: Size
  private readonly checkpoints: Array<Checkpoint>
  private isRunning = false

  constructor(
    private readonly cast: Cast,
    private readonly stage: Stage,
    private readonly now: () => number
  ) {
    this.clock = new PlayerClock(cast.durationMs)
    this.size = cast.size
    this.checkpoints = [{ index: 0, atMs: 0, size: cast.size, screen: "" }]
    stage.reset(cast.size, "")
  }

  /** Shows what the clock says by now; at most as much as the stage can take. */
  async run(): Promise<void> {
    if (this.isRunning) return
    this.isRunning = true
    let pending = 0
    for (;;) {
      const event = this.cast.events[this.index]
      if (event === undefined || event.atMs > this.clock.position(this.now())) break
      this.index++
      if (event.code === "o") {
        this.stage.output(event.data)
        pending += event.data.length
      } else if (event.code === "r") {
        this.size = readSize(event.data) ?? this.size
        this.stage.resize(this.size)
      }
      this.keep(event.atMs)
      if (pending < maxPending) continue
      pending = 0
      await new Promise<void>((resolve) => this.stage.mark(resolve))
    }
    this.isRunning = false
  }

  /** Goes to another time, and shows it. */
  seek(positionMs: number): Promise<void> {
    this.clock.seek(positionMs, this.now())
    const last = this.cast.events[this.index - 1]
    if (last !== undefined && last.atMs > positionMs) {
      const found = this.checkpoints.findLast(({ atMs, screen }) => atMs <= positionMs && screen !== undefined)
      if (found?.screen !== undefined) {
        this.index = found.index
        this.size = found.size
        this.stage.reset(found.size, found.screen)
      }
    }
    return this.run()
  }

  /** Keeps the screen, if the last one that is kept is long before, and there is more to come. */
  private keep(atMs: number): void {
    const { index, size } = this
    const last = this.checkpoints.at(-1)
    const next = this.cast.events[index]
    // Between two events of one time, the screen would be of neither time.
    if (last === undefined || next === undefined || next.atMs === atMs || atMs - last.atMs < checkpointMs) return
    const checkpoint = { index, atMs, size, screen: undefined }
    this.checkpoints.push(checkpoint)
    this.stage.mark(() => {
      const at = this.checkpoints.indexOf(checkpoint)
      if (at >= 0) this.checkpoints[at] = { ...checkpoint, screen: this.stage.snapshot() }
    })
  }
}
