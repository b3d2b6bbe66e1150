/**
 * Peers behind a rendezvous: the executor connects to it, and every relay stream on its socket is a peer. If the socket
 * is lost, its streams end, but their sessions do not, and the executor reconnects.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { redactUrl } from "../protocol/Redact.js"
import { FramePool } from "../session/FramePool.js"
import { Transport } from "../transport/Transport.js"
import { TransportLimits } from "../transport/TransportLimits.js"
import * as Dialer from "./Dialer.js"
import { type EndpointError, RelayEndpoint } from "./RelayEndpoint.js"
import { RelayLimits } from "./RelayLimits.js"
import * as RelayMux from "./RelayMux.js"
import * as RelaySocket from "./RelaySocket.js"

/**
 * Peers behind a rendezvous. Building the layer fails without an address. After that, retryable errors are retried.
 *
 * @category layers
 */
export const layer: Layer.Layer<Transport, EndpointError, RelayEndpoint> = Layer.effect(
  Transport,
  Effect.gen(function* () {
    const { url } = yield* RelayEndpoint
    const { maxMessageBytes } = yield* TransportLimits
    const limits = yield* RelayLimits
    const frames = new FramePool()
    const first = yield* url
    // A longer frame ends the socket, a longer message only its stream.
    const longestMessage = Math.max(maxMessageBytes, limits.maxWholeBytes)

    const next = Effect.mapError(url, Dialer.asDialFailure)

    const run: Transport["Type"]["run"] = (serve) =>
      Effect.suspend(() => {
        let known: string | undefined = first
        return Dialer.run(serve, {
          open: Effect.suspend(() => {
            const address = known === undefined ? next : Effect.succeed(known)
            known = undefined
            return Effect.flatMap(address, (to) => RelaySocket.dial(to, { maxMessageBytes: longestMessage }))
          }),
          attach: (socket, hooks) => RelayMux.run(socket, { ...hooks, limits, maxMessageBytes, frames })
        })
      })

    return { address: redactUrl(first), run }
  })
)
