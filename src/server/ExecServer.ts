/**
 * The server: services put together, and the effect that serves.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { FileSystem } from "../filesystem/FileSystem.js"
import { OutputBuffer } from "../process/OutputBuffer.js"
import { ProcessLimits } from "../process/ProcessLimits.js"
import { ProcessSupervisor } from "../process/ProcessSupervisor.js"
import { Spawner } from "../process/Spawner.js"
import * as Connection from "../session/Connection.js"
import * as Handlers from "../session/Handlers.js"
import { SessionRegistry } from "../session/SessionRegistry.js"
import { Transport } from "../transport/Transport.js"

/** Sessions over whatever starts processes, keeps output and has files: the layer to give mocks to. */
export const layerSessions: Layer.Layer<
  SessionRegistry | Handlers.Handlers,
  never,
  Spawner | OutputBuffer | FileSystem
> = Handlers.layer.pipe(Layer.provideMerge(SessionRegistry.layer), Layer.provide(ProcessSupervisor.layer))

/** Sessions of real processes and files. */
export const layer: Layer.Layer<SessionRegistry | Handlers.Handlers> = layerSessions.pipe(
  Layer.provide([Spawner.layer, OutputBuffer.layer, FileSystem.layer])
)

/**
 * Serves the peers of a transport until there can be no further one. When interrupted: no peer is accepted any more,
 * those connected are told, and all processes are ended with `shutdownGracePeriodMs` between SIGTERM and SIGKILL.
 */
export const serve: Effect.Effect<void, never, Transport | SessionRegistry | Handlers.Handlers> = Effect.gen(
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
  Layer.scopedDiscard(Effect.forkScoped(serve))
