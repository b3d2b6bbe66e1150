/**
 * Derives the listener and its access control from the settings, and checks these together.
 *
 * @since 0.1.0
 */
import { resolve } from "node:path"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type * as HostTransport from "../fleet/HostTransport.js"
import { isLoopback } from "../internal/Loopback.js"
import * as ServerSecrets from "../internal/ServerSecrets.js"
import { provideInOrder } from "../internal/Wiring.js"
import * as AwsKeys from "../remote/AwsKeys.js"
import * as Registration from "../remote/Registration.js"
import type { EndpointError } from "../remote/RelayEndpoint.js"
import * as RemoteAuth from "../remote/RemoteAuth.js"
import type * as RemoteTransport from "../remote/RemoteTransport.js"
import type { SessionRegistry } from "../session/SessionRegistry.js"
import * as Authenticator from "../transport/Authenticator.js"
import type * as Listener from "../transport/Listener.js"
import * as ListenUrl from "../transport/ListenUrl.js"
import * as Stdio from "../transport/Stdio.js"
import * as Tls from "../transport/Tls.js"
import type { ListenError, Transport } from "../transport/Transport.js"
import * as WebSocket from "../transport/WebSocket.js"
import * as AuditFile from "./AuditFile.js"
import * as Metrics from "./Metrics.js"
import { ConfigError, defaults, flagName, type ServerConfig } from "./ServerConfig.js"

/**
 * The access control of a WebSocket server.
 *
 * @category models
 */
export type Auth = Data.TaggedEnum<{
  Nobody: object
  CapabilityToken: { readonly source: Authenticator.TokenSource }
  SignedBearerToken: { readonly rules: Authenticator.BearerRules }
}>
export const Auth = Data.taggedEnum<Auth>()

/**
 * The web console of a server.
 *
 * @category models
 */
export interface Console {
  /** Its address in browsers, without `/console`, if it is not the server's own. */
  readonly publicUrl: URL | undefined
}

/**
 * The address that the server listens on, or the environment that it registers as.
 *
 * @category models
 */
export type ListenConfig = Data.TaggedEnum<{
  Stdio: object
  Remote: Pick<RemoteTransport.Options, "target" | "profile" | "identityFile"> & {
    readonly auth: RemoteAuth.BearerOptions
  }
  Direct: Pick<RemoteTransport.Options, "target"> & { readonly auth: AwsKeys.Options }
  Fleet: Pick<HostTransport.Options, "target" | "labels" | "capacity"> & { readonly auth: RemoteAuth.BearerOptions }
  WebSocket: {
    readonly address: Listener.Address
    readonly options: WebSocket.Options
    readonly auth: Auth
    readonly roles: Authenticator.RoleTokens
    /** Undefined if the web console is off. */
    readonly console: Console | undefined
  }
}>
export const ListenConfig = Data.taggedEnum<ListenConfig>()

const refuse = (message: string) => Either.left(new ConfigError({ message }))

/** The trimmed text; undefined if it is absent or blank. */
const trimmed = (text: string | undefined) => text?.trim() || undefined

/**
 * Reads the `--ws-*` flags; the failures have the original's texts.
 *
 * @category utilities
 */
