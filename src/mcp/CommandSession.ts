/**
 * One command that was started: what it has printed, how far that was shown, and how it ended.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Shape } from "../client/ExecClient.js"
import type * as ProcessEvent from "../client/ProcessEvent.js"
import type { RemoteProcess } from "../client/RemoteProcess.js"
import type { TerminalSize } from "../protocol/ProcessSchemas.js"
import type { ScreenText } from "../screen/ScreenMessages.js"
import * as Cut from "./Cut.js"
import { type OutputBudget, screenBytes } from "./OutputBudget.js"
import type { TextScreen } from "./TextScreens.js"
import { Transcript } from "./Transcript.js"

/** How long after the exit its output is awaited, if something else still holds it, in milliseconds. */
const holdsMs = 250

/** Output is complete for now when nothing has come for so long, in milliseconds. */
const quietMs = 300

/**
 * The state of a command.
 *
 * @category models
 */
export type State =
  | { readonly _tag: "Running" }
  /** It has exited. `holdsOutput`: something that it has started may still print. */
  | { readonly _tag: "Ended"; readonly exit: ProcessEvent.Exit; readonly holdsOutput: boolean }
  /** The connection has ended, or its events were lost. */
  | { readonly _tag: "Lost"; readonly reason: string }

/**
 * New output of a command.
 *
 * @category models
 */
export interface NewOutput {
  /** The beginning; all of it, if nothing was left out. */
  readonly head: string
  /** The end; empty if nothing was left out. */
  readonly tail: string
  readonly omitted: Cut.Omitted | undefined
  /** How much new output there was. */
  readonly lines: number
  readonly bytes: number
  /** Whether it is the screen of a full-screen program. */
  readonly isScreen: boolean
}

/**
 * A part of the kept output.
 *
 * @category models
 */
export interface Part {
  readonly text: string
  readonly from: number
  readonly to: number
  /** How much output there is in all, in bytes. */
  readonly length: number
  /** The offset that was asked for: what is between it and `from` is no longer kept. */
  readonly asked: number
}

/** A range of output, in bytes. */
interface News {
  readonly from: number
  readonly to: number
  readonly lines: number
}

const newline = 0x0a

/** The bytes of a text without the newline at its end. */
const textOf = (bytes: Buffer): string => bytes.toString().replace(/\n$/, "")

const nothing: NewOutput = { head: "", tail: "", omitted: undefined, lines: 0, bytes: 0, isScreen: false }

/**
 * One command that was started.
 *
 * @category models
 */
export class CommandSession {
  readonly startedAt = Date.now()
  private readonly began = performance.now()
  private endedAfter: number | undefined
  private state_: State = { _tag: "Running" }
  /** The process, until it is closed. */
  private process_: RemoteProcess | undefined
  private readonly transcript: Transcript
  private readonly waiters = new Set<() => void>()
  /** How far the output was shown, and the text of the unfinished line there. */
  private shown = 0
  private shownLine = ""
  private printed = false
  /** When output came last, in milliseconds. */
  private lastOutputAt = 0
  private readonly showing = Effect.unsafeMakeSemaphore(1).withPermits(1)

  constructor(
    readonly id: number,
    /** The id of the call that started it; null if its caller gave none. */
    readonly callId: string | null,
    readonly cmd: string,
    /** The id of the environment that it runs in. */
    readonly environment: string,
    process: RemoteProcess,
    private readonly screen: TextScreen | undefined,
    private readonly budget: OutputBudget,
    /** Called with its output as it comes; `lostBytes` before it never arrived. */
    private readonly onOutput: (chunk: Buffer, lostBytes: number) => void = () => {}
  ) {
    this.process_ = process
    this.transcript = new Transcript(budget)
  }

  get state(): State {
    return this.state_
  }

  /** How long it has run, in milliseconds. */
  get elapsedMs(): number {
    return this.endedAfter ?? performance.now() - this.began
  }

  /** The process; undefined once it and all of its output have ended. */
  get process(): RemoteProcess | undefined {
    return this.process_
  }

  get hasTerminal(): boolean {
    return this.screen !== undefined
  }

  /** Whether it has ended, with all of its output. */
  get isOver(): boolean {
    return this.process_ === undefined
  }

