/**
 * The registration of an executor, carried over an upgrade: the new version dials the same rendezvous with the same key,
 * which clients have pinned, and asks the registry for nothing before.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Handover } from "../internal/Handover.js"
import type { Target } from "./Registration.js"

/** The name of its state. */
export const part = "remote"

/** A registration, with its kind and the key that was registered. */
export const Carried = Schema.Struct({
  kind: Schema.Literal("relay", "noise", "direct"),
  /** The URL of registration requests: another one is another registration. */
  target: Schema.String,
  /** What is dialled. */
  url: Schema.String,
  registrationId: Schema.optional(Schema.String),
  /** The fingerprint of the key that was registered. */
  registeredKey: Schema.optional(Schema.String),
  /** A key that is in no file; in base64. */
  identity: Schema.optional(Schema.Struct({ x25519: Schema.String, kem: Schema.String, kemPublic: Schema.String }))
})

/** A registration, with its kind and the key that was registered. */
export type Carried = typeof Carried.Type

/** The registration that the version before has left for this target; undefined if there is none. */
export const adopted = (kind: Carried["kind"], { url }: Target): Effect.Effect<Carried | undefined> =>
  Effect.map(Handover, (handover) => {
    const before = handover.adopted(part)
    if (before === undefined) return undefined
    const found = Schema.decodeUnknownSync(Carried)(before.state)
    return found.kind === kind && found.target === url.href ? found : undefined
  })

/** Hands the current registration over. It is a secret: with it one could be the executor. */
export const contribute = (current: () => Carried): Effect.Effect<void> =>
  Effect.map(Handover, (handover) =>
    handover.contribute({ name: part, isSecret: true, freeze: () => Schema.encodeSync(Carried)(current()) })
  )
