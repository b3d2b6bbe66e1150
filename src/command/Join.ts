/**
 * Joins a process of another session: shows it on this command's terminal, and passes on what is typed, if that is
 * allowed.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import { StringDecoder } from "node:string_decoder"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import * as Stream from "effect/Stream"
import type { ClientError } from "../client/ClientError.js"
import type * as ExecClient from "../client/ExecClient.js"
import type { WatchEvent } from "../client/WatchEvent.js"
import { TerminalFilter } from "../internal/TerminalFilter.js"
import { ProcessId } from "../protocol/Ids.js"
import { CommandFailed, Exited } from "./CommandExit.js"
import { codeOf, LocalSignals } from "./LocalSignals.js"
import * as Terminal from "./Terminal.js"

/** What is joined, and how. */
export interface Options {
  readonly client: ExecClient.Shape
  /** The handle of the session. */
  readonly session: string
  readonly processId: string
  /** Whether nothing that is typed is passed on. */
  readonly readOnly: boolean
}

/** The most lines above the screen that are asked for. */
const scrollback = 1000

/** Resets the whole terminal, and clears what it shows. */
const clean = "\u001bc"

/**
 * Passes output on to this terminal, without what it would answer or act on: the terminal of the process is that of
 * its own client, and answers would be typed into the process.
 */
const filtered = () => {
  const decoder = new StringDecoder("utf8")
  const filter = new TerminalFilter("screen")
  return (bytes: Buffer) => filter.write(decoder.write(bytes))
}

/** Shows the process until it ends; its status is that of this command. */
export const join = ({ client, session, processId: id, readOnly }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const signals = yield* LocalSignals
      const runFork = Runtime.runFork(yield* Effect.runtime<never>())
      const processId = ProcessId.make(id)
      const size = Terminal.size()
      const about = { session, processId: id, size }
      const fromStart = client.sessions.attach(about)
      // A process without a terminal has no screen.
      const fromScreen = Effect.orElse(
        client.sessions.attach({ ...about, from: "screen", scrollback }),
        () => fromStart
      )
      const { attached, events } = yield* size === undefined ? fromStart : fromScreen
      const tty = attached.size !== null
      const mayType = attached.role === "operator" && !readOnly
      if (tty) yield* Terminal.say(mayType ? "attached; ^] detaches" : "watching; ^] leaves")
      const left = yield* Deferred.make<never, Exited>()
      const leave = (code: number) => Deferred.unsafeDone(left, new Exited({ code }))
      yield* signals.take((signal) => leave(codeOf(signal)))
      let show = filtered()
      let exitCode: number | null = null

      const onEvent = (event: WatchEvent): Effect.Effect<void, Terminal.OutputError | CommandFailed> => {
        switch (event._tag) {
          case "Screen":
            if (size === undefined) return Terminal.write("stdout", event.screen)
            show = filtered()
            return Terminal.write("stdout", clean + show(event.screen))
          case "Output":
            if (event.stream === "pty" && size !== undefined) return Terminal.write("stdout", show(event.chunk))
            return Terminal.write(event.stream === "stderr" ? "stderr" : "stdout", event.chunk)
          case "Gap":
            return Terminal.say(`${event.bytes} bytes of output were skipped`)
          case "Exited":
            exitCode = event.exitCode
            return Effect.void
          case "Ended":
            return new CommandFailed({ message: `the attachment has ended: ${event.reason}` })
          case "Attached":
          case "Closed":
          case "Resized":
          case "Restarted":
          case "Viewers":
            return Effect.void
        }
      }
      const shown = Stream.runForEach(
        Stream.takeUntil(events, ({ _tag }) => _tag === "Closed"),
        onEvent
      )

      const onInput = (chunk: Buffer): Effect.Effect<void, ClientError> =>
        Effect.suspend(() => {
          const isKey = (key: number) => process.stdin.isTTY && chunk.includes(key)
          if (isKey(Terminal.detachKey)) return Effect.sync(() => leave(0))
          if (mayType) return Effect.asVoid(client.call("process/write", { session, processId, chunk }))
          return isKey(Terminal.interruptKey) ? Effect.sync(() => leave(codeOf("SIGINT"))) : Effect.void
        })
      if (tty) yield* Terminal.raw
      yield* Effect.forkScoped(Effect.interruptible(Effect.ignore(Terminal.forEachInput(onInput))))
      yield* client.watch(({ _tag }) => {
        if (_tag === "Recovering") runFork(Terminal.say("the connection is lost; reconnecting"))
      })

      yield* Effect.raceFirst(shown, Deferred.await(left)).pipe(Effect.ensuring(tty ? Terminal.reset : Effect.void))
      return yield* new Exited({ code: exitCode ?? 1 })
    })
  )