export const parseAuth = (config: ServerConfig): Either.Either<Auth, ConfigError> => {
  const { wsTokenFile, wsTokenSha256, wsSharedSecretFile, wsIssuer, wsAudience, wsMaxClockSkewSeconds } = config
  const given = (...values: ReadonlyArray<unknown>) => values.some((value) => value !== undefined)
  const token = given(wsTokenFile, wsTokenSha256)
  const signed = given(wsSharedSecretFile, wsIssuer, wsAudience, wsMaxClockSkewSeconds)
  switch (config.wsAuth) {
    case undefined:
      return token || signed
        ? refuse("websocket auth flags require `--ws-auth capability-token` or `--ws-auth signed-bearer-token`")
        : Either.right(Auth.Nobody())
    case "capability-token": {
      if (signed) {
        return refuse(
          "`--ws-shared-secret-file`, `--ws-issuer`, `--ws-audience`, and `--ws-max-clock-skew-seconds` require " +
            "`--ws-auth signed-bearer-token`"
        )
      }
      if (wsTokenFile !== undefined && wsTokenSha256 !== undefined) {
        return refuse("`--ws-token-file` and `--ws-token-sha256` are mutually exclusive")
      }
      if (wsTokenFile !== undefined) return Either.right(Auth.CapabilityToken({ source: { file: wsTokenFile } }))
      if (wsTokenSha256 === undefined) {
        return refuse("`--ws-token-file` or `--ws-token-sha256` is required when `--ws-auth capability-token` is set")
      }
      const sha256 = wsTokenSha256.trim()
      return /^[0-9a-f]{64}$/i.test(sha256)
        ? Either.right(Auth.CapabilityToken({ source: { sha256 } }))
        : refuse("--ws-token-sha256 must be a 64-character hex SHA-256 digest")
    }
    case "signed-bearer-token": {
      if (token) {
        return refuse(
          "`--ws-token-file` and `--ws-token-sha256` require `--ws-auth capability-token`, not `signed-bearer-token`"
        )
      }
      if (wsSharedSecretFile === undefined) {
        return refuse("`--ws-shared-secret-file` is required when `--ws-auth signed-bearer-token` is set")
      }
      const rules = {
        secretFile: wsSharedSecretFile,
        issuer: trimmed(wsIssuer),
        audience: trimmed(wsAudience),
        maxClockSkewSeconds: wsMaxClockSkewSeconds
      }
      return Either.right(Auth.SignedBearerToken({ rules }))
    }
  }
}

const parseOrigins = ({ allowOrigin }: ServerConfig): Either.Either<ReadonlyArray<string>, ConfigError> => {
  const wrong = allowOrigin.find((origin) => !/^[a-z][a-z0-9+.-]*:\/\/[^\s/,*]+$/i.test(origin))
  return wrong === undefined
    ? Either.right(allowOrigin)
    : refuse(`--allow-origin: ${JSON.stringify(wrong)} is not an origin such as https://example.com`)
}

const parsePublicUrl = (text: string): Either.Either<URL, ConfigError> => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isPlain = url !== undefined && url.search + url.hash + url.username + url.password === ""
  return isPlain && /^https?:$/.test(url.protocol)
    ? Either.right(url)
    : refuse(
        `--public-url: ${JSON.stringify(text)} is not an address such as https://example.com or https://example.com/tools`
      )
}

/** Whether there is a web console. By default where only this machine can reach it. */
const parseConsole = (config: ServerConfig, isLocal: boolean): Either.Either<Console | undefined, ConfigError> => {
  const { console: isOn = isLocal, publicUrl } = config
  if (publicUrl === undefined) return Either.right(isOn ? { publicUrl } : undefined)
  return isOn
    ? Either.map(parsePublicUrl(publicUrl), (publicUrl) => ({ publicUrl }))
    : refuse("--public-url is the address of the web console, which is off: pass --console true")
}

/** Fails for settings of the web console, which needs a listener. */
const refuseConsole = ({ console: isOn, publicUrl }: ServerConfig): Either.Either<void, ConfigError> => {
  const flag = isOn === true ? "--console true" : publicUrl === undefined ? undefined : "--public-url"
  return flag === undefined
    ? Either.void
    : refuse(`${flag} requires a listener for browsers: --listen ws://IP:PORT or unix:///PATH`)
}

/** Settings of relays, which have no meaning for a direct transport. */
const relaySettings = ["remoteTokenFile", "remoteIdentity"] as const

/** The settings of a host of a fleet. */
const fleetSettings = ["labels", "capacity"] as const

/** Labels, as hosts have and clients ask for them. */
const labelPattern = /^[A-Za-z0-9_.:/=-]{1,63}$/

/** The most labels of a host. */
const maxLabels = 64

