import { Buffer } from "node:buffer"
import { createHash, createHmac } from "node:crypto"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as Authenticator from "../../src/transport/Authenticator.js"
import { exposed, folder } from "../support/exposed.js"

/** Whether a header is let in. */
const isLetIn = (authorization: string | undefined) =>
  Effect.flatMap(Authenticator.Authenticator, ({ authenticate }) => authenticate(authorization)).pipe(
    Effect.as(true),
    Effect.catchTag("Unauthorized", () => Effect.succeed(false))
  )

/** Who a header shows its sender to be. */
const subjectOf = (authorization: string | undefined) =>
  Effect.flatMap(Authenticator.Authenticator, ({ authenticate }) =>
    Effect.map(authenticate(authorization), ({ id }) => id)
  )

const verdicts = (headers: ReadonlyArray<string | undefined>) => Effect.forEach(headers, isLetIn)

/** A file with this content. */
const file = (content: string | Buffer, name = "secret") =>
  Effect.map(folder, (path) => {
    writeFileSync(join(path, name), content)
    return join(path, name)
  })

/** Why a layer cannot be built. */
const whyNot = (layer: Layer.Layer<never, Authenticator.SecretError>) =>
  Effect.map(Effect.either(Effect.provide(isLetIn(undefined), layer)), (result) =>
    Either.isLeft(result) ? result.left.message : "it was built"
  )

const bothLayers = [
  (path: string) => Authenticator.layerCapabilityToken({ file: path }),
  (path: string) => Authenticator.layerSignedBearerToken({ secretFile: path })
] as const

describe("no authentication", () => {
  it.effect("lets everybody in, also by default", () =>
    Effect.gen(function* () {
      const headers = [undefined, "", "Bearer x"]
      assert.deepStrictEqual(yield* verdicts(headers), [true, true, true])
      assert.deepStrictEqual(yield* Effect.provide(verdicts(headers), Authenticator.layerNone), [true, true, true])
    })
  )
})

describe("secrets", () => {
  it.scoped("are read from files that can be read, are text and not empty; messages do not contain them", () =>
    Effect.gen(function* () {
      const path = yield* folder
      for (const layer of bothLayers) {
        const why = (file: string) => whyNot(layer(file))
        const missing = join(path, "missing")
        assert.strictEqual(
          yield* why(missing),
          `failed to read websocket auth secret ${missing}: No such file or directory (os error 2)`
        )
        mkdirSync(join(path, "folder"), { recursive: true })
        assert.include(yield* why(join(path, "folder")), "Is a directory (os error 21)")
        assert.include(yield* why(yield* file(" \n")), "it is empty")
        const message = yield* why(yield* file(Buffer.from([0xff, ...Buffer.from("hunter2")])))
        assert.include(message, "UTF-8")
        assert.notInclude(message, "hunter2")
        // Relative to where the server was started.
        assert.include(yield* why("no-such-secret"), join(process.cwd(), "no-such-secret"))
      }
    })
  )

  it.scoped("that sign have 32 bytes or more, without the white space around them", () =>
    Effect.gen(function* () {
      for (const [content, isEnough] of [
        ["x".repeat(31), false],
        [`  ${"x".repeat(31)}\n`, false],
        ["x".repeat(32), true],
        ["é".repeat(16), true]
      ] as const) {
        const secretFile = yield* file(content)
        const why = yield* whyNot(Authenticator.layerSignedBearerToken({ secretFile }))
        assert.strictEqual(
          why,
          isEnough ? "it was built" : `signed websocket bearer secret ${secretFile} must be at least 32 bytes`
        )
      }
    })
  )

  it.effect("given as a digest are a digest", () =>
    Effect.gen(function* () {
      for (const sha256 of ["", "00", "x".repeat(64)]) {
        assert.include(yield* whyNot(Authenticator.layerCapabilityToken({ sha256 })), "64 hex digits")
      }
    })
  )
})

