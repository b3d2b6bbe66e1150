/**
 * The limits of HTTP exchanges. A reference with defaults: provide another value to change them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/** Limits of the exchanges of one connection, and what these may do. */
export interface Limits {
  /** Exchanges in progress, streamed or not. */
  readonly maxHttpRequestsPerConnection: number
  /** Bodies of unfinished responses that are not streamed, in bytes. This also limits each single body. */
  readonly httpBufferBytesPerConnection: number
  /** Whether the server makes HTTP requests. */
  readonly allowHttp: boolean
  /** The server's variables that headers may name; undefined for all but its own secrets. */
  readonly httpEnvAllow: ReadonlyArray<string> | undefined
}

/** The default limits. */
export const defaults: Limits = {
  maxHttpRequestsPerConnection: 256,
  httpBufferBytesPerConnection: 67108864,
  allowHttp: true,
  httpEnvAllow: undefined
}

/** The limits in force. */
export class HttpLimits extends Context.Reference<HttpLimits>()("exec-server/HttpLimits", {
  defaultValue: () => defaults
}) {}
