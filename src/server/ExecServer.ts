/**
 * The server: services put together, and the effect that serves.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { FileSystem } from "../filesystem/FileSystem.js"
import { HttpRunner } from "../http/HttpRunner.js"
import { provideInOrder } from "../internal/Wiring.js"
import { OutputBuffer } from "../process/OutputBuffer.js"
import { ProcessLimits } from "../process/ProcessLimits.js"
import { ProcessSupervisor } from "../process/ProcessSupervisor.js"
import type { ProcessInfo } from "../protocol/ExecApi.js"
import { clip } from "../protocol/Schemas.js"
import { Bubblewrap, type BubblewrapUnavailable, layerSpawner, layerSpawnerContained } from "../sandbox/Bubblewrap.js"
import { Confiner } from "../sandbox/Confiner.js"
import { FileViews } from "../sandbox/FileViews.js"
import * as Connection from "../session/Connection.js"
import * as Handlers from "../session/Handlers.js"
import { SessionRegistry } from "../session/SessionRegistry.js"
import type { Spawner } from "../spawn/Spawner.js"
import { Transport, type TransportFailed } from "../transport/Transport.js"
import * as ServerConfig from "./ServerConfig.js"

/** Sessions over whatever starts processes, keeps output, has files and makes HTTP requests: the layer to give mocks to. */
export const layerSessions: Layer.Layer<
  SessionRegistry | Handlers.Handlers,
  never,
  Spawner | OutputBuffer | FileSystem | HttpRunner
> = Handlers.layer.pipe(Layer.provideMerge(SessionRegistry.layer), provideInOrder(ProcessSupervisor.layer))

/** What real processes of either kind have around them. */
const others = [
  OutputBuffer.layer,
  FileSystem.layer,
  HttpRunner.layer,
  Bubblewrap.layerReal,
  Confiner.layer,
  FileViews.layer
] as const

/** Sessions of real processes, each in a PID namespace of its own; fails where bubblewrap cannot make these. */
export const layerContained: Layer.Layer<SessionRegistry | Handlers.Handlers, BubblewrapUnavailable> =
  layerSessions.pipe(provideInOrder(layerSpawnerContained, ...others))

