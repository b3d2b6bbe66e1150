/** A server without a fleet pays nothing for it. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { nowhere } from "../support/command.js"
import { folder } from "../support/fleet.js"
import { binary, eventually, webSocketServer } from "../support/servers.js"

/** Says at the end what a server has loaded. */
const spy = `const { writeSync } = require("node:fs")
process.on("exit", () => writeSync(2, "loaded " + JSON.stringify(Object.keys(require.cache)) + "\\n"))`

it.scopedLive("a plain server loads nothing of a fleet: no database, and not the bundle of commands", () =>
  Effect.gen(function* () {
    const path = yield* folder
    const file = join(path, "spy.cjs")
    writeFileSync(file, spy)
    const server = yield* webSocketServer({ env: { ...nowhere, NODE_OPTIONS: `--require=${file}` } })
    const client = yield* server.connect
    yield* client.handshake()
    server.child.kill("SIGTERM")
    yield* server.exit
    yield* eventually("it says what it has loaded", () => /^loaded .*\]$/m.test(server.stderr()))
    const [, list = ""] = /^loaded (.*)$/m.exec(server.stderr()) ?? []
    assert.match(list, /spy\.cjs/)
    assert.notMatch(list, /commands-|\/pg\/|pglite|sql-pg|@effect\/sql/)
    // What is bundled is not in the list.
    const dist = join(binary, "..")
    const bundle = (kind: string) =>
      readFileSync(join(dist, readdirSync(dist).find((name) => name.startsWith(`${kind}-`) && /cjs$/.test(name)) ?? ""))
    assert.isTrue(bundle("commands").includes("fleet_host"))
    assert.isFalse(bundle("server").includes("fleet_host"))
  })
)