describe("capability token", () => {
  const token = "s3cret-Token"
  const right = [`Bearer ${token}`, `bearer ${token}`, `BEARER   ${token}  `]
  const wrong = [
    undefined,
    "",
    "Bearer",
    "Bearer ",
    token,
    `Basic ${token}`,
    `Bearer${token}`,
    `Bearer ${token}x`,
    `Bearer ${token.slice(0, -1)}`,
    `Bearer ${token.toLowerCase()}`,
    `Bearer ${token} ${token}`,
    `Bearer Bearer ${token}`
  ]

  const letsIn = Effect.gen(function* () {
    assert.deepStrictEqual(yield* verdicts(right), Array(right.length).fill(true))
    assert.deepStrictEqual(yield* verdicts(wrong), Array(wrong.length).fill(false))
  })

  it.scoped("in a file, without the white space around it", () =>
    Effect.gen(function* () {
      for (const content of [token, `${token}\n`, `\r\n ${token}\t\n`]) {
        yield* Effect.provide(letsIn, Authenticator.layerCapabilityToken({ file: yield* file(content) }))
      }
    })
  )

  it.effect("as a digest, in any case", () =>
    Effect.gen(function* () {
      const sha256 = createHash("sha256").update(token).digest("hex")
      for (const written of [sha256, sha256.toUpperCase()]) {
        yield* Effect.provide(letsIn, Authenticator.layerCapabilityToken({ sha256: written }))
      }
      const digestItself = yield* Effect.provide(
        isLetIn(`Bearer ${sha256}`),
        Authenticator.layerCapabilityToken({ sha256 })
      )
      assert.isFalse(digestItself)
    })
  )

  it.scoped("is one subject, however it is written and stored; its name does not contain the token", () =>
    Effect.gen(function* () {
      const sha256 = createHash("sha256").update(token).digest("hex")
      for (const layer of [
        Authenticator.layerCapabilityToken({ file: yield* file(token) }),
        Authenticator.layerCapabilityToken({ sha256: sha256.toUpperCase() })
      ]) {
        for (const header of right) {
          const subject = yield* Effect.provide(subjectOf(header), layer)
          assert.strictEqual(subject, `token:${sha256.slice(0, 12)}`)
        }
      }
    })
  )

  it.scoped("of any characters, as the bytes that a header carries", () =>
    Effect.gen(function* () {
      const layer = Authenticator.layerCapabilityToken({ file: yield* file("pässwörd ☃") })
      const asHeader = Buffer.from("pässwörd ☃").toString("latin1")
      assert.isTrue(yield* Effect.provide(isLetIn(`Bearer ${asHeader}`), layer))
    })
  )
})