/** Sessions of real processes and files. */
export const layer: Layer.Layer<SessionRegistry | Handlers.Handlers> = layerSessions.pipe(
  provideInOrder(layerSpawner, ...others)
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

/** A server that runs. */
export class Running extends Context.Tag("exec-server/ExecServer/Running")<
  Running,
  {
    /**
     * Completes when there can be no further peer and the last one is gone, such as at the end of stdin, or when the
     * server ends with its scope. Fails where the transport does.
     */
    readonly ended: Effect.Effect<void, TransportFailed>
  }
>() {}

/**
 * A running server, as a layer for larger applications. `ended` says when it has ended; a failure of the transport that
 * nobody waits for is logged.
 */
export const layerServe: Layer.Layer<Running, never, Transport | SessionRegistry | Handlers.Handlers> = Layer.scoped(
  Running,
  Effect.gen(function* () {
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
    return { ended }
  })
)

/** Completes when the server has ended, and fails where its transport does: `Running.ended`. */
export const ended: Effect.Effect<void, TransportFailed, Running> = Effect.flatMap(Running, ({ ended }) => ended)

/**
 * Runs the server of a layer until it has ended: what `Layer.launch` is for layers that do not end by themselves. It
 * fails as the layer and the transport do; interrupting it ends the server, as `serve` does.
 *
 * @example
 * NodeRuntime.runMain(ExecServer.launch(ExecServer.layerOf({}, Stdio.layer)))
 */
export const launch = <E, R>(server: Layer.Layer<Running, E, R>): Effect.Effect<void, E | TransportFailed, R> =>
  Effect.provide(ended, server)

/**
 * What a server is made of where nothing else is said, each replaceable alone; `Clock` and `HostInfo` are references.
 * `confiner` and `fileViews` enforce sandboxes by bubblewrap, which is looked for when the first one is asked for.
 */
export const defaultServices = {
  spawner: layerSpawner,
  outputBuffer: OutputBuffer.layer,
  fileSystem: FileSystem.layer,
  httpRunner: HttpRunner.layer,
  sessionRegistry: Layer.provide(SessionRegistry.layer, ProcessSupervisor.layer),
  confiner: Layer.provide(Confiner.layer, Bubblewrap.layerReal),
  fileViews: Layer.provide(FileViews.layer, Bubblewrap.layerReal)
} satisfies {
  readonly spawner: Layer.Layer<Spawner>
  readonly outputBuffer: Layer.Layer<OutputBuffer>
  readonly fileSystem: Layer.Layer<FileSystem>
  readonly httpRunner: Layer.Layer<HttpRunner>
  readonly sessionRegistry: Layer.Layer<SessionRegistry, never, Spawner | OutputBuffer>
  readonly confiner: Layer.Layer<never>
  readonly fileViews: Layer.Layer<never>
}

/** Services in the place of the default ones; the errors and needs of their layers are those of the server. */
export interface Replacements<E = never, R = never> {
  readonly spawner?: Layer.Layer<Spawner, E, R>
  readonly outputBuffer?: Layer.Layer<OutputBuffer, E, R>
  readonly fileSystem?: Layer.Layer<FileSystem, E, R>
  readonly httpRunner?: Layer.Layer<HttpRunner, E, R>
  readonly sessionRegistry?: Layer.Layer<SessionRegistry, E, R | Spawner | OutputBuffer>
  /** Decides what of a sandbox is enforced: `Confiner`. The default one trusts the spawner to keep a `confinement`. */
  readonly confiner?: Layer.Layer<never, E, R>
  /** Gives requests on files what their sandbox leaves of these: `FileViews`. */
  readonly fileViews?: Layer.Layer<never, E, R>
}

/**
 * What enforces sandboxes. A spawner of the application's own may not know of them, and views of real files are none of
 * files of its own: where these are replaced, sandboxes are refused, unless it is said who enforces them.
 */
const enforcing = <E, R>({ spawner, fileSystem, confiner, fileViews }: Replacements<E, R>) =>
  Layer.merge(
    confiner ?? (spawner === undefined ? defaultServices.confiner : Layer.empty),
    fileViews ?? (fileSystem === undefined ? defaultServices.fileViews : Layer.empty)
  )

/**
 * Sessions over the default services, but for those replaced. Sandboxes of processes are refused where `spawner` is
 * replaced without `confiner`, those of requests on files also where `fileSystem` is without `fileViews`.
 *
 * @example
 * const sessions = ExecServer.layerWith({ spawner: FakeSpawner.FakeSpawner.layer })
 */
export const layerWith = <E = never, R = never>(
  replacements: Replacements<E, R>
): Layer.Layer<SessionRegistry | Handlers.Handlers, E, R> => {
  const { spawner, outputBuffer, fileSystem, httpRunner, sessionRegistry } = { ...defaultServices, ...replacements }
  return Handlers.layer.pipe(
    Layer.provideMerge(sessionRegistry),
    Layer.provide([spawner, outputBuffer, fileSystem, httpRunner, enforcing(replacements)])
  )
}

/** What bounds a server, and how its processes are kept together; whatever is missing is the default. */
export type Options = Partial<ServerConfig.Limits & Pick<ServerConfig.ServerConfig, "contain">>

/**
 * A running server: a configuration, a transport, and services in the place of the default ones. The limits hold for the
 * transport as well. It ends with its scope, as `serve` does; `launch` runs it until it ends by itself. Fails as the
 * transport does, or where processes should be contained and bubblewrap cannot do that.
 *
 * @example
 * const server = ExecServer.layerOf({ maxSessions: 16 }, WebSocket.layer({ host: "127.0.0.1", port: 0 }))
 */
export const layerOf = <T, TE, TR, E = never, R = never>(
  options: Options,
  transport: Layer.Layer<Transport | T, TE, TR>,
  replacements: Replacements<E, R> = {}
): Layer.Layer<
  Running | Transport | T | SessionRegistry | Handlers.Handlers,
  TE | E | BubblewrapUnavailable,
  TR | R
> => {
  const config = { ...ServerConfig.defaults, ...options }
  const contained: Replacements<BubblewrapUnavailable> =
    config.contain === "namespace" && replacements.spawner === undefined
      ? { spawner: layerSpawnerContained, confiner: defaultServices.confiner }
      : {}
  const sessions = layerWith<E | BubblewrapUnavailable, R>({ ...contained, ...replacements })
  return layerServe.pipe(
    Layer.provideMerge(Layer.merge(sessions, transport)),
    Layer.provide(ServerConfig.layerLimits(config))
  )
}

/** The same with a configuration that is read when the server is built: `ServerConfig.config`, or one of your own. */
export const layerConfig = <T, TE, TR, E = never, R = never>(
  options: Config.Config<Options>,
  transport: Layer.Layer<Transport | T, TE, TR>,
  replacements: Replacements<E, R> = {}
): Layer.Layer<
  Running | Transport | T | SessionRegistry | Handlers.Handlers,
  TE | E | BubblewrapUnavailable | ConfigError,
  TR | R
> => Layer.unwrapEffect(Effect.map(options, (options) => layerOf(options, transport, replacements)))
