/** Shared by tests of file requests: a temporary directory, and refusals. */
import { Buffer } from "node:buffer"
import { execFileSync } from "node:child_process"
import { existsSync, mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, normalize } from "node:path"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { TestClient } from "./TestClient.js"

/** In memory if possible: these tests do not need a disk. */
const base = existsSync("/dev/shm") ? "/dev/shm" : tmpdir()

/** A temporary directory. It ends with the scope. */
export const directory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(base, "exec-server-files-"))),
  // Not rmSync: some of these trees are too deep for it.
  (path) => Effect.sync(() => execFileSync("rm", ["-rf", "--", path]))
)

/** Runs a shell script in a directory, which is also its `$1`. */
export const shell = (cwd: string, script: string): string =>
  execFileSync("/bin/bash", ["-ec", script], { cwd, encoding: "utf8", maxBuffer: 2 ** 26 })

export const base64 = (text: string | Buffer): string => Buffer.from(text).toString("base64")

/** What the error of a system call names: the path of the request, or both. */
const subjectOf = (params: object): string | undefined => {
  const pathOf = (text: unknown) =>
    typeof text === "string" ? normalize(text.replace(/^file:\/\//, "").replace("%ff", "\ufffd")) : undefined
  const { path, sourcePath, destinationPath } = params as { readonly [member: string]: unknown }
  return sourcePath === undefined ? pathOf(path) : `${pathOf(sourcePath)} to ${pathOf(destinationPath)}`
}

/**
 * Sends a request that must be refused with exactly this message, or one that matches. The text of a system error is
 * followed by the path of the request, of which 1024 characters are shown.
 */
export const refuses = (client: TestClient, method: string, params: object, code: number, message: string | RegExp) =>
  Effect.map(client.call(method, params), ({ error, result }) => {
    const what = `${method} ${JSON.stringify(params).slice(0, 200)} gave ${JSON.stringify(result)?.slice(0, 200)}`
    assert.isDefined(error, what)
    if (typeof message === "string") {
      const subject = /\(os error \d+\)$/.test(message) ? subjectOf(params) : undefined
      const shown = subject !== undefined && subject.length > 1024 ? `${subject.slice(0, 1024)}...` : subject
      const whole = shown === undefined ? message : `${message}: ${shown}`
      assert.deepStrictEqual(error, { code, message: whole }, what)
    } else {
      assert.strictEqual(error.code, code, what)
      assert.match(error.message, message)
    }
  })
