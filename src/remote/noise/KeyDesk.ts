/**
 * What a rendezvous does for encrypted relays besides routing: keeps the keys of its executors, and vouches for clients
 * to them. It never has a key that opens anything.
 *
 * @since 0.1.0
 */
import { randomUUID } from "node:crypto"
import * as Either from "effect/Either"
import { isRecord } from "effect/Predicate"
import { Tickets } from "../Tickets.js"
import * as KeyPair from "./KeyPair.js"
import { profile } from "./NoiseRegistry.js"

/** The registration of an executor. */
export interface Registration {
  readonly id: string
  readonly key: KeyPair.PublicKey
}

/** A registration that was read, and the members of the answer. */
export interface Registered {
  readonly registration: Registration
  readonly members: object
}

/** For whom an authorization was made. */
interface Authorized {
  readonly registrationId: string
  readonly client: string
}

/** What a client needs to reach the executor that is connected. */
export interface Vouched {
  readonly registrationId: string
  readonly executor: KeyPair.PublicKey
  readonly authorization: string
}

/** The most unused authorizations of one environment. */
const maxAuthorizations = 1024

/** The members of an answer that the plain relay does not have. */
const membersOf = (id: string) => ({ security_profile: profile, executor_registration_id: id })

const keyIn = (body: unknown, name: string): Either.Either<KeyPair.PublicKey, string> =>
  Either.mapLeft(
    KeyPair.decode(isRecord(body) ? body[name] : undefined),
    (fault) => `\`${name}\` is not valid: ${fault}`
  )

/** The keys and authorizations of all environments. */
export class KeyDesk {
  private readonly connected = new Map<string, Registration>()
  private readonly authorizations = new Tickets<Authorized>(maxAuthorizations)

  /** Reads a registration. The failure says what is wrong with the request. */
  register(body: unknown): Either.Either<Registered, string> {
    if (!isRecord(body) || body["security_profile"] !== profile) {
      return Either.left(
        `this rendezvous serves encrypted executors alone: \`security_profile\` must be \`${profile}\``
      )
    }
    return Either.map(keyIn(body, "executor_public_key"), (key) => {
      const registration = { id: randomUUID(), key }
      return { registration, members: membersOf(registration.id) }
    })
  }

  /** The executor of a registration has connected. */
  connect(environmentId: string, registration: Registration): void {
    this.connected.set(environmentId, registration)
  }

  /** Nobody is connected for an environment any more. */
  forget(environmentId: string): void {
    this.connected.delete(environmentId)
  }

  /** Vouches for a client, for the executor that is connected; undefined if none is. */
  vouch(environmentId: string, client: KeyPair.PublicKey): Vouched | undefined {
    const registration = this.connected.get(environmentId)
    if (registration === undefined) return undefined
    const { id: registrationId, key: executor } = registration
    const made = { registrationId, client: KeyPair.fingerprint(client) }
    return { registrationId, executor, authorization: this.authorizations.issue(environmentId, made) }
  }

  /** The same for a client that asks by HTTP. Returns the members of the answer. */
  authorize(environmentId: string, body: unknown): Either.Either<object, string> {
    return Either.flatMap(keyIn(body, "harness_public_key"), (client) => {
      const vouched = this.vouch(environmentId, client)
      if (vouched === undefined) return Either.left("the executor is gone")
      return Either.right({
        ...membersOf(vouched.registrationId),
        executor_public_key: KeyPair.encode(vouched.executor),
        harness_key_authorization: vouched.authorization
      })
    })
  }

  /** Whether an authorization was made for this client and executor. It is used up. */
  validate(environmentId: string, body: unknown): boolean {
    if (!isRecord(body)) return false
    const {
      executor_registration_id: registrationId,
      harness_key_authorization: authorization,
      harness_public_key: key
    } = body
    const client = KeyPair.decode(key)
    if (typeof authorization !== "string" || Either.isLeft(client)) return false
    if (this.connected.get(environmentId)?.id !== registrationId) return false
    const found = this.authorizations.redeem(environmentId, authorization)
    return found?.registrationId === registrationId && found?.client === KeyPair.fingerprint(client.right)
  }
}
