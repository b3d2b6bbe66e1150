/**
 * What the two ends of an encrypted relay ask an environment registry: executors register their key and have clients
 * confirmed, clients ask for an executor's key.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { isRecord } from "effect/Predicate"
import * as Registration from "../Registration.js"
import { EndpointError } from "../RelayEndpoint.js"
import type * as RemoteAuth from "../RemoteAuth.js"
import * as KeyPair from "./KeyPair.js"
import type { Verdict } from "./NoiseMux.js"

/** The name of this variant of the relay. */
export const profile = "noise_hybrid_ik_v1"

/** A registered executor. */
export interface Registered {
  /** The WebSocket URL of the rendezvous. */
  readonly url: string
  readonly registrationId: string
}

/** An executor to connect to. */
export interface Reached extends Registered {
  readonly executor: KeyPair.PublicKey
  /** What the executor has the registry confirm. */
  readonly authorization: string
}

const malformed = (message: string) => Either.left(new EndpointError({ message, retryable: false }))

const textIn = (json: unknown, name: string): Either.Either<string, EndpointError> => {
  const value = isRecord(json) ? json[name] : undefined
  return typeof value === "string"
    ? Either.right(value)
    : malformed(`environment registry answered without \`${name}\``)
}

const profileIn = (json: unknown): Either.Either<void, EndpointError> =>
  Either.flatMap(textIn(json, "security_profile"), (given) =>
    given === profile
      ? Either.right(undefined)
      : malformed(`environment registry returned unsupported security profile \`${given.slice(0, 128)}\``)
  )

/** Whether an answer to a registration is that of the encrypted relay. */
export const isEncrypted = (json: unknown): boolean => isRecord(json) && json["security_profile"] !== undefined

/** The registration in an answer. */
export const registeredIn = (json: unknown, target: Registration.Target): Either.Either<Registered, EndpointError> =>
  Either.gen(function* () {
    const url = yield* Registration.addressIn(json, target)
    yield* profileIn(json)
    return { url, registrationId: yield* textIn(json, "executor_registration_id") }
  })

/** Registers an executor's key. Returns the answer, which may be one of the plain relay. */
export const register = (
  target: Registration.Target,
  auth: RemoteAuth.Shape,
  key: KeyPair.PublicKey
): Effect.Effect<unknown, EndpointError> =>
  Registration.askAs(auth, target.url, { security_profile: profile, executor_public_key: KeyPair.encode(key) })

/** Has the registry confirm a client's authorization. Everything but a clear yes is a no. */
export const validate = (
  target: Registration.Target,
  auth: RemoteAuth.Shape,
  registrationId: string,
  client: KeyPair.PublicKey,
  authorization: string
): Effect.Effect<Verdict> =>
  Registration.askAs(auth, Registration.beside(target, "validate"), {
    executor_registration_id: registrationId,
    harness_public_key: KeyPair.encode(client),
    harness_key_authorization: authorization
  }).pipe(
    Effect.match({
      onSuccess: (json): Verdict => (isRecord(json) && json["valid"] === true ? "Valid" : "Invalid"),
      onFailure: ({ status }): Verdict => (status === 401 ? "ExecutorRejected" : "Invalid")
    })
  )

/** Asks for the executor of an environment. The error has the status of a refusal. */
export const connect = (
  target: Registration.Target,
  headers: Readonly<Record<string, string>>,
  key: KeyPair.PublicKey
): Effect.Effect<Reached, EndpointError> =>
  Effect.flatMap(
    Registration.ask(Registration.beside(target, "connect"), headers, { harness_public_key: KeyPair.encode(key) }),
    (json) =>
      Either.gen(function* () {
        const { url, registrationId } = yield* registeredIn(json, target)
        const authorization = yield* textIn(json, "harness_key_authorization")
        if ([url, registrationId, authorization].includes("")) {
          return yield* malformed("environment registry answered with an empty member")
        }
        const executor = yield* Either.mapLeft(
          KeyPair.decode(isRecord(json) ? json["executor_public_key"] : undefined),
          (fault) =>
            new EndpointError({
              message: `environment registry answered with no executor key: ${fault}`,
              retryable: false
            })
        )
        return { url, registrationId, authorization, executor }
      })
  )
