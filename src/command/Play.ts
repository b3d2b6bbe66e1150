/**
 * `play`: plays a recording in this terminal.
 *
 * @since 0.1.0
 */
import { createReadStream } from "node:fs"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Asciicast from "../internal/Asciicast.js"
import { TerminalFilter } from "../internal/TerminalFilter.js"
import * as OsError from "../protocol/OsError.js"
import { CommandFailed, UsageError } from "./CommandExit.js"
import * as Terminal from "./Terminal.js"

/** The arguments of `play`. */
export interface Options {
  readonly file: string
  /** How many times faster. */
  readonly speed: string | undefined
  /** The longest pause, in milliseconds. */
  readonly idleLimitMs: number | undefined
}

/** The largest speed. */
const maxSpeed = 1000

const parseSpeed = (text = "1"): Effect.Effect<number, UsageError> => {
  const speed = /^\d+(\.\d+)?$/.test(text) ? Number(text) : 0
  return speed > 0 && speed <= maxSpeed
    ? Effect.succeed(speed)
    : new UsageError({ message: `--speed ${text}: expected a number above 0, up to ${maxSpeed}, such as 2 or 0.5` })
}

/** The longest line, in characters. */
const maxLineLength = 16_777_216

/** Splits text into lines. */
async function* split(file: string, input: AsyncIterable<string>) {
  let rest = ""
  for await (const text of input) {
    let from = 0
    for (let to = text.indexOf("\n"); to >= 0; to = text.indexOf("\n", from)) {
      yield rest + text.slice(from, to)
      rest = ""
      from = to + 1
    }
    rest += text.slice(from)
    if (rest.length > maxLineLength) {
      throw new CommandFailed({
        message: `cannot play ${file}: it has a line of more than ${maxLineLength} characters`
      })
    }
  }
  if (rest !== "") yield rest
}

/** The lines of a file, one at a time; undefined at its end. */
const linesOf = (file: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => createReadStream(file, "utf8")),
      (input) => Effect.sync(() => input.destroy())
    ),
    (input) => {
      const lines = split(file, input)
      return Effect.map(
        Effect.tryPromise({
          try: () => lines.next(),
          catch: (error) =>
            error instanceof CommandFailed
              ? error
              : new CommandFailed({ message: `cannot read ${file}: ${OsError.describe(error)}` })
        }),
        ({ value }) => value ?? undefined
      )
    }
  )

/**
 * Leaves the alternate screen, and resets what a program may have left, a character set or a scroll region (DECSTR),
 * reports of focus and keys included.
 */
const restore = Effect.zipRight(
  Effect.ignore(Terminal.write("stdout", "\u001b[?1049l\u001b[!p\u001b[?1004l\u001b[=0u")),
  Terminal.reset
)

/**
 * Plays the output with its pauses. Space pauses, q ends. What is dangerous to pass to a terminal is left out. If stdout
 * is not a terminal, prints the text at once, without control sequences.
 */
export const play = ({ file, speed: given, idleLimitMs = Number.POSITIVE_INFINITY }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const speed = yield* parseSpeed(given)
      const nextLine = yield* linesOf(file)
      const header = Either.getOrUndefined(Asciicast.readHeader((yield* nextLine) ?? ""))
      if (header === undefined) {
        const why = "its first line is no header of an asciicast of version 2 or 3"
        return yield* new CommandFailed({ message: `cannot play ${file}: ${why}` })
      }
      const read = Asciicast.reader(header.version)
      const size = Terminal.size()
      const filter = new TerminalFilter(size === undefined ? "text" : "screen")
      if (size !== undefined && (size.rows < header.rows || size.cols < header.cols)) {
        yield* Terminal.say(
          `this terminal (${size.cols}x${size.rows}) is smaller than the recorded one (${header.cols}x${header.rows})`
        )
      }
      const left = yield* Deferred.make<void>()
      const running = yield* Effect.makeLatch(true)
      let isPaused = false
      let dueMs = yield* Clock.currentTimeMillis
      /** Waits until an event is due; a pause moves all that come after it. */
      const until = (seconds: number) =>
        Effect.gen(function* () {
          dueMs += Math.min(seconds * 1000, idleLimitMs) / speed
          const waitMs = dueMs - (yield* Clock.currentTimeMillis)
          if (waitMs > 0) yield* Effect.sleep(waitMs)
          if (!isPaused) return
          yield* running.await
          dueMs = yield* Clock.currentTimeMillis
        })
      const onKeys = (keys: Buffer) =>
        Effect.suspend(() => {
          if (Terminal.quits(keys)) Deferred.unsafeDone(left, Exit.void)
          if (!keys.includes(" ")) return Effect.void
          isPaused = !isPaused
          return isPaused ? running.close : running.open
        })
      const played = Effect.gen(function* () {
        for (let line = yield* nextLine; line !== undefined; line = yield* nextLine) {
          const event = read(line)
          if (event === undefined) continue
          if (size !== undefined) yield* until(event.seconds)
          if (event.code === "o") yield* Terminal.write("stdout", filter.write(event.data))
        }
      })
      if (size === undefined) return yield* played
      yield* Terminal.raw
      yield* Effect.addFinalizer(() => restore)
      yield* Effect.forkScoped(Effect.interruptible(Effect.ignore(Terminal.forEachInput(onKeys))))
      yield* Effect.raceFirst(played, Deferred.await(left))
    })
  )
