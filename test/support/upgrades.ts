/** Versions beside the built one, and servers that are replaced by them. */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Upgraded } from "../../src/upgrade/Wire.js"
import { command, type Ended } from "./command.js"
import { type LaunchOptions, webSocketServer } from "./servers.js"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** A folder that is removed with the scope. */
export const temporary: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "upgrade-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

/**
 * A copy of the built version under another number. Returns its entry. `start`, if given, is what it does instead of
 * starting; whether it can take over, it answers as usual.
 */
export const versionBeside = (version: string, start?: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(temporary, (folder) => {
    const native = "src/spawn/native/build/Release"
    mkdirSync(join(folder, "src/spawn/native/build"), { recursive: true })
    mkdirSync(join(folder, "dist"))
    for (const name of readdirSync(join(root, "dist"))) {
      // What runs; not the modules of the library.
      if (/\.(cjs|cache)$|^(bin|.*Worker)\.js$/.test(name)) {
        cpSync(join(root, "dist", name), join(folder, "dist", name))
      }
    }
    cpSync(join(root, native), join(folder, native), { recursive: true })
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"))
    const description = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
    writeFileSync(join(folder, "package.json"), JSON.stringify({ ...description, version }))
    const entry = join(folder, "dist/bin.js")
    if (start !== undefined) {
      renameSync(entry, join(folder, "dist/real.js"))
      writeFileSync(
        entry,
        `if (process.argv[2] === "--upgrade-check") await import("./real.js")\nelse {\n${start}\n}\n`
      )
    }
    return entry
  })

/** A server with a control socket of its own. */
export const upgradable = (options: LaunchOptions = {}) =>
  Effect.gen(function* () {
    const socket = join(yield* temporary, "control.sock")
    const server = yield* webSocketServer({
      ...options,
      env: { ...options.env, EXEC_SERVER_CONTROL_SOCKET: socket }
    })
    /** Asks for an upgrade to the version with this entry. */
    const ask = (entry: string, ...flags: ReadonlyArray<string>): Effect.Effect<Ended> =>
      command(["upgrade", "--control-socket", socket, "--command", entry, "--json", ...flags])
    /** Replaces the server. */
    const upgrade = (entry: string): Effect.Effect<Upgraded> =>
      Effect.map(ask(entry), ({ code, stdout, stderr }) => {
        assert.strictEqual(code, 0, `${stderr}\n${server.stderr()}`)
        return JSON.parse(stdout)
      })
    return { ...server, socket, ask, upgrade }
  })