describe("signed bearer token", () => {
  const secret = "0123456789abcdef0123456789abcdef"
  const now = 1_800_000_000
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url")
  const sign = (text: string, key = secret, hash = "sha256") => createHmac(hash, key).update(text).digest("base64url")
  const token = (claims: unknown, header: object = { alg: "HS256" }, key?: string, hash?: string) => {
    const text = `${part(header)}.${part(claims)}`
    return `${text}.${sign(text, key, hash)}`
  }
  /** Claims as JSON text, which has numbers that JavaScript does not write. */
  const tokenOf = (json: string) => {
    const text = `${part({ alg: "HS256" })}.${Buffer.from(json).toString("base64url")}`
    return `${text}.${sign(text)}`
  }
  const valid = { exp: now + 100 }

  /** Whether a token is let in at the moment that the tests have agreed on. */
  const judge = (tokens: Record<string, string>, rules: Partial<Authenticator.BearerRules> = {}) =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now * 1000)
      const layer = Authenticator.layerSignedBearerToken({ secretFile: yield* file(` ${secret}\n`), ...rules })
      const judged = Effect.forEach(Object.entries(tokens), ([name, text]) =>
        Effect.map(isLetIn(`Bearer ${text}`), (letIn) => [name, letIn] as const)
      )
      return Object.fromEntries(yield* Effect.provide(judged, layer))
    }).pipe(Effect.scoped)

  it.effect("that was signed with the secret, by HS256, and by nothing else", () =>
    Effect.gen(function* () {
      const [header, claims, signature] = token(valid).split(".")
      const unsigned = `${part({ alg: "none" })}.${part(valid)}`
      const other = `${part({ exp: now + 1_000_000 })}`
      assert.deepStrictEqual(
        yield* judge({
          right: token(valid),
          typed: token(valid, { alg: "HS256", typ: "JWT", kid: "1" }),
          otherSecret: token(valid, undefined, "x".repeat(32)),
          untrimmedSecret: token(valid, undefined, ` ${secret}\n`),
          none: `${unsigned}.`,
          noneSigned: `${unsigned}.${sign(unsigned)}`,
          None: `${part({ alg: "None" })}.${part(valid)}.`,
          hs512: token(valid, { alg: "HS512" }, secret, "sha512"),
          hs384: token(valid, { alg: "HS384" }, secret, "sha384"),
          hs512Named256: token(valid, { alg: "HS256" }, secret, "sha512"),
          rs256: token(valid, { alg: "RS256" }),
          noAlgorithm: token(valid, {}),
          unknownCritical: token(valid, { alg: "HS256", crit: ["x"], x: 1 }),
          otherClaims: `${header}.${other}.${signature}`,
          otherHeader: `${part({ alg: "HS256", a: 1 })}.${claims}.${signature}`,
          cut: token(valid).slice(0, -1),
          noSignature: `${header}.${claims}.`,
          twoParts: `${header}.${claims}`,
          fourParts: `${token(valid)}.x`,
          noToken: "x",
          dots: "..",
          noObject: token("text"),
          nothing: token(null)
        }),
        {
          ...{ right: true, typed: true, otherSecret: false, untrimmedSecret: false, none: false, noneSigned: false },
          ...{ None: false, hs512: false, hs384: false, hs512Named256: false, rs256: false, noAlgorithm: false },
          ...{ unknownCritical: false, otherClaims: false, otherHeader: false, cut: false, noSignature: false },
          ...{ twoParts: false, fourParts: false, noToken: false, dots: false, noObject: false, nothing: false }
        }
      )
    })
  )

  it.effect("that has an exp, within 30 seconds of it and of nbf", () =>
    Effect.gen(function* () {
      const tokens = {
        noExp: token({}),
        textExp: token({ exp: String(now + 100) }),
        nullExp: token({ exp: null }),
        listExp: token({ exp: [now + 100] }),
        infiniteExp: tokenOf('{"exp":1e400}'),
        infiniteEnd: tokenOf('{"exp":1e306}'),
        noTimeExp: tokenOf('{"exp":8640000000001}'),
        justExpired: token({ exp: now - 10 }),
        expired: token({ exp: now - 40 }),
        almostThere: token({ ...valid, nbf: now + 20 }),
        early: token({ ...valid, nbf: now + 50 }),
        textNbf: token({ ...valid, nbf: "0" })
      }
      const none = {
        ...{ noExp: false, textExp: false, nullExp: false, listExp: false, textNbf: false },
        ...{ infiniteExp: false, infiniteEnd: false, noTimeExp: false }
      }
      assert.deepStrictEqual(yield* judge(tokens), {
        ...none,
        ...{ justExpired: true, expired: false, almostThere: true, early: false }
      })
      assert.deepStrictEqual(yield* judge(tokens, { maxClockSkewSeconds: 0 }), {
        ...none,
        ...{ justExpired: false, expired: false, almostThere: false, early: false }
      })
      assert.deepStrictEqual(yield* judge(tokens, { maxClockSkewSeconds: 60 }), {
        ...none,
        ...{ justExpired: true, expired: true, almostThere: true, early: true }
      })
    })
  )

  it.effect("whose sub of its iss is the subject; those of an issuer without sub are one", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now * 1000)
      const layer = Authenticator.layerSignedBearerToken({ secretFile: yield* file(secret) })
      const cases = [
        [{ sub: "alice", iss: "https://a.example" }, "jwt:alice@https%3A%2F%2Fa.example"],
        [{ sub: "alice" }, "jwt:alice@"],
        [{ sub: "a@b", iss: "c" }, "jwt:a%40b@c"],
        [{ sub: "a", iss: "b@c" }, "jwt:a@b%40c"],
        [{ iss: "c" }, "jwt:@c"],
        [{}, "jwt:@"],
        [{ sub: ["i"] }, "jwt:$%5B%22i%22%5D@"],
        [{ sub: '$["i"]' }, "jwt:%24%5B%22i%22%5D@"],
        [{ sub: "two\nlines" }, "jwt:two%0Alines@"]
      ] as const
      for (const [claims, expected] of cases) {
        const subject = yield* Effect.provide(subjectOf(`Bearer ${token({ ...valid, ...claims })}`), layer)
        assert.strictEqual(subject, expected)
      }
      // Half of a surrogate pair cannot be encoded.
      assert.isFalse(yield* Effect.provide(isLetIn(`Bearer ${token({ ...valid, sub: "\ud800" })}`), layer))
    }).pipe(Effect.scoped)
  )

  it.effect("is granted until its exp, and the skew after it", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now * 1000)
      const secretFile = yield* file(secret)
      for (const maxClockSkewSeconds of [0, 7]) {
        const layer = Authenticator.layerSignedBearerToken({ secretFile, maxClockSkewSeconds })
        const { authenticate } = yield* Effect.provide(Authenticator.Authenticator, layer)
        const { expiresAtMs } = yield* authenticate(`Bearer ${token({ exp: now + 60.5 })}`)
        assert.strictEqual(expiresAtMs, (now + 60.5 + maxClockSkewSeconds) * 1000)
      }
    }).pipe(Effect.scoped)
  )

  it.effect("that expires while the server runs", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now * 1000)
      const layer = Authenticator.layerSignedBearerToken({ secretFile: yield* file(secret) })
      const header = `Bearer ${token({ exp: now + 60 })}`
      yield* Effect.gen(function* () {
        assert.isTrue(yield* isLetIn(header))
        yield* TestClock.adjust("89 seconds")
        assert.isTrue(yield* isLetIn(header))
        yield* TestClock.adjust("1 second")
        assert.isFalse(yield* isLetIn(header))
      }).pipe(Effect.provide(layer))
    }).pipe(Effect.scoped)
  )

  it.effect("whose issuer and audience are the configured ones; without such a rule they may be anything", () =>
    Effect.gen(function* () {
      const tokens = {
        none: token(valid),
        both: token({ ...valid, iss: "i", aud: "a" }),
        list: token({ ...valid, iss: "i", aud: ["b", "a"] }),
        otherIssuer: token({ ...valid, iss: "I", aud: "a" }),
        otherAudience: token({ ...valid, iss: "i", aud: ["b", "aa"] }),
        listIssuer: token({ ...valid, iss: ["i"], aud: "a" })
      }
      const all = { none: true, both: true, list: true, otherIssuer: true, otherAudience: true, listIssuer: true }
      assert.deepStrictEqual(yield* judge(tokens), all)
      assert.deepStrictEqual(yield* judge(tokens, { issuer: "i" }), {
        ...all,
        ...{ none: false, otherIssuer: false, listIssuer: false }
      })
      assert.deepStrictEqual(yield* judge(tokens, { audience: "a" }), { ...all, none: false, otherAudience: false })
    })
  )

  it.scoped("a server that cannot read its secret does not start", () =>
    Effect.gen(function* () {
      const result = yield* Effect.either(
        exposed({ auth: Authenticator.layerSignedBearerToken({ secretFile: "/no/such/secret" }) })
      )
      assert.isTrue(Either.isLeft(result) && result.left._tag === "SecretError")
    })
  )
})
