/**
 * HTTP requests made where the server runs (May; `redirectPolicy` and `valueEnvVar` now).
 *
 * @since 0.1.0
 */
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { request } from "./MethodFacts.js"
import { Bytes, Count, Flag, Integer, listOf, maybe, oneOf, Text } from "./Schemas.js"

/** A header to send; one name may come several times. */
export const HttpHeaderParam = Schema.Struct({
  name: Text,
  value: Text,
  /** The name of a variable of the server's own environment, whose value is sent after `value` (now). */
  valueEnvVar: maybe(Text)
})

/** A header that was received: its name in lower case. Headers whose value is not visible ASCII are left out. */
export const HttpHeader = Schema.Struct({ name: Text, value: Text })
export type HttpHeader = typeof HttpHeader.Type

/** `http/request`: one exchange, redirects included. */
export const HttpRequestParams = Schema.Struct({
  /** Any token, sent as it is. */
  method: Text,
  /** An absolute `http` or `https` URL. */
  url: Text,
  headers: Schema.optionalWith(listOf(HttpHeaderParam), { default: () => [] }),
  bodyBase64: maybe(Bytes),
  /** For the whole exchange, the response's body included, in milliseconds; as long as it takes without it. */
  timeoutMs: maybe(Count),
  /** The client's name for the exchange: unique among the streams of its connection that have not ended. */
  requestId: Text,
  /** Answer when the headers are there; the body follows in `http/request/bodyDelta`. */
  streamResponse: Schema.optionalWith(Flag, { default: () => false }),
  /** `stop` gives a redirect itself as the response. */
  redirectPolicy: Schema.optionalWith(oneOf("follow", "stop"), { default: () => "follow" as const })
})
export type HttpRequestParams = typeof HttpRequestParams.Type

/** The response, whatever its status. The body is what was on the wire, undecoded; empty when it is streamed. */
export const HttpRequestResult = Schema.Struct({
  status: Integer,
  headers: Schema.Array(HttpHeader),
  bodyBase64: Bytes
})
export type HttpRequestResult = typeof HttpRequestResult.Type

/** The largest piece of a body in one notification, in bytes (now): clients refuse larger ones. */
export const maxBodyDeltaBytes = 1048576

/** `http/request/bodyDelta`: a piece of a streamed body. */
export const HttpBodyDelta = Schema.Struct({
  requestId: Text,
  /** From 1, without gaps. */
  seq: Count,
  deltaBase64: Bytes,
  /** The last one: it is empty, and nothing follows. */
  done: Flag,
  /** With `done`: why the body is not whole; null if it is. */
  error: Schema.NullOr(Text)
})
export type HttpBodyDelta = typeof HttpBodyDelta.Type

/** The request of this family. */
export class HttpApi extends RpcGroup.make(
  /** Makes an HTTP request. The answer leaves before the first piece of a streamed body. */
  request("http/request", {
    family: "http",
    repeatable: "never",
    largeAnswer: true,
    payload: HttpRequestParams,
    success: HttpRequestResult
  })
) {}
