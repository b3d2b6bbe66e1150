/**
 * A server process that this client starts and owns.
 *
 * @since 0.1.0
 */
import { type ChildProcessByStdio, spawn } from "node:child_process"
import type { Readable, Writable } from "node:stream"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import * as Lines from "../protocol/Lines.js"
import { LaunchFailed } from "./ClientError.js"
import { variableName } from "./Token.js"

/** The server's program. */
export interface Command {
  readonly command: string
  readonly args?: ReadonlyArray<string> | undefined
  /** Variables to add to this process's environment, without `EXEC_SERVER_TOKEN`: that is for other servers. */
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly cwd?: string | undefined
}

/** How to ask a server to exit at first. */
export type Goodbye = "closeStdin" | "SIGTERM"

/** A server process, the leader of its own process group. */
export interface ServerProcess {
  readonly pid: number
  readonly stdin: Writable
  readonly stdout: Readable
  /** Completes when it has exited, with the reason as a sentence. */
  readonly exited: Effect.Effect<string>
}

/** The longest log line that is forwarded, in bytes. */
const maxLogLine = 65536

type Child = ChildProcessByStdio<Writable, Readable, Readable>

/** A child and its exit, observed from the start. */
interface Started {
  readonly child: Child
  readonly exited: Effect.Effect<string>
}

const watchExit = (child: Child): Effect.Effect<string> => {
  const exit = Deferred.unsafeMake<string>(FiberId.none)
  child.once("exit", (code, signal) => {
    // Kill what is left in its group.
    signalGroup(child, "SIGKILL")
    const reason = signal === null ? `the server exited with code ${code}` : `the server was killed by ${signal}`
    Deferred.unsafeDone(exit, Effect.succeed(reason))
  })
  return Deferred.await(exit)
}

/** Completes once the child is spawned. */
const started = ({ command, args = [], env, cwd }: Command): Effect.Effect<Started, LaunchFailed> =>
  Effect.async((resume) => {
    const fail = (error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error)
      resume(Effect.fail(new LaunchFailed({ program: command, reason })))
    }
    try {
      // In its own process group: ^C at the terminal signals our group and must not kill the server.
      const child = spawn(command, args, {
        detached: true,
        stdio: ["pipe", "pipe", "pipe"],
        env: { ...process.env, [variableName]: undefined, ...env },
        ...(cwd === undefined ? {} : { cwd })
      })
      const exited = watchExit(child)
      child.once("error", fail)
      child.once("spawn", () => resume(Effect.succeed({ child, exited })))
    } catch (error) {
      // What no system call was made for: a NUL byte in an argument.
      fail(error)
    }
  })

const signalGroup = (child: Child, signal: "SIGTERM" | "SIGKILL"): void => {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // ESRCH: the group is empty.
  }
}

type Step = readonly [step: (child: Child) => void, waitMs: number]

/** After SIGKILL the exit is certain, but must still be awaited. */
const kill: Step = [(child) => signalGroup(child, "SIGKILL"), 5000]

/** The steps of stopping a server, and the time to wait after each; its own shutdown may take 2 s. */
const ladders: Readonly<Record<Goodbye, ReadonlyArray<Step>>> = {
  closeStdin: [[(child) => void child.stdin.end(), 2000], [(child) => signalGroup(child, "SIGTERM"), 2000], kill],
  SIGTERM: [[(child) => signalGroup(child, "SIGTERM"), 5000], kill]
}

/**
 * Starts a server. When the scope closes, a server on stdio first sees the end of its stdin. If it does not exit, or
 * serves elsewhere, its group gets SIGTERM, and finally SIGKILL.
 */
export const make = (command: Command, goodbye: Goodbye): Effect.Effect<ServerProcess, LaunchFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const runFork = Runtime.runFork(yield* Effect.runtime<never>())
    const stop = ({ child, exited }: Started) =>
      Effect.gen(function* () {
        for (const [step, ms] of ladders[goodbye]) {
          step(child)
          if (Option.isSome(yield* Effect.timeoutOption(Effect.interruptible(exited), ms))) return
        }
      })

    const { child, exited } = yield* Effect.acquireRelease(started(command), stop)
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.on("error", () => {})
    const log = (text: string) => void runFork(Effect.logDebug(`exec-server: ${text}`))
    child.stderr.on("data", Lines.make(maxLogLine, { onLine: log, onBadLine: log }))
    return { pid: child.pid ?? -1, stdin: child.stdin, stdout: child.stdout, exited }
  })
