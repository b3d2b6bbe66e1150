/**
 * The state of a handshake: the transcript hash, and the keys derived so far. The names of the operations are those of
 * the Noise Protocol Framework.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { createCipheriv, createDecipheriv, createHash, createHmac } from "node:crypto"

/** The length of an authentication tag, in bytes. */
export const tagBytes = 16

/** The name of the protocol, which every hash of the transcript starts from. */
const protocolName = "Noise_hybridIK_25519+MLKEM768_AESGCM_SHA256"

const algorithm = "aes-256-gcm"

const none = Buffer.alloc(0)

const sha256 = (...parts: ReadonlyArray<Uint8Array>): Buffer => {
  const hash = createHash("sha256")
  for (const part of parts) hash.update(part)
  return hash.digest()
}

const hmac = (key: Uint8Array, ...parts: ReadonlyArray<Uint8Array>): Buffer => {
  const mac = createHmac("sha256", key)
  for (const part of parts) mac.update(part)
  return mac.digest()
}

/** Derives three keys of 32 bytes. */
const hkdf = (chainingKey: Uint8Array, input: Uint8Array): readonly [Buffer, Buffer, Buffer] => {
  const temporary = hmac(chainingKey, input)
  const first = hmac(temporary, Buffer.of(1))
  const second = hmac(temporary, first, Buffer.of(2))
  return [first, second, hmac(temporary, second, Buffer.of(3))]
}

const nonceOf = (n: number): Buffer => {
  const nonce = Buffer.alloc(12)
  nonce.writeUInt32BE(n, 8)
  return nonce
}

/** Encrypts parts with the n-th nonce: the ciphertext in parts, the tag last. */
export const sealParts = (
  key: Uint8Array,
  n: number,
  plaintext: ReadonlyArray<Uint8Array>,
  ad: Uint8Array = none
): ReadonlyArray<Uint8Array> => {
  const cipher = createCipheriv(algorithm, key, nonceOf(n))
  cipher.setAAD(ad)
  const parts = plaintext.map((part) => cipher.update(part))
  cipher.final()
  return [...parts, cipher.getAuthTag()]
}

/** Decrypts what `sealParts` made. Throws if it was changed, or made with another key or nonce. */
export const open = (key: Uint8Array, n: number, sealed: Uint8Array, ad: Uint8Array = none): Buffer => {
  if (sealed.byteLength < tagBytes) throw new RangeError("the ciphertext is shorter than its tag")
  const end = sealed.byteLength - tagBytes
  const decipher = createDecipheriv(algorithm, key, nonceOf(n), { authTagLength: tagBytes })
  decipher.setAAD(ad)
  decipher.setAuthTag(sealed.subarray(end))
  const plaintext = decipher.update(sealed.subarray(0, end))
  decipher.final()
  return plaintext
}

/** The state of one side of a handshake. */
export class SymmetricState {
  private h: Buffer
  private ck: Buffer
  private k: Buffer | undefined
  private n = 0

  constructor() {
    this.h = sha256(Buffer.from(protocolName))
    this.ck = this.h
  }

  /** The hash of everything exchanged. */
  get hash(): Buffer {
    return this.h
  }

  mixHash(data: Uint8Array): void {
    this.h = sha256(this.h, data)
  }

  mixKey(input: Uint8Array): void {
    const [ck, k] = hkdf(this.ck, input)
    this.ck = ck
    this.k = k
    this.n = 0
  }

  mixKeyAndHash(input: Uint8Array): void {
    const [ck, hashed, k] = hkdf(this.ck, input)
    this.ck = ck
    this.mixHash(hashed)
    this.k = k
    this.n = 0
  }

  /** The bytes that encryption adds: none before the first key. */
  get overhead(): number {
    return this.k === undefined ? 0 : tagBytes
  }

  encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const output = this.k === undefined ? plaintext : Buffer.concat(sealParts(this.k, this.n++, [plaintext], this.h))
    this.mixHash(output)
    return output
  }

  /** Throws if the bytes were changed. */
  decryptAndHash(bytes: Buffer): Buffer {
    const plaintext = this.k === undefined ? bytes : open(this.k, this.n++, bytes, this.h)
    this.mixHash(bytes)
    return plaintext
  }

  /** The keys of the two directions: from the initiator, and to it. */
  split(): readonly [Buffer, Buffer] {
    const [first, second] = hkdf(this.ck, none)
    return [first, second]
  }
}