  /** The last line that it has printed. */
  get lastLine(): string {
    return this.transcript.lastLine
  }

  /** Follows the process to its end. While its screen is busy, `client` takes no more output. */
  follow(process: RemoteProcess, client: Pick<Shape, "hold">): Effect.Effect<void> {
    const relief = Effect.acquireUseRelease(
      Scope.make(),
      (scope) =>
        Effect.zipRight(
          Scope.extend(client.hold, scope),
          this.until(() => this.screen?.isBusy !== true)
        ),
      (scope) => Scope.close(scope, Exit.void)
    )
    return Stream.runForEach(process.events, (event) => {
      this.accept(event)
      return this.screen?.isBusy === true ? relief : Effect.void
    }).pipe(
      Effect.matchEffect({
        onFailure: (error) => Effect.sync(() => this.lose(error.message)),
        onSuccess: () => Effect.sync(() => this.close())
      })
    )
  }

  /** Waits until a condition holds; it is looked at after each event. */
  until(ready: () => boolean): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      const waiter = () => {
        if (ready() && this.waiters.delete(waiter)) resume(Effect.void)
      }
      this.waiters.add(waiter)
      waiter()
      return Effect.sync(() => this.waiters.delete(waiter))
    })
  }

  /** Waits for the end, and for output after the exit only as long as it may still come. */
  readonly ended: Effect.Effect<void> = Effect.suspend(() =>
    Effect.zipRight(
      this.until(() => this.state_._tag !== "Running"),
      Effect.asVoid(
        Effect.timeoutOption(
          this.until(() => this.isOver),
          holdsMs
        )
      )
    )
  )

  /** Waits until output has come after a time, and then nothing for a while; or for the end. */
  quiet(since: number): Effect.Effect<void> {
    const pause: Effect.Effect<void> = Effect.suspend(() => {
      const left = this.lastOutputAt + quietMs - performance.now()
      return left <= 0 ? Effect.void : Effect.zipRight(Effect.sleep(left), pause)
    })
    const come = this.until(() => this.lastOutputAt > since)
    return Effect.raceFirst(this.ended, Effect.zipRight(come, pause))
  }

  /** Looks at all conditions that are waited for. */
  readonly wake = (): void => {
    for (const waiter of Array.from(this.waiters)) waiter()
  }

  /** Finds the first of some texts in the output that was not shown yet. Remembers how far it has looked. */
  finder(texts: ReadonlyArray<string>): () => string | undefined {
    let from = this.shown
    const longest = Math.max(0, ...texts.map((text) => Buffer.byteLength(text)))
    return () => {
      const { transcript } = this
      const news = transcript.slice(from, transcript.length)
      const [found] = texts
        .map((text) => ({ text, at: news.indexOf(text) }))
        .filter(({ at }) => at !== -1)
        .sort((a, b) => a.at - b.at)
      if (found === undefined) from = Math.max(from, transcript.keptLength - longest)
      return found?.text
    }
  }

  /** The output since it was last shown, cut to so many bytes, and counts it as shown. */
  show(budget: number): Effect.Effect<NewOutput> {
    return this.showing(
      this.screen === undefined
        ? Effect.sync(() => this.cut(this.takeNews(), budget))
        : Effect.map(this.screen.read(true), (text) => this.showTerminal(text, budget))
    )
  }

  /** All of its output, cut to so many bytes. */
  whole(budget: number): NewOutput {
    const to = this.transcript.length
    return this.cut({ from: 0, to, lines: this.linesOf(0, to) }, budget)
  }

  /** The screen of its terminal; undefined if it has none, or no more. */
  readScreen(): Effect.Effect<ScreenText | undefined> {
    return this.screen?.read(false) ?? Effect.succeed(undefined)
  }

  /** Changes the size of its screen, as for output that follows. */
  resizeScreen(size: TerminalSize): void {
    this.screen?.resize(size)
  }

  /** Kept output from an offset on, at most so many bytes; what is no longer kept is passed over. */
  readAt(offset: number, budget: number): Part {
    const { transcript } = this
    const { length } = transcript
    const range = transcript.kept.find(({ to }) => offset < to)
    const from = Math.min(Math.max(offset, range?.from ?? length), length)
    const bytes = transcript.slice(from, Math.min(range?.to ?? length, from + budget + 1))
    const taken = bytes.subarray(0, Cut.headLength(bytes, budget))
    return { text: textOf(taken), from, to: from + taken.length, length, asked: offset }
  }

  /** Frees its output and its screen. */
  dispose(): void {
    this.transcript.free()
    if (this.screen === undefined) return
    this.screen.close()
    this.budget.give(screenBytes)
  }

  private accept(event: ProcessEvent.ProcessEvent): void {
    switch (event._tag) {
      case "Output":
        this.print(event.chunk)
        this.onOutput(event.chunk, 0)
        break
      case "Missed":
        this.print(Buffer.from(`\n[${event.bytes} bytes of output were lost on the way]\n`))
        this.onOutput(Buffer.alloc(0), event.bytes)
        break
      case "Exited":
        this.endedAfter = performance.now() - this.began
        this.state_ = { _tag: "Ended", exit: event, holdsOutput: true }
        break
      case "Closed":
      case "Restarted":
        return
    }
    this.wake()
  }

  private print(chunk: Buffer): void {
    this.transcript.push(chunk)
    this.screen?.write(chunk)
    this.printed = true
    this.lastOutputAt = performance.now()
  }

  private close(): void {
    this.process_ = undefined
    if (this.state_._tag === "Ended") this.state_ = { ...this.state_, holdsOutput: false }
    this.wake()
  }

  private lose(reason: string): void {
    this.process_ = undefined
    this.endedAfter ??= performance.now() - this.began
    if (this.state_._tag === "Running") this.state_ = { _tag: "Lost", reason }
    else this.close()
    this.wake()
  }

  private showTerminal(text: ScreenText | undefined, budget: number): NewOutput {
    if (!this.printed) return nothing
    const lines = text === undefined ? undefined : text.isFullScreen ? text.screen : text.since
    const shown = lines?.join("\n").trimEnd()
    const news = this.takeNews()
    // What the screen no longer has is in the transcript.
    if (shown === undefined || Buffer.byteLength(shown) > budget) return this.cut(news, budget)
    const { lines: count, from, to } = news
    return { ...nothing, head: shown, lines: count, bytes: to - from, isScreen: text?.isFullScreen === true }
  }

  /** The range of the output that was not shown, which counts as shown from now on. */
  private takeNews(): News {
    const { transcript } = this
    const from = this.skipShownLine()
    const to = transcript.length
    this.printed = false
    this.shown = transcript.keptLength
    this.shownLine = transcript.slice(this.shown, to).toString()
    return { from, to, lines: this.linesOf(from, to) }
  }

  /** The number of lines of a range. */
  private linesOf(from: number, to: number): number {
    const { transcript } = this
    const newlines = transcript.newlinesBefore(to) - transcript.newlinesBefore(from)
    const isWhole = from >= to || transcript.slice(to - 1, to)[0] === newline
    return newlines + (isWhole ? 0 : 1)
  }

  private cut({ from, to, lines }: News, budget: number): NewOutput {
    const { transcript } = this
    const bytes = to - from
    if (bytes <= 0) return nothing
    if (bytes <= budget) return { ...nothing, head: textOf(transcript.slice(from, to)), bytes, lines }
    const half = Math.floor(budget / 2)
    const first = transcript.slice(from, Math.min(to, from + half + 1))
    const head = first.subarray(0, Cut.headLength(first, half))
    const last = transcript.slice(to - half - 1, to)
    const tail = last.subarray(Cut.tailStart(last, half))
    const offset = from + head.length
    const end = to - tail.length
    const between = transcript.newlinesBefore(end) - transcript.newlinesBefore(offset)
    const omitted = { lines: Math.max(1, between), bytes: end - offset, offset }
    return { ...nothing, head: textOf(head), tail: textOf(tail), omitted, bytes, lines }
  }

  /** Where new output begins: after the unfinished line that was shown, unless it has changed. */
  private skipShownLine(): number {
    const { shown, shownLine, transcript } = this
    if (shownLine === "") return shown
    const length = Buffer.byteLength(shownLine)
    return transcript.slice(shown, shown + length).toString() === shownLine ? shown + length : shown
  }
}
