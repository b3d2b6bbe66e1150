/**
 * Connects through a rendezvous to a server that is registered there as an environment.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { ConnectFailed, ConnectTimeout } from "./ClientError.js"
import type { Link, OpenLink } from "./TextChannel.js"
import * as WebSocketLink from "./WebSocketLink.js"

/**
 * How to reach a server behind a rendezvous: `relay://HOST:PORT/ENVIRONMENT`, `relays://` for TLS, or the WebSocket URL
 * of a rendezvous for clients, recognized by `role=harness` in its query as in the original.
 */
export interface Options
  extends Pick<
    WebSocketLink.Options,
    "url" | "headers" | "token" | "insecure" | "connectTimeout" | "maxMessageBytes"
  > {}

const isHarness = (url: string): boolean =>
  /^wss?:\/\//.test(url) && URL.canParse(url) && new URL(url).searchParams.get("role") === "harness"

/** Whether a URL leads through a rendezvous. */
export const isRelay = (url: string): boolean => /^relays?:\/\//.test(url) || isHarness(url)

/** The WebSocket address of a relay URL; undefined if it is not a relay URL with an environment. */
export const addressOf = (url: string): string | undefined => {
  if (isHarness(url)) return url
  const [, tls, host, environmentId] = /^relay(s?):\/\/([^/?#@]+)\/([A-Za-z0-9_-]+)$/.exec(url) ?? []
  return host === undefined ? undefined : `ws${tls}://${host}/cloud/environment/${environmentId}/connect?role=harness`
}

/** Links through one rendezvous. */
export const open =
  (options: Options): OpenLink =>
  ({ onMessage, onBinary, onEnd }) =>
    Effect.gen(function* () {
      const { url, connectTimeout = "10 seconds", maxMessageBytes = 268435456 } = options
      const connectTimeoutMs = Duration.toMillis(connectTimeout)
      const address = addressOf(url)
      if (address === undefined) {
        return yield* new ConnectFailed({ url, reason: "a relay URL is relay://HOST:PORT/ENVIRONMENT" })
      }
      yield* WebSocketLink.checkSecret(address, options)
      // Loaded on first use: relay frames need the protobuf library.
      const { connect } = yield* Effect.promise(() => import("../remote/RelayClient.js"))
      const link = yield* connect(address, { headers: WebSocketLink.headersOf(options), maxMessageBytes }).pipe(
        Effect.mapError(
          ({ message, status }) =>
            new ConnectFailed({
              url,
              reason:
                status === 409
                  ? "no executor is connected for this environment"
                  : message.replace(/^failed to connect to exec-server websocket `[^`]*`: /, ""),
              ...(status === undefined ? {} : { status })
            })
        ),
        Effect.timeoutFail({
          duration: connectTimeoutMs,
          onTimeout: () => new ConnectTimeout({ url, afterMs: connectTimeoutMs })
        })
      )
      link.listen({ onMessage, onBinary, onDrain: () => {}, onEnd })
      return {
        send: link.send,
        close: () => link.close(),
        pause: link.pause,
        resume: link.resume
      } satisfies Link
    })
