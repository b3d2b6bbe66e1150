/**
 * Connects through a rendezvous to a server that is registered there as an environment, encrypted from end to end.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { type ClientError, ConnectFailed, ConnectTimeout, ProtocolViolation } from "./ClientError.js"
import type { Options as RelayOptions } from "./RelayLink.js"
import type { Link, OpenLink } from "./TextChannel.js"
import * as WebSocketLink from "./WebSocketLink.js"

/** How to reach a server: `noise://HOST:PORT/ENVIRONMENT`, or `noises://` for TLS. The token is for the registry. */
export interface Options extends RelayOptions {}

/** Whether a URL is one of an encrypted relay. */
export const isNoise = (url: string): boolean => /^noises?:\/\//.test(url)

/** The form of URLs, for messages. */
export const form = "an encrypted relay URL is noise://HOST:PORT/ENVIRONMENT"

/** The registry and the environment of a URL; undefined if it has none. */
export const addressOf = (url: string): { readonly registry: string; readonly environmentId: string } | undefined => {
  const [, tls, base, environmentId] = /^noise(s?):\/\/([^/?#@]+(?:\/[^?#@]*)?)\/([A-Za-z0-9_-]+)$/.exec(url) ?? []
  return environmentId === undefined ? undefined : { registry: `http${tls}://${base}`, environmentId }
}

const reasons: { readonly [status: number]: string } = {
  401: "the token is missing, or it is not that of this environment",
  409: "no executor is connected for this environment"
}

/** Links to one environment. The executor must have the key of the first link in all that follow. */
export const open = (options: Options): OpenLink => {
  const { url, connectTimeout = "10 seconds", maxMessageBytes = 268435456 } = options
  const connectTimeoutMs = Duration.toMillis(connectTimeout)
  const failed = (reason: string, status?: number) =>
    new ConnectFailed({ url, reason, ...(status === undefined ? {} : { status }) })
  // Loaded on first use: encryption needs ML-KEM-768.
  const load = Effect.promise(() =>
    Promise.all([
      import("../remote/noise/KeyPair.js"),
      import("../remote/noise/NoiseClient.js"),
      import("../remote/Registration.js")
    ])
  )
  let own: import("../remote/noise/KeyPair.js").KeyPair | undefined
  let expected: import("../remote/noise/KeyPair.js").PublicKey | undefined
  return ({ onMessage, onBinary, onEnd }) =>
    Effect.gen(function* () {
      const address = addressOf(url)
      if (address === undefined) return yield* failed(form)
      yield* WebSocketLink.checkSecret(address.registry, options)
      const [KeyPair, NoiseClient, Registration] = yield* load
      const target = yield* Either.mapLeft(
        Registration.parseTarget(address.registry, address.environmentId),
        ({ message }) => failed(message)
      )
      own ??= KeyPair.generate()
      const headers = WebSocketLink.headersOf(options)
      const { link, executor } = yield* NoiseClient.connect({ target, headers, own, expected, maxMessageBytes }).pipe(
        Effect.mapError((error): ClientError => {
          switch (error._tag) {
            case "ExecutorRejected":
              // The registry's answer to the executor. No attempt helps before the executor has another credential.
              return failed(error.message, 401)
            case "KeyChanged":
              return new ProtocolViolation({ detail: error.message })
            case "EndpointError":
              return error.retryable || error.status !== undefined
                ? failed(reasons[error.status ?? 0] ?? error.message, error.status)
                : new ProtocolViolation({ detail: error.message })
            default:
              return failed(error.message)
          }
        }),
        Effect.timeoutFail({
          duration: connectTimeoutMs,
          onTimeout: () => new ConnectTimeout({ url, afterMs: connectTimeoutMs })
        })
      )
      expected = executor
      link.listen({ onMessage, onBinary, onDrain: () => {}, onEnd })
      return {
        send: link.send,
        close: () => link.close(),
        pause: link.pause,
        resume: link.resume
      } satisfies Link
    })
}
