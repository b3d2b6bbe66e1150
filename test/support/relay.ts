/** Rendezvous, executors and clients for tests. All end with the scope. */
import { createInterface } from "node:readline"
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Registration from "../../src/remote/Registration.js"
import * as RelayClient from "../../src/remote/RelayClient.js"
import * as RelayTransport from "../../src/remote/RelayTransport.js"
import { RemoteAuth } from "../../src/remote/RemoteAuth.js"
import { type Options, Rendezvous } from "../../src/remote/Rendezvous.js"
import * as ExecServer from "../../src/server/ExecServer.js"
import { realSessions } from "./composed.js"
import { eventually, type LaunchOptions, launch, type Running, textOf } from "./servers.js"
import { TestClient } from "./TestClient.js"

export const environmentId = "test-environment"

/** Starts the built rendezvous. */
export const rendezvous = (
  options: LaunchOptions = {}
): Effect.Effect<Running & { readonly url: string }, never, Scope.Scope> =>
  Effect.gen(function* () {
    const running = yield* launch({
      ...options,
      args: ["rendezvous", ...(options.args ?? [])]
    })
    const { stdout } = running.child
    if (stdout === null) return yield* Effect.dieMessage("no stdout")
    const lines = createInterface({ input: stdout })
    const url = yield* Effect.async<string>((resume) => {
      lines.once("line", (line) => resume(Effect.succeed(line)))
      lines.once("close", () => resume(Effect.dieMessage(`the rendezvous did not start: ${running.stderr()}`)))
    })
    return { ...running, url }
  })

/** Starts the built server as an executor of a rendezvous. */
export const executor = (
  url: string,
  { args = [], env = {} }: LaunchOptions = {}
): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.gen(function* () {
    const base = url.replace(/^ws/, "http")
    const running = yield* launch({
      args: ["--remote", base, "--environment-id", environmentId, ...args],
      env: { EXEC_SERVER_REMOTE_TOKEN: "executor-token", ...env }
    })
    yield* eventually("the executor has registered", () => running.stderr().includes("registered with environment_id"))
    return running
  })

export const clientUrl = (url: string) =>
  `${url}/cloud/environment/${environmentId}/connect?role=harness&token=client-token`

/** A client over a rendezvous. Retries until the executor has connected. */
export const relayClient = (url: string): Effect.Effect<TestClient, never, Scope.Scope> =>
  Effect.gen(function* () {
    const link = yield* RelayClient.connect(clientUrl(url)).pipe(
      Effect.retry({ times: 400, schedule: Schedule.spaced("25 millis"), while: ({ status }) => status === 409 }),
      Effect.orDie
    )
    return yield* Effect.acquireRelease(
      Effect.sync(
        () =>
          new TestClient(({ onMessage, onEnd }) => {
            link.listen({
              onMessage,
              onBinary: (frame) => onMessage(textOf(frame)),
              onDrain: () => {},
              onEnd: (reason) => onEnd({ code: 1000, reason })
            })
            return link
          })
      ),
      (client) => Effect.sync(() => assert.deepStrictEqual(client.faults, []))
    )
  })

/** An in-process rendezvous; returns its address. */
export const localRendezvous = (options: Partial<Options> = {}): Effect.Effect<string, never, Scope.Scope> =>
  Layer.build(Rendezvous.layer({ address: { host: "127.0.0.1", port: 0 }, ...options })).pipe(
    Effect.map((context) => Context.get(context, Rendezvous).address),
    Effect.orDie
  )

/** An in-process executor with real children. */
export const localExecutor = (url: string): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const target = yield* Registration.parseTarget(url.replace("ws:", "http:"), environmentId)
    const variables = { EXEC_SERVER_REMOTE_TOKEN: "executor-token" }
    yield* Layer.build(
      ExecServer.layerServe.pipe(
        Layer.provide([realSessions, RelayTransport.layer]),
        Layer.provide(Registration.layer(target, () => Effect.void)),
        Layer.provide(RemoteAuth.layerBearer({ tokenFile: undefined, variables, insecure: false }))
      )
    )
  }).pipe(Effect.orDie)

/** A client and an executor on a rendezvous of their own. */
export const relayPair: Effect.Effect<TestClient, never, Scope.Scope> = Effect.gen(function* () {
  const url = yield* localRendezvous()
  yield* localExecutor(url)
  return yield* relayClient(url)
})
