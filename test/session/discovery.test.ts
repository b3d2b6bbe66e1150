/** What is said of the original's configuration, plugins and skills. */
import { mkdirSync, writeFileSync } from "node:fs"
import { hostname } from "node:os"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { directory, refuses } from "../support/files.js"
import { webSocketServer } from "../support/servers.js"

const connected = (home: string) =>
  Effect.gen(function* () {
    const { connect } = yield* webSocketServer({ env: { CODEX_HOME: home } })
    return yield* connect
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
    assert.deepInclude(yield* client.ask(method, params), {
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
