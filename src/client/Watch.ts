/**
 * Watching a process, also one of another session: its screen, its output and its events as a stream.
 *
 * Acknowledgements are sent as the stream is consumed, so a slow consumer holds nothing up: it skips output and gets the
 * screen. After a lost connection the stream goes on where it was.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { TerminalSize } from "../protocol/ExecApi.js"
import { ProcessId } from "../protocol/Ids.js"
import type { NotificationMethod, NotificationParams, Params, Result } from "./Api.js"
import type { ClientError } from "./ClientError.js"
import type { ClientSession } from "./ClientSession.js"
import { WatchEvent } from "./WatchEvent.js"

/**
 * What to watch, and how.
 *
 * @category models
 */
export interface Options {
  /** The handle of the session; by default the client's own. */
  readonly session?: string | undefined
  readonly processId: string
  /**
   * Where to begin: with the screen (terminals only), with the oldest output that is retained, after an event, or with
   * the next output. By default with the oldest output.
   */
  readonly from?: "screen" | "start" | "live" | { readonly afterSeq: number } | undefined
  /** How many lines above the screen to ask for; 0. */
  readonly scrollback?: number | undefined
  /** How many bytes the server may send ahead of the consumer, from 16 KiB to 4 MiB; 128 KiB. */
  readonly window?: number | undefined
  /** What others are told; the client's name by default. */
  readonly name?: string | undefined
  /** The size of the client's own window. */
  readonly size?: TerminalSize | undefined
}

/**
 * An attachment to a process.
 *
 * @category models
 */
export interface Watch {
  /** The process at the moment of the attachment. `size` is null if it has no terminal. */
  readonly attached: Extract<WatchEvent, { readonly _tag: "Attached" }>
  /** All events from the attachment on. For one consumer. */
  readonly events: Stream.Stream<WatchEvent, ClientError>
  /** Sets the size of a terminal with `sizePolicy: "driver"` from now on. */
  readonly drive: (size: TerminalSize) => Effect.Effect<TerminalSize, ClientError>
  /** Stops setting it. */
  readonly release: Effect.Effect<void, ClientError>
}

const defaultWindow = 131072

/** The most events that the consumer is given at a time. */
const batch = 16

/** An acknowledgement is sent for this part of the window. */
const acksPerWindow = 4

const fromOf = ({ from = "start", scrollback }: Options): Params<"process/attach">["from"] => {
  if (from === "screen") return { type: "screen", scrollback }
  if (from === "live") return { type: "live" }
  return { type: "seq", afterSeq: from === "start" ? 0 : from.afterSeq }
}

const eventOf = (event: NotificationParams<"attachment/event">): WatchEvent => {
  switch (event.type) {
    case "exited":
      return WatchEvent.Exited(event)
    case "restarted":
      return WatchEvent.Restarted(event)
    case "closed":
      return WatchEvent.Closed(event)
  }
}

const screenOf = ({ seq, size, screen, skippedBytes }: NotificationParams<"attachment/screen">): WatchEvent =>
  size === null || screen === null
    ? WatchEvent.Gap({ seq, bytes: skippedBytes })
    : WatchEvent.Screen({ seq, size, screen, skippedBytes })

/** The events that an answer stands for. */
const begun = (answer: Result<"process/attach">): ReadonlyArray<WatchEvent> => {
  const { seq, size, screen } = answer
  return [
    WatchEvent.Attached(answer),
    ...(screen === null || size === null ? [] : [WatchEvent.Screen({ seq, size, screen, skippedBytes: 0 })]),
    WatchEvent.Viewers(answer)
  ]
}

const sizeOf = (event: WatchEvent): number => {
  if (event._tag === "Output") return event.chunk.length
  return event._tag === "Screen" ? event.screen.length : 0
}

/** The events that wait for the consumer, whose number the window of the server bounds. */
class Queue {
  private events: Array<WatchEvent> = []
  private ending: Option.Option<ClientError> | undefined
  private waiter: Deferred.Deferred<void> | undefined

  push(...events: ReadonlyArray<WatchEvent>): void {
    for (const event of this.ending === undefined ? events : []) {
      // No window bounds these; the last one is all that counts.
      if (event._tag === "Viewers" && this.events.at(-1)?._tag === "Viewers") this.events.pop()
      this.events.push(event)
    }
    this.wake()
  }

  /** Ends the stream after the events before; with an error, if there is one. */
  end(error: Option.Option<ClientError>): void {
    this.ending ??= error
    this.wake()
  }

  get take(): Effect.Effect<ReadonlyArray<WatchEvent>, Option.Option<ClientError>> {
    return Effect.suspend((): Effect.Effect<ReadonlyArray<WatchEvent>, Option.Option<ClientError>> => {
      if (this.events.length > 0) return Effect.succeed(this.events.splice(0, batch))
      if (this.ending !== undefined) return Effect.fail(this.ending)
      this.waiter ??= Deferred.unsafeMake(FiberId.none)
      return Effect.zipRight(Deferred.await(this.waiter), this.take)
    })
  }

  private wake(): void {
    const { waiter } = this
    this.waiter = undefined
    if (waiter !== undefined) Deferred.unsafeDone(waiter, Exit.void)
  }
}

