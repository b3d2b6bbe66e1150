/** Runs the built command like a program, or like a person at a terminal. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as ExecClient from "../../src/client/ExecClient.js"
import type { RemoteProcess } from "../../src/client/RemoteProcess.js"
import { realSessions } from "./composed.js"
import { binary, eventually, type LaunchOptions, launch, type Running } from "./servers.js"

/** Hides the servers and environments of the user who runs the tests. */
export const nowhere = { CODEX_HOME: "/nowhere", EXEC_SERVER_URL: "", CODEX_EXEC_SERVER_URL: "", EXEC_SERVER_TOKEN: "" }

/** A running command, and its output so far. */
export interface Started extends Running {
  readonly stdout: () => string
}

/** Starts the command. */
export const start = (
  args: ReadonlyArray<string>,
  env: LaunchOptions["env"] = {}
): Effect.Effect<Started, never, Scope.Scope> =>
  Effect.map(launch({ args, env: { ...nowhere, ...env } }), (running) => {
    let stdout = ""
    running.child.stdout?.on("data", (chunk) => {
      stdout += chunk
    })
    return { ...running, stdout: () => stdout }
  })

/** The exit and the output of a command. */
export interface Ended {
  readonly code: number | string
  readonly stdout: string
  readonly stderr: string
}

/** Runs the command to its end. */
export const command = (
  args: ReadonlyArray<string>,
  { input = "", env = {} }: { readonly input?: string; readonly env?: LaunchOptions["env"] } = {}
): Effect.Effect<Ended> =>
  Effect.scoped(
    Effect.gen(function* () {
      const started = yield* start(args, env)
      started.child.stdin?.end(input)
      const code = yield* started.exit
      const { stdout, stderr } = started.child
      yield* eventually(
        "its output has ended",
        () => stdout?.readableEnded !== false && stderr?.readableEnded !== false
      )
      return { code, stdout: started.stdout(), stderr: started.stderr() }
    })
  )

/** Asserts that an error is one line without a stack trace. */
export const isOneLine = (stderr: string, what = ""): void => {
  assert.match(stderr, /^Error: [^\n]+\n$/, what)
  assert.notMatch(stderr, /\n\s+at /, what)
}

/** A person at a terminal. */
export interface Typist {
  readonly type: (keys: string) => Effect.Effect<void, unknown>
  /** Waits until a text appears on the terminal after the one that was waited for last. */
  readonly sees: (expected: string | RegExp) => Effect.Effect<void>
  readonly resize: RemoteProcess["resize"]
  readonly process: RemoteProcess
  readonly screen: () => string
}

/** Starts a program on its own terminal. It ends with the scope. */
export const atTerminal = (
  argv: ReadonlyArray<string>,
  size = { rows: 24, cols: 80 }
): Effect.Effect<Typist, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const server = yield* Layer.build(realSessions)
    const client = yield* Effect.provide(ExecClient.connectInProcess(), server)
    const process = yield* client.startScoped({
      argv,
      cwd: "/tmp",
      env: { ...nowhere, PATH: globalThis.process.env["PATH"] ?? "", TERM: "xterm", PS1: "> " },
      tty: true,
      size
    })
    let screen = ""
    let seen = 0
    let wake = () => {}
    const reading = yield* Effect.forkScoped(
      Stream.runForEach(process.terminal, (chunk) =>
        Effect.sync(() => {
          screen += chunk.toString()
          wake()
        })
      )
    )
    const sees = (expected: string | RegExp) =>
      Effect.async<void>((resume) => {
        const look = () => {
          const rest = screen.slice(seen)
          const index = typeof expected === "string" ? rest.indexOf(expected) : rest.search(expected)
          if (index === -1) return
          const length = typeof expected === "string" ? expected.length : (expected.exec(rest)?.[0].length ?? 0)
          seen += index + length
          wake = () => {}
          resume(Effect.void)
        }
        wake = look
        look()
      }).pipe(
        Effect.raceFirst(Effect.zipRight(Fiber.await(reading), Effect.never)),
        Effect.timeout("20 seconds"),
        Effect.catchAll(() => Effect.dieMessage(`never seen: ${expected}; on the terminal: ${JSON.stringify(screen)}`))
      )
    return { type: process.write, sees, resize: process.resize, process, screen: () => screen }
  })

/** The command line of the command. */
export const commandLine = (...args: ReadonlyArray<string>): ReadonlyArray<string> => [
  process.execPath,
  binary,
  ...args
]
