/**
 * The server: sessions over services, and peers of a transport served by them.
 *
 * `layer` needs a `Transport` (`WebSocket.layer`, `Stdio.layer`, `Memory.layer`, `RelayTransport.layer`) and the services
 * (`NodeServices.layer`, or others in their place); `Limits.layer`, provided last, bounds them all.
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
 * What answers requests, without a transport: `ExecClient.layerInProcess` and `HttpUpgrade.serve` need no more.
 *
 * @category models
 */
export type Sessions = SessionRegistry | Handlers.Handlers

/**
 * What sessions work with: `NodeServices` are the real ones.
 *
 * @category models
 */
export type Services = Spawner | OutputBuffer | FileSystem | HttpRunner

/**
 * Sessions without a transport, for clients in this process and for the routes of an HTTP server.
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

/** How many of the processes that a shutdown has ended are named. */
const maxNamed = 20

/** Says what a shutdown has ended: ids, pids and how, but no arguments, which may hold secrets. */
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
 * Serves the peers of a transport until there can be no further one. When interrupted: no peer is accepted any more,
 * those connected are told, and all processes are ended with `shutdownGracePeriod` between SIGTERM and SIGKILL.
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
      // Sessions first, so that the end of a connection finds its session already ending, with its grace.
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
 * A server that runs.
 *
 * @category tags
 */
export class Running extends Context.Tag("exec-server/ExecServer/Running")<
  Running,
  {
    /** Where clients find it, in the words of its transport: `ws://127.0.0.1:8080` with the port that it got. */
    readonly address: string
    /**
     * Completes when there can be no further peer and the last one is gone, such as at the end of stdin, or when the
     * server ends with its scope. Fails where the transport does.
     */
    readonly ended: Effect.Effect<void, TransportFailed>
  }
>() {}

/**
 * A running server of sessions that are there already, for applications that use these also without a transport. `ended`
 * says when it has ended; a failure of the transport that nobody waits for is logged.
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
      // A server that ends with its scope has ended in good order.
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
 * A running server: a transport, the services, and limits where the defaults are not wanted. It ends with its scope, as
 * `serve` does; `launch` runs it until it ends by itself.
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
 * Completes when the server has ended, and fails where its transport does: `Running.ended`.
 *
 * @category running
 */
export const ended: Effect.Effect<void, TransportFailed, Running> = Effect.flatMap(Running, ({ ended }) => ended)

/**
 * Runs the server of a layer until it has ended: what `Layer.launch` is for layers that do not end by themselves. It
 * fails as the layer and the transport do; interrupting it ends the server, as `serve` does.
 *
 * @category running
 * @example
 * NodeRuntime.runMain(
 *   ExecServer.launch(ExecServer.layer.pipe(Layer.provide(Stdio.layer), Layer.provide(NodeServices.layer)))
 * )
 */
export const launch = <E, R>(server: Layer.Layer<Running, E, R>): Effect.Effect<void, E | TransportFailed, R> =>
  Effect.provide(ended, server)
