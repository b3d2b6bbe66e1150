/**
 * The sandboxes of a server. All are the same machine; each has its own processes and variables, which end with it.
 * One of them always exists, for clients that create none.
 *
 * @since 0.1.0
 */
import { randomBytes } from "node:crypto"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Scope from "effect/Scope"
import type { Environment } from "../environment/Environment.js"
import * as Entries from "./Entries.js"
import { type Failure, fail } from "./Failure.js"
import type { Place } from "./Place.js"
import * as Processes from "./Processes.js"
import * as Watchers from "./Watchers.js"

/** The most sandboxes at a time. */
const maxSandboxes = 256

/** The longest life of a sandbox from now, in seconds: that of timers. */
export const maxTimeoutSeconds = 2_147_483

/** The sandbox that always exists, by the name that clients in debug mode use. */
export const standingId = "debug_sandbox_id"

/** What a client says of a new sandbox. */
export interface Description {
  readonly templateId: string
  readonly metadata: { readonly [name: string]: string }
  readonly envVars: { readonly [name: string]: string }
  readonly timeoutSeconds: number
}

/** A sandbox. */
export interface Sandbox {
  readonly id: string
  readonly place: Place
  readonly environment: Environment
  readonly processes: Processes.Processes
  readonly entries: Entries.Entries
  readonly watchers: Watchers.Watchers
  readonly scope: Scope.CloseableScope
}

/** A sandbox that a client has created. */
export interface Created extends Sandbox, Omit<Description, "timeoutSeconds"> {
  readonly startedAtMs: number
  /** When it ends. */
  endsAtMs: number
  timer: Fiber.RuntimeFiber<void> | undefined
}

/** The sandboxes of a server. */
export interface Sandboxes {
  /** Finds the sandbox of a request: the standing one if it names none. */
  readonly find: (id: string | undefined) => Sandbox | undefined
  /** Finds one that was created. */
  readonly created: (id: string) => Effect.Effect<Created, Failure>
  readonly list: () => ReadonlyArray<Created>
  readonly create: (description: Description) => Effect.Effect<Created, Failure>
  /** Ends it so many seconds from now. */
  readonly setTimeout: (created: Created, seconds: number) => Effect.Effect<void>
  /** The same, unless it ends later anyway. */
  readonly extend: (created: Created, seconds: number) => Effect.Effect<void>
  /** Ends its processes; waits for their end. */
  readonly kill: (created: Created) => Effect.Effect<void>
}

/** Makes the sandboxes of a machine; the scope ends them. */
export const make = (environment: Environment, place: Place): Effect.Effect<Sandboxes, never, Scope.Scope> =>
  Effect.gen(function* () {
    const parent = yield* Effect.scope
    const all = new Map<string, Created>()
    const entries = Entries.make(environment)
    const run = yield* FiberSet.makeRuntime<never>()

    const open = (id: string, envVars: Description["envVars"]): Effect.Effect<Sandbox> =>
      Effect.gen(function* () {
        const scope = yield* Scope.fork(parent, ExecutionStrategy.sequential)
        const processes = yield* Scope.extend(Processes.make(environment, envVars), scope)
        const watchers = yield* Scope.extend(Watchers.make(entries), scope)
        return { id, place, environment, processes, entries, watchers, scope }
      })

    const kill = (created: Created) =>
      Effect.suspend(() => {
        all.delete(created.id)
        created.timer?.unsafeInterruptAsFork(created.timer.id())
        return Scope.close(created.scope, Exit.void)
      })

    const setTimeout = (created: Created, seconds: number) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        created.endsAtMs = now + seconds * 1000
        created.timer?.unsafeInterruptAsFork(created.timer.id())
        const ended = Effect.suspend(() => {
          created.timer = undefined
          return kill(created)
        })
        created.timer = run(Effect.zipRight(Effect.sleep(seconds * 1000), ended))
      })

    const standing = yield* open(standingId, {})

    return {
      find: (id) => (id === undefined || id === standingId ? standing : all.get(id)),
      created: (id) =>
        Effect.suspend(() => {
          const found = all.get(id)
          return found === undefined
            ? fail("not_found", `sandbox "${id.slice(0, 100)}" doesn't exist`)
            : Effect.succeed(found)
        }),
      list: () => Array.from(all.values()),
      create: ({ templateId, metadata, envVars, timeoutSeconds }) =>
        Effect.suspend(() => {
          if (all.size >= maxSandboxes) {
            return fail("resource_exhausted", `there are ${maxSandboxes} sandboxes; kill one of them first`)
          }
          return Effect.gen(function* () {
            const id = randomBytes(10).toString("hex")
            const sandbox = yield* open(id, envVars)
            const startedAtMs = yield* Clock.currentTimeMillis
            const created: Created = {
              ...sandbox,
              templateId,
              metadata,
              envVars,
              startedAtMs,
              endsAtMs: startedAtMs,
              timer: undefined
            }
            all.set(id, created)
            yield* setTimeout(created, timeoutSeconds)
            return created
          })
        }),
      setTimeout,
      extend: (created, seconds) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) =>
          created.endsAtMs >= now + seconds * 1000 ? Effect.void : setTimeout(created, seconds)
        ),
      kill
    }
  })
