/**
 * The time of a player: it stands, or goes at some speed, and ends with the recording.
 *
 * @since 0.1.0
 */

/** A clock; all times are in milliseconds. */
export class PlayerClock {
  private fromMs = 0
  private sinceMs = 0
  private going = false
  private speed = 1

  constructor(private readonly durationMs: number) {}

  /** Whether it goes. */
  isPlaying(nowMs: number): boolean {
    return this.going && this.position(nowMs) < this.durationMs
  }

  /** What it shows. */
  position(nowMs: number): number {
    const passed = this.going ? (nowMs - this.sinceMs) * this.speed : 0
    return Math.min(this.durationMs, this.fromMs + passed)
  }

  /** Goes on; at the end, from the beginning. */
  play(nowMs: number): void {
    const position = this.position(nowMs)
    this.set(position >= this.durationMs ? 0 : position, nowMs)
    this.going = true
  }

  /** Stands. */
  pause(nowMs: number): void {
    this.set(this.position(nowMs), nowMs)
    this.going = false
  }

  /** Goes at another speed from now on. */
  setSpeed(speed: number, nowMs: number): void {
    this.set(this.position(nowMs), nowMs)
    this.speed = speed
  }

  /** Shows another time. */
  seek(positionMs: number, nowMs: number): void {
    this.set(Math.min(this.durationMs, Math.max(0, positionMs)), nowMs)
  }

  private set(positionMs: number, nowMs: number): void {
    this.fromMs = positionMs
    this.sinceMs = nowMs
  }
}
