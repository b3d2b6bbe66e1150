/** Warnings about secrets that others can read. */
import { chmodSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { warn } from "../../src/internal/PrivateFile.js"
import * as Authenticator from "../../src/transport/Authenticator.js"
import * as Tls from "../../src/transport/Tls.js"
import { selfSigned } from "../support/certificate.js"
import { folder } from "../support/exposed.js"

/** What an effect logs. */
const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => void lines.push(String(message)))
    yield* Effect.provide(effect, Logger.replace(Logger.defaultLogger, logger))
    return lines
  })

describe("a secret in a file", () => {
  it.scoped("that others can read or write is warned of, with what to do", () =>
    Effect.gen(function* () {
      const file = join(yield* folder, "secret")
      writeFileSync(file, "x".repeat(32))
      for (const [mode, isShared] of [
        [0o600, false],
        [0o400, false],
        [0o644, true],
        [0o640, true],
        [0o602, true]
      ] as const) {
        chmodSync(file, mode)
        const line = `others may read or change the token in ${file} (mode ${mode.toString(8).padStart(4, "0")}): run chmod 600 ${file}`
        assert.deepStrictEqual(yield* logged(warn("the token in", file)), isShared ? [line] : [])
      }
      assert.deepStrictEqual(yield* logged(warn("the token in", `${file}.missing`)), [])
    })
  )

  it.scoped("is looked at where servers read theirs", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const { cert, key } = selfSigned()
      const [certFile, keyFile, secretFile] = ["cert", "key", "secret"].map((name) => join(path, name)) as [
        string,
        string,
        string
      ]
      writeFileSync(certFile, cert)
      writeFileSync(keyFile, key)
      writeFileSync(secretFile, "x".repeat(32))
      chmodSync(keyFile, 0o644)
      chmodSync(secretFile, 0o644)
      for (const [effect, warned] of [
        [Tls.load({ certFile, keyFile }), keyFile],
        [Effect.provide(Effect.void, Authenticator.layerCapabilityToken({ file: secretFile })), secretFile],
        [Effect.provide(Effect.void, Authenticator.layerSignedBearerToken({ secretFile })), secretFile]
      ] as const) {
        const lines = yield* logged(effect as Effect.Effect<unknown, unknown>)
        assert.lengthOf(lines, 1)
        assert.include(lines[0], `chmod 600 ${warned}`)
      }
    })
  )
})
