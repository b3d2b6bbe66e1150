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
import { announce, announceRegistration } from "./Announce.js"
import { eraseSecrets } from "./EraseSecrets.js"
import * as Invitation from "./Invitation.js"
import * as MemoryTuning from "./MemoryTuning.js"
import * as ServerExit from "./ServerExit.js"
import { stdinClosed } from "./StdinClosed.js"

/** Suggests a first command to a user at a terminal. */
const suggest = (address: string) =>
  Effect.sync(() => {
    if (process.stderr.isTTY) process.stderr.write(`try: npx exec-server run --url ${address} -- echo hello\n`)
  })

const announceServer = (listen: ListenConfig.ListenConfig, console: Invitation.Invitation | undefined) =>
  Effect.flatMap(Transport, ({ address }) =>
    listen._tag === "WebSocket"
      ? Effect.all([announce("exec-server", address), Invitation.announce(console, address), suggest(address)])
      : Effect.void
  )

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
  Effect.flatMap(ListenConfig.parse(config), (listen) => {
    const console = Invitation.make(listen)
    return announceServer(listen, console).pipe(
      Effect.zipRight(
        watchesStdin(config, listen) ? Effect.raceFirst(ExecServer.ended, stdinClosed) : ExecServer.ended
      ),
      Effect.provide(ExecServer.layerServe),
      Effect.provide(ListenConfig.layer(listen, announceRegistration)),
      Effect.provide(mcp(config)),
      Effect.provide(ExecServer.layerSessions.pipe(provideInOrder(services(config)))),
      Effect.provide(Limits.ofSettings(config)),
      Effect.provide(recordings(config)),
      // Tokens are authenticated by what listens.
      Effect.provide(listen._tag === "WebSocket" ? Shares.layer(config.maxShares) : Layer.empty),
      Effect.provideService(ConsolePage, console?.page),
      Effect.provideService(ServerFiles, ListenConfig.serverFiles(config, listen, configFile)),
      Effect.provide(Telemetry.layer(config)),
      Effect.provide(secondSignal),
      // Before anything else: whatever starts later must not inherit them.
      (server) => Effect.zipRight(eraseSecrets, server),
      // Building the services would let the young generation grow.
      (server) => Effect.zipRight(MemoryTuning.tuneServer, server)
    )
  })
