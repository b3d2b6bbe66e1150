import { writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as EnvironmentToken from "../../src/remote/EnvironmentToken.js"
import { type Flags, load } from "../../src/remote/RendezvousConfig.js"
import { directory } from "../support/files.js"

const secret = "0123456789abcdef0123456789abcdef"

const flags: Flags = {
  listen: "ws://127.0.0.1:0",
  executorTokenFile: undefined,
  executorSecretFile: undefined,
  clientTokenFile: undefined,
  clientSecretFile: undefined,
  publicUrl: undefined,
  tlsCert: undefined,
  tlsKey: undefined,
  encrypted: false,
  insecure: false
}

const isRefused = (listen: string, variables: NodeJS.ProcessEnv = {}) =>
  Either.isLeft(load({ ...flags, listen }, variables))

describe("a rendezvous without tokens", () => {
  for (const host of ["127.0.0.1", "127.1.2.3", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"]) {
    it(`may listen on ${host}`, () => assert.isFalse(isRefused(`ws://${host}:0`)))
  }

  for (const host of ["0.0.0.0", "[::]", "10.0.0.1", "[::2]", "[::ffff:10.0.0.1]"]) {
    it(`may not listen on ${host}`, () => assert.isTrue(isRefused(`ws://${host}:0`)))
  }
})

describe("a secret in place of a token", () => {
  const tokensOf = (given: Partial<Flags>, variables: NodeJS.ProcessEnv = {}) =>
    Either.map(load({ ...flags, ...given }, variables), ({ executorToken, clientToken }) =>
      [executorToken, clientToken].map((token) => (typeof token === "function" ? token("my-env") : token))
    )
  const derived = (role: EnvironmentToken.Role) => EnvironmentToken.derive(secret, role)("my-env")

  it.scoped("is read from a file or a variable; each environment has a token of its own then", () =>
    Effect.gen(function* () {
      const file = `${yield* directory}/secret`
      writeFileSync(file, `${secret}\n`)
      assert.deepStrictEqual(
        tokensOf({ executorSecretFile: file, clientSecretFile: file }),
        Either.right([derived("executor"), derived("client")])
      )
      const variables = { EXEC_SERVER_EXECUTOR_SECRET: secret, EXEC_SERVER_CLIENT_TOKEN: "client" }
      assert.deepStrictEqual(tokensOf({}, variables), Either.right([derived("executor"), "client"]))
      assert.isFalse(isRefused("ws://0.0.0.0:0", variables))
    })
  )

  it.scoped("has 32 bytes or more", () =>
    Effect.gen(function* () {
      const file = `${yield* directory}/secret`
      writeFileSync(file, `${secret.slice(1)}\n`)
      const short = Either.flip(tokensOf({ clientSecretFile: file }))
      assert.deepInclude(Either.getOrThrow(short), {
        _tag: "TokenFileError",
        message: `the secret in ${file} is shorter than 32 bytes`
      })
      const inVariable = Either.flip(tokensOf({}, { EXEC_SERVER_EXECUTOR_SECRET: "short" }))
      assert.deepInclude(Either.getOrThrow(inVariable), {
        _tag: "RendezvousConfigError",
        message: "the secret in EXEC_SERVER_EXECUTOR_SECRET is shorter than 32 bytes"
      })
    })
  )

  it.scoped("and a token for all exclude each other, wherever they are given", () =>
    Effect.gen(function* () {
      const file = `${yield* directory}/secret`
      writeFileSync(file, secret)
      const both: ReadonlyArray<readonly [Partial<Flags>, NodeJS.ProcessEnv?]> = [
        [{ executorSecretFile: file, executorTokenFile: file }],
        [{ executorSecretFile: file }, { EXEC_SERVER_EXECUTOR_TOKEN: "token" }],
        [{ executorTokenFile: file }, { EXEC_SERVER_EXECUTOR_SECRET: secret }]
      ]
      for (const [given, variables] of both) {
        assert.deepInclude(Either.getOrThrow(Either.flip(tokensOf(given, variables))), {
          _tag: "RendezvousConfigError",
          message:
            "there is a token for all environments and a secret for one each; give either " +
            "--executor-token-file or EXEC_SERVER_EXECUTOR_TOKEN, or --executor-secret-file or EXEC_SERVER_EXECUTOR_SECRET"
        })
      }
    })
  )
})
