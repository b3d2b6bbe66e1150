/**
 * The waits of a session for something that may never happen: a start, or the answer of a file system. Each wait has a
 * time limit and ends with the session. A wait that was given up may still hold a thread or a process until its file
 * system answers. Their number is limited for each session and for the server.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import { SpawnError } from "./Child.js"
import { answerMs } from "./SlowMounts.js"

/** The maximum number of waits of one session that were given up and still hold something. */
export const maxStuck = 8

/** The same for a whole server. Beyond it, only waits that lead to slow mounts are refused. */
export const maxStuckOfServer = 32

/** Counts the waits that were given up and still hold something. */
interface Count {
  count: number
}

const advice = "unmount these (umount -l, or abort the FUSE connection) first"

/** The waits of one session. */
export class Waits {
  private readonly giveUps = new Set<() => void>()
  private stuck = 0
  private isOver = false

  /** `all` counts the waits of the server. */
  constructor(private readonly all: Count = { count: 0 }) {}

  /** Why a further wait is refused; undefined if it is not. `isSlow`: whether it certainly leads to a slow mount. */
  refusal(isSlow: boolean): SpawnError | undefined {
    const refuse = (count: number, whose: string) =>
      new SpawnError({ message: `${count} starts of ${whose} wait for file systems that do not answer: ${advice}` })
    if (this.isOver) return new SpawnError({ message: endedText })
    if (this.stuck >= maxStuck) return refuse(this.stuck, "this session")
    if (isSlow && this.all.count >= maxStuckOfServer) return refuse(this.all.count, "this server")
    return undefined
  }

  /**
   * Begins a wait. `giveUp` is called later and once: without an argument if the time limit passes first, with a
   * message if the session ended. Returns a function that ends the wait; call it even after `giveUp`.
   */
  begin(giveUp: (message?: string) => void): () => void {
    let state: "waiting" | "stuck" | "over" = "waiting"
    const count = (change: number) => {
      this.stuck += change
      this.all.count += change
    }
    const leave = () => {
      clearTimeout(timer)
      this.giveUps.delete(end)
    }
    const stick = (message?: string) => {
      if (state !== "waiting") return
      state = "stuck"
      leave()
      count(1)
      giveUp(message)
    }
    const end = () => stick(endedText)
    const timer = setTimeout(stick, answerMs)
    this.giveUps.add(end)
    if (this.isOver) queueMicrotask(end)
    return () => {
      if (state === "waiting") leave()
      if (state === "stuck") count(-1)
      state = "over"
    }
  }

  /** Ends with the session: gives up all waits, and refuses further ones. */
  end(): void {
    this.isOver = true
    for (const giveUp of this.giveUps) giveUp()
  }
}

const endedText = "the session has ended before the program was started"

/** The waits of the current session. */
export class SessionWaits extends Context.Reference<SessionWaits>()("exec-server/SessionWaits", {
  defaultValue: (): Waits => new Waits()
}) {}
