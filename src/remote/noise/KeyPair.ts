/**
 * The key pairs of the encrypted relay: one for X25519 and one for ML-KEM-768 each. A key exchange uses both, so that
 * it stays secret as long as either of them holds.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  randomBytes
} from "node:crypto"
import { ml_kem768 } from "@noble/post-quantum/ml-kem.js"
import * as Either from "effect/Either"
import { isRecord } from "effect/Predicate"

/** The name of the cipher suite in public keys. */
export const suite = "Noise_hybridIK_X25519+MLKEM768_AESGCM_SHA256"

/** Sizes in bytes. */
export const sizes = { x25519: 32, kemPublic: 1184, kemCiphertext: 1088, kemSeed: 64, secret: 32 } as const

/** A public key: 32 bytes of X25519 and 1184 bytes of ML-KEM-768. */
export interface PublicKey {
  readonly x25519: Buffer
  readonly kem: Buffer
}

/** A key pair. */
export interface KeyPair {
  readonly public: PublicKey
  readonly x25519: KeyObject
  readonly kem: Uint8Array
}

/** The secrets that a key pair is made of: 32 bytes for X25519, and the seed d||z of FIPS 203 of 64 bytes. */
export interface Secrets {
  readonly x25519: Uint8Array
  readonly kemSeed: Uint8Array
}

// The DER headers of RFC 8410 before the 32 bytes of a key.
const privateHeader = Buffer.from("302e020100300506032b656e04220420", "hex")
const publicHeader = Buffer.from("302a300506032b656e032100", "hex")

const rawPublic = (key: KeyObject): Buffer => key.export({ type: "spki", format: "der" }).subarray(publicHeader.length)

const make = (x25519: KeyObject, kemSeed: Uint8Array): KeyPair => {
  const kem = ml_kem768.keygen(kemSeed)
  const ownPublic = rawPublic(createPublicKey(x25519))
  return { x25519, kem: kem.secretKey, public: { x25519: ownPublic, kem: Buffer.from(kem.publicKey) } }
}

/** The key pair of these secrets. */
export const ofSecrets = ({ x25519, kemSeed }: Secrets): KeyPair =>
  make(createPrivateKey({ key: Buffer.concat([privateHeader, x25519]), format: "der", type: "pkcs8" }), kemSeed)

/** A new key pair. */
export const generate = (): KeyPair => make(generateKeyPairSync("x25519").privateKey, randomBytes(sizes.kemSeed))

/** New secrets, for a key pair that is kept. */
export const generateSecrets = (): Secrets => ({
  x25519: randomBytes(sizes.x25519),
  kemSeed: randomBytes(sizes.kemSeed)
})

/** The form of a key pair for another version of the server, in base64. */
export interface Carried {
  readonly x25519: string
  readonly kem: string
  readonly kemPublic: string
}

/** What another version makes the same key pair of. */
export const freeze = ({ x25519, kem, public: { kem: kemPublic } }: KeyPair): Carried => ({
  x25519: x25519.export({ type: "pkcs8", format: "der" }).toString("base64"),
  kem: Buffer.from(kem).toString("base64"),
  kemPublic: kemPublic.toString("base64")
})

/** The key pair of another version. */
export const adopt = ({ x25519, kem, kemPublic }: Carried): KeyPair => {
  const key = createPrivateKey({ key: Buffer.from(x25519, "base64"), format: "der", type: "pkcs8" })
  return {
    x25519: key,
    kem: Buffer.from(kem, "base64"),
    public: { x25519: rawPublic(createPublicKey(key)), kem: Buffer.from(kemPublic, "base64") }
  }
}

/** The shared secret of 32 bytes. Throws if the public key is degenerate. */
export const agree = ({ x25519 }: KeyPair, theirs: Buffer): Buffer =>
  diffieHellman({
    privateKey: x25519,
    publicKey: createPublicKey({ key: Buffer.concat([publicHeader, theirs]), format: "der", type: "spki" })
  })

/** Makes a secret for the owner of a public key, and its ciphertext. Throws if the key is not one. */
export const encapsulate = (
  theirs: Buffer,
  randomness: Uint8Array = randomBytes(sizes.secret)
): { readonly ciphertext: Uint8Array; readonly secret: Uint8Array } => {
  const { cipherText, sharedSecret } = ml_kem768.encapsulate(theirs, randomness)
  return { ciphertext: cipherText, secret: sharedSecret }
}

/** The secret in a ciphertext. One for another key gives a random secret. */
export const decapsulate = ({ kem }: KeyPair, ciphertext: Buffer): Uint8Array => ml_kem768.decapsulate(ciphertext, kem)

/** The form of a public key in requests to a registry. */
export interface EncodedKey {
  readonly suite: string
  readonly x25519_public_key: string
  readonly mlkem768_public_key: string
}

/** Encodes a public key for a registry. */
export const encode = ({ x25519, kem }: PublicKey): EncodedKey => ({
  suite,
  x25519_public_key: x25519.toString("base64"),
  mlkem768_public_key: kem.toString("base64")
})

const members: ReadonlySet<string> = new Set(["suite", "x25519_public_key", "mlkem768_public_key"])

const base64 = (text: unknown, size: number): Buffer | undefined => {
  if (typeof text !== "string") return undefined
  const bytes = Buffer.from(text, "base64")
  return bytes.length === size && bytes.toString("base64") === text ? bytes : undefined
}

/** Decodes a public key. The failure says what is wrong with it. */
export const decode = (json: unknown): Either.Either<PublicKey, string> => {
  if (!isRecord(json)) return Either.left("the key is not an object")
  const unknown = Object.keys(json).find((name) => !members.has(name))
  if (unknown !== undefined) return Either.left(`the key has the unknown member \`${unknown.slice(0, 64)}\``)
  if (json["suite"] !== suite) return Either.left(`the suite of the key is not \`${suite}\``)
  const x25519 = base64(json["x25519_public_key"], sizes.x25519)
  if (x25519 === undefined) return Either.left(`\`x25519_public_key\` is not ${sizes.x25519} bytes of base64`)
  const kem = base64(json["mlkem768_public_key"], sizes.kemPublic)
  if (kem === undefined) return Either.left(`\`mlkem768_public_key\` is not ${sizes.kemPublic} bytes of base64`)
  return Either.right({ x25519, kem })
}

/** A name for a public key: its SHA-256 in base64url. */
export const fingerprint = ({ x25519, kem }: PublicKey): string =>
  createHash("sha256").update(x25519).update(kem).digest("base64url")

/** Whether two public keys are the same. */
export const isSame = (one: PublicKey, other: PublicKey): boolean =>
  one.x25519.equals(other.x25519) && one.kem.equals(other.kem)
