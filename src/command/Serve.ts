/**
 * Runs a server with the given settings, and prints its address.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ServiceVariables from "../internal/ServiceVariables.js"
import { provideAtOnce, tapErrorCause } from "../internal/Wiring.js"
import { SkipGrace } from "../process/SkipGrace.js"
import { ServerFiles } from "../sandbox/ServerFiles.js"
import * as ExecServer from "../server/ExecServer.js"
import * as Limits from "../server/Limits.js"
import * as ListenConfig from "../server/ListenConfig.js"
import * as NodeServices from "../server/NodeServices.js"
import * as ServerConfig from "../server/ServerConfig.js"
import { ServiceManager } from "../server/ServiceManager.js"
import * as Telemetry from "../server/Telemetry.js"
import * as RecordingStore from "../session/RecordingStore.js"
import * as Shares from "../session/Shares.js"
import * as CarriedListener from "../transport/CarriedListener.js"
import { ConsolePage } from "../transport/ConsolePage.js"
import { Transport } from "../transport/Transport.js"
import * as Upgradable from "../upgrade/Upgradable.js"
import { announce, announceRegistration } from "./Announce.js"
import { erased, eraseSecrets } from "./EraseSecrets.js"
import * as Invitation from "./Invitation.js"
import * as MemoryTuning from "./MemoryTuning.js"
import * as ServerExit from "./ServerExit.js"
import { stdinClosed } from "./StdinClosed.js"

/** Prints a line for each registration, and tells the service manager. */
const onRegistered = (environmentId: string) =>
  Effect.zipRight(
    announceRegistration(environmentId),
    Effect.flatMap(ServiceManager, ({ ready }) => ready(`registered as ${environmentId}`))
  )

/** Suggests a first command to a user at a terminal. */
const suggest = (address: string) =>
  Effect.sync(() => {
    if (process.stderr.isTTY) process.stderr.write(`try: npx exec-server run --url ${address} -- echo hello\n`)
  })

const announceServer = (listen: ListenConfig.ListenConfig, console: Invitation.Invitation | undefined) =>
  Effect.flatMap(Transport, ({ address }) =>
    listen._tag === "WebSocket"
      ? Effect.all([
          announce("exec-server", address),
          Invitation.announce(console, address),
          suggest(address),
          Effect.flatMap(ServiceManager, ({ ready }) => ready(`listening on ${address}`))
        ])
      : Effect.void
  )

/** The console of a server, with the token that the version before has made. */
const consoleOf = (listen: ListenConfig.ListenConfig, { handover }: Upgradable.Upgradable) => {
  const before = handover.adopted(consolePart)
  const made = Invitation.make(listen, before === undefined ? undefined : Invitation.hashIn(before.state))
  if (made !== undefined) handover.contribute({ name: consolePart, freeze: () => Invitation.freeze(made) })
  return made
}

/** The name of its state. */
const consolePart = "console"

/** A server on stdio lives as long as its one client, which could not come back to it. */
const controlOf = ({ controlSocket }: ServerConfig.ServerConfig, { _tag }: ListenConfig.ListenConfig) =>
  _tag === "Stdio" ? Upgradable.noSocket : controlSocket

/** The service manager that has started this process. One on stdio is another program's part, not a service. */
const serviceManager = (listen: ListenConfig.ListenConfig) =>
  ServiceVariables.take().NOTIFY_SOCKET === undefined || listen._tag === "Stdio"
    ? Layer.empty
    : Layer.unwrapEffect(
        Effect.map(
          Effect.promise(() => import("../server/ServiceManagerSocket.js")),
          ({ layer }) => layer(ServiceVariables.take())
        )
      )

/**
 * Where to serve. A socket that a service manager has passed is looked at first; the version before may have left it,
 * under another number.
 */
const listening = (config: ServerConfig.ServerConfig, { handover }: Upgradable.Upgradable) =>
  config.listen.startsWith("fd:")
    ? Effect.flatMap(
        Effect.promise(() => import("../transport/PassedSockets.js")),
        ({ adopted, find }) => {
          const before = adopted(handover.adopted(CarriedListener.part))
          const found =
            before === undefined ? find(config.listen, ServiceVariables.take(), process.pid) : Either.right(before)
          return Either.flatMap(
            Either.mapLeft(found, (message) => new ServerConfig.ConfigError({ message })),
            (address) => ListenConfig.parse(config, address)
          )
        }
      )
    : Effect.zipRight(
        Effect.when(
          Effect.logWarning("the service manager has passed sockets, but only --listen fd:// uses one"),
          () => ServiceVariables.take().LISTEN_PID === String(process.pid)
        ),
        ListenConfig.parse(config)
      )

/** What a version that replaces this one is given, and who is told. */
const restOf = ({ _tag }: ListenConfig.ListenConfig) =>
  Effect.map(
    Effect.all([ServiceManager, Transport]),
    ([{ ready, reloading }, { address }]): Upgradable.Rest => ({
      secrets: { ...erased, ...ServiceVariables.take() },
      reloading,
      ready: ready(_tag === "WebSocket" ? `listening on ${address}` : `serving through ${address}`)
    })
  )

