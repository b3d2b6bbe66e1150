/**
 * The server: services put together, and the effect that serves.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { FileSystem } from "../filesystem/FileSystem.js"
import { HttpRunner } from "../http/HttpRunner.js"
import { Bubblewrap, type BubblewrapUnavailable } from "../process/Bubblewrap.js"
import { Confiner } from "../process/Confiner.js"
import { OutputBuffer } from "../process/OutputBuffer.js"
import { ProcessLimits } from "../process/ProcessLimits.js"
import { ProcessSupervisor } from "../process/ProcessSupervisor.js"
import { Spawner } from "../process/Spawner.js"
import type { ProcessInfo } from "../protocol/ExecApi.js"
import { clip } from "../protocol/Schemas.js"
import * as Connection from "../session/Connection.js"
import { FileViews } from "../session/FileViews.js"
import * as Handlers from "../session/Handlers.js"
import { SessionRegistry } from "../session/SessionRegistry.js"
import { Transport, type TransportFailed } from "../transport/Transport.js"

/** Sessions over whatever starts processes, keeps output, has files and makes HTTP requests: the layer to give mocks to. */
export const layerSessions: Layer.Layer<
  SessionRegistry | Handlers.Handlers,
  never,
  Spawner | OutputBuffer | FileSystem | HttpRunner
> = Handlers.layer.pipe(Layer.provideMerge(SessionRegistry.layer), Layer.provide(ProcessSupervisor.layer))

const layerSandbox = Layer.merge(Confiner.layer, FileViews.layer).pipe(Layer.provide(Bubblewrap.layerReal))

const layerOthers = Layer.mergeAll(OutputBuffer.layer, FileSystem.layer, HttpRunner.layer, layerSandbox)

/** Sessions of real processes, each in a PID namespace of its own; fails where bubblewrap cannot make these. */
export const layerContained: Layer.Layer<SessionRegistry | Handlers.Handlers, BubblewrapUnavailable> =
  layerSessions.pipe(Layer.provide([Spawner.layerContained, layerOthers]))

/** Sessions of real processes and files. */
export const layer: Layer.Layer<SessionRegistry | Handlers.Handlers> = layerSessions.pipe(
  Layer.provide([Spawner.layer, layerOthers])
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
        Effect.zipRight(
          registry.close,
          Effect.all([Effect.flatMap(registry.end(shutdownGracePeriodMs), report), Fiber.interrupt(peers)], {
            concurrency: 2,
            discard: true
          })
        )
      )
    )
  }
)

/** A running server, as a layer for larger applications. */
export const layerServe: Layer.Layer<never, never, Transport | SessionRegistry | Handlers.Handlers> =
  Layer.scopedDiscard(
    Effect.forkScoped(Effect.catchAll(serve, ({ message }) => Effect.logError("no peer can connect any more", message)))
  )
