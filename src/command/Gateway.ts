/**
 * `gateway`: runs a gateway of a fleet.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as EmbeddedDatabase from "../fleet/EmbeddedDatabase.js"
import * as FleetDirectory from "../fleet/FleetDirectory.js"
import * as FleetMetrics from "../fleet/FleetMetrics.js"
import { Gateway, type Options as GatewayOptions } from "../fleet/Gateway.js"
import * as PrivateFile from "../internal/PrivateFile.js"
import { provideInOrder } from "../internal/Wiring.js"
import * as RendezvousConfig from "../remote/RendezvousConfig.js"
import * as ListenConfig from "../server/ListenConfig.js"
import * as Logging from "../server/Logging.js"
import * as Metrics from "../server/Metrics.js"
import * as ServerConfig from "../server/ServerConfig.js"
import * as Authenticator from "../transport/Authenticator.js"
import * as ListenUrl from "../transport/ListenUrl.js"
import * as Tls from "../transport/Tls.js"
import { announce } from "./Announce.js"
import { UsageError } from "./CommandExit.js"
import { eraseSecrets } from "./EraseSecrets.js"
import * as MemoryTuning from "./MemoryTuning.js"

/** The flags as given. */
export interface Flags {
  readonly listen: string
  readonly database: string
  readonly ownUrl: string | undefined
  readonly executorTokenFile: string | undefined
  readonly executorSecretFile: string | undefined
  readonly wsAuth: "capability-token" | "signed-bearer-token" | undefined
  readonly wsTokenFile: string | undefined
  readonly wsSharedSecretFile: string | undefined
  readonly wsIssuer: string | undefined
  readonly wsAudience: string | undefined
  readonly consoleTokenFile: string | undefined
  readonly consoleViewerTokenFile: string | undefined
  readonly tlsCert: string | undefined
  readonly tlsKey: string | undefined
  readonly quota: string | undefined
  readonly wait: number | undefined
  readonly grace: number | undefined
  readonly lease: number | undefined
  readonly insecure: boolean
  readonly logFormat: "text" | "json"
  readonly logLevel: ServerConfig.ServerConfig["logLevel"]
}

const wrong = (message: string) => Either.left(new UsageError({ message }))

/** The shortest lease that the beats of a busy machine keep, and the longest one, in milliseconds. */
const leases = { least: 3000, most: 3_600_000 } as const

const parseLease = (ms = FleetDirectory.defaultLeaseMs) =>
  ms >= leases.least && ms <= leases.most
    ? Either.right(ms)
    : wrong(`--lease must be from ${leases.least / 1000} seconds to an hour`)

const parseQuota = (text: string | undefined) =>
  text === undefined
    ? Either.right(undefined)
    : /^\d{1,6}$/.test(text)
      ? Either.right(Number(text))
      : wrong(`--quota must be a number of sessions, not \`${text}\``)

/** The database, without the secrets of its URL in a message. */
const parseDatabase = (text: string) => {
  if (/^postgres(ql)?:\/\//.test(text) && URL.canParse(text)) {
    return Either.right(
      Layer.unwrapEffect(
        Effect.map(
          // Loaded by whoever uses it.
          Effect.promise(() => import("../fleet/PostgresDatabase.js")),
          ({ layer }) => layer(text)
        )
      )
    )
  }
  const [, folder] = /^file:(?:\/\/(?=\/))?(.+)$/.exec(text) ?? []
  return folder === undefined
    ? wrong("--database must be postgres://USER@HOST/NAME, or file:DIR for a fleet with one gateway")
    : Either.right(EmbeddedDatabase.layer(folder))
}

const parse = (flags: Flags) =>
  Either.gen(function* () {
    const tls = yield* Either.mapLeft(
      Tls.fromFlags(flags.tlsCert, flags.tlsKey),
      (message) => new UsageError({ message })
    )
    const place = yield* Either.mapLeft(
      ListenUrl.parse(flags.listen, tls !== undefined),
      (message) => new UsageError({ message })
    )
    if (place === undefined || "path" in place.address) return yield* wrong(ListenUrl.invalidWebSocket(flags.listen))
    const { ownUrl, insecure } = flags
    if (ownUrl !== undefined && !/^wss?:\/\/[^/?#@]+$/.test(ownUrl)) {
      return yield* wrong(`invalid --own-url \`${ownUrl}\`; expected \`ws://HOST:PORT\` or \`wss://HOST:PORT\``)
    }
    const { wsAuth, wsTokenFile, wsSharedSecretFile, wsIssuer, wsAudience } = flags
    const auth = yield* ListenConfig.parseAuth({
      ...ServerConfig.defaults,
      wsAuth,
      wsTokenFile,
      wsSharedSecretFile,
      wsIssuer,
      wsAudience
    })
    const hostToken = yield* RendezvousConfig.readCredential(
      "executor",
      { token: flags.executorTokenFile, secret: flags.executorSecretFile },
      process.env
    )
    if (!place.isLocal && !insecure && (hostToken === undefined || auth._tag === "Nobody")) {
      return yield* wrong(
        `refusing to listen on ${flags.listen}: anybody who can reach it could run commands; give ` +
          "--executor-secret-file for hosts and --ws-auth for clients, or pass --insecure"
      )
    }
    const leaseMs = yield* parseLease(flags.lease)
    const options: GatewayOptions = {
      address: place.address,
      tls,
      hostToken,
      ownUrl,
      leaseMs,
      waitMs: flags.wait,
      graceMs: flags.grace,
      allowLocalUsers: !place.isLocal
    }
    return { options, auth, quota: yield* parseQuota(flags.quota), database: yield* parseDatabase(flags.database) }
  })

/** Serves until it is interrupted. */
export const gateway = (flags: Flags) =>
  Effect.gen(function* () {
    const { options, auth, quota, database } = yield* parse(flags)
    // Before anything else: whatever starts later must not inherit them.
    yield* eraseSecrets
    const { logFormat, logLevel, executorTokenFile, executorSecretFile } = flags
    const { consoleTokenFile, consoleViewerTokenFile } = flags
    const readable = (what: string, file: string | undefined) =>
      file === undefined ? Effect.void : PrivateFile.warn(what, file)
    yield* Effect.flatMap(Gateway, ({ address }) => announce("exec-server gateway", address)).pipe(
      Effect.zipRight(readable("the token in", executorTokenFile)),
      Effect.zipRight(readable("the secret in", executorSecretFile)),
      Effect.zipRight(MemoryTuning.tuneServer),
      Effect.zipRight(Effect.never),
      Effect.provide(
        Gateway.layer(options).pipe(
          Layer.provide(FleetDirectory.FleetDirectory.layer({ leaseMs: options.leaseMs, quota })),
          Layer.provide(database),
          provideInOrder(
            ListenConfig.layerAuth(auth),
            Authenticator.layerRoleTokens({ operatorFile: consoleTokenFile, viewerFile: consoleViewerTokenFile }),
            Metrics.layerOf(FleetMetrics.register)
          )
        )
      ),
      Effect.provide(Logging.layer({ logFormat, logLevel }))
    )
  })
