/** Servers under a fake service manager (test/fixtures/manager.py), which passes sockets and hears what it is told. */
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { binary, eventually } from "./servers.js"

const script = fileURLToPath(new URL("../fixtures/manager.py", import.meta.url))

/** What the manager does; see the script. */
export interface ManagerOptions {
  readonly notify?: string
  readonly env?: Record<string, string>
  readonly sockets?: ReadonlyArray<Record<string, unknown>>
  readonly pid?: number
  readonly deaf?: boolean
}

/** A message of the server, and the pid that the kernel says it is from. */
export interface Told {
  readonly told: string
  readonly from: number
}

/** A server under a manager. */
export interface Managed {
  /** Ports and paths of the sockets that are passed. */
  readonly addresses: ReadonlyArray<number | string>
  readonly pid: number
  /** What the manager was told so far. */
  readonly told: () => ReadonlyArray<Told>
  /** Everything that the server has printed. */
  readonly printed: () => string
  readonly command: (word: "term" | "hear") => void
  /** Exit status, or the negative number of a signal. */
  readonly exit: Effect.Effect<number>
  /** Waits until a message begins so. */
  readonly hears: (start: string) => Effect.Effect<Told>
}

/** Starts the built binary under a manager; both are ended with the scope. */
export const managed = (
  options: ManagerOptions,
  args: ReadonlyArray<string>
): Effect.Effect<Managed, never, Scope.Scope> =>
  Effect.gen(function* () {
    const manager = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn("python3", [script, JSON.stringify(options), process.execPath, binary, ...args], {
          stdio: ["pipe", "pipe", "pipe"]
        })
      ),
      (manager) =>
        Effect.promise(
          () =>
            new Promise<void>((resolve) => {
              if (manager.exitCode !== null) return resolve()
              manager.once("exit", () => resolve())
              // It kills the server.
              manager.stdin.end()
            })
        )
    )
    const told: Array<Told> = []
    let printed = ""
    let addresses: ReadonlyArray<number | string> = []
    let pid: number | undefined
    let status: number | undefined
    manager.stdin.on("error", () => {})
    manager.stderr.on("data", (chunk) => {
      printed += chunk
    })
    createInterface({ input: manager.stdout }).on("line", (line) => {
      const event: Partial<Told> & { sockets?: typeof addresses; pid?: number; exit?: number } = JSON.parse(line)
      if (event.sockets !== undefined) addresses = event.sockets
      if (event.pid !== undefined) pid = event.pid
      if (event.exit !== undefined) status = event.exit
      if (event.told !== undefined) told.push({ told: event.told, from: event.from ?? 0 })
    })
    yield* eventually("the manager starts the server", () => pid !== undefined)
    const hears = (start: string) =>
      Effect.map(
        eventually(`the manager is told ${start}`, () => told.some(({ told }) => told.startsWith(start)), 30_000),
        () => told.find(({ told }) => told.startsWith(start)) ?? { told: "", from: 0 }
      )
    return {
      addresses,
      pid: pid ?? -1,
      told: () => told,
      printed: () => printed,
      command: (word) => manager.stdin.write(`${word}\n`),
      exit: Effect.map(
        eventually("the server ends", () => status !== undefined, 30_000),
        () => status ?? Number.NaN
      ),
      hears
    }
  })
