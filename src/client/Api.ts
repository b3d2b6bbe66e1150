/**
 * The client's view of the protocol, derived from the same API groups as the server's: a method added there can be
 * called here.
 *
 * @since 0.1.0
 */
import type * as Rpc from "@effect/rpc/Rpc"
import type * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as MadeOnce from "../internal/MadeOnce.js"
import { ExecApi, type Method } from "../protocol/ExecApi.js"
import { ExecNotifications } from "../protocol/ExecNotifications.js"
import { type Facts, MethodFacts, type WithFacts } from "../protocol/MethodFacts.js"
import { formatParseError } from "../protocol/Schemas.js"
import { type ClientError, InvalidRequest } from "./ClientError.js"

type Requests = RpcGroup.Rpcs<typeof ExecApi>
type Notifications = RpcGroup.Rpcs<typeof ExecNotifications>

/**
 * The parameters of a method.
 *
 * @category models
 */
export type Params<M extends Method> = Rpc.Payload<Rpc.ExtractTag<Requests, M>>

/**
 * The result of a method.
 *
 * @category models
 */
export type Result<M extends Method> = Rpc.Success<Rpc.ExtractTag<Requests, M>>

/**
 * Calls any method of the server.
 *
 * @category models
 */
export type Call = <M extends Method>(method: M, params: Params<M>) => Effect.Effect<Result<M>, ClientError>

/**
 * The name of a notification that a server sends.
 *
 * @category models
 */
export type NotificationMethod = Exclude<Notifications["_tag"], "initialized">

/**
 * The parameters of a notification.
 *
 * @category models
 */
export type NotificationParams<M extends NotificationMethod> = Rpc.Payload<Rpc.ExtractTag<Notifications, M>>

/**
 * A notification.
 *
 * @category models
 */
export type Notification = {
  readonly [M in NotificationMethod]: { readonly method: M; readonly params: NotificationParams<M> }
}[NotificationMethod]

/**
 * A checked request, ready to send or resend.
 *
 * @category models
 */
export interface Prepared {
  readonly method: Method
  /** The parameters. */
  readonly params: unknown
  /** The parameters as JSON; empty for an in-process connection, which sends no text. */
  readonly text: string
}

/** The codecs of one method. A failure is a sentence that names the field. */
interface Route {
  readonly validate: (params: unknown) => Either.Either<unknown, string>
  readonly encode: (params: unknown) => Either.Either<unknown, string>
  readonly decode: (result: unknown) => Either.Either<unknown, string>
  readonly facts: Facts
}

type AnySchema = Schema.Schema<unknown, unknown>

// The casts are confined to this table, where methods of different types meet.
const requests: ReadonlyMap<string, Rpc.AnyWithProps & WithFacts> = ExecApi.requests

const routeOf = MadeOnce.byName((method): Route | undefined => {
  const rpc = requests.get(method)
  if (rpc === undefined) return undefined
  const payload = rpc.payloadSchema as unknown as AnySchema
  const success = rpc.successSchema as unknown as AnySchema
  const validate = Schema.validateEither(payload)
  const encode = Schema.encodeUnknownEither(payload)
  const decode = Schema.decodeUnknownEither(success)
  return {
    validate: (params) => Either.mapLeft(validate(params), formatParseError),
    encode: (params) => Either.mapLeft(encode(params), formatParseError),
    decode: (result) => Either.mapLeft(decode(result), formatParseError),
    facts: Context.get(rpc.annotations, MethodFacts)
  }
})

const notifications: ReadonlyMap<string, Rpc.AnyWithProps> = ExecNotifications.requests

/** The decoder of a notification. A server does not send `initialized`. */
const notificationOf = MadeOnce.byName((method) => {
  const rpc = method === "initialized" ? undefined : notifications.get(method)
  return rpc === undefined ? undefined : Schema.decodeUnknownEither(rpc.payloadSchema as unknown as AnySchema)
})

const prepare = (
  method: Method,
  params: unknown,
  step: "validate" | "encode"
): Either.Either<unknown, InvalidRequest> => {
  const route = routeOf(method)
  if (route === undefined) return Either.left(new InvalidRequest({ method, detail: "there is no such method" }))
  return Either.mapLeft(route[step](params), (detail) => new InvalidRequest({ method, detail }))
}

/**
 * Checks a request for an in-process server.
 *
 * @category codecs
 */
export const prepareValue = (method: Method, params: unknown): Either.Either<Prepared, InvalidRequest> =>
  Either.map(prepare(method, params, "validate"), () => ({ method, params, text: "" }))

/**
 * Checks a request and encodes its parameters.
 *
 * @category codecs
 */
export const prepareText = (method: Method, params: unknown): Either.Either<Prepared, InvalidRequest> =>
  Either.map(prepare(method, params, "encode"), (encoded) => ({ method, params, text: JSON.stringify(encoded) }))

/**
 * Decodes a result; the failure is a sentence.
 *
 * @category codecs
 */
export const decodeResult = (method: Method, result: unknown): Either.Either<unknown, string> =>
  routeOf(method)?.decode(result) ?? Either.left("there is no such method")

/**
 * Whether an unanswered request may be resent. `writeIds`: whether the server deduplicates writes by `writeId`.
 *
 * @category predicates
 */
export const mayRepeat = ({ method, params }: Prepared, writeIds: boolean): boolean => {
  switch (routeOf(method)?.facts.repeatable ?? "never") {
    case "never":
      return false
    case "always":
      return true
    case "withWriteId":
      return writeIds && isRecord(params) && params["writeId"] !== undefined
  }
}

/** The factor by which the time limit of a possibly late answer is longer. */
const lateFactor = 10

/**
 * The factor of the usual time limit for an answer: 1, more if the answer may come late, and infinity if the request
 * waits for an event.
 *
 * @category utilities
 */
export const patienceFor = ({ method, params }: Prepared): number => {
  switch (routeOf(method)?.facts.answered) {
    case undefined:
      return 1
    case "late":
      return lateFactor
    case "whenever":
      return Number.POSITIVE_INFINITY
    case "wheneverWithWaitMs":
      return isRecord(params) && params["waitMs"] !== undefined ? Number.POSITIVE_INFINITY : 1
  }
}

/**
 * Whether a server may answer a request only after all earlier ones of its family: file requests are queued.
 *
 * @category predicates
 */
export const takesTurns = ({ method }: Prepared): boolean => routeOf(method)?.facts.family === "filesystem"

/**
 * Decodes a notification; undefined for an unknown one.
 *
 * @category codecs
 */
export const decodeNotification = (
  method: string,
  params: unknown
): Either.Either<Notification, string> | undefined => {
  const decode = notificationOf(method)
  if (decode === undefined) return undefined
  return Either.mapBoth(decode(params ?? {}), {
    onLeft: formatParseError,
    // The cast is safe: decoded by the schema of this method.
    onRight: (decoded) => ({ method, params: decoded }) as Notification
  })
}
