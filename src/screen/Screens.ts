/**
 * The screens of terminals, for those who join later or have skipped output. One thread emulates the terminals of a
 * server; it is started with the first screen, and ends with the last one.
 *
 * A screen takes its output from what the process retains, in batches, and no faster than a person reads. It is left
 * behind by a flood, and made anew from the retained output when somebody asks for it.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import type * as Scope from "effect/Scope"
import type { ManagedProcess } from "../process/ManagedProcess.js"
import { LimitReached, ScreenFailed } from "../protocol/Failure.js"
import type { TerminalSize } from "../protocol/ProcessSchemas.js"
import { type Host, ScreenHost, type StartHost } from "./ScreenHost.js"
import type { Item, Reply } from "./ScreenMessages.js"

/** The most lines above a screen. */
export const maxScrollback = 1000

/** Output is passed to the thread in pieces of at least this size, in bytes, unless somebody asks for the screen. */
const batchBytes = 16384

/** The least time between two of these, in milliseconds: 2.5 MB/s at most. */
const batchIntervalMs = 100

/** Beyond this much output that the thread has not taken yet, in bytes, it is left behind. */
const maxPendingBytes = 262144

/** The largest terminal that is emulated, in cells: its memory is that of the server. */
const maxCells = 100_000

/** In place of a size that is too large. */
const defaultSize: TerminalSize = { rows: 24, cols: 80 }

const isTooLarge = ({ rows, cols }: TerminalSize): boolean => rows * cols > maxCells

/** How long a screen may take, in milliseconds. */
const showMs = 30_000

/**
 * How long one message may keep the thread busy while somebody asks for a screen, in milliseconds. The thread is then
 * ended, and the terminal whose output it was printing has no screen any more; those of the others are made anew.
 */
const busyMs = 10_000

/** What a terminal showed when the output up to `seq` had been printed. */
export interface Snapshot {
  readonly seq: number
  readonly size: TerminalSize
  /** How many resizes it knows: one after it may have the same `seq`. */
  readonly resizes: number
  /** The bytes that make an empty terminal of this size show the same. */
  readonly screen: Buffer
  readonly title: string | null
  /** Whether the beginning of the output is not in it, because it was no longer retained. */
  readonly truncated: boolean
}

interface Asked {
  readonly scrollback: number
  readonly snapshot: Omit<Snapshot, "screen" | "title">
  readonly answer: Deferred.Deferred<Snapshot, ScreenFailed>
}

/** The running thread. */
interface Thread {
  readonly post: Host["post"]
  readonly end: (reason: string) => void
  /** The screens of the messages that it has not answered, in their order. */
  readonly unanswered: Array<number>
  /** How many it has answered. */
  answered: number
}

/** The screen of one process. */
export class Screen {
  /** The last event whose output the thread has been given; undefined if it must begin anew. */
  private fed: number | undefined
  /** The title that the program had set when the thread last took output. */
  title: string | null = null
  private nextMark = 0
  private truncated = false
  private waitingBytes = 0
  private readonly pending: Array<number> = []
  private pendingBytes = 0
  private lastBatchAt = Number.NEGATIVE_INFINITY
  private readonly asks = new Map<number, Asked>()
  private nextAsk = 1
  /** Why there is no screen any more. */
  private givenUp: ScreenFailed | undefined

  constructor(
    readonly id: number,
    private readonly process: ManagedProcess,
    /** Starts the thread, if it does not run. */
    private readonly thread: () => Thread,
    /** Watches over the thread as long as somebody waits for it. */
    private readonly watchOver: Effect.Effect<never>,
    private readonly onClose: (screen: Screen) => void
  ) {}

  /** Follows the output from now on, before anybody asks. */
  follow(): void {
    if (this.fed === undefined) this.begin()
  }

  /** There is more output, of so many bytes. */
  onOutput(bytes: number): void {
    this.waitingBytes += bytes
    if (this.fed === undefined || this.waitingBytes < batchBytes || this.pendingBytes >= maxPendingBytes) return
    const now = performance.now()
    if (now - this.lastBatchAt < batchIntervalMs) return
    this.lastBatchAt = now
    if (this.isBehind()) this.fed = undefined
    else this.feed(this.fed, maxPendingBytes)
  }

