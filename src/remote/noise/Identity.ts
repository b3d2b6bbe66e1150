/**
 * The file with an executor's key, so that its clients find the same executor again after it was restarted.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import { linkSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as PrivateFile from "../../internal/PrivateFile.js"
import * as OsError from "../../protocol/OsError.js"
import { EndpointError } from "../RelayEndpoint.js"
import * as KeyPair from "./KeyPair.js"

/** The first line of the file. */
const title = "exec-server remote identity v1"

const format = ({ x25519, kemSeed }: KeyPair.Secrets) =>
  `${title}\n${Buffer.from(x25519).toString("base64")}\n${Buffer.from(kemSeed).toString("base64")}\n`

const parse = (text: string): KeyPair.Secrets | undefined => {
  const [first, x25519 = "", kemSeed = ""] = text.split("\n")
  const secrets = { x25519: Buffer.from(x25519, "base64"), kemSeed: Buffer.from(kemSeed, "base64") }
  return first === title && format(secrets) === text && isWhole(secrets) ? secrets : undefined
}

const isWhole = ({ x25519, kemSeed }: KeyPair.Secrets) =>
  x25519.byteLength === KeyPair.sizes.x25519 && kemSeed.byteLength === KeyPair.sizes.kemSeed

/** Creates the file, whole or not at all. One that another process has created meanwhile wins. */
const create = (path: string): void => {
  const draft = `${path}.${randomUUID()}`
  writeFileSync(draft, format(KeyPair.generateSecrets()), { mode: 0o600, flag: "wx" })
  try {
    linkSync(draft, path)
  } catch (error) {
    if (OsError.codeOf(error) !== "EEXIST") throw error
  } finally {
    rmSync(draft)
  }
}

const read = (path: string): string => {
  try {
    return readFileSync(path, "utf8")
  } catch (error) {
    if (OsError.codeOf(error) !== "ENOENT") throw error
    create(path)
    return readFileSync(path, "utf8")
  }
}

/**
 * The key pair of a file, which is created (mode 0600) if there is none. Without a file, a new one. The error names the
 * file.
 */
export const load = (path: string | undefined): Effect.Effect<KeyPair.KeyPair, EndpointError> =>
  path === undefined
    ? Effect.sync(KeyPair.generate)
    : Effect.flatMap(
        Either.flatMap(
          Either.try({
            try: () => read(path),
            catch: (error) => `cannot read or create the remote identity ${path}: ${OsError.describe(error)}`
          }),
          (text) => {
            const secrets = parse(text)
            return secrets === undefined
              ? Either.left(`${path} is not a remote identity; name a file that does not exist, to have one made`)
              : Either.right(KeyPair.ofSecrets(secrets))
          }
        ).pipe(Either.mapLeft((message) => new EndpointError({ message, retryable: false }))),
        (pair) => Effect.as(PrivateFile.warn("the key in", path), pair)
      )
