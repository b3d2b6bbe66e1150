/**
 * The handshake of the encrypted relay: one message in each direction. The client knows the executor's key beforehand
 * and sends its own encrypted, with an authorization that the registry made for it.
 *
 * Pure: messages in, messages out. The pattern is Noise IK with each exchange doubled by ML-KEM-768.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import * as Either from "effect/Either"
import * as KeyPair from "./KeyPair.js"
import { SymmetricState, tagBytes } from "./SymmetricState.js"

/** What a handshake is bound to. Both sides must have the same. */
export interface Binding {
  readonly environmentId: string
  /** The registration of the executor: a new one for each. */
  readonly registrationId: string
  readonly streamId: string
}

/** The keys of a finished handshake, of 32 bytes each. */
export interface Keys {
  readonly send: Buffer
  readonly receive: Buffer
  /** The hash of the handshake: the same on both sides, and different for each handshake. */
  readonly hash: Buffer
}

/** Randomness of a handshake, given only by tests. */
export interface Chance {
  readonly ephemeral: KeyPair.KeyPair
  /** For the encapsulations to the peer's static and ephemeral key, 32 bytes each. */
  readonly toStatic?: Uint8Array | undefined
  readonly toEphemeral?: Uint8Array | undefined
}

/** The longest authorization that an executor accepts, in bytes. */
export const maxAuthorizationBytes = 4096

/** The longest first message that an executor accepts, in bytes. */
export const maxFirstBytes =
  2 * KeyPair.sizes.kemPublic +
  KeyPair.sizes.kemCiphertext +
  2 * KeyPair.sizes.x25519 +
  3 * tagBytes +
  maxAuthorizationBytes

/** The payload of an executor whose own registry credential was rejected, instead of an empty one. */
export const registryRejected = "codex-registry-authentication-rejected/v1"

/** The failure of a handshake that was answered so. */
export const executorRejected = "the registry does not accept the executor's credential"

const prologueName = "codex-exec-server-relay-noise/v1"

const prologue = ({ environmentId, registrationId, streamId }: Binding): Buffer =>
  Buffer.concat(
    [prologueName, environmentId, registrationId, streamId].flatMap((text) => {
      const bytes = Buffer.from(text)
      const length = Buffer.alloc(8)
      length.writeUInt32BE(bytes.length, 4)
      return [length, bytes]
    })
  )

const start = (binding: Binding, executor: KeyPair.PublicKey): SymmetricState => {
  const state = new SymmetricState()
  for (const part of [prologue(binding), executor.x25519, executor.kem]) state.mixHash(part)
  return state
}

/** Reads a message piece by piece. Throws at its end. */
class Pieces {
  private at = 0

  constructor(private readonly bytes: Buffer) {}

  take(size: number): Buffer {
    if (this.at + size > this.bytes.length) throw new RangeError("the message is too short")
    this.at += size
    return this.bytes.subarray(this.at - size, this.at)
  }

  rest(): Buffer {
    return this.take(this.bytes.length - this.at)
  }
}

/** Writes the ephemeral keys in clear. */
const writeEphemeral = (state: SymmetricState, { x25519, kem }: KeyPair.PublicKey): ReadonlyArray<Uint8Array> => {
  state.mixHash(x25519)
  state.mixHash(kem)
  return [x25519, kem]
}

const readEphemeral = (state: SymmetricState, pieces: Pieces): KeyPair.PublicKey => {
  const key = { x25519: pieces.take(KeyPair.sizes.x25519), kem: pieces.take(KeyPair.sizes.kemPublic) }
  state.mixHash(key.x25519)
  state.mixHash(key.kem)
  return key
}

/** A secret for the peer's static key. */
const writeStaticSecret = (state: SymmetricState, theirs: Buffer, chance: Uint8Array | undefined): Uint8Array => {
  const { ciphertext, secret } = KeyPair.encapsulate(theirs, chance)
  const written = state.encryptAndHash(ciphertext)
  state.mixKeyAndHash(secret)
  return written
}

const readStaticSecret = (state: SymmetricState, pieces: Pieces, own: KeyPair.KeyPair): void => {
  const ciphertext = state.decryptAndHash(pieces.take(KeyPair.sizes.kemCiphertext + state.overhead))
  state.mixKeyAndHash(KeyPair.decapsulate(own, ciphertext))
}

const attempt = <A>(run: () => Either.Either<A, string>): Either.Either<A, string> => {
  try {
    return run()
  } catch (error) {
    return Either.left(error instanceof Error ? error.message : String(error))
  }
}

