/**
 * HTTP requests sent from the server's machine (May; `redirectPolicy` and `valueEnvVar` are current).
 *
 * @since 0.1.0
 */
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { maxItems } from "./Bounds.js"
import { ClientId } from "./Ids.js"
import { request } from "./MethodFacts.js"
import { Bytes, Count, Empty, Flag, Integer, listOf, maybe, nullOr, oneOf, Text } from "./Schemas.js"

/**
 * A request header. A name may occur several times.
 *
 * @category schemas
 */
export const HttpHeaderParam = Schema.Struct({
  name: Text,
  value: Text,
  /** The name of a variable of the server's environment; its value is appended to `value` (current). */
  valueEnvVar: maybe(Text)
})

/**
 * A response header, its name in lower case. Headers with a value outside visible ASCII are omitted.
 *
 * @category schemas
 */
export const HttpHeader = Schema.Struct({ name: Text, value: Text })
export type HttpHeader = typeof HttpHeader.Type

/** The most headers of a request (ours). */
const maxHeaders = 256

/**
 * The parameters of `http/request`: one exchange, including its redirects.
 *
 * @category schemas
 */
export const HttpRequestParams = Schema.Struct({
  /** Any HTTP token, sent unchanged. */
  method: Text,
  /** An absolute `http` or `https` URL. */
  url: Text,
  headers: Schema.optionalWith(maxItems(listOf(HttpHeaderParam), maxHeaders), { default: () => [] }),
  bodyBase64: maybe(Bytes),
  /** The deadline of the whole exchange, including the response body, in milliseconds; by default there is none. */
  timeoutMs: maybe(Count),
  /** The id the client chooses for the exchange, unique among the open streams of its connection. */
  requestId: ClientId,
  /** Respond once the headers have arrived; the body follows as `http/request/bodyDelta` notifications. */
  streamResponse: Schema.optionalWith(Flag, { default: () => false }),
  /** `stop` returns a redirect as the response instead of following it. */
  redirectPolicy: Schema.optionalWith(oneOf("follow", "stop"), { default: () => "follow" as const })
})
export type HttpRequestParams = typeof HttpRequestParams.Type

/**
 * The response, whatever its status. The body is not decoded (`content-encoding` stays); empty if it is streamed.
 *
 * @category schemas
 */
export const HttpRequestResult = Schema.Struct({
  status: Integer,
  headers: Schema.Array(HttpHeader),
  bodyBase64: Bytes
})
export type HttpRequestResult = typeof HttpRequestResult.Type

/**
 * The largest piece of a body in one notification, in bytes (current); clients refuse larger ones.
 *
 * @category constants
 */
export const maxBodyDeltaBytes = 1048576

/**
 * `http/request/bodyDelta`: a piece of a streamed body.
 *
 * @category schemas
 */
export const HttpBodyDelta = Schema.Struct({
  requestId: Text,
  /** Starts at 1, without gaps. */
  seq: Count,
  deltaBase64: Bytes,
  /** Marks the last notification of the body; it carries no bytes. */
  done: Flag,
  /** With `done`: why the body is incomplete; null if it is complete. */
  error: nullOr(Text)
})
export type HttpBodyDelta = typeof HttpBodyDelta.Type

/**
 * The HTTP request.
 *
 * @category schemas
 */
export class HttpApi extends RpcGroup.make(
  /** Sends an HTTP request. The response precedes the first piece of a streamed body. */
  request("http/request", {
    family: "http",
    access: "use",
    repeatable: "never",
    largeAnswer: true,
    answered: "whenever",
    payload: HttpRequestParams,
    success: HttpRequestResult
  }),
  /** Ends an exchange with a streamed body at once; nothing happens if there is none of this id (ours). */
  request("http/cancel", {
    family: "http",
    access: "use",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({ requestId: ClientId }),
    success: Empty
  })
) {}
