/**
 * The transport of an executor, direct or over a relay, encrypted or not, as the settings and the registry's answer say.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Transport } from "../transport/Transport.js"
import * as CarriedRegistration from "./CarriedRegistration.js"
import * as DirectTransport from "./DirectTransport.js"
import * as Registration from "./Registration.js"
import { EndpointError, RelayEndpoint } from "./RelayEndpoint.js"
import * as RelayTransport from "./RelayTransport.js"
import { RemoteAuth } from "./RemoteAuth.js"

/**
 * Options of an executor.
 *
 * @category models
 */
export interface Options {
  readonly target: Registration.Target
  /** `relay`, the default: any number of clients through a rendezvous. `direct`: one client, who is dialled. */
  readonly transport?: "relay" | "direct"
  /**
   * Whether the traffic is encrypted from end to end. `noise`: always. `legacy`: never, so that the rendezvous reads it.
   * `auto`, the default: if the registry's answer says so.
   */
  readonly profile?: "auto" | "noise" | "legacy"
  /** The file that keeps the executor's key. Without it, the key is a new one each time. */
  readonly identityFile?: string | undefined
  /** Called with the environment id after each registration. */
  readonly onRegistered: (environmentId: string) => Effect.Effect<void>
}

type Built = Layer.Layer<Transport, EndpointError, RemoteAuth>

/** The plain relay, which registers before each connection. The first registration may have been made. */
const legacy = ({ target, onRegistered }: Options, first?: string): Built =>
  RelayTransport.layer.pipe(
    Layer.provide(
      Layer.effect(
        RelayEndpoint,
        Effect.gen(function* () {
          const { url: register } = yield* RelayEndpoint
          let known = first ?? (yield* CarriedRegistration.adopted("relay", target))?.url
          let last = ""
          yield* CarriedRegistration.contribute(() => ({ kind: "relay", target: target.url.href, url: last }))
          return {
            url: Effect.suspend(() => {
              const url = known
              known = undefined
              return url === undefined ? register : Effect.succeed(url)
            }).pipe(
              Effect.tap((url) => {
                last = url
              })
            )
          }
        })
      ).pipe(Layer.provide(Registration.layer(target, onRegistered)))
    )
  )

const refused = new EndpointError({
  message:
    "environment registry answered without `security_profile`: it does not know the encrypted relay; " +
    "with --remote-profile auto or legacy the rendezvous reads everything",
  retryable: false
})

const negotiated = (options: Options, mayBeLegacy: boolean) =>
  Effect.gen(function* () {
    const { target, identityFile, onRegistered } = options
    // Loaded on first use: ML-KEM-768 takes 40 ms.
    const [Identity, KeyPair, NoiseRegistry, NoiseTransport] = yield* Effect.promise(() =>
      Promise.all([
        import("./noise/Identity.js"),
        import("./noise/KeyPair.js"),
        import("./noise/NoiseRegistry.js"),
        import("./noise/NoiseTransport.js")
      ])
    )
    const before = yield* CarriedRegistration.adopted("noise", target)
    if (mayBeLegacy && (yield* CarriedRegistration.adopted("relay", target)) !== undefined) return legacy(options)
    const isOwnKey = identityFile === undefined
    const identity =
      isOwnKey && before?.identity !== undefined ? KeyPair.adopt(before.identity) : yield* Identity.load(identityFile)
    // A file may have another key by now, which the registry does not know.
    if (before?.registrationId !== undefined && before.registeredKey === KeyPair.fingerprint(identity.public)) {
      const { url, registrationId } = before
      return NoiseTransport.layer({ target, identity, isOwnKey, first: { url, registrationId }, onRegistered })
    }
    const answer = yield* NoiseRegistry.register(target, yield* RemoteAuth, identity.public)
    if (!NoiseRegistry.isEncrypted(answer)) {
      if (!mayBeLegacy) return yield* refused
      const url = yield* Registration.addressIn(answer, target)
      yield* onRegistered(target.environmentId)
      return legacy(options, url)
    }
    const first = yield* NoiseRegistry.registeredIn(answer, target)
    yield* onRegistered(target.environmentId)
    return NoiseTransport.layer({ target, identity, isOwnKey, first, onRegistered })
  })

/**
 * Peers that the executor has dialled. Building the layer registers the executor, and fails if that is refused.
 *
 * @category layers
 */
export const layer = (options: Options): Built => {
  const { profile = "auto", transport = "relay" } = options
  if (transport === "direct") return DirectTransport.layer(options)
  return profile === "legacy" ? legacy(options) : Layer.unwrapEffect(negotiated(options, profile === "auto"))
}
