import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { ProcessLimits } from "../../src/process/ProcessLimits.js"
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
      allowDirectExec: true,
      allowPreparedExec: true
    })
  })

  it("the defaults of the services are the same", () =>
    Effect.runPromise(
      Effect.gen(function* () {
        const config = load()
        for (const limits of [yield* ProcessLimits, yield* SessionLimits, yield* TransportLimits]) {
          assert.deepInclude(config, { ...limits })
        }
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
    for (const [key, { kind }] of Object.entries(ServerConfig.settings)) {
      const name = key as ServerConfig.Key
      const text = kind === "count" ? "7" : kind === "flag" ? "true" : name === "logLevel" ? "debug" : name === "contain" ? "namespace" : "stdio"
      const expected = kind === "count" ? 7 : kind === "flag" ? true : text
      const file = toml(`${key} = ${kind === "text" ? JSON.stringify(text) : text}\n`, `${key}.toml`)
      assert.strictEqual(load({ [name]: text })[name], expected)
      assert.strictEqual(load({}, { [ServerConfig.variableName(name)]: text })[name], expected)
      assert.strictEqual(load({}, {}, file)[name], expected)
    }
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

  it("a flag is true or false, a log level one of those there are", () => {
    assert.include(refusal({ allowDirectExec: "yes" }), "--allow-direct-exec")
    assert.include(refusal({ logLevel: "loud" }), "--log-level")
  })
})

describe("parseListen", () => {
  const parse = (listen: string, insecure = false) => ServerConfig.parseListen({ ...load(), listen, insecure })
  const address = (listen: string, insecure = false) =>
    Either.getOrThrowWith(parse(listen, insecure), ({ message }) => new Error(message))
  const why = (listen: string, insecure = false) =>
    Either.getOrThrowWith(Either.flip(parse(listen, insecure)), () => new Error("it was accepted")).message

  it("stdio in both spellings", () => {
    for (const listen of ["stdio", "stdio://"]) assert.strictEqual(address(listen)._tag, "Stdio")
  })

  for (const [listen, host, port] of [
    ["ws://127.0.0.1:0", "127.0.0.1", 0],
    ["ws://127.0.0.1:65535", "127.0.0.1", 65_535],
    ["ws://127.9.9.9:1", "127.9.9.9", 1],
    ["ws://[::1]:8080", "::1", 8080]
  ] as const) {
    it(listen, () => {
      assert.deepInclude(address(listen), { _tag: "WebSocket", address: { host, port } })
    })
  }

  for (const listen of ["http://127.0.0.1:1", "wss://127.0.0.1:1", "", "127.0.0.1:1", "unix:///x"]) {
    it(`${JSON.stringify(listen)} is unsupported`, () => {
      assert.strictEqual(why(listen), `unsupported --listen URL \`${listen}\`; expected \`ws://IP:PORT\` or \`stdio\``)
    })
  }

  for (const listen of [
    "ws://localhost:1234",
    "ws://127.0.0.1",
    "ws://127.0.0.1:",
    "ws://127.0.0.1:65536",
    "ws://127.0.0.1:1/path",
    "ws://::1:80",
    "ws://[127.0.0.1]:80",
    "ws://user@127.0.0.1:80",
    "ws://:80",
    "ws://"
  ]) {
    it(`${listen} is invalid`, () => {
      assert.strictEqual(why(listen), `invalid websocket --listen URL \`${listen}\`; expected \`ws://IP:PORT\``)
      assert.strictEqual(why(listen, true), why(listen))
    })
  }

  for (const listen of ["ws://0.0.0.0:0", "ws://192.168.1.2:80", "ws://[::]:80", "ws://[::ffff:10.0.0.1]:80"]) {
    it(`${listen} is public: only with --insecure`, () => {
      assert.include(why(listen), "--insecure")
      assert.strictEqual(address(listen, true)._tag, "WebSocket")
    })
  }
})

describe("layerLimits", () => {
  it("gives every service its limits", () => {
    const config = load({ maxSessions: "3", maxMessageBytes: "4", closedProcessRetentionMs: "5" })
    return Effect.runPromise(
      Effect.gen(function* () {
        assert.strictEqual((yield* SessionLimits).maxSessions, 3)
        assert.strictEqual((yield* TransportLimits).maxMessageBytes, 4)
        assert.strictEqual((yield* ProcessLimits).closedProcessRetentionMs, 5)
      }).pipe(Effect.provide(ServerConfig.layerLimits(config)))
    )
  })
})
