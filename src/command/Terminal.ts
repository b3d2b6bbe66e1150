/**
 * This command's stdin, stdout and stderr: raw mode that is always restored, output with backpressure, and
 * interruptible input.
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
import { AlternateScreen } from "./AlternateScreen.js"
import { CommandFailed, Exited } from "./CommandExit.js"

/** The reader of the output has closed it (EPIPE). */
export class OutputClosed extends Data.TaggedError("OutputClosed")<object> {
  override get message() {
    return "the output was closed"
  }
}

/** The status of a program killed by SIGPIPE: 128 + 13. */
const brokenPipe = 141

/** Exits with this status if the output is closed. */
export const endIfClosed = <A, E, R>(command: Effect.Effect<A, E, R>): Effect.Effect<A, E | Exited, R> =>
  Effect.catchIf(
    command,
    (failure) => failure instanceof OutputClosed,
    () => new Exited({ code: brokenPipe })
  )

/** Why output could not be written: it was closed, or another system error. */
export type OutputError = OutputClosed | CommandFailed

const outputError = (to: "stdout" | "stderr", error: Error): OutputError =>
  OsError.codeOf(error) === "EPIPE"
    ? new OutputClosed()
    : new CommandFailed({ message: `cannot write to ${to}: ${OsError.describe(error)}` })

/**
 * Resets modes that an interrupted program may have left on: hidden cursor, mouse reports, bracketed paste, colours.
 */
const resetSequence = "\u001b[?25h\u001b[?1000l\u001b[?1002l\u001b[?1003l\u001b[?1006l\u001b[?2004l\u001b[0m"

/** Leaves the alternate screen, with its scroll region. */
const leaveSequence = "\u001b[r\u001b[?1049l"

const { stdin, stdout, stderr } = process

const alternate = new AlternateScreen()

/** Prints a message on stderr, without control characters. In raw mode the terminal does not add carriage returns. */
export const say = (text: string): Effect.Effect<void> =>
  Effect.sync(() => void stderr.write(`exec-server: ${PlainText.plain(text)}${stderr.isTTY ? "\r" : ""}\n`))

const streams = { stdout, stderr }

/** Writes immediately; the effect waits until the bytes are flushed. */
export const post = (to: keyof typeof streams, bytes: string | Uint8Array): Effect.Effect<void, OutputError> => {
  const stream = streams[to]
  const written = Deferred.unsafeMake<void, OutputError>(FiberId.none)
  // Without a listener, the "error" event would end the process.
  if (stream.listenerCount("error") === 0) stream.on("error", () => {})
  if (to === "stdout" && stdout.isTTY) alternate.push(bytes)
  stream.write(bytes, (error) =>
    Deferred.unsafeDone(written, error == null ? Exit.void : Exit.fail(outputError(to, error)))
  )
  return Deferred.await(written)
}

/** Whether all written bytes are flushed. */
export const isFlushed = (to: keyof typeof streams): boolean => streams[to].writableLength === 0

/** Writes, and waits until the bytes are flushed. */
export const write = (to: keyof typeof streams, bytes: string | Uint8Array): Effect.Effect<void, OutputError> =>
  Effect.suspend(() => post(to, bytes))

/** ^C, which in raw mode is input. */
export const interruptKey = 0x03

/** ^], which leaves a process running. */
export const detachKey = 0x1d

/** Whether keys end what is shown: q, or ^C in raw mode. */
export const quits = (keys: Buffer): boolean => keys.includes("q") || keys.includes(interruptKey)

/** Puts the terminal into raw mode while the scope is open. Does nothing if stdin is not a terminal. */
export const raw: Effect.Effect<void, never, Scope.Scope> = Effect.asVoid(
  Effect.acquireRelease(
    Effect.sync(() => {
      if (!stdin.isTTY) return () => {}
      const restore = () => void stdin.setRawMode(false)
      // Restore the mode even if the process exits without running finalizers.
      process.once("exit", restore)
      stdin.setRawMode(true)
      // The remote terminal has already translated newlines. Restored together with the mode.
      if (stdout.isTTY) Posix.rawOutput(stdin.fd)
      return () => {
        process.removeListener("exit", restore)
        restore()
      }
    }),
    (restore) => Effect.sync(restore)
  )
)

/** Resets the terminal after a program that was interrupted. */
export const reset: Effect.Effect<void> = Effect.sync(() => {
  if (stdout.isTTY) stdout.write(`${alternate.isOn ? leaveSequence : ""}${resetSequence}`)
})

/** The size of the terminal; undefined if stdout is not a terminal. */
export const size = (): { readonly rows: number; readonly cols: number } | undefined =>
  stdout.isTTY && stdout.rows > 0 && stdout.columns > 0 ? { rows: stdout.rows, cols: stdout.columns } : undefined

/** Calls `listener` for each change of the terminal's size while the scope is open. */
export const onResize = (listener: () => void): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => void stdout.on("resize", listener)),
      () => Effect.sync(() => void stdout.removeListener("resize", listener))
    )
  )

/** How long to wait for the first input, or the end, of a pipe on stdin, in milliseconds. */
const silentMs = 250

const nullDevice = "/dev/null"

/** Whether stdin certainly has no input: it is closed, an empty file, or the null device. */
const isEmpty = (): boolean => {
  try {
    const found = fstatSync(stdin.fd)
    return found.isFile() ? found.size === 0 : found.isCharacterDevice() && found.rdev === statSync(nullDevice).rdev
  } catch {
    // EBADF: stdin is closed.
    return true
  }
}

/** The error of stdin, if any. Node.js does not report that it is a directory. */
const inputFault = (): Error | null => {
  if (stdin.errored !== null) return stdin.errored
  try {
    const code = "EISDIR"
    return fstatSync(stdin.fd).isDirectory() ? Object.assign(new Error(code), { code }) : null
  } catch {
    // EBADF: stdin is closed.
    return null
  }
}

/** Whether stdin has or may still get input. Consumes none. Waits up to `silentMs` for the input or end of a pipe. */
export const hasInput: Effect.Effect<boolean> = Effect.suspend(() => {
  if (stdin.isTTY) return Effect.succeed(true)
  if (isEmpty()) return Effect.succeed(false)
  const heard = Effect.async<boolean>((resume) => {
    const onReadable = () => {
      if (stdin.readableLength > 0) resume(Effect.succeed(true))
      // Nothing is buffered, so this consumes nothing; without it, "end" is not emitted.
      else stdin.read()
    }
    const onEnd = () => resume(Effect.succeed(false))
    if (stdin.readableEnded || stdin.destroyed) return onEnd()
    stdin.on("readable", onReadable)
    // The reader of stdin reports the error.
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

/** Runs `use` for each chunk of stdin, one at a time, until it ends; interruptible at any time. */
export const forEachInput = <E, R>(
  use: (chunk: Buffer) => Effect.Effect<void, E, R>
): Effect.Effect<void, E | CommandFailed, R> =>
  Effect.gen(function* () {
    // Checked once, not for each chunk: it takes a system call.
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
