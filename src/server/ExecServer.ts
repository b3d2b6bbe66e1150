/**
 * The server: services put together, and the effect that serves.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { OutputBuffer } from "../process/OutputBuffer.js"
import { ProcessLimits } from "../process/ProcessLimits.js"
import { ProcessSupervisor } from "../process/ProcessSupervisor.js"
import { Spawner } from "../process/Spawner.js"
import * as Connection from "../session/Connection.js"
import * as Handlers from "../session/Handlers.js"
import { SessionRegistry } from "../session/SessionRegistry.js"
import { Transport, type TransportFailed } from "../transport/Transport.js"

/** Sessions over whatever starts processes and keeps output: the layer to give mocks to. */
export const layerSessions: Layer.Layer<SessionRegistry | Handlers.Handlers, never, Spawner | OutputBuffer> =
  Handlers.layer.pipe(Layer.provideMerge(SessionRegistry.layer), Layer.provide(ProcessSupervisor.layer))

/** Sessions of real processes. */
export const layer: Layer.Layer<SessionRegistry | Handlers.Handlers> = layerSessions.pipe(
  Layer.provide([Spawner.layer, OutputBuffer.layer])
)

/**
 * Serves the peers of a transport until there can be no further one. When interrupted: no peer is accepted any more,
 * those connected are told, and all processes are ended with `shutdownGracePeriodMs` between SIGTERM and SIGKILL.
 */
export const serve: Effect.Effect<void, TransportFailed, Transport | SessionRegistry | Handlers.Handlers> = Effect.gen(
  function* () {
    const transport = yield* Transport
    const registry = yield* SessionRegistry
    const { shutdownGracePeriodMs } = yield* ProcessLimits
    const peers = yield* Effect.fork(transport.run(Connection.serve))
    yield* Fiber.join(peers).pipe(
      Effect.onInterrupt(() =>
        // Sessions first, so that the end of a connection finds its session already ending, with its grace.
        Effect.all([registry.end(shutdownGracePeriodMs), Fiber.interrupt(peers)], { concurrency: 2, discard: true })
      )
    )
  }
)

/** A running server, as a layer for larger applications. */
export const layerServe: Layer.Layer<never, never, Transport | SessionRegistry | Handlers.Handlers> =
  Layer.scopedDiscard(
    Effect.forkScoped(Effect.catchAll(serve, ({ message }) => Effect.logError("no peer can connect any more", message)))
  )
