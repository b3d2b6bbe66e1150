/** What is said of the original's configuration, plugins and skills. */
import { mkdirSync, writeFileSync } from "node:fs"
import { homedir, hostname } from "node:os"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { MemoryFileSystem } from "../../src/testing/MemoryFileSystem.js"
import { memoryServer } from "../support/composed.js"
import { directory, refuses } from "../support/files.js"
import { memoryClient, memoryLayer } from "../support/servers.js"

/** The original's variable, until the scope closes. */
const withHome = (home: string | undefined) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const before = process.env["CODEX_HOME"]
      setHome(home)
      return before
    }),
    (before) => Effect.sync(() => setHome(before))
  )

const setHome = (home: string | undefined) => {
  if (home === undefined) delete process.env["CODEX_HOME"]
  else process.env["CODEX_HOME"] = home
}

const connected = (home: string) =>
  Effect.gen(function* () {
    yield* withHome(home)
    return yield* Effect.provide(memoryClient, yield* Layer.build(memoryLayer))
  })

it.scopedLive("configuration: none where there is none, and refused where it would be hidden", () =>
  Effect.gen(function* () {
    const home = yield* directory
    const client = yield* connected(home)
    const method = "environmentConfig/read"
    const params = { cwd: "file:///tmp", configPaths: [["model"]], requirementsPaths: [["x", "y"]] }
    yield* refuses(
      client,
      method,
      params,
      -32600,
      "client must call initialize before using environment config methods"
    )
    yield* client.handshake()
    const none = { layers: [], cloudInsertionIndex: 0 }
    assert.deepStrictEqual(yield* client.ask(method, params), {
      userHomeDir: `file://${homedir()}`,
      codexHomeDir: `file://${home}`,
      hostname: hostname(),
      config: none,
      requirements: none
    })
    const empty = "at least one config or requirements path is required"
    yield* refuses(client, method, { ...params, configPaths: [], requirementsPaths: [] }, -32602, empty)
    const keyless = "TOML paths must contain at least one key segment"
    yield* refuses(client, method, { ...params, configPaths: [[]] }, -32602, keyless)
    yield* refuses(client, method, { ...params, cwd: undefined }, -32602, "missing field `cwd`")
    writeFileSync(`${home}/config.toml`, 'model = "x"\n')
    const why = `this server does not read Codex configuration, and ${home}/config.toml is there: use fs/readFile`
    yield* refuses(client, method, params, -32600, why)
  })
)

it.scopedLive("configuration: each of the files that the original reads is found, wherever the home is", () =>
  Effect.gen(function* () {
    yield* withHome(undefined)
    const home = `${homedir()}/.codex`
    const system = ["config.toml", "managed_config.toml", "requirements.toml"].map((name) => `/etc/codex/${name}`)
    const read = (files: Record<string, string>) =>
      Effect.gen(function* () {
        const built = yield* Layer.build(memoryServer(MemoryFileSystem.layer(files)))
        const client = yield* Effect.provide(memoryClient, built)
        yield* client.handshake()
        const params = { cwd: "file:///tmp", configPaths: [["a"]], requirementsPaths: [] }
        return yield* client.call("environmentConfig/read", params)
      })
    for (const path of [...system, `${home}/config.toml`]) {
      const { error } = yield* Effect.scoped(read({ [path]: "" }))
      const message = `this server does not read Codex configuration, and ${path} is there: use fs/readFile`
      assert.deepStrictEqual(error, { code: -32600, message })
    }
    const { result } = yield* Effect.scoped(read({ "/etc/codex/other.toml": "" }))
    assert.strictEqual(result.codexHomeDir, `file://${home}`)
  })
)

it.scopedLive("plugins and skills: none of its own, and roots are not looked into", () =>
  Effect.gen(function* () {
    const home = yield* directory
    mkdirSync(`${home}/skills/one`, { recursive: true })
    writeFileSync(`${home}/skills/one/SKILL.md`, "---\nname: one\n---\n")
    const client = yield* connected(home)
    const before = "client must call initialize before using capability discovery methods"
    yield* refuses(client, "capabilities/discoverV2", { cwd: "file:///tmp" }, -32600, before)
    const { environmentInfo } = yield* client.handshake()
    for (const flag of ["environmentConfigRead", "capabilityDiscoveryV2", "capabilityDiscoverySandbox"]) {
      assert.notProperty(environmentInfo.capabilities, flag)
    }
    assert.deepStrictEqual(yield* client.ask("capabilities/discoverV2", { cwd: `file://${home}` }), {
      plugins: [],
      skills: [],
      warnings: []
    })
    yield* refuses(client, "capabilities/discoverV2", {}, -32602, "missing field `cwd`")
    assert.deepStrictEqual(yield* client.ask("capabilityRoots/discoverV1", { roots: [] }), { roots: [] })
    const { roots } = yield* client.ask("capabilityRoots/discoverV1", { roots: [{ id: "a", path: `file://${home}` }] })
    const error = "this server does not look into capability roots; read them with fs/walk and fs/readFile"
    assert.deepStrictEqual(roots, [
      { id: "a", path: `file://${home}`, plugin: null, skills: [], namespaceManifests: [], warnings: [], error }
    ])
  })
)
