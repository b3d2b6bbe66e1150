/**
 * A server from its settings, with what is said of it on the command line.
 *
 * @since 0.1.0
 */
import v8 from "node:v8"
import * as Effect from "effect/Effect"
import * as Posix from "../process/Posix.js"
import * as ExecServer from "../server/ExecServer.js"
import * as Exposure from "../server/Exposure.js"
import * as ServerConfig from "../server/ServerConfig.js"
import * as Telemetry from "../server/Telemetry.js"
import { Transport } from "../transport/Transport.js"

/** One line for each registration, for people. */
const announceRegistration = (environmentId: string) =>
  Effect.sync(() => {
    process.stderr.write(`codex exec-server remote environment registered with environment_id ${environmentId}\n`)
  })

/** Two lines: the address alone for programs, on stdout; a sentence for people, on stderr. */
export const announce = (name: string, address: string): Effect.Effect<void> =>
  Effect.sync(() => {
    process.stderr.write(`${name} listening on ${address}\n`)
    process.stdout.write(`${address}\n`)
  })

/** What somebody who has started the server by hand may want to do next. */
const suggest = (address: string) =>
  Effect.sync(() => {
    if (process.stderr.isTTY) process.stderr.write(`try: npx exec-server run --url ${address} -- echo hello\n`)
  })

const announceServer = (exposure: Exposure.Exposure) =>
  Effect.flatMap(Transport, ({ address }) =>
    exposure._tag === "WebSocket" ? Effect.zipRight(announce("exec-server", address), suggest(address)) : Effect.void
  )

/** Freed memory that each heap of the C library keeps, in bytes. */
const keptFreedBytes = 524288

/**
 * How memory is given back in a server, once it has started: with other flags Node.js compiles its own modules anew,
 * which the start would wait for.
 *
 * The space for young objects stays at the size that the start has made it: four times that, which it would grow to, is
 * taken by garbage alone, and would be most of what connections and processes seem to cost (`node scratch/bench.mjs
 * --only rss`); requests are served as fast. What compiling has taken goes back to the system: with it, connections seem
 * to cost half as much again.
 *
 * Few young objects live, so that one thread is done with them in 0.3 ms. With more, it waits until the others were
 * given a processor: where children and clients keep all of them busy, up to ten times as long (`node
 * scratch/relay.mjs` with `--trace-gc` shows both).
 */
export const limitMemory: Effect.Effect<void> = Effect.sync(() => {
  for (const flag of ["semi-space-growth-factor=1", "no-parallel-scavenge", "no-concurrent-array-buffer-sweeping"]) {
    v8.setFlagsFromString(`--${flag}`)
  }
}).pipe(
  // Where the native part is missing, every start of a process says so.
  Effect.zipRight(Effect.ignore(Effect.try(() => Posix.keepFreed(keptFreedBytes))))
)

const sessions = ({ contain }: ServerConfig.ServerConfig) =>
  contain === "namespace" ? ExecServer.layerContained : ExecServer.layer

/** Serves until it is interrupted, or there is nobody left to serve. Fails where it cannot start, with why. */
export const serve = (config: ServerConfig.ServerConfig) =>
  Effect.flatMap(Exposure.parse(config), (exposure) =>
    announceServer(exposure).pipe(
      Effect.zipRight(limitMemory),
      Effect.zipRight(ExecServer.serve),
      Effect.provide(Exposure.layer(exposure, announceRegistration)),
      Effect.provide(sessions(config)),
      Effect.provide(ServerConfig.limits(config)),
      Effect.provide(Telemetry.layer(config))
    )
  )
