/**
 * The TLS certificate of a server, and its key.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import { createPrivateKey, X509Certificate } from "node:crypto"
import { readFileSync } from "node:fs"
import { createSecureContext } from "node:tls"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as PrivateFile from "../internal/PrivateFile.js"
import * as OsError from "../protocol/OsError.js"
import { ListenError } from "./Transport.js"

/**
 * Paths of PEM files. The certificate may be followed by its chain.
 *
 * @category models
 */
export interface Files {
  readonly certFile: string
  readonly keyFile: string
}

/**
 * The files from two flags. A failure is a sentence for the operator.
 *
 * @category utilities
 */
export const fromFlags = (
  certFile: string | undefined,
  keyFile: string | undefined
): Either.Either<Files | undefined, string> => {
  if (certFile === undefined && keyFile === undefined) return Either.right(undefined)
  if (certFile !== undefined && keyFile !== undefined) return Either.right({ certFile, keyFile })
  const missing = certFile === undefined ? "--tls-cert" : "--tls-key"
  return Either.left(`\`${missing}\` is missing: a certificate and its key go together`)
}

/**
 * The certificate and key, as read from the files.
 *
 * @category models
 */
export interface Pair {
  readonly cert: Buffer
  readonly key: Buffer
}

const attempt = <A>(f: () => A, message: (why: string) => string): Effect.Effect<A, ListenError> =>
  Effect.try({ try: f, catch: (error) => new ListenError({ message: message(OsError.describe(error)) }) })

/**
 * Reads both files, and checks that they are valid and belong together.
 *
 * @category utilities
 */
export const load = ({ certFile, keyFile }: Files): Effect.Effect<Pair, ListenError> =>
  Effect.gen(function* () {
    const cert = yield* attempt(
      () => readFileSync(certFile),
      (why) => `cannot read the TLS certificate ${certFile}: ${why}`
    )
    const key = yield* attempt(
      () => readFileSync(keyFile),
      (why) => `cannot read the TLS key ${keyFile}: ${why}`
    )
    const certificate = yield* attempt(
      () => {
        createSecureContext({ cert })
        return new X509Certificate(cert)
      },
      () => `the TLS certificate ${certFile} is no certificate in PEM`
    )
    const privateKey = yield* attempt(
      () => createPrivateKey(key),
      () => `the TLS key ${keyFile} is no private key in PEM without a passphrase`
    )
    if (!certificate.checkPrivateKey(privateKey)) {
      return yield* new ListenError({
        message: `the TLS key ${keyFile} does not belong to the certificate ${certFile}`
      })
    }
    yield* PrivateFile.warn("the TLS key", keyFile)
    return { cert, key }
  })
