/**
 * The target of a command: a server at a URL, a configured environment, or this machine.
 *
 * @since 0.1.0
 */
import { posix } from "node:path"
import { pathToFileURL } from "node:url"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as ClientError from "../client/ClientError.js"
import type * as ExecClient from "../client/ExecClient.js"
import * as NoiseLink from "../client/NoiseLink.js"
import * as RelayLink from "../client/RelayLink.js"
import * as Token from "../client/Token.js"
import * as WebSocketLink from "../client/WebSocketLink.js"
import * as Environment from "../environment/Environment.js"
import * as EnvironmentConfig from "../environment/EnvironmentConfig.js"
import * as EnvironmentManager from "../environment/EnvironmentManager.js"
import * as PlainText from "../internal/PlainText.js"
import * as PrivateFile from "../internal/PrivateFile.js"
import * as PathUri from "../protocol/PathUri.js"
import * as ServerConfig from "../server/ServerConfig.js"
import { CgroupParent } from "../spawn/Cgroups.js"
import { UsageError } from "./CommandExit.js"
import { eraseSecrets } from "./EraseSecrets.js"
import * as MemoryTuning from "./MemoryTuning.js"
import * as Terminal from "./Terminal.js"
import * as UrlVariable from "./UrlVariable.js"

/** The flags that select the target. */
export interface Target {
  readonly url: string | undefined
  readonly env: string | undefined
  /** A file of environments, instead of the configured one. */
  readonly environments: string | undefined
  readonly tokenFile: string | undefined
  /** Send the token over plain `ws://` to another machine as well. */
  readonly insecure: boolean
  /** The session to resume. */
  readonly session: string | undefined
  /** What the host must have, if the server is a fleet. */
  readonly labels?: ReadonlyArray<string> | undefined
}

/** Why there is no connection to the target. */
export type TargetError =
  | UsageError
  | Environment.EnvironmentError
  | EnvironmentConfig.EnvironmentConfigError
  | EnvironmentManager.UnknownEnvironment

/** How long to retry while the session is attached elsewhere, in milliseconds: the previous command may be exiting. */
const attachedMs = 2000
const attachedRetryMs = 50

const isAttached = (error: Environment.EnvironmentError) => error._tag !== "TokenError" && ClientError.isAttached(error)

const usage = (message: string) => Either.left(new UsageError({ message }))

type EntryError = Exclude<TargetError, Environment.EnvironmentError>

/** Refuses invalid addresses, for which connecting would fail later. */
const checkAddress = (url: string): Either.Either<void, UsageError> => {
  const refuse = (reason: string) => usage(new ClientError.ConnectFailed({ url, reason }).message)
  if (NoiseLink.isNoise(url) && NoiseLink.addressOf(url) === undefined) return refuse(NoiseLink.form)
  if (RelayLink.isRelay(url) && RelayLink.addressOf(url) === undefined) {
    return refuse("a relay URL is relay://HOST:PORT/ENVIRONMENT")
  }
  return new URL(url).hash === "" ? Either.void : refuse("The URL contains a fragment identifier")
}

const findEntry = (target: Target): Either.Either<EnvironmentConfig.Entry | undefined, EntryError> =>
  Either.gen(function* () {
    const { env, environments, tokenFile, insecure } = target
    if (target.url !== undefined && env !== undefined) yield* usage("give --url or --env, not both")
    if (env === undefined) {
      const given = target.url ?? UrlVariable.read()
      if (given === undefined || given === "") return undefined
      const url = yield* Either.mapLeft(
        EnvironmentConfig.parseUrl(given),
        ({ detail }) => new UsageError({ message: detail })
      )
      const server = EnvironmentConfig.Target.Url({ url, connectTimeoutMs: undefined, tokenFile, insecure })
      return { id: EnvironmentConfig.remoteId, target: server, initializeTimeoutMs: undefined }
    }
    const { entries, includeLocal } = yield* environments === undefined
      ? EnvironmentConfig.fromVariables(process.env)
      : EnvironmentConfig.load(environments)
    if (env === EnvironmentConfig.localId && includeLocal) return undefined
    const entry = entries.find(({ id }) => id === env)
    if (entry === undefined) {
      const known = [...(includeLocal ? [EnvironmentConfig.localId] : []), ...entries.map(({ id }) => id)]
      return yield* Either.left(new EnvironmentManager.UnknownEnvironment({ id: env, known }))
    }
    if (entry.target._tag !== "Url") return entry
    const given = { ...(tokenFile === undefined ? {} : { tokenFile }), ...(insecure ? { insecure } : {}) }
    return { ...entry, target: { ...entry.target, ...given } }
  })

