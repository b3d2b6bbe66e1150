/**
 * A process that is watched: its viewers, the one of them that drives its size, and its screen.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { ManagedProcess } from "../process/ManagedProcess.js"
import type { ProcessObserver, Release } from "../process/ProcessObserver.js"
import type { ExitReport } from "../process/ProcessState.js"
import type { Mark } from "../process/ResizeMarks.js"
import { type LimitReached, NotATerminal, type ScreenFailed } from "../protocol/Failure.js"
import type { OutputStream, TerminalSize } from "../protocol/ProcessSchemas.js"
import type { Viewer } from "../protocol/WatchApi.js"
import { maxScrollback, type Screen, type Screens, type Snapshot } from "../screen/Screens.js"
import type { Attachment, Group } from "./Attachment.js"
import type { ConsoleEvents } from "./ConsoleEvents.js"

/** How long the screen is kept without a viewer, in milliseconds. */
const keepScreenMs = 60_000

/** Why there is no screen. */
export type NoScreen = LimitReached | NotATerminal | ScreenFailed

/** What a watched process needs of its server. */
export interface Host {
  readonly screens: Screens
  readonly console: ConsoleEvents
  readonly fork: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
  /** Nobody watches it any more. */
  readonly onForgotten: (watched: Watched) => void
}

/** A watched process. */
export class Watched implements ProcessObserver, Group {
  private readonly all = new Set<Attachment>()
  private driver: Attachment | undefined
  private screen: Screen | undefined
  private isScreenKept = false
  private closing: Fiber.RuntimeFiber<void> | undefined
  private readonly unobserve: () => void

  constructor(
    readonly process: ManagedProcess,
    /** The handle of its session. */
    private readonly session: string,
    private readonly host: Host
  ) {
    this.unobserve = process.observe(this)
  }

  get count(): number {
    return this.all.size
  }

  /** The title of the terminal when its screen was last brought up to date; null if there is none. */
  get title(): string | null {
    return this.screen?.title ?? null
  }

  viewers(): ReadonlyArray<Viewer> {
    return Array.from(this.all, (attachment) => ({
      attachmentId: attachment.id,
      name: attachment.name,
      role: attachment.role,
      size: attachment.size ?? null,
      drives: attachment === this.driver
    }))
  }

  /** Adds a viewer, and tells the others. */
  join(attachment: Attachment): void {
    this.tellOthers()
    this.all.add(attachment)
    this.tellConsole("viewer.joined", attachment)
    const { closing } = this
    this.closing = undefined
    if (closing !== undefined) this.host.fork(Fiber.interrupt(closing))
  }

  leave(attachment: Attachment): void {
    if (!this.all.delete(attachment)) return
    if (this.driver === attachment) this.driver = undefined
    this.tellOthers()
    this.tellConsole("viewer.left", attachment)
    if (this.all.size > 0) return
    if (this.screen === undefined) this.forget()
    else if (!this.isScreenKept) this.forgetLater()
  }

  /** Lets a viewer set the size from now on, instead of another one. */
  drive(attachment: Attachment, size: TerminalSize): void {
    const changes =
      this.driver !== attachment || attachment.size?.rows !== size.rows || attachment.size.cols !== size.cols
    this.driver = attachment
    attachment.size = size
    this.process.resize(size.rows, size.cols, attachment.id)
    if (changes) this.tellOthers()
  }

  /** Nobody sets the size, if this viewer did. */
  letGo(attachment: Attachment): void {
    if (this.driver !== attachment) return
    this.driver = undefined
    this.tellOthers()
  }

  /** Keeps the screen as long as the process, from now on. */
  keepScreen(screen: Screen): void {
    this.screen = screen
    this.isScreenKept = true
    screen.follow()
  }

  /** The screen as it is now. */
  show(scrollback: number): Effect.Effect<Snapshot, NoScreen> {
    return Effect.flatMap(this.opened(), (screen) => screen.show(scrollback))
  }

  showTo(attachment: Attachment): void {
    const shown = Effect.map(Effect.exit(this.show(maxScrollback)), (exit) =>
      attachment.onScreen(Exit.isSuccess(exit) ? exit.value : undefined)
    )
    this.host.fork(shown)
  }

  onOutput(_seq: number, _stream: OutputStream, bytes: Buffer): void {
    this.screen?.onOutput(bytes.length)
    for (const attachment of this.all) attachment.wake()
  }

  onResized({ by }: Pick<Mark, "by">): void {
    // The owner has taken the size back.
    if (by === null && this.driver !== undefined) this.letGo(this.driver)
    for (const attachment of this.all) attachment.wake()
  }

  onRestarted(seq: number, attempt: number, pid: number): void {
    for (const attachment of this.all) attachment.onEvent({ seq, type: "restarted", attempt, pid })
  }

  onExited(seq: number, exit: ExitReport, timedOut: boolean): void {
    const event = { seq, type: "exited" as const, ...exit, ...(timedOut ? { timedOut } : {}) }
    for (const attachment of this.all) attachment.onEvent(event)
  }

  onClosed(seq: number): void {
    for (const attachment of this.all) attachment.onEvent({ seq, type: "closed" })
  }

  onReleased(reason: Release): void {
    for (const attachment of Array.from(this.all)) attachment.end(reason)
    this.forget()
  }

  private opened(): Effect.Effect<Screen, LimitReached | NotATerminal> {
    return Effect.suspend((): Effect.Effect<Screen, LimitReached | NotATerminal> => {
      const { screen, process } = this
      if (screen !== undefined) return Effect.succeed(screen)
      if (process.marks === undefined) return new NotATerminal({ processId: process.processId })
      return Effect.map(this.host.screens.reserve, (place) => {
        const opened = place.open(process)
        this.screen = opened
        return opened
      })
    })
  }

  private tellOthers(): void {
    for (const attachment of this.all) attachment.onViewers()
  }

  private tellConsole(type: "viewer.joined" | "viewer.left", { id, name, role }: Attachment): void {
    const { processId } = this.process
    this.host.console.tell(() => ({ type, session: this.session, processId, attachmentId: id, name, role }))
  }

  /** Somebody may come back soon. */
  private forgetLater(): void {
    this.closing = this.host.fork(
      Effect.zipRight(
        Effect.sleep(keepScreenMs),
        Effect.sync(() => this.forget())
      )
    )
  }

  private forget(): void {
    if (this.all.size > 0) return
    this.screen?.close()
    this.screen = undefined
    this.unobserve()
    this.host.onForgotten(this)
  }
}
