/**
 * This command's own stdin, stdout and stderr: raw mode that is always undone, output that waits, input that can be left.
 *
 * @since 0.1.0
 */
import { fstatSync, statSync } from "node:fs"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as PlainText from "../internal/PlainText.js"
import * as OsError from "../protocol/OsError.js"
import * as Posix from "../spawn/Posix.js"
import { CommandFailed } from "./Outcome.js"

/** Nobody reads the output any more. */
export class OutputClosed extends Data.TaggedError("OutputClosed")<object> {
  override get message() {
    return "the output was closed"
  }
}

/** Why output could not be written: nobody reads it, or whatever else the system says. */
export type OutputError = OutputClosed | CommandFailed

const outputError = (to: "stdout" | "stderr", error: Error): OutputError =>
  OsError.codeOf(error) === "EPIPE"
    ? new OutputClosed()
    : new CommandFailed({ message: `cannot write to ${to}: ${OsError.describe(error)}` })

/** What programs that were cut off may have left a terminal with: a hidden cursor, mouse reports, bracketed paste, colours. */
const resetSequence = "\u001b[?25h\u001b[?1000l\u001b[?1002l\u001b[?1003l\u001b[?1006l\u001b[?2004l\u001b[0m"

const { stdin, stdout, stderr } = process

/**
 * A line for the person in front of it, whatever a server may have put into the text; in raw mode nobody but us goes back to where a
 * line begins.
 */
export const say = (text: string): Effect.Effect<void> =>
  Effect.sync(() => void stderr.write(`exec-server: ${PlainText.plain(text)}${stderr.isTTY ? "\r" : ""}\n`))

const streams = { stdout, stderr }

/** Writes now; the effect waits until it was taken. */
export const post = (to: keyof typeof streams, bytes: string | Uint8Array): Effect.Effect<void, OutputError> => {
  const stream = streams[to]
  const written = Deferred.unsafeMake<void, OutputError>(FiberId.none)
  // The error also comes as an event, which would end the process if nobody listened.
  if (stream.listenerCount("error") === 0) stream.on("error", () => {})
  stream.write(bytes, (error) =>
    Deferred.unsafeDone(written, error == null ? Exit.void : Exit.fail(outputError(to, error)))
  )
  return Deferred.await(written)
}

/** Whether everything that was written was taken. */
export const isTaken = (to: keyof typeof streams): boolean => streams[to].writableLength === 0

/** Writes, and waits until it was taken. */
export const write = (to: keyof typeof streams, bytes: string | Uint8Array): Effect.Effect<void, OutputError> =>
  Effect.suspend(() => post(to, bytes))

/** Gives keys as they are typed, while the scope is open. Nothing where stdin is no terminal. */
export const raw: Effect.Effect<void, never, Scope.Scope> = Effect.asVoid(
  Effect.acquireRelease(
    Effect.sync(() => {
      if (!stdin.isTTY) return () => {}
      const restore = () => void stdin.setRawMode(false)
      // Also when there is no time for finalizers.
      process.once("exit", restore)
      stdin.setRawMode(true)
      // What the program's own terminal has made of newlines is final. Undone with the mode.
      if (stdout.isTTY) Posix.rawOutput(stdin.fd)
      return () => {
        process.removeListener("exit", restore)
        restore()
      }
    }),
    (restore) => Effect.sync(restore)
  )
)

/** Undoes what a program that could not end properly did to the terminal. */
export const reset: Effect.Effect<void> = Effect.sync(() => {
  if (stdout.isTTY) stdout.write(resetSequence)
})

/** The size of the terminal; undefined where stdout is none. */
export const size = (): { readonly rows: number; readonly cols: number } | undefined =>
  stdout.isTTY && stdout.rows > 0 && stdout.columns > 0 ? { rows: stdout.rows, cols: stdout.columns } : undefined

/** Hears every change of the terminal's size while the scope is open. */
export const onResize = (listener: () => void): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => void stdout.on("resize", listener)),
      () => Effect.sync(() => void stdout.removeListener("resize", listener))
    )
  )