const parseLabels = ({ labels }: ServerConfig): Either.Either<ReadonlyArray<string>, ConfigError> => {
  const wrong = labels.find((label) => !labelPattern.test(label))
  if (wrong !== undefined) {
    return refuse(
      `--labels: \`${wrong}\` is no label; one has up to 63 letters, digits and the characters . : / = _ and -`
    )
  }
  return labels.length > maxLabels
    ? refuse(`--labels: at most ${maxLabels}, not ${labels.length}`)
    : Either.right(Array.from(new Set(labels)))
}

/** The most sessions that gateways place on one host. */
const maxCapacity = 100_000

const parseCapacity = ({ capacity, maxSessions }: ServerConfig): Either.Either<number, ConfigError> => {
  if (capacity === undefined) return Either.right(Math.min(maxSessions, maxCapacity))
  if (capacity < 1 || capacity > maxCapacity) {
    return refuse(`--capacity must be from 1 to ${maxCapacity}, not ${capacity}`)
  }
  return capacity > maxSessions
    ? refuse(`--capacity (${capacity}) is greater than --max-sessions (${maxSessions})`)
    : Either.right(capacity)
}

/** The settings of signatures. */
const awsSettings = ["awsSigv4", "awsProfile", "awsRegion", "awsService"] as const

const given = (config: ServerConfig, keys: ReadonlyArray<keyof ServerConfig>): keyof ServerConfig | undefined =>
  keys.find((key) => config[key] !== defaults[key])

const parseDirect = (config: ServerConfig) =>
  Either.gen(function* () {
    const { remote = "", environmentId = "", insecure } = config
    if (!config.awsSigv4) return yield* refuse("--remote-transport direct requires --aws-sigv4")
    const useless = given(config, [...relaySettings, ...fleetSettings, "remoteProfile"])
    if (useless !== undefined) {
      return yield* refuse(`--${flagName(useless)} means nothing with --remote-transport direct`)
    }
    const target = yield* Registration.parseTarget(remote, environmentId)
    const { awsProfile: profile, awsRegion: region, awsService: service } = config
    const auth = { profile, region, service, variables: process.env, insecure }
    yield* AwsKeys.check(auth, target.url)
    return ListenConfig.Direct({ target, auth })
  }).pipe(Either.mapLeft(({ message }) => new ConfigError({ message })))
/** Fails for settings of `/mcp` that have no effect. */
const checkMcp = (config: ServerConfig, hasListener: boolean): Either.Either<void, ConfigError> => {
  if (config.mcp && !hasListener) return refuse("--mcp requires a listener: --listen ws://IP:PORT or unix:///PATH")
  return config.mcp || config.mcpIdleMs === defaults.mcpIdleMs ? Either.void : refuse("--mcp-idle-ms requires --mcp")
}

const parseRemote = (config: ServerConfig) =>
  Either.gen(function* () {
    const aws = given(config, awsSettings)
    if (aws !== undefined) return yield* refuse(`--${flagName(aws)} requires --remote-transport direct`)
    const { remote = "", environmentId = "", remoteTokenFile, insecure, remoteProfile: profile } = config
    const { remoteIdentity: identityFile } = config
    if (profile === "legacy" && identityFile !== undefined) {
      return yield* refuse("--remote-identity means nothing with --remote-profile legacy, which has no key")
    }
    const target = yield* Registration.parseTarget(remote, environmentId)
    const auth = { tokenFile: remoteTokenFile, variables: ServerSecrets.select(process.env), insecure }
    yield* RemoteAuth.check(auth, target.url)
    const ofFleet = given(config, fleetSettings)
    if (ofFleet !== undefined) {
      if (profile === "noise" || identityFile !== undefined) {
        return yield* refuse(
          `--${flagName(ofFleet)}: a fleet is not encrypted from end to end; its gateways read along`
        )
      }
      return ListenConfig.Fleet({
        target,
        auth,
        labels: yield* parseLabels(config),
        capacity: yield* parseCapacity(config)
      })
    }
    return ListenConfig.Remote({ target, auth, profile, identityFile })
  }).pipe(Either.mapLeft(({ message }) => new ConfigError({ message })))