/** Adds the labels to the address of a fleet. */
const labelled = (entry: EnvironmentConfig.Entry | undefined, labels: ReadonlyArray<string>) => {
  if (labels.length === 0) return Either.right(entry)
  if (entry?.target._tag !== "Url" || !/^wss?:/.test(entry.target.url)) {
    return usage("--label needs the address of a fleet: --url ws://HOST:PORT or wss://HOST:PORT")
  }
  const url = new URL(entry.target.url)
  for (const label of labels) url.searchParams.append("label", label)
  return Either.right({ ...entry, target: { ...entry.target, url: url.href } })
}

const entryOf = (target: Target): Either.Either<EnvironmentConfig.Entry | undefined, EntryError> =>
  Either.gen(function* () {
    const entry = yield* findEntry(target)
    if (entry?.target._tag === "Url") yield* checkAddress(entry.target.url)
    return yield* labelled(entry, target.labels ?? [])
  })

/** Checks the flags and the configuration, without connecting. */
export const check = (target: Target): Either.Either<void, EntryError> => Either.map(entryOf(target), () => undefined)

/** The base of relative paths on the server. */
const startOf = ({ info }: Environment.Environment): Either.Either<string, string> =>
  Either.map(PathUri.parse(info.cwd ?? info.userHomeDir ?? "/"), ({ path }) => path)

const checkStart = (environment: Environment.Environment) =>
  Either.match(startOf(environment), {
    onLeft: (why) => new ClientError.ProtocolViolation({ detail: `the server's working directory: ${why}` }),
    onRight: () => Effect.void
  })

/** Warns once if other users can read the token file. */
const warnOfToken = ({ target }: EnvironmentConfig.Entry) =>
  Effect.suspend(() => {
    if (target._tag !== "Url" || target.tokenFile === undefined) return Effect.void
    const warning = PrivateFile.warningOf("the token in", target.tokenFile)
    return warning === undefined ? Effect.void : Terminal.say(`warning: ${warning}`)
  })

/** What a client without a viewer's token is told instead of an empty table. */
export const onlyOwn =
  "no other session is visible: a client sees only its own; give --token-file with the token of a viewer or an operator"

/** Whether the target is a server: not this machine. */
const isRemote = (target: Target): boolean =>
  Either.getOrElse(
    Either.map(findEntry(target), (entry) => entry !== undefined),
    () => true
  )

/** Fails unless the target is a server; `which` completes "the server". */
export const needRemote = (target: Target, which: string): Effect.Effect<void, UsageError> =>
  isRemote(target) ? Effect.void : new UsageError({ message: `give --url or --env: the server ${which}` })

/** Properties of the session that a command opens. `retention` is only for this machine. */
export type SessionOptions = NonNullable<Parameters<typeof Environment.remote>[1]> &
  Pick<NonNullable<Parameters<typeof Environment.local>[1]>, "retention">

/** For a command that only needs a session to see others: its own ends with it. */
export const transient: SessionOptions = { sessionTtl: 0 }

/** Where cgroups of processes of this machine are made: of the settings of servers, the one that is about the machine. */
const cgroupParent = (): string => process.env[ServerConfig.variableName("cgroup")]?.trim() || "auto"

/** Connects to the target; the scope closes the connection, and ends the processes if it is this machine. */
export const connect = (
  target: Target,
  options: SessionOptions = {}
): Effect.Effect<Environment.Environment, TargetError, Scope.Scope> =>
  Effect.gen(function* () {
    const { session } = target
    const entry = yield* entryOf(target)
    if (entry !== undefined) {
      yield* warnOfToken(entry)
      return yield* Environment.remote(entry, { ...options, resumeSessionId: session }).pipe(
        Effect.retry({ while: isAttached, schedule: Schedule.upTo(Schedule.spaced(attachedRetryMs), attachedMs) }),
        Effect.tap(checkStart)
      )
    }
    // For this machine no token is needed, and what it starts must not find any in /proc/PPID/environ.
    yield* eraseSecrets
    if (session !== undefined) return yield* usage("--session needs --url or --env: the server of the session")
    const { capabilities, retention } = options
    return yield* Environment.local(EnvironmentConfig.localId, { capabilities, retention }).pipe(
      Effect.provideService(CgroupParent, cgroupParent())
    )
  }).pipe(Effect.zipLeft(MemoryTuning.tuneCollector))

/** One of several targets. */
export interface Named {
  readonly id: string
  readonly target: Target
}