/** How long a pipe on stdin that has said nothing may take to say something, or to end, in milliseconds. */
const silentMs = 250

const nullDevice = "/dev/null"

/** Whether stdin is something that certainly has no input: closed, empty, or the null device. */
const isEmpty = (): boolean => {
  try {
    const found = fstatSync(stdin.fd)
    return found.isFile() ? found.size === 0 : found.isCharacterDevice() && found.rdev === statSync(nullDevice).rdev
  } catch {
    // Nothing is open there.
    return true
  }
}

/** Why nothing can be read; Node.js takes a directory for an empty file. */
const inputFault = (): Error | null => {
  if (stdin.errored !== null) return stdin.errored
  try {
    const code = "EISDIR"
    return fstatSync(stdin.fd).isDirectory() ? Object.assign(new Error(code), { code }) : null
  } catch {
    // Nothing is open there.
    return null
  }
}

/** Whether there is, or may still be, input on stdin; takes none of it. Of a pipe, its end is waited for, bounded. */
export const hasInput: Effect.Effect<boolean> = Effect.suspend(() => {
  if (stdin.isTTY) return Effect.succeed(true)
  if (isEmpty()) return Effect.succeed(false)
  const heard = Effect.async<boolean>((resume) => {
    const onReadable = () => {
      if (stdin.readableLength > 0) resume(Effect.succeed(true))
      // Only reading tells the end; there is nothing to be read.
      else stdin.read()
    }
    const onEnd = () => resume(Effect.succeed(false))
    if (stdin.readableEnded || stdin.destroyed) return onEnd()
    stdin.on("readable", onReadable)
    // Who reads it is told of it.
    const onError = () => resume(Effect.succeed(true))
    if (inputFault() !== null) return onError()
    for (const event of ["end", "close"]) stdin.on(event, onEnd)
    stdin.on("error", onError)
    return Effect.sync(() => {
      stdin.removeListener("readable", onReadable)
      stdin.removeListener("error", onError)
      for (const event of ["end", "close"]) stdin.removeListener(event, onEnd)
    })
  })
  return Effect.map(
    Effect.timeoutOption(heard, silentMs),
    Option.getOrElse(() => true)
  )
})

const unreadable = (error: Error) => new CommandFailed({ message: `cannot read stdin: ${OsError.describe(error)}` })

/** Hands over what comes on stdin, a piece at a time, until it ends; can be interrupted at any time. */
export const forEachInput = <E, R>(
  use: (chunk: Buffer) => Effect.Effect<void, E, R>
): Effect.Effect<void, E | CommandFailed, R> =>
  Effect.gen(function* () {
    // Once: it takes a system call, and the chunks may be many.
    const fault = inputFault()
    if (fault !== null) return yield* unreadable(fault)
    const next = Effect.async<Buffer | undefined, CommandFailed>((resume) => {
      const settle = (chunk: Buffer | undefined) => {
        leave()
        resume(Effect.succeed(chunk))
      }
      const onReadable = () => {
        const chunk: Buffer | null = stdin.read()
        if (chunk !== null) settle(chunk)
        else if (stdin.readableEnded) settle(undefined)
      }
      const onEnd = () => settle(undefined)
      const onError = (error: Error) => {
        leave()
        resume(unreadable(error))
      }
      const leave = () => {
        stdin.removeListener("readable", onReadable)
        stdin.removeListener("error", onError)
        for (const event of ["end", "close"]) stdin.removeListener(event, onEnd)
      }
      if (stdin.errored !== null) return onError(stdin.errored)
      if (stdin.readableEnded || stdin.destroyed) return onEnd()
      stdin.on("readable", onReadable)
      for (const event of ["end", "close"]) stdin.on(event, onEnd)
      stdin.on("error", onError)
      onReadable()
      return Effect.sync(leave)
    })
    for (let chunk = yield* next; chunk !== undefined; chunk = yield* next) yield* use(chunk)
  })
