/**
 * The codecs of each method: they decode params and encode results.
 *
 * @since 0.1.0
 */
import type * as Rpc from "@effect/rpc/Rpc"
import type * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Context from "effect/Context"
import * as Either from "effect/Either"
import type * as ParseResult from "effect/ParseResult"
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as MadeOnce from "../internal/MadeOnce.js"
import { type Check, checkOf } from "../protocol/Bounds.js"
import { ExecApi } from "../protocol/ExecApi.js"
import { type Facts, MethodFacts, type WithFacts } from "../protocol/MethodFacts.js"
import { formatParseError } from "../protocol/Schemas.js"

/** The codecs of one method. */
export interface Route {
  readonly tag: Requests["_tag"]
  readonly takesParams: boolean
  /** See `Facts`. */
  readonly isLarge: boolean
  /** A check that the params are not too large to be decoded. */
  readonly check: Check | undefined
  readonly decode: (params: unknown) => Either.Either<unknown, ParseResult.ParseError>
  readonly encode: (result: unknown) => unknown
}

/** All requests. */
export type Requests = RpcGroup.Rpcs<typeof ExecApi>

/** Any request, with its facts. */
type AnyRequest = Rpc.AnyWithProps & WithFacts & { readonly _tag: Requests["_tag"] }

/** All requests by name: the cast that joins methods of different types in one table. */
export const requests: ReadonlyMap<string, AnyRequest> = ExecApi.requests

/** The facts of a method. */
export const factsOf = (method: Requests["_tag"]): Facts => {
  const rpc = ExecApi.requests.get(method)
  if (rpc === undefined) throw new Error(`no method ${method}`)
  return Context.get(rpc.annotations, MethodFacts)
}

const makeRoute = ({ _tag: tag, annotations, payloadSchema, successSchema }: AnyRequest): Route => {
  const payload = payloadSchema as unknown as Schema.Schema<unknown, unknown>
  const success = successSchema as unknown as Schema.Schema<unknown, unknown>
  return {
    tag,
    takesParams: !("fields" in payload) || Object.keys(payload.fields as object).length > 0,
    isLarge: Context.get(annotations, MethodFacts).largeAnswer,
    check: checkOf(payload.ast),
    decode: Schema.decodeUnknownEither(payload),
    encode: Schema.encodeSync(success)
  }
}

/** The codecs of a method. */
export const routeOf = MadeOnce.byName((method): Route | undefined => {
  const rpc = requests.get(method)
  return rpc === undefined ? undefined : makeRoute(rpc)
})

/** Decodes params; absent, null and `{}` are the same. A failure is a sentence that names the field. */
export const decode = (route: Route, params: unknown): Either.Either<unknown, string> => {
  const value = params ?? {}
  if (!isRecord(value)) {
    const found = Array.isArray(value) ? "sequence" : typeof value
    return Either.left(`invalid type: ${found}, expected ${route.takesParams ? "an object of params" : "unit"}`)
  }
  if (!route.takesParams && Object.keys(value).length > 0) return Either.left("invalid type: map, expected unit")
  const excess = route.check?.(value, "")
  return excess === undefined ? Either.mapLeft(route.decode(value), formatParseError) : Either.left(excess)
}
