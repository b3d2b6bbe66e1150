/** Self-signed certificates, made in memory without any tool. No key is stored. */
import { Buffer } from "node:buffer"
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto"

const der = (tag: number, ...parts: ReadonlyArray<Buffer>): Buffer => {
  const content = Buffer.concat(parts)
  const { length } = content
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255]
  return Buffer.concat([Buffer.from([tag, ...size]), content])
}
const sequence = (...parts: ReadonlyArray<Buffer>) => der(0x30, ...parts)
const set = (...parts: ReadonlyArray<Buffer>) => der(0x31, ...parts)
const oid = (hex: string) => der(0x06, Buffer.from(hex, "hex"))
const bits = (bytes: Buffer) => der(0x03, Buffer.from([0]), bytes)
const time = (text: string) => der(0x18, Buffer.from(text))

const ecdsaWithSha256 = sequence(oid("2a8648ce3d040302"))
const commonName = sequence(set(sequence(oid("550403"), der(0x0c, Buffer.from("exec-server test")))))
/** Subject alternative name: 127.0.0.1. */
const extensions = der(
  0xa3,
  sequence(sequence(oid("551d11"), der(0x04, sequence(der(0x87, Buffer.from([127, 0, 0, 1]))))))
)

const pem = (label: string, bytes: Buffer) =>
  `-----BEGIN ${label}-----\n${bytes.toString("base64").replace(/.{64}/g, "$&\n")}\n-----END ${label}-----\n`

export interface Certificate {
  readonly cert: string
  readonly key: string
  readonly privateKey: KeyObject
}

/** A certificate for 127.0.0.1 and its key, in PEM. */
export const selfSigned = (): Certificate => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" })
  const content = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1])),
    ecdsaWithSha256,
    commonName,
    sequence(time("20200101000000Z"), time("21200101000000Z")),
    commonName,
    publicKey.export({ type: "spki", format: "der" }),
    extensions
  )
  const signature = sign("sha256", content, privateKey)
  return {
    cert: pem("CERTIFICATE", sequence(content, ecdsaWithSha256, bits(signature))),
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    privateKey
  }
}
