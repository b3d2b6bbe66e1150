/**
 * What the terminals of commands show, as text. The thread of the screens emulates them; it is started with the first
 * terminal.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import type * as Scope from "effect/Scope"
import type { TerminalSize } from "../protocol/ProcessSchemas.js"
import { type Host, ScreenHost, type StartHost } from "../screen/ScreenHost.js"
import type { Item, Reply, ScreenText } from "../screen/ScreenMessages.js"

/** How many lines above a screen are kept. */
const scrollback = 1000

/** Beyond this much output that the thread has not printed yet, in bytes, a command must wait. */
const maxPendingBytes = 1048576

/** How long the thread may take to answer, in milliseconds. */
const readMs = 10_000

/** The screen of one command. */
export class TextScreen {
  private readonly fed: Array<number> = []
  private pendingBytes = 0
  private readonly asks = new Map<number, Deferred.Deferred<ScreenText | undefined>>()
  private nextAsk = 1
  private isLost = false

  constructor(
    private readonly id: number,
    private readonly post: Host["post"],
    private readonly onRelief: () => void,
    size: TerminalSize
  ) {
    post({ type: "open", screen: id, size, scrollback })
  }

  /** Prints output. */
  write(bytes: Uint8Array): void {
    this.feed(bytes, bytes.length)
  }

  /** Changes the size, for output that follows. */
  resize(size: TerminalSize): void {
    this.feed(size, 0)
  }

  /** Whether there is more output to print than should wait; `onRelief` is called when it is less again. */
  get isBusy(): boolean {
    return this.pendingBytes > maxPendingBytes
  }

  /** What it shows; undefined if the thread has failed. With `mark`, `since` begins here the next time. */
  read(mark: boolean): Effect.Effect<ScreenText | undefined> {
    return Effect.suspend(() => {
      if (this.isLost) return Effect.succeed(undefined)
      const answer = Deferred.unsafeMake<ScreenText | undefined>(FiberId.none)
      const ask = this.nextAsk++
      this.asks.set(ask, answer)
      this.post({ type: "read", screen: this.id, ask, mark })
      return Effect.timeoutTo(Deferred.await(answer), {
        duration: readMs,
        onSuccess: (text) => text,
        onTimeout: () => undefined
      })
    })
  }

  /** Frees it. */
  close(): void {
    this.lost()
    this.post({ type: "close", screen: this.id })
  }

  /** The thread has answered. */
  onReply(reply: Reply): void {
    if (reply.type === "fed") {
      const wasBusy = this.isBusy
      this.pendingBytes -= this.fed.shift() ?? 0
      if (wasBusy && !this.isBusy) this.onRelief()
    } else if (reply.type === "text") this.answer(reply.ask, reply.text)
    else if (reply.type === "failed") this.lost()
  }

  /** There is no screen any more. */
  lost(): void {
    this.isLost = true
    this.pendingBytes = 0
    for (const ask of Array.from(this.asks.keys())) this.answer(ask, undefined)
    this.onRelief()
  }

  private feed(item: Item, bytes: number): void {
    if (this.isLost) return
    this.fed.push(bytes)
    this.pendingBytes += bytes
    this.post({ type: "feed", screen: this.id, items: [item] })
  }

  private answer(ask: number, text: ScreenText | undefined): void {
    const waiting = this.asks.get(ask)
    this.asks.delete(ask)
    if (waiting !== undefined) Deferred.unsafeDone(waiting, Exit.succeed(text))
  }
}

/** The screens of all commands. */
export class TextScreens {
  private readonly screens = new Map<number, TextScreen>()
  private host: Host | undefined
  private lastId = 0

  constructor(private readonly startHost: StartHost) {}

  /** Makes the screen of a command. `onRelief` is called when it is no longer busy. */
  open(size: TerminalSize, onRelief: () => void): TextScreen {
    const id = ++this.lastId
    const host = this.running()
    const screen = new TextScreen(
      id,
      (request) => {
        if (request.type === "close") this.screens.delete(id)
        host.post(request)
      },
      onRelief,
      size
    )
    this.screens.set(id, screen)
    return screen
  }

  /** Ends the thread. */
  end(): void {
    this.host?.end()
    this.lost()
  }

  private running(): Host {
    this.host ??= this.startHost({
      onReply: (reply) => this.screens.get(reply.screen)?.onReply(reply),
      onEnd: () => this.lost()
    })
    return this.host
  }

  private lost(): void {
    this.host = undefined
    for (const screen of this.screens.values()) screen.lost()
    this.screens.clear()
  }
}

/** Makes the screens; the scope ends them. */
export const make: Effect.Effect<TextScreens, never, Scope.Scope> = Effect.flatMap(ScreenHost, (start) =>
  Effect.acquireRelease(
    Effect.sync(() => new TextScreens(start)),
    (screens) => Effect.sync(() => screens.end())
  )
)
