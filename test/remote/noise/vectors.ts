/** Recorded handshakes and records: of fixed secrets, and of the original on either side. */
import { Buffer } from "node:buffer"
import * as Either from "effect/Either"
import * as KeyPair from "../../../src/remote/noise/KeyPair.js"
import fixture from "../../fixtures/noise.json" with { type: "json" }

export const { both, genuine_executor: genuineExecutor, genuine_harness: genuineHarness } = fixture

export const hex = (text: string): Buffer => Buffer.from(text, "hex")

const pair = (x25519: string, kemSeed: string) => KeyPair.ofSecrets({ x25519: hex(x25519), kemSeed: hex(kemSeed) })

export const harness = pair(both.harness.x25519_secret, both.harness.mlkem_seed)
export const executor = pair(both.executor.x25519_secret, both.executor.mlkem_seed)

/** The randomness of the recorded handshakes. */
export const initiatorChance = {
  ephemeral: pair(both.initiator.e_secret, both.initiator.e_kem_seed),
  toStatic: hex(both.initiator.skem_m)
}
export const responderChance = {
  ephemeral: pair(both.responder.e_secret, both.responder.e_kem_seed),
  toStatic: hex(both.responder.skem_m),
  toEphemeral: hex(both.responder.ekem_m)
}

export const bindingOf = (vector: {
  readonly environment_id: string
  readonly executor_registration_id: string
  readonly stream_id: string
}) => ({
  environmentId: vector.environment_id,
  registrationId: vector.executor_registration_id,
  streamId: vector.stream_id
})

export const right = <A>(either: Either.Either<A, unknown>): A =>
  Either.getOrThrowWith(either, (left) => new Error(`refused: ${String(left)}`))