/** Begins to reap orphans, in a server that has to. */
class Reaping extends Context.Reference<Reaping>()("exec-server/Serve/Reaping", {
  defaultValue: (): Effect.Effect<void> => Effect.void
}) {}

/** The first process of a container has to reap orphans. */
const orphans =
  process.pid === 1
    ? Layer.scoped(
        Reaping,
        Effect.flatMap(
          Effect.promise(() => import("../spawn/Orphans.js")),
          ({ watch }) => watch
        )
      )
    : Layer.empty

const services = ({ contain }: ServerConfig.ServerConfig) =>
  contain === "namespace" ? NodeServices.layerContained : NodeServices.layer

const recordings = (config: ServerConfig.ServerConfig): Layer.Layer<never, RecordingStore.RecordingStoreError> => {
  const { recordingsDir, maxRecordings, maxRecordingBytes: maxBytes, recordingBytesTotal: totalBytes } = config
  return recordingsDir === undefined
    ? Layer.empty
    : RecordingStore.layer(recordingsDir, { maxRecordings, maxBytes, totalBytes })
}

/** Tools for agents. Servers without them need not load them. */
const mcp = (config: ServerConfig.ServerConfig) =>
  config.mcp
    ? Layer.unwrapEffect(
        Effect.map(
          Effect.promise(() => import("./McpServing.js")),
          ({ layer }) => layer(config)
        )
      )
    : Layer.empty

/**
 * Handles repeated signals. The first one shuts the server down (`bin.ts`), the second one skips the grace period of
 * processes, and the third one exits at once.
 */
const secondSignal = Layer.scoped(
  SkipGrace,
  Effect.gen(function* () {
    const came = yield* Deferred.make<void>()
    let count = 0
    const onSignal = (_: NodeJS.Signals, number: number) => {
      count++
      if (count === 2) Deferred.unsafeDone(came, Exit.void)
      if (count > 2) ServerExit.exit(128 + number)
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => void process.on("SIGINT", onSignal).on("SIGTERM", onSignal)),
      () => Effect.sync(() => void process.off("SIGINT", onSignal).off("SIGTERM", onSignal))
    )
    return Deferred.await(came)
  })
)

/** Whether to watch stdin. On stdio the transport does: the end of stdin ends the server anyway. */
const watchesStdin = ({ exitOnStdinClose }: ServerConfig.ServerConfig, { _tag }: ListenConfig.ListenConfig) =>
  exitOnStdinClose && _tag !== "Stdio"

/**
 * Serves until it is interrupted or the last peer of a stdio server is gone. Fails if it cannot start. `configFile` is
 * the path of the configuration file that was read.
 */
export const serve = (config: ServerConfig.ServerConfig, configFile: string | undefined) =>
  Effect.flatMap(Upgradable.make, (upgradable) =>
    Effect.flatMap(listening(config, upgradable), (listen) => {
      const console = consoleOf(listen, upgradable)
      const control = controlOf(config, listen)
      const orBack = <A, E, R>(layer: Layer.Layer<A, E, R>) => tapErrorCause(layer, upgradable.giveUp)
      const serving = Effect.flatMap(restOf(listen), (rest) =>
        Upgradable.begin(announceServer(listen, console), control, upgradable, rest)
      ).pipe(
        // One that takes over and cannot listen must not wait for that.
        Effect.raceFirst(ExecServer.ended),
        Effect.tapErrorCause(upgradable.giveUp),
        // Not before: by now each child is known to whoever waits for it.
        Effect.zipRight(Effect.flatten(Reaping)),
        Effect.zipRight(
          watchesStdin(config, listen) ? Effect.raceFirst(ExecServer.ended, stdinClosed) : ExecServer.ended
        ),
        Effect.ensuring(Effect.flatMap(ServiceManager, ({ stopping }) => stopping)),
        Effect.scoped
      )
      return serving.pipe(
        provideAtOnce(
          secondSignal,
          orphans,
          Telemetry.layer(config),
          serviceManager(listen),
          Upgradable.layer(upgradable),
          Layer.succeed(ServerFiles, ListenConfig.serverFiles(config, listen, configFile, Upgradable.pathOf(control))),
          Layer.succeed(ConsolePage, console?.page),
          // Tokens are authenticated by what listens.
          listen._tag === "WebSocket" ? Shares.layer(config.maxShares) : Layer.empty,
          recordings(config),
          Layer.succeedContext(Limits.ofSettings(config)),
          services(config),
          ExecServer.layerSessions,
          orBack(Upgradable.layerSessions(upgradable)),
          orBack(mcp(config)),
          orBack(ListenConfig.layer(listen, onRegistered)),
          orBack(ExecServer.layerServe)
        ),
        // Before anything else: whatever starts later must not inherit them.
        (server) => Effect.zipRight(eraseSecrets, server),
        // Building the services would let the young generation grow.
        (server) => Effect.zipRight(MemoryTuning.tuneServer, server)
      )
    })
  )
