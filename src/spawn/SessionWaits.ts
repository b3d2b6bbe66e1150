/**
 * What a session waits for that may never come: starts, and answers of file systems. Each wait has a time limit, and all
 * of them end with the session. What is given up may go on holding a thread or a process, until its file system answers;
 * there is a limit of these for each session, and one for the server.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import { SpawnError } from "./Child.js"
import { answerMs } from "./SlowMounts.js"

/** The most waits of one session that were given up and still hold something. */
export const maxStuck = 8

/** The same for a whole server: beyond it, what leads to slow mounts is refused, and nothing else. */
export const maxStuckOfServer = 32

/** Counts what was given up and still holds something. */
interface Count {
  count: number
}

const advice = "unmount these (umount -l, or abort the FUSE connection) first"

/** The waits of one session. */
export class Waits {
  private readonly giveUps = new Set<() => void>()
  private stuck = 0
  private isOver = false

  /** `all` counts for the server. */
  constructor(private readonly all: Count = { count: 0 }) {}

  /** Why nothing more may wait, if that is so; `isSlow`: it leads to a slow mount for sure. */
  refusal(isSlow: boolean): SpawnError | undefined {
    const refuse = (count: number, whose: string) =>
      new SpawnError({ message: `${count} starts of ${whose} wait for file systems that do not answer: ${advice}` })
    if (this.isOver) return new SpawnError({ message: endedText })
    if (this.stuck >= maxStuck) return refuse(this.stuck, "this session")
    if (isSlow && this.all.count >= maxStuckOfServer) return refuse(this.all.count, "this server")
    return undefined
  }

  /**
   * Begins a wait. `giveUp` is called, once and later, if its time is over before the wait is, or if the session ends:
   * then with the message for that. Gives what ends the wait, also after it was given up.
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

  /** The session ends: gives up what waits, and lets nothing wait any more. */
  end(): void {
    this.isOver = true
    for (const giveUp of this.giveUps) giveUp()
  }
}

const endedText = "the session has ended before the program was started"

/** The waits of the session at hand. */
export class SessionWaits extends Context.Reference<SessionWaits>()("exec-server/SessionWaits", {
  defaultValue: (): Waits => new Waits()
}) {}