/**
 * Attaches to a process; the scope detaches.
 *
 * @category constructors
 */
export const make = (session: ClientSession, options: Options): Effect.Effect<Watch, ClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const { window = defaultWindow, name, size } = options
    const run = yield* FiberSet.makeRuntime<never>()
    const queue = new Queue()
    let current: number | undefined
    let lastSeq = 0
    let consumedSeq = 0
    let unacknowledged = 0
    const ends = new Set<WatchEvent["_tag"]>()
    let connections = 0

    /** Attaches on one connection: whether an answer was that of an earlier one cannot be told. */
    const attach = (from: Params<"process/attach">["from"]): Effect.Effect<Result<"process/attach">, ClientError> =>
      Effect.suspend(() => {
        const before = connections
        return session
          .ask("process/attach", {
            session: options.session,
            processId: ProcessId.make(options.processId),
            from,
            window,
            name,
            size
          })
          .pipe(
            Effect.flatMap((answer) => {
              if (connections === before) return Effect.succeed(answer)
              const { attachmentId } = answer
              return Effect.zipRight(Effect.ignore(session.call("attachment/detach", { attachmentId })), attach(from))
            })
          )
      })

    /** Uses an answer, which is that of the current connection: from now on, the server may send. */
    const begin = (answer: Result<"process/attach">, isFirst: boolean) => {
      current = answer.attachmentId
      unacknowledged = 0
      lastSeq = Math.max(lastSeq, answer.seq)
      queue.push(...begun(answer).filter(({ _tag }) => isFirst || _tag === "Viewers"))
      session.acknowledge(current, isFirst ? 0 : consumedSeq)
    }

    const receive = (event: WatchEvent) => {
      // To a new attachment they are sent again.
      if (event._tag === "Exited" || event._tag === "Closed") {
        if (ends.has(event._tag)) return
        ends.add(event._tag)
      }
      if ("seq" in event) lastSeq = Math.max(lastSeq, event.seq)
      queue.push(event)
    }

    const listen = <M extends NotificationMethod & `attachment/${string}`>(
      method: M,
      toEvent: (params: NotificationParams<M>) => WatchEvent
    ) => {
      const listener = (params: NotificationParams<M>) => {
        if ((params as { readonly attachmentId: number }).attachmentId === current) receive(toEvent(params))
      }
      return Effect.acquireRelease(
        Effect.sync(() => session.subscribe(method, listener)),
        (unsubscribe) => Effect.sync(unsubscribe)
      )
    }
    yield* listen("attachment/output", WatchEvent.Output)
    yield* listen("attachment/screen", screenOf)
    yield* listen("attachment/resized", WatchEvent.Resized)
    yield* listen("attachment/event", eventOf)
    yield* listen("attachment/viewers", WatchEvent.Viewers)
    yield* listen("attachment/ended", ({ reason }) => {
      current = undefined
      queueMicrotask(() => queue.end(Option.none()))
      return WatchEvent.Ended({ reason })
    })

    const again = Effect.suspend(() => attach({ type: "seq", afterSeq: lastSeq })).pipe(
      Effect.match({
        onFailure: (error) => queue.end(Option.some(error)),
        onSuccess: (answer) => begin(answer, false)
      })
    )
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        session.watch((state) => {
          if (state._tag === "Ended") queue.end(Option.some(state.error))
          if (state._tag !== "Connected") return
          connections++
          // The attachments of a connection end with it.
          if (current === undefined) return
          current = undefined
          run(again)
        })
      ),
      (unwatch) => Effect.sync(unwatch)
    )

    yield* Effect.addFinalizer(() => {
      const attachmentId = current
      current = undefined
      if (attachmentId === undefined || session.state()._tag !== "Connected") return Effect.void
      return Effect.ignore(session.call("attachment/detach", { attachmentId }))
    })
    const answer = yield* Effect.uninterruptibleMask((restore) =>
      Effect.tap(restore(attach(fromOf(options))), (answer) => Effect.sync(() => begin(answer, true)))
    )

    const acknowledge = (events: ReadonlyArray<WatchEvent>) => {
      for (const event of events) {
        if ("seq" in event) consumedSeq = Math.max(consumedSeq, event.seq)
        unacknowledged += sizeOf(event)
      }
      if (current === undefined || unacknowledged < window / acksPerWindow) return
      unacknowledged = 0
      session.acknowledge(current, consumedSeq)
    }
    let given: ReadonlyArray<WatchEvent> = []
    const next = Effect.suspend(() => {
      acknowledge(given)
      given = []
      return Effect.map(queue.take, (events) => {
        given = events
        return Chunk.unsafeFromArray([...events])
      })
    })

    const drive = (take: boolean, size: TerminalSize | undefined) =>
      session.ask("attachment/drive", {
        attachmentId: current ?? answer.attachmentId,
        take,
        size
      })
    return {
      attached: WatchEvent.Attached(answer),
      events: Stream.repeatEffectChunkOption(next),
      drive: (size) => Effect.map(drive(true, size), ({ size }) => size),
      release: Effect.asVoid(Effect.suspend(() => drive(false, undefined)))
    } satisfies Watch
  })