/** A place in messages: of a socket that was passed, its address as well. */
const shownPlace = ({ listen }: ServerConfig, address: Listener.Address) =>
  address.fd === undefined || "path" in address ? listen : `${listen} (${address.host} port ${address.port})`

/** Where to listen; undefined on stdio. */
const placeOf = (
  { listen }: ServerConfig,
  hasCertificate: boolean,
  passed: Listener.Address | undefined
): Either.Either<ListenUrl.Place | undefined, string> =>
  passed === undefined
    ? ListenUrl.parse(listen, hasCertificate)
    : Either.right({ address: passed, isLocal: "path" in passed || isLoopback(passed.host) })

/**
 * Derives the listener from all settings concerned. A public address needs authentication, or `insecure`. `passed` is
 * the socket that `listen` stands for, if it is one that a service manager has made.
 *
 * @category utilities
 */
export const parse = (config: ServerConfig, passed?: Listener.Address): Either.Either<ListenConfig, ConfigError> =>
  Either.gen(function* () {
    const auth = yield* parseAuth(config)
    const tls = yield* Either.mapLeft(
      Tls.fromFlags(config.tlsCert, config.tlsKey),
      (message) => new ConfigError({ message })
    )
    const allowOrigin = yield* parseOrigins(config)
    if (config.remote !== undefined || config.environmentId !== undefined) {
      if (config.listen !== defaults.listen) {
        return yield* refuse("--listen and --remote exclude each other: with --remote the server listens nowhere")
      }
      yield* refuseConsole(config)
      yield* checkMcp(config, false)
      return yield* config.remoteTransport === "direct" ? parseDirect(config) : parseRemote(config)
    }
    const ofRemote = given(config, [
      ...relaySettings,
      ...fleetSettings,
      "remoteProfile",
      "remoteTransport",
      ...awsSettings
    ])
    if (ofRemote !== undefined) return yield* refuse(`--${flagName(ofRemote)} requires --remote`)
    const place = yield* Either.mapLeft(
      placeOf(config, tls !== undefined, passed),
      (message) => new ConfigError({ message })
    )
    if (place === undefined) {
      if (auth._tag !== "Nobody") return yield* refuse("WebSocket auth requires a WebSocket listener, not stdio")
      for (const key of ["consoleTokenFile", "consoleViewerTokenFile"] as const) {
        if (config[key] !== undefined)
          return yield* refuse(`--${flagName(key)} requires a WebSocket listener, not stdio`)
      }
      if (tls !== undefined) return yield* refuse("TLS requires a WebSocket listener, not stdio")
      if (allowOrigin.length > 0) return yield* refuse("--allow-origin requires a WebSocket listener, not stdio")
      if (config.allowLocalUsers) return yield* refuse("--allow-local-users requires a WebSocket listener, not stdio")
      yield* refuseConsole(config)
      yield* checkMcp(config, false)
      return ListenConfig.Stdio()
    }
    yield* checkMcp(config, true)
    const { address, isLocal } = place
    if ("path" in address && tls !== undefined) {
      return yield* refuse("TLS is for ws://IP:PORT: what goes through a unix socket does not leave the machine")
    }
    if (!isLocal && !config.insecure && auth._tag === "Nobody") {
      return yield* refuse(
        `refusing to listen on ${shownPlace(config, address)}: anybody who can reach it could run commands; listen on 127.0.0.1, ` +
          "set --ws-auth, or pass --insecure if something in front of it authenticates"
      )
    }
    // A public address without authentication would accept everybody.
    const allowLocalUsers = config.allowLocalUsers || !isLocal
    const roles = { operatorFile: config.consoleTokenFile, viewerFile: config.consoleViewerTokenFile }
    const console = yield* parseConsole(config, isLocal)
    return ListenConfig.WebSocket({ address, auth, roles, console, options: { tls, allowOrigin, allowLocalUsers } })
  })