/** The client's side, waiting for the answer. */
export interface Initiated {
  /** The message for the executor. */
  readonly message: Buffer
  /** Reads the answer. The failure says why the handshake is void. */
  readonly finish: (message: Buffer) => Either.Either<Keys, string>
}

/** Begins a handshake with the executor of a public key. Throws if the key is degenerate. */
export const initiate = (
  binding: Binding,
  own: KeyPair.KeyPair,
  executor: KeyPair.PublicKey,
  authorization: string | Uint8Array,
  chance: Chance = { ephemeral: KeyPair.generate() }
): Initiated => {
  const { ephemeral } = chance
  const state = start(binding, executor)
  const parts: Array<Uint8Array> = [writeStaticSecret(state, executor.kem, chance.toStatic)]
  parts.push(...writeEphemeral(state, ephemeral.public))
  state.mixKey(KeyPair.agree(ephemeral, executor.x25519))
  parts.push(state.encryptAndHash(own.public.x25519), state.encryptAndHash(own.public.kem))
  state.mixKey(KeyPair.agree(own, executor.x25519))
  parts.push(state.encryptAndHash(Buffer.from(authorization)))
  return {
    message: Buffer.concat(parts),
    finish: (message) =>
      attempt(() => {
        const pieces = new Pieces(message)
        const ciphertext = pieces.take(KeyPair.sizes.kemCiphertext)
        state.mixHash(ciphertext)
        state.mixKey(KeyPair.decapsulate(ephemeral, ciphertext))
        readStaticSecret(state, pieces, own)
        const theirs = readEphemeral(state, pieces)
        state.mixKey(KeyPair.agree(ephemeral, theirs.x25519))
        state.mixKey(KeyPair.agree(own, theirs.x25519))
        const payload = state.decryptAndHash(pieces.rest())
        if (payload.length > 0) {
          return Either.left(
            payload.toString() === registryRejected ? executorRejected : "the payload of the answer is not empty"
          )
        }
        const [send, receive] = state.split()
        return Either.right({ send, receive, hash: state.hash })
      })
  }
}

/** The executor's side, which has read the client's message. */
export interface Accepted {
  readonly client: KeyPair.PublicKey
  readonly authorization: string
  /**
   * Answers, once the authorization was checked. The payload is empty, unless the registry rejected the executor. Fails
   * if a key of the client is degenerate.
   */
  readonly answer: (
    payload?: typeof registryRejected
  ) => Either.Either<{ readonly message: Buffer; readonly keys: Keys }, string>
}

/** Reads the first message of a handshake. The failure says why it is refused. */
export const accept = (
  binding: Binding,
  own: KeyPair.KeyPair,
  message: Buffer,
  makeChance: () => Chance = () => ({ ephemeral: KeyPair.generate() })
): Either.Either<Accepted, string> =>
  attempt(() => {
    const state = start(binding, own.public)
    const pieces = new Pieces(message)
    readStaticSecret(state, pieces, own)
    const theirs = readEphemeral(state, pieces)
    state.mixKey(KeyPair.agree(own, theirs.x25519))
    const client = {
      x25519: state.decryptAndHash(pieces.take(KeyPair.sizes.x25519 + tagBytes)),
      kem: state.decryptAndHash(pieces.take(KeyPair.sizes.kemPublic + tagBytes))
    }
    state.mixKey(KeyPair.agree(own, client.x25519))
    const payload = state.decryptAndHash(pieces.rest())
    if (payload.length > maxAuthorizationBytes || !isUtf8(payload)) {
      return Either.left(`the authorization is not UTF-8 of at most ${maxAuthorizationBytes} bytes`)
    }
    return Either.right({
      client,
      authorization: payload.toString(),
      answer: (payload) =>
        attempt(() => {
          const chance = makeChance()
          const { ephemeral } = chance
          const toEphemeral = KeyPair.encapsulate(theirs.kem, chance.toEphemeral)
          state.mixHash(toEphemeral.ciphertext)
          state.mixKey(toEphemeral.secret)
          const parts: Array<Uint8Array> = [toEphemeral.ciphertext]
          parts.push(writeStaticSecret(state, client.kem, chance.toStatic))
          parts.push(...writeEphemeral(state, ephemeral.public))
          state.mixKey(KeyPair.agree(ephemeral, theirs.x25519))
          state.mixKey(KeyPair.agree(ephemeral, client.x25519))
          parts.push(state.encryptAndHash(Buffer.from(payload ?? "")))
          const [receive, send] = state.split()
          return Either.right({ message: Buffer.concat(parts), keys: { send, receive, hash: state.hash } })
        })
    })
  })
