/**
 * The server: it serves the peers of a transport with sessions over services.
 *
 * `layer` needs a `Transport` (`WebSocket.layer`, `Stdio.layer`, `Memory.layer`, `RelayTransport.layer`) and the
 * services (`NodeServices.layer`, or replacements). `Limits.layer`, provided last, sets the limits of all.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type { FileSystem } from "../filesystem/FileSystem.js"
import type { HttpRunner } from "../http/HttpRunner.js"
import * as LateLimits from "../internal/LateLimits.js"
import { provideInOrder } from "../internal/Wiring.js"
import type { OutputBuffer } from "../process/OutputBuffer.js"
import { ProcessLimits } from "../process/ProcessLimits.js"
import { ProcessSupervisor } from "../process/ProcessSupervisor.js"
import type { ProcessInfo } from "../protocol/ExecApi.js"
import { clip } from "../protocol/Schemas.js"
import * as Connection from "../session/Connection.js"
import * as Handlers from "../session/Handlers.js"
import { SessionRegistry } from "../session/SessionRegistry.js"
import type { Spawner } from "../spawn/Spawner.js"
import { Transport, type TransportFailed } from "../transport/Transport.js"

/**
 * The services that answer requests, without a transport. `ExecClient.layerInProcess` and `HttpUpgrade.serve` need only
 * these.
 *
 * @category models
 */
export type Sessions = SessionRegistry | Handlers.Handlers

/**
 * The services that sessions need. `NodeServices.layer` provides the real ones.
 *
 * @category models
 */
export type Services = Spawner | OutputBuffer | FileSystem | HttpRunner

/**
 * Sessions without a transport, for in-process clients and for routes of an HTTP server.
 *
 * @category layers
 * @example
 * const client = ExecClient.layerInProcess().pipe(
 *   Layer.provide(ExecServer.layerSessions),
 *   Layer.provide(NodeServices.layer)
 * )
 */
export const layerSessions: Layer.Layer<Sessions, never, Services> = Handlers.layer.pipe(
  Layer.provideMerge(SessionRegistry.layer),
  provideInOrder(ProcessSupervisor.layer)
)

/** The most processes that a shutdown names. */
const maxNamed = 20

/** Logs which processes a shutdown has ended: ids, pids and exits, but no arguments, which may contain secrets. */
const report = (ended: ReadonlyArray<ProcessInfo>): Effect.Effect<void> => {
  if (ended.length === 0) return Effect.void
  const named = ended.slice(0, maxNamed).map(({ processId, pid, running, signal, exitCode }) => {
    const how = running ? "could not be ended" : (signal ?? `status ${exitCode}`)
    return `${clip(processId)} (pid ${pid}, ${how})`
  })
  const others = ended.length > maxNamed ? [`${ended.length - maxNamed} others`] : []
  const what = ended.length === 1 ? "1 process" : `${ended.length} processes`
  return Effect.logWarning(`the shutdown has ended ${what}: ${[...named, ...others].join(", ")}`)
}

/**
 * Serves the peers of a transport until no peer can come any more. When interrupted, stops accepting, notifies
 * connected peers, and ends all processes, with `shutdownGracePeriod` between SIGTERM and SIGKILL.
 *
 * @category running
 */
export const serve: Effect.Effect<void, TransportFailed, Transport | Sessions> = Effect.gen(function* () {
  const transport = yield* Transport
  const registry = yield* SessionRegistry
  const { shutdownGracePeriodMs } = yield* ProcessLimits
  const peers = yield* Effect.fork(transport.run(Connection.serve))
  yield* Fiber.join(peers).pipe(
    Effect.onInterrupt(() =>
      // Sessions first: when a connection ends, its session must already be ending, with its grace period.
      Effect.zipRight(
        registry.close,
        Effect.all([Effect.flatMap(registry.end(shutdownGracePeriodMs), report), Fiber.interrupt(peers)], {
          concurrency: 2,
          discard: true
        })
      )
    )
  )
})

/**
 * A running server.
 *
 * @category tags
 */
export class Running extends Context.Tag("exec-server/ExecServer/Running")<
  Running,
  {
    /**
     * The address that clients connect to, in the transport's notation: `ws://127.0.0.1:8080`, with the actual port.
     */
    readonly address: string
    /**
     * Completes when no peer can come any more and the last one is gone (at the end of stdin, for example), or when the
     * scope of the server closes. Fails if the transport fails.
     */
    readonly ended: Effect.Effect<void, TransportFailed>
  }
>() {}

/**
 * Runs a server with existing sessions, for applications that also use these without a transport. `ended` completes
 * when it has ended. A failure of the transport is logged if nothing waits for `ended`.
 *
 * @category layers
 * @example
 * const both = Layer.merge(ExecServer.layerServe, ExecClient.layerInProcess()).pipe(
 *   Layer.provide(ExecServer.layerSessions),
 *   Layer.provide(WebSocket.layer({ host: "127.0.0.1", port: 8080 })),
 *   Layer.provide(NodeServices.layer)
 * )
 */
export const layerServe: Layer.Layer<Running, never, Transport | Sessions> = Layer.scoped(
  Running,
  Effect.gen(function* () {
    const transport = yield* Transport
    yield* LateLimits.refuse("transport", transport)
    yield* LateLimits.refuse("sessions", yield* SessionRegistry)
    const { address } = transport
    const done = yield* Deferred.make<void, TransportFailed>()
    let isAwaited = false
    yield* serve.pipe(
      Effect.tapError(({ message }) =>
        isAwaited ? Effect.void : Effect.logError("no peer can connect any more", message)
      ),
      // The end of the scope is a regular end.
      Effect.onExit((exit) => Deferred.done(done, Exit.isInterrupted(exit) ? Exit.void : exit)),
      Effect.forkScoped
    )
    const ended = Effect.suspend(() => {
      isAwaited = true
      return Deferred.await(done)
    })
    return { address, ended }
  })
)

/**
 * A running server. Needs a transport and the services, and limits if the defaults do not fit. It ends with its scope,
 * as `serve` does; `launch` runs it until it ends on its own.
 *
 * @category layers
 * @example
 * const server = ExecServer.layer.pipe(
 *   Layer.provide(WebSocket.layer({ host: "127.0.0.1", port: 8080 })),
 *   Layer.provide(NodeServices.layer),
 *   Layer.provide(Limits.layer({ maxSessions: 16 }))
 * )
 * NodeRuntime.runMain(ExecServer.launch(server))
 */
export const layer: Layer.Layer<Running, never, Transport | Services> = layerServe.pipe(provideInOrder(layerSessions))

/**
 * Completes when the server has ended; fails if its transport fails. See `Running.ended`.
 *
 * @category running
 */
export const ended: Effect.Effect<void, TransportFailed, Running> = Effect.flatMap(Running, ({ ended }) => ended)

/**
 * Runs a server until it has ended, like `Layer.launch` for layers that end on their own. Fails as the layer and the
 * transport do. Interruption ends the server, as in `serve`.
 *
 * @category running
 * @example
 * NodeRuntime.runMain(
 *   ExecServer.launch(ExecServer.layer.pipe(Layer.provide(Stdio.layer), Layer.provide(NodeServices.layer)))
 * )
 */
export const launch = <E, R>(server: Layer.Layer<Running, E, R>): Effect.Effect<void, E | TransportFailed, R> =>
  Effect.provide(ended, server)