  /** The screen as it is now. Callers at the same time share one. */
  show(scrollback: number): Effect.Effect<Snapshot, ScreenFailed> {
    return Effect.suspend((): Effect.Effect<Snapshot, ScreenFailed> => {
      if (this.givenUp !== undefined) return this.givenUp
      const { currentSize } = this.process
      if (currentSize !== undefined && isTooLarge(currentSize)) {
        const { rows, cols } = currentSize
        return new ScreenFailed({
          message: `a terminal of ${rows} rows and ${cols} columns has no screen: it may have ${maxCells} cells`
        })
      }
      for (const asked of this.asks.values()) {
        if (asked.scrollback === scrollback) return Deferred.await(asked.answer)
      }
      return Deferred.await(this.ask(scrollback).answer)
    }).pipe(
      Effect.raceFirst(this.watchOver),
      Effect.timeoutFail({
        duration: showMs,
        onTimeout: () => new ScreenFailed({ message: "the screen was not made in time; try again" })
      })
    )
  }

  /** Ends it. */
  close(): void {
    this.onClose(this)
    this.lost("the screen is no longer needed")
  }

  /** The thread has answered. */
  onReply(reply: Reply): void {
    switch (reply.type) {
      case "fed":
        this.pendingBytes -= this.pending.shift() ?? 0
        this.title = reply.title
        break
      case "shown": {
        const asked = this.asks.get(reply.ask)
        this.asks.delete(reply.ask)
        const { bytes, title } = reply
        const screen = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
        if (asked !== undefined) Deferred.unsafeDone(asked.answer, Exit.succeed({ ...asked.snapshot, screen, title }))
        break
      }
      case "failed":
        this.lost(reply.reason)
    }
  }

  /** What the thread has is lost, and asked for again. */
  askAgain(): void {
    const asks = Array.from(this.asks.values())
    this.asks.clear()
    this.forget()
    for (const { scrollback, answer } of asks) this.ask(scrollback, answer)
  }

  /** The thread was busy with its output for too long. */
  giveUp(): void {
    this.givenUp = new ScreenFailed({
      message: `the screen is given up: printing the output kept the server busy for more than ${busyMs} ms`
    })
    this.lost("it kept the server busy for too long")
  }

  /** What the thread has is lost. */
  lost(reason: string): void {
    this.forget()
    const failed = new ScreenFailed({ message: `the screen could not be made: ${reason}` })
    for (const { answer } of this.asks.values()) Deferred.unsafeDone(answer, Exit.fail(failed))
    this.asks.clear()
  }

  private forget(): void {
    this.fed = undefined
    this.pending.length = 0
    this.pendingBytes = 0
  }

  private ask(scrollback: number, answer: Asked["answer"] = Deferred.unsafeMake(FiberId.none)): Asked {
    const { post } = this.thread()
    if (this.fed === undefined || this.isBehind()) this.begin()
    this.feed(this.fed ?? 0, Number.POSITIVE_INFINITY)
    const seq = this.process.lastSeq
    const size = this.process.currentSize ?? defaultSize
    const resizes = this.process.marks?.count ?? 0
    const asked: Asked = {
      scrollback,
      snapshot: { seq, size, resizes, truncated: this.truncated },
      answer
    }
    const ask = this.nextAsk++
    this.asks.set(ask, asked)
    post({ type: "show", screen: this.id, ask, scrollback: Math.min(scrollback, maxScrollback) })
    return asked
  }

  /** Whether output that the thread has not been given is no longer retained. */
  private isBehind(): boolean {
    const gap = this.process.retained.gap()
    return gap !== undefined && (this.fed ?? 0) < gap.throughSeq
  }

  /** Begins with the oldest retained output that has no gap after it. */
  private begin(): void {
    const { retained, marks } = this.process
    const gap = retained.gap()
    this.fed = gap?.throughSeq ?? 0
    this.truncated = gap !== undefined
    this.nextMark = marks?.countThrough(this.fed) ?? 0
    const first = marks?.sizeAfter(this.fed) ?? defaultSize
    const size = isTooLarge(first) ? defaultSize : first
    this.thread().post({ type: "open", screen: this.id, size, scrollback: maxScrollback })
  }

  /** Gives the thread the output after an event, and the changes of the size between. */
  private feed(after: number, maxBytes: number): void {
    const { retained, lastSeq } = this.process
    const { chunks, cut } = retained.select(after, maxBytes)
    const items: Array<Item> = []
    let bytes = 0
    for (const { seq, chunk } of chunks) {
      this.resizesBefore(seq, items)
      items.push(chunk)
      bytes += chunk.length
    }
    const through = cut ? (chunks.at(-1)?.seq ?? after) : lastSeq
    this.resizesBefore(through + 1, items)
    this.fed = through
    this.waitingBytes = cut ? this.waitingBytes - bytes : 0
    if (items.length === 0) return
    this.pending.push(bytes)
    this.pendingBytes += bytes
    this.thread().post({ type: "feed", screen: this.id, items })
  }

