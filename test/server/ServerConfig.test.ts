import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { FileLimits } from "../../src/filesystem/FileLimits.js"
import { HttpLimits } from "../../src/http/HttpLimits.js"
import { ProcessLimits } from "../../src/process/ProcessLimits.js"
import * as Limits from "../../src/server/Limits.js"
import * as ServerConfig from "../../src/server/ServerConfig.js"
import { SessionLimits } from "../../src/session/SessionLimits.js"
import { TransportLimits } from "../../src/transport/TransportLimits.js"

const folder = mkdtempSync(join(tmpdir(), "config-"))
afterAll(() => rmSync(folder, { recursive: true }))
const toml = (content: string, name = "config.toml") => {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

const load = (flags: ServerConfig.Texts = {}, environment: NodeJS.ProcessEnv = {}, file?: string) =>
  Either.getOrThrowWith(ServerConfig.load(flags, environment, file), ({ message }) => new Error(message))
const refusal = (flags: ServerConfig.Texts = {}, environment: NodeJS.ProcessEnv = {}, file?: string) =>
  Either.getOrThrowWith(Either.flip(ServerConfig.load(flags, environment, file)), () => new Error("it was accepted"))
    .message

describe("load", () => {
  it("has the defaults of the specification", () => {
    assert.deepInclude(load(), {
      listen: "stdio://",
      insecure: false,
      maxProcessesPerSession: 1024,
      maxSessions: 1024,
      maxMessageBytes: 67_108_864,
      retainedOutputBytesPerProcess: 1_048_576,
      retainedOutputBytesTotal: 268_435_456,
      stdinQueueBytesPerProcess: 4_194_304,
      detachedSessionTtlMs: 30_000,
      closedProcessRetentionMs: 30_000,
      shutdownGracePeriodMs: 2000,
      maxConnections: 1024,
      handshakeTimeoutMs: 10_000,
      pingIntervalMs: 30_000,
      wsAuth: undefined,
      allowOrigin: [],
      allowDirectExec: true,
      allowPreparedExec: true,
      allowFiles: true,
      allowHttp: true,
      httpEnvAllow: undefined
    })
  })

  it("the defaults of the services are the same", () =>
    Effect.runPromise(
      Effect.gen(function* () {
        const config = load()
        const limits = [ProcessLimits, SessionLimits, TransportLimits, HttpLimits, FileLimits]
        for (const reference of limits) assert.deepInclude(config, { ...(yield* reference) })
      })
    ))

  it("a flag comes before the environment, that before the file, and that before the default", () => {
    const file = toml("maxSessions = 1\nmaxMessageBytes = 1\ndetachedSessionTtlMs = 1\n")
    const environment = { EXEC_SERVER_MAX_SESSIONS: "2", EXEC_SERVER_MAX_MESSAGE_BYTES: "2" }
    const config = load({ maxSessions: "3" }, environment, file)
    assert.deepInclude(config, {
      maxSessions: 3,
      maxMessageBytes: 2,
      detachedSessionTtlMs: 1,
      closedProcessRetentionMs: 30_000
    })
  })

  it("names follow from keys", () => {
    assert.strictEqual(ServerConfig.flagName("detachedSessionTtlMs"), "detached-session-ttl-ms")
    assert.strictEqual(ServerConfig.variableName("detachedSessionTtlMs"), "EXEC_SERVER_DETACHED_SESSION_TTL_MS")
  })

  it("every setting can be given in each of the three ways", () => {
    for (const [key, { kind, choices, item }] of Object.entries(ServerConfig.settings)) {
      const name = key as ServerConfig.Key
      const list = item.is("a") ? ["a", "b"] : ["pids=7", "core=0"]
      const expected = { count: 7, flag: true, text: "stdio", choice: choices[1] ?? "", list }[kind]
      const text = String(expected)
      const file = toml(`${key} = ${JSON.stringify(expected)}\n`, `${key}.toml`)
      assert.deepStrictEqual<unknown>(load({ [name]: text })[name], expected)
      assert.deepStrictEqual<unknown>(load({}, { [ServerConfig.variableName(name)]: text })[name], expected)
      assert.deepStrictEqual<unknown>(load({}, {}, file)[name], expected)
    }
  })

  it("the original's variable counts where ours is not set", () => {
    const original = "CODEX_EXEC_SERVER_EXIT_ON_STDIN_CLOSE"
    assert.isTrue(load({}, { [original]: "true" }).exitOnStdinClose)
    assert.isFalse(load({}, { [original]: "true", EXEC_SERVER_EXIT_ON_STDIN_CLOSE: "false" }).exitOnStdinClose)
    assert.match(refusal({}, { [original]: "1" }), /^CODEX_EXEC_SERVER_EXIT_ON_STDIN_CLOSE: "1" is not true or false/)
  })

  for (const text of ["", "-1", "1.5", "x", "1e3", " 1", "0x10", "99999999999999999999"]) {
    it(`${JSON.stringify(text)} is no count; the message names the source`, () => {
      assert.include(refusal({ maxSessions: text }), "--max-sessions")
      assert.include(refusal({}, { EXEC_SERVER_MAX_SESSIONS: text }), "EXEC_SERVER_MAX_SESSIONS")
    })
  }

  it("a file's fault names the file and the key", () => {
    const negative = toml("maxSessions = -1\n", "negative.toml")
    assert.include(refusal({}, {}, negative), negative)
    assert.include(refusal({}, {}, negative), "maxSessions")
    const unknown = toml("maxSession = 1\n", "unknown.toml")
    assert.match(refusal({}, {}, unknown), /unknown key maxSession;.*maxSessions/)
    const broken = toml("maxSessions = = 1\n", "broken.toml")
    assert.include(refusal({}, {}, broken), broken)
    const missing = join(folder, "missing.toml")
    assert.include(refusal({}, {}, missing), missing)
    assert.include(refusal({}, {}, missing), "No such file or directory")
  })

  it("a file's key that objects have of themselves is unknown like any other", () => {
    assert.include(refusal({}, {}, toml("constructor = 1\n", "constructor.toml")), "unknown key constructor")
  })

  it("a file's value of another kind is refused", () => {
    for (const value of ['"many"', "true", "[1]", "1.5"]) {
      assert.include(refusal({}, {}, toml(`maxSessions = ${value}\n`, "kind.toml")), "maxSessions")
    }
  })

  it("a flag is true or false, a choice one of those there are", () => {
    assert.include(refusal({ allowDirectExec: "yes" }), "--allow-direct-exec")
    assert.include(refusal({ logLevel: "loud" }), "--log-level")
    assert.strictEqual(
      refusal({}, { EXEC_SERVER_WS_AUTH: "none" }),
      'EXEC_SERVER_WS_AUTH: "none" is not one of capability-token, signed-bearer-token'
    )
  })

  it("a list is separated by commas; in a file it may be a list", () => {
    const origins = ["https://a.example", "https://b.example:8443"] as const
    assert.deepStrictEqual(load({ allowOrigin: ` ${origins[0]} ,, ${origins[1]},` }).allowOrigin, [...origins])
    assert.deepStrictEqual(load({ allowOrigin: "" }).allowOrigin, [])
    assert.deepStrictEqual(load({}, {}, toml(`allowOrigin = "${origins}"\n`)).allowOrigin, [...origins])
    assert.deepStrictEqual(load({}, {}, toml(`allowOrigin = ["${origins[0]}"]\n`)).allowOrigin, [origins[0]])
    for (const value of ["1", "[1]", "true"]) {
      assert.include(refusal({}, {}, toml(`allowOrigin = ${value}\n`)), "allowOrigin must be a list of strings")
    }
  })
})

describe("the variables that headers of HTTP requests may name", () => {
  it("are all unless a list is given; an empty one is none", () => {
    assert.isUndefined(load().httpEnvAllow)
    assert.deepStrictEqual(load({ httpEnvAllow: " A_1, b " }).httpEnvAllow, ["A_1", "b"])
    assert.deepStrictEqual(load({ httpEnvAllow: "" }).httpEnvAllow, [])
    assert.deepStrictEqual(load({}, { EXEC_SERVER_HTTP_ENV_ALLOW: "" }).httpEnvAllow, [])
    assert.deepStrictEqual(load({}, {}, toml("httpEnvAllow = []\n", "none.toml")).httpEnvAllow, [])
  })

  it("have names of variables, and are no secrets of the server, which are sent in no case", () => {
    for (const name of ["MCP_*", "A=b", "1A", "a b", "EXEC_SERVER_TOKEN", "CODEX_API_KEY"]) {
      assert.strictEqual(
        refusal({ httpEnvAllow: `A,${name}` }),
        `--http-env-allow: "${name}" is not the name of a variable that can be sent: ` +
          "letters, digits and _, and no secret of the server itself"
      )
    }
  })
})

describe("limits among settings", () => {
  it("are those of every service", () => {
    const config = load({ maxSessions: "3", maxMessageBytes: "4", closedProcessRetentionMs: "5" })
    return Effect.runPromise(
      Effect.gen(function* () {
        assert.strictEqual((yield* SessionLimits).maxSessions, 3)
        assert.strictEqual((yield* TransportLimits).maxMessageBytes, 4)
        assert.strictEqual((yield* ProcessLimits).closedProcessRetentionMs, 5)
      }).pipe(Effect.provide(Limits.ofSettings(config)))
    )
  })
})
