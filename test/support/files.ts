/** What tests of requests on files share: a directory that is gone when the test is, and refusals. */
import { Buffer } from "node:buffer"
import { execFileSync } from "node:child_process"
import { existsSync, mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { TestClient } from "./TestClient.js"

/** In memory where there is such a place: these tests are not about disks. */
const base = existsSync("/dev/shm") ? "/dev/shm" : tmpdir()

/** A directory of its own; it is gone when the test is. */
export const directory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(base, "exec-server-files-"))),
  // Not rmSync: some of these trees are deeper than it can go.
  (path) => Effect.sync(() => execFileSync("rm", ["-rf", "--", path]))
)

/** Runs a shell script in a directory, with the directory as `$1`. */
export const shell = (cwd: string, script: string): string =>
  execFileSync("/bin/bash", ["-ec", script], { cwd, encoding: "utf8", maxBuffer: 2 ** 26 })

export const base64 = (text: string | Buffer): string => Buffer.from(text).toString("base64")

/** Sends a request that must be refused in exactly these words, or in words that match. */
export const refuses = (client: TestClient, method: string, params: object, code: number, message: string | RegExp) =>
  Effect.map(client.call(method, params), ({ error, result }) => {
    const what = `${method} ${JSON.stringify(params).slice(0, 200)} gave ${JSON.stringify(result)?.slice(0, 200)}`
    assert.isDefined(error, what)
    if (typeof message === "string") assert.deepStrictEqual(error, { code, message }, what)
    else {
      assert.strictEqual(error.code, code, what)
      assert.match(error.message, message)
    }
  })