  private resizesBefore(seq: number, items: Array<Item>): void {
    const { marks } = this.process
    if (marks === undefined) return
    this.nextMark = Math.max(this.nextMark, marks.oldest)
    for (let mark = marks.at(this.nextMark); mark !== undefined && mark.seq < seq; mark = marks.at(this.nextMark)) {
      if (!isTooLarge(mark)) items.push({ rows: mark.rows, cols: mark.cols })
      this.nextMark++
    }
  }
}

/** A place among the screens of a server: one of these is called, once. */
export interface Place {
  /** Makes the screen of a process with a terminal. */
  readonly open: (process: ManagedProcess) => Screen
  readonly cancel: () => void
}

/** The screens of a server. */
export interface Screens {
  /** Takes a place. */
  readonly reserve: Effect.Effect<Place, LimitReached>
}

/** Collects the screens of one server. */
class Collection implements Screens {
  private readonly screens = new Map<number, Screen>()
  private running: Thread | undefined
  private lastId = 0
  private reserved = 0
  private hasEnded = false

  constructor(
    private readonly startHost: StartHost,
    private readonly maxScreens: number
  ) {}

  readonly reserve: Effect.Effect<Place, LimitReached> = Effect.suspend(() => {
    if (this.screens.size + this.reserved >= this.maxScreens) {
      const advice = "do without a screen, or end other attachments"
      return new LimitReached({ limit: "maxScreens", value: this.maxScreens, advice })
    }
    this.reserved++
    const cancel = () => {
      this.reserved--
    }
    return Effect.succeed({
      open: (process: ManagedProcess) => {
        cancel()
        return this.open(process)
      },
      cancel
    })
  })

  private open(process: ManagedProcess): Screen {
    const screen = new Screen(
      ++this.lastId,
      process,
      () => this.thread(),
      this.watchOver,
      ({ id }) => this.close(id)
    )
    this.screens.set(screen.id, screen)
    return screen
  }

  /** The server ends. */
  end(): void {
    this.hasEnded = true
    this.running?.end("the server ends")
  }

  /** In two steps: after the machine was suspended, the thread has had no time yet. */
  private readonly watchOver: Effect.Effect<never> = Effect.suspend(() => {
    const { running, running: { answered } = { answered: 0 } } = this
    const isBusy = () => running !== undefined && running === this.running && running.answered === answered
    return Effect.sleep(busyMs / 2).pipe(
      Effect.zipRight(Effect.suspend(() => (isBusy() ? Effect.sleep(busyMs / 2) : Effect.void))),
      Effect.zipRight(
        Effect.sync(() => {
          if (running === undefined || !isBusy()) return
          this.screens.get(running.unanswered[0] ?? 0)?.giveUp()
          running.end("its thread was busy for too long")
        })
      )
    )
  }).pipe(Effect.forever)

  private thread(): Thread {
    if (this.running !== undefined) return this.running
    const host = this.startHost({
      onReply: (reply) => {
        thread.answered++
        thread.unanswered.shift()
        this.screens.get(reply.screen)?.onReply(reply)
      },
      onEnd: (reason) => this.lost(thread, `its thread has ended: ${reason}`)
    })
    const unanswered: Array<number> = []
    const thread: Thread = {
      unanswered,
      answered: 0,
      post: (request) => {
        if (request.type === "feed" || request.type === "show") unanswered.push(request.screen)
        host.post(request)
      },
      end: (reason) => {
        host.end()
        this.lost(thread, reason)
      }
    }
    this.running = thread
    return thread
  }

  /** The screen that the thread was making is lost, and the others are made by the next thread. */
  private lost(thread: Thread, reason: string): void {
    if (this.running !== thread) return
    this.running = undefined
    const [current] = thread.unanswered
    for (const screen of this.screens.values()) {
      if (screen.id === current || this.hasEnded) screen.lost(reason)
      else screen.askAgain()
    }
  }

  private close(screen: number): void {
    if (!this.screens.delete(screen)) return
    if (this.screens.size === 0) this.running?.end("the last screen was closed")
    else this.running?.post({ type: "close", screen })
  }
}

/** Makes the screens of a server; the scope ends them. */
export const make = (maxScreens: number): Effect.Effect<Screens, never, Scope.Scope> =>
  Effect.flatMap(ScreenHost, (start) =>
    Effect.acquireRelease(
      Effect.sync(() => new Collection(start, maxScreens)),
      (collection) => Effect.sync(() => collection.end())
    )
  )