/** The targets of a command that can use several: those of a file of environments, if it names neither URL nor id. */
export const each = (
  target: Target
): Either.Either<readonly [Named, ...ReadonlyArray<Named>], UsageError | EnvironmentConfig.EnvironmentConfigError> => {
  const { url, env, environments } = target
  if (environments === undefined || url !== undefined || env !== undefined) {
    return Either.right([{ id: env ?? EnvironmentConfig.localId, target }])
  }
  return Either.flatMap(EnvironmentConfig.load(environments), ({ entries, includeLocal, defaultId }) => {
    const ids = [...(includeLocal ? [EnvironmentConfig.localId] : []), ...entries.map(({ id }) => id)]
    const ordered = [...ids.filter((id) => id === defaultId), ...ids.filter((id) => id !== defaultId)]
    const [first, ...others] = ordered.map((id): Named => ({ id, target: { ...target, env: id } }))
    return first === undefined ? usage(`${environments} has no environment`) : Either.right([first, ...others])
  })
}

/** Where a target is, for people: a host, an environment, or undefined for this machine. */
export const placeOf = (target: Target): string | undefined =>
  Either.match(findEntry(target), {
    onLeft: () => target.env,
    onRight: (entry) => {
      if (entry === undefined) return undefined
      return entry.target._tag === "Url" && entry.id === EnvironmentConfig.remoteId
        ? new URL(entry.target.url).host || entry.target.url
        : entry.id
    }
  })

/** Connects for the processes of the session that `--session` names, or else of all sessions that are visible. */
export const connectToProcesses = (target: Target) =>
  Effect.gen(function* () {
    const isAll = target.session === undefined
    if (isAll) yield* needRemote(target, "of the processes")
    const { client } = yield* connect(target, isAll ? transient : {})
    return { client, isAll }
  })

/** Tells a client that sees no other session why. */
export const tellIfOnlyOwn = ({ sessions }: ExecClient.Shape): Effect.Effect<void, ClientError.ClientError> =>
  Effect.flatMap(sessions.list, (all) => (all.every(({ own }) => own) ? Terminal.say(onlyOwn) : Effect.void))

/** Connects to the existing session that `--session` names. */
export const resume = (target: Target): Effect.Effect<Environment.Environment, TargetError, Scope.Scope> =>
  target.session === undefined
    ? new UsageError({ message: "give --session: `exec-server run --detach` prints it" })
    : connect(target)

const isUri = (path: string) => /^[a-z]+:\/\//i.test(path)

/** `pathIn` as a `file:` URI, which current versions of the original require. */
export const uriIn = (environment: Environment.Environment, path: string): string => {
  const there = pathIn(environment, path)
  return isUri(there) ? there : pathToFileURL(there).href
}

/** Resolves a path: against this command's working directory if the target is local, otherwise the server's. */
export const pathIn = (environment: Environment.Environment, path: string): string => {
  if (isUri(path)) return path
  const start = environment.isLocal ? process.cwd() : Either.getOrElse(startOf(environment), () => "/")
  return posix.resolve(start, path)
}

/** The HTTP address of a server, and the token for it: for requests beside the protocol. */
export const httpOf = (
  target: Target
): Effect.Effect<
  { readonly base: URL; readonly token: string | undefined },
  EntryError | Token.TokenError | ClientError.InsecureSecret
> =>
  Effect.gen(function* () {
    const entry = yield* entryOf(target)
    if (entry?.target._tag !== "Url" || !/^wss?:/.test(entry.target.url)) {
      return yield* usage("give --url or --env: a gateway of the fleet, at ws://HOST:PORT or wss://HOST:PORT")
    }
    yield* warnOfToken(entry)
    const { url, tokenFile, insecure } = entry.target
    const variables = entry.id === EnvironmentConfig.remoteId ? process.env : {}
    const token = yield* Token.load({ tokenFile, variables })
    yield* WebSocketLink.checkSecret(url, { token, insecure })
    return { base: new URL(url.replace(/^ws/, "http")), token }
  })

/** The flags that select the same target, quoted for a shell. */
export const flagsOf = ({ url, env, environments, tokenFile, insecure }: Target): string =>
  Object.entries({ url: url ?? (env === undefined ? UrlVariable.read() : undefined), env, environments })
    .concat([["token-file", tokenFile]])
    .flatMap(([name, value]) => (value === undefined ? [] : [`--${name} ${PlainText.quote(value)}`]))
    .concat(insecure ? ["--insecure"] : [])
    .join(" ")
