/**
 * Runs a server with the given settings, and prints its address.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { provideInOrder } from "../internal/Wiring.js"
import { SkipGrace } from "../process/SkipGrace.js"
import { ServerFiles } from "../sandbox/ServerFiles.js"
import * as ExecServer from "../server/ExecServer.js"
import * as Limits from "../server/Limits.js"
import * as ListenConfig from "../server/ListenConfig.js"
import * as NodeServices from "../server/NodeServices.js"
import type * as ServerConfig from "../server/ServerConfig.js"
import * as Telemetry from "../server/Telemetry.js"
import * as RecordingStore from "../session/RecordingStore.js"
import * as Shares from "../session/Shares.js"
import { ConsolePage } from "../transport/ConsolePage.js"
import { Transport } from "../transport/Transport.js"
import * as Upgradable from "../upgrade/Upgradable.js"
import { announce } from "./Announce.js"
import { erased, eraseSecrets } from "./EraseSecrets.js"
import * as Invitation from "./Invitation.js"
import * as MemoryTuning from "./MemoryTuning.js"
import * as ServerExit from "./ServerExit.js"

/** Prints a line for each registration (the original's text). */
const announceRegistration = (environmentId: string) =>
  Effect.sync(() => {
    process.stderr.write(`codex exec-server remote environment registered with environment_id ${environmentId}\n`)
  })

/** Suggests a first command to a user at a terminal. */
const suggest = (address: string) =>
  Effect.sync(() => {
    if (process.stderr.isTTY) process.stderr.write(`try: npx exec-server run --url ${address} -- echo hello\n`)
  })

const announceServer = (listen: ListenConfig.ListenConfig, console: Invitation.Invitation | undefined) =>
  Effect.flatMap(Transport, ({ address }) =>
    listen._tag === "WebSocket"
      ? Effect.all([announce("exec-server", address), Invitation.announce(console, address), suggest(address)], {
          discard: true
        })
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

/** Waits for the end of stdin; discards its content. */
const stdinClosed = Effect.async<void>((resume) => {
  const { stdin } = process
  const onEnd = () => resume(Effect.void)
  for (const event of ["end", "close", "error"]) stdin.once(event, onEnd)
  stdin.resume()
  return Effect.sync(() => {
    for (const event of ["end", "close", "error"]) stdin.off(event, onEnd)
    stdin.pause()
  })
})

/** Whether to watch stdin. On stdio the transport does: the end of stdin ends the server anyway. */
const watchesStdin = ({ exitOnStdinClose }: ServerConfig.ServerConfig, { _tag }: ListenConfig.ListenConfig) =>
  exitOnStdinClose && _tag !== "Stdio"

/**
 * Serves until it is interrupted or the last peer of a stdio server is gone. Fails if it cannot start. `configFile` is
 * the path of the configuration file that was read.
 */
export const serve = (config: ServerConfig.ServerConfig, configFile: string | undefined) =>
  Effect.flatMap(Effect.all([ListenConfig.parse(config), Upgradable.make]), ([listen, upgradable]) => {
    const console = consoleOf(listen, upgradable)
    const control = controlOf(config, listen)
    const rest = { secrets: erased, reloading: Effect.void, ready: Effect.void }
    return Upgradable.begin(announceServer(listen, console), control, upgradable, rest).pipe(
      Effect.zipRight(
        watchesStdin(config, listen) ? Effect.raceFirst(ExecServer.ended, stdinClosed) : ExecServer.ended
      ),
      Effect.scoped,
      Effect.provide(ExecServer.layerServe),
      Effect.provide(ListenConfig.layer(listen, announceRegistration)),
      Effect.provide(mcp(config)),
      Effect.provide(Upgradable.layerSessions(upgradable)),
      Effect.provide(ExecServer.layerSessions.pipe(provideInOrder(services(config)))),
      Effect.provide(Limits.ofSettings(config)),
      Effect.provide(recordings(config)),
      // Tokens are authenticated by what listens.
      Effect.provide(listen._tag === "WebSocket" ? Shares.layer(config.maxShares) : Layer.empty),
      Effect.provideService(ConsolePage, console?.page),
      Effect.provideService(
        ServerFiles,
        ListenConfig.serverFiles(config, listen, configFile, Upgradable.pathOf(control))
      ),
      Effect.provide(Upgradable.layer(upgradable)),
      Effect.provide(Telemetry.layer(config)),
      Effect.provide(secondSignal),
      // Before anything else: whatever starts later must not inherit them.
      (server) => Effect.zipRight(eraseSecrets, server),
      // Building the services would let the young generation grow.
      (server) => Effect.zipRight(MemoryTuning.tuneServer, server)
    )
  })