/**
 * The server's own files, which no sandbox may see: its socket, tokens, keys, audit log, recordings and configuration.
 *
 * @category utilities
 */
export const serverFiles = (
  config: ServerConfig,
  listen: ListenConfig,
  configFile: string | undefined
): ReadonlyArray<string> => {
  const path = listen._tag === "WebSocket" && "path" in listen.address ? listen.address.path : ""
  // A socket without a file is not in the way of anybody.
  const socket = path.startsWith("/") ? path : undefined
  const { wsTokenFile, wsSharedSecretFile, tlsKey, remoteTokenFile, remoteIdentity, auditLog } = config
  const { consoleTokenFile, consoleViewerTokenFile, recordingsDir } = config
  const ofListener = [wsTokenFile, wsSharedSecretFile, consoleTokenFile, consoleViewerTokenFile, tlsKey]
  const secrets = [...ofListener, remoteTokenFile, remoteIdentity]
  const keys = listen._tag === "Direct" ? AwsKeys.filesOf(listen.auth) : []
  const audit = auditLog === undefined ? [] : [auditLog, AuditFile.previousOf(auditLog)]
  return [socket, ...secrets, ...keys, ...audit, recordingsDir, configFile].flatMap((path) =>
    path === undefined ? [] : [resolve(path)]
  )
}

/**
 * The authenticator for the settings.
 *
 * @category layers
 */
export const layerAuth: (auth: Auth) => Layer.Layer<never, Authenticator.SecretError> = Auth.$match({
  Nobody: () => Authenticator.layerNone,
  CapabilityToken: ({ source }) => Authenticator.layerCapabilityToken(source),
  SignedBearerToken: ({ rules }) => Authenticator.layerSignedBearerToken(rules)
})

/**
 * The transport for an environment that one registry knows. Calls `onRegistered` after each registration.
 *
 * @category layers
 */
export const layerRemote = (
  config: Extract<ListenConfig, { readonly _tag: "Remote" | "Direct" }>,
  onRegistered: (environmentId: string) => Effect.Effect<void>
): Layer.Layer<Transport, EndpointError> =>
  Layer.unwrapEffect(
    Effect.gen(function* () {
      const RemoteTransport = yield* Effect.promise(() => import("../remote/RemoteTransport.js"))
      if (config._tag === "Remote") {
        const { auth, _tag: _, ...options } = config
        return Layer.provide(
          RemoteTransport.layer({ ...options, onRegistered }),
          RemoteAuth.RemoteAuth.layerBearer(auth)
        )
      }
      const { auth, target } = config
      const SigV4 = yield* Effect.promise(() => import("../remote/SigV4.js"))
      const options = { target, transport: "direct", onRegistered } as const
      return Layer.provide(RemoteTransport.layer(options), SigV4.layer(auth))
    })
  )

/**
 * The transport for the settings. Calls `onRegistered` after each registration of an environment.
 *
 * @category layers
 */
export const layer = (
  config: ListenConfig,
  onRegistered: (environmentId: string) => Effect.Effect<void>
): Layer.Layer<Transport, ListenError | EndpointError | Authenticator.SecretError, SessionRegistry> =>
  ListenConfig.$match(config, {
    Stdio: () => Stdio.layer,
    Remote: (config) => layerRemote(config, onRegistered),
    Direct: (config) => layerRemote(config, onRegistered),
    Fleet: ({ auth, ...options }) =>
      Layer.unwrapEffect(
        Effect.map(
          Effect.promise(() => import("../fleet/HostTransport.js")),
          (HostTransport) =>
            Layer.provide(HostTransport.layer({ ...options, onRegistered }), RemoteAuth.RemoteAuth.layerBearer(auth))
        )
      ),
    WebSocket: ({ address, options, auth, roles }) =>
      WebSocket.layer(address, options).pipe(
        provideInOrder(
          layerAuth(auth),
          Authenticator.layerRoleTokens(roles),
          Authenticator.layerConsole,
          Authenticator.layerShares,
          Metrics.layer
        )
      )
  })
