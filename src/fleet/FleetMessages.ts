/**
 * What a gateway and a host say to each other on the control stream: notifications, in JSON, one a message.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"

const count = Schema.Int.pipe(Schema.nonNegative())

const notification = <M extends string, F extends Schema.Struct.Fields>(method: M, params: F) =>
  Schema.Struct({ method: Schema.Literal(method), params: Schema.Struct(params) })

/** From a gateway to a host. */
export const ToHost = Schema.Union(
  /** Every second: the gateway is there, and hears the host. */
  notification("fleet/beat", {
    /** The addresses of all gateways. */
    peers: Schema.Array(Schema.String)
  }),
  /** Open a connection to this gateway, for a session of this subject. */
  notification("fleet/dial", { ticket: Schema.String, subject: Schema.String }),
  /** End these sessions; with `onlyIdle`, those that still are. */
  notification("fleet/end", { sessions: Schema.Array(Schema.String), onlyIdle: Schema.Boolean }),
  /** The epoch has ended: the host was declared lost. */
  notification("fleet/lost", { epoch: count }),
  /** The host is drained. */
  notification("fleet/shutdown", {})
)

/** A message to a host. */
export type ToHost = typeof ToHost.Type

/** From a host to a gateway. */
export const ToGateway = Schema.Union(
  /** The answer to each beat. */
  notification("fleet/beat", {}),
  /** The host could not open a connection. */
  notification("fleet/undialled", { ticket: Schema.String, message: Schema.String }),
  /** All sessions, and those that ended a short time ago. */
  notification("fleet/sessions", {
    /** Counts the reports of this process, the same for all gateways. */
    number: Schema.optional(count),
    sessions: Schema.Array(
      Schema.Struct({
        id: Schema.String,
        /** Counts what happens to the session. */
        attach: count,
        state: Schema.Literal("attached", "detached"),
        /** Whether its client has left it, and nothing runs in it. */
        idle: Schema.Boolean,
        /** The gateway that carries it, if one does. */
        gateway: Schema.optional(Schema.String)
      })
    ),
    ended: Schema.Array(Schema.String)
  }),
  /** The host ends, and all of its sessions with it. */
  notification("fleet/leave", {})
)

/** A message to a gateway. */
export type ToGateway = typeof ToGateway.Type

/** What a host says of itself in its registration, as the member `fleet`. */
export const Description = Schema.Struct({
  incarnation: Schema.String.pipe(Schema.minLength(1), Schema.maxLength(128)),
  labels: Schema.Array(Schema.String.pipe(Schema.pattern(/^[A-Za-z0-9_.:/=-]{1,63}$/))).pipe(Schema.maxItems(64)),
  capacity: Schema.Int.pipe(Schema.between(1, 100_000)),
  version: Schema.String.pipe(Schema.maxLength(64))
})

/** What a gateway answers to it, as the member `fleet`. */
export const Welcome = Schema.Struct({
  /** The name of this gateway process. */
  gateway: Schema.String,
  epoch: count,
  /** The id of the relay stream on which the gateway speaks: a secret of the two. */
  control: Schema.String,
  /** The lease, in milliseconds: without any gateway for so long, a host is lost. */
  leaseMs: count,
  peers: Schema.Array(Schema.String)
})

/** What a gateway answers to a registration. */
export type Welcome = typeof Welcome.Type

/** Decodes a message to a host; the error says what is wrong with it. */
export const parseToHost = (text: string): Either.Either<ToHost, string> =>
  Either.mapLeft(Schema.decodeUnknownEither(Schema.parseJson(ToHost))(text), ({ message }) => message)

/** Decodes a message to a gateway. */
export const parseToGateway = (text: string): Either.Either<ToGateway, string> =>
  Either.mapLeft(Schema.decodeUnknownEither(Schema.parseJson(ToGateway))(text), ({ message }) => message)

/** The silence after which the two ends give each other up, in milliseconds. */
export const silenceMs = 4000

/** The time between beats, in milliseconds. */
export const beatMs = 1000
