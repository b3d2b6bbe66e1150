/** Every example runs, and says what it should. */
import { execFile } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"

const root = fileURLToPath(new URL("../..", import.meta.url))
const names = readdirSync(`${root}scratch/examples`).map((name) => name.replace(/\.ts$/, ""))

/** What each prints, whatever else it prints. */
const expected: { readonly [name: string]: ReadonlyArray<RegExp> } = {
  "agent-tool": [/^1\n2\n/m, /bytes left out/, /still running/, /hello, world\n\n\[exit code 4\]/],
  "ci-matrix": [/a on node 20 +passed/, /b on node 22 +failed: status 3 \(b failed\)/, /timed out/, /2 of 6 passed/],
  "http-server": [/^GET \/hello: an ordinary route$/m, /^WebSocket \/exec: a process$/m, /^exit code 0$/m],
  "mocked-terminal": [/^passed/],
  supervise: [
    /^healthy: the process that was started$/m,
    /^restarted, attempt 1$/m,
    /a new process/,
    /ended by SIGTERM/
  ]
}

const run = (name: string): Effect.Effect<string> =>
  Effect.async((resume) => {
    const args = ["scratch/example.mjs", name]
    execFile(process.execPath, args, { cwd: root, timeout: 50_000 }, (error, stdout, stderr) =>
      resume(
        error === null ? Effect.succeed(stdout) : Effect.dieMessage(`${name}: ${error.message}\n${stdout}${stderr}`)
      )
    )
  })

describe("examples", () => {
  it("are all known here, and short", () => {
    assert.sameMembers(names, Object.keys(expected))
    for (const name of names) {
      const lines = readFileSync(`${root}scratch/examples/${name}.ts`, "utf8").split("\n")
      assert.isBelow(lines.length, 81, name)
      assert.match(lines[0] ?? "", /^\/\/ /, name)
    }
  })

  for (const [name, patterns] of Object.entries(expected)) {
    it.live(name, () =>
      Effect.map(run(name), (output) => {
        for (const pattern of patterns) assert.match(output, pattern)
      })
    )
  }
})
