/**
 * As much of E2B's control plane as its clients need to create sandboxes, find them and end them.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Querystring from "node:querystring"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { formatParseError, integerBetween, Text } from "../protocol/Schemas.js"
import { type Failure, fail } from "./Failure.js"
import { type Created, maxTimeoutSeconds, type Sandboxes } from "./Sandboxes.js"

/** The version of the interface of sandboxes: the last one before metadata of files. */
const envdVersion = "0.6.1"

/** How long a sandbox lives if its client does not say, in seconds. */
const defaultTimeout = 300

const Seconds = integerBetween(0, maxTimeoutSeconds, `from 0 to ${maxTimeoutSeconds}, in seconds`)

const Texts = Schema.Record({ key: Schema.String, value: Text })

const noTexts = { default: () => ({}), nullable: true } as const

/** Members that ask for more than there is are refused, unless they have the value that changes nothing. */
const NewSandbox = Schema.Struct({
  templateID: Schema.optionalWith(Text, { default: () => "base" }),
  timeout: Schema.optionalWith(Seconds, { default: () => defaultTimeout }),
  metadata: Schema.optionalWith(Texts, noTexts),
  envVars: Schema.optionalWith(Texts, noTexts),
  /** Whether a token is needed: that depends on the server alone. */
  secure: Schema.optional(Schema.Unknown),
  allow_internet_access: Schema.optional(Schema.Unknown),
  network: Schema.optional(Schema.Unknown),
  iam: Schema.optional(Schema.Unknown),
  mcp: Schema.optional(Schema.Unknown),
  autoPause: Schema.optional(Schema.Unknown),
  volumeMounts: Schema.optional(Schema.Unknown)
})

const Timeout = Schema.Struct({ timeout: Schema.optionalWith(Seconds, { default: () => defaultTimeout }) })

/** An answer of the control plane. */
export interface Reply {
  readonly status: number
  readonly body?: object
}

/** A request to the control plane. */
export interface Asked {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly body: Buffer
}

const decode = <A, I>(schema: Schema.Schema<A, I>, body: Buffer): Effect.Effect<A, Failure> =>
  Effect.try({
    try: (): unknown => JSON.parse(body.length === 0 ? "{}" : body.toString()),
    catch: () => fail("invalid_argument", "the body is not JSON")
  }).pipe(
    Effect.flatMap(Schema.decodeUnknown(schema)),
    Effect.mapError((error) =>
      error._tag === "E2bFailure" ? error : fail("invalid_argument", formatParseError(error))
    )
  )

/** What a client asks for that a machine cannot give. */
const refusalOf = (given: typeof NewSandbox.Type): string | undefined => {
  if (given.allow_internet_access === false) return "allow_internet_access is false: access cannot be taken away here"
  if (given.autoPause === true) return "autoPause: sandboxes cannot be paused here"
  const more = (["network", "iam", "mcp", "volumeMounts"] as const).find((name) => given[name] != null)
  return more === undefined ? undefined : `${more}: this server has nothing of the kind`
}

const time = (ms: number): string => new Date(ms).toISOString()

/** The control plane of a server with this token. */
export const make = (sandboxes: Sandboxes, token: string | undefined) => {
  const sandboxOf = ({ id, templateId }: Created) => ({
    sandboxID: id,
    templateID: templateId,
    clientID: "exec-server",
    envdVersion,
    ...(token === undefined ? {} : { envdAccessToken: token })
  })

  const infoOf = (created: Created) => ({
    sandboxID: created.id,
    templateID: created.templateId,
    clientID: "exec-server",
    envdVersion,
    metadata: created.metadata,
    startedAt: time(created.startedAtMs),
    endAt: time(created.endsAtMs),
    state: "running",
    // What of the machine a sandbox may use is not limited.
    cpuCount: 0,
    memoryMB: 0,
    diskSizeMB: 0
  })

  const create = (body: Buffer): Effect.Effect<Reply, Failure> =>
    Effect.gen(function* () {
      const given = yield* decode(NewSandbox, body)
      const refusal = refusalOf(given)
      if (refusal !== undefined) return yield* fail("invalid_argument", refusal)
      const { templateID: templateId, metadata, envVars, timeout: timeoutSeconds } = given
      return {
        status: 201,
        body: sandboxOf(yield* sandboxes.create({ templateId, metadata, envVars, timeoutSeconds }))
      }
    })

  const list = (query: URLSearchParams): Reply => {
    const wanted = Array.from(new URLSearchParams(query.get("metadata") ?? ""))
    const states = query.get("state")?.split(",") ?? ["running"]
    const template = query.get("template")
    const found = sandboxes
      .list()
      .filter(
        ({ metadata, templateId }) =>
          states.includes("running") &&
          (template === null || template === templateId) &&
          wanted.every(([key, value]) => metadata[Querystring.unescape(key)] === Querystring.unescape(value))
      )
    const ordered = query.get("order") === "asc" ? found : found.reverse()
    return { status: 200, body: ordered.map(infoOf) }
  }

  /** Acts on one sandbox; undefined if there is no such action. */
  const act = (id: string, action: string, body: Buffer): Effect.Effect<Reply, Failure> | undefined => {
    const created = sandboxes.created(id)
    switch (action) {
      case "GET ":
        return Effect.map(created, (one) => ({ status: 200, body: infoOf(one) }))
      case "DELETE ":
        return Effect.as(Effect.flatMap(created, sandboxes.kill), { status: 204 })
      case "POST /timeout":
        return Effect.gen(function* () {
          const { timeout } = yield* decode(Timeout, body)
          yield* sandboxes.setTimeout(yield* created, timeout)
          return { status: 204 }
        })
      case "POST /refreshes":
        return Effect.as(created, { status: 204 })
      case "POST /connect":
      case "POST /resume":
        return Effect.gen(function* () {
          const { timeout } = yield* decode(Timeout, body)
          const one = yield* created
          // Like E2B's, it makes the life of a sandbox longer, never shorter.
          yield* sandboxes.extend(one, timeout)
          return { status: 200, body: sandboxOf(one) }
        })
      case "POST /pause":
      case "POST /fork":
      case "POST /snapshots":
      case "PUT /network":
      case "GET /metrics":
        return Effect.flatMap(created, () =>
          fail("unimplemented", `${action}: a sandbox of exec-server cannot do this`)
        )
      default:
        return undefined
    }
  }

  /** Whether a path belongs to the control plane. */
  const isOwn = (path: string): boolean => /^(\/v\d)?\/sandboxes(\/|$)/.test(path)

  const answer = ({ method, path, query, body }: Asked): Effect.Effect<Reply, Failure> => {
    const nothing = fail("not_found", `there is nothing for ${method} ${path.slice(0, 200)}`)
    // The versions of these requests differ in what is optional.
    const [, id, rest = ""] = /^(?:\/v\d)?\/sandboxes(?:\/([^/]+)(\/.*)?)?$/.exec(path) ?? []
    if (id !== undefined) return act(id, `${method} ${rest}`, body) ?? nothing
    if (method === "GET") return Effect.sync(() => list(query))
    return method === "POST" ? create(body) : nothing
  }

  return { isOwn, answer }
}
