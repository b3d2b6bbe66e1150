/** Why something could not be started, where only a server can know: told by what it says of the files in question. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { type ClientError, ServerError, Unsupported } from "../../src/client/ClientError.js"
import { exitStatusOf } from "../../src/command/CommandExit.js"
import { explain } from "../../src/command/StartFailure.js"
import type { FileMetadata } from "../../src/protocol/FileSystemApi.js"

const metadata = (isDirectory: boolean): FileMetadata => ({
  isDirectory,
  isFile: !isDirectory,
  isSymlink: false,
  size: 0,
  createdAtMs: 0,
  modifiedAtMs: 0
})

type Answer = Effect.Effect<FileMetadata, ClientError>

const folder: Answer = Effect.succeed(metadata(true))
const file: Answer = Effect.succeed(metadata(false))
const error = (code: number, reason: string): Answer => new ServerError({ code, reason })
const missing = error(-32004, "No such file or directory (os error 2)")
const denied = error(-32600, "Permission denied (os error 13)")

/** How `program` in `/a folder` is said to have failed, with these files there, of which others are missing. */
const said = (reason: string, program: string, files: Readonly<Record<string, Answer>>) =>
  Effect.map(
    Effect.flip(
      explain(new ServerError({ code: -32603, reason }), {
        program,
        cwd: "file:///a%20folder",
        displayCwd: "/a folder",
        getMetadata: (path) => files[path] ?? missing
      })
    ),
    (failure) => [exitStatusOf(failure), failure._tag === "Exited" ? "" : failure.message]
  )

const noEntry = "No such file or directory (os error 2)"
const noAccess = "Permission denied (os error 13)"
const cwd = "file:///a%20folder"

describe("a start that failed", () => {
  it.effect("is the program's fault where the directory is there", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* said(noEntry, "x", { [cwd]: folder }), [127, ""])
      assert.deepStrictEqual(yield* said(noEntry, "./x", { [cwd]: folder }), [127, ""])
      assert.deepStrictEqual(yield* said(noEntry, "/x y", { [cwd]: folder }), [127, ""])
      assert.deepStrictEqual(yield* said(noAccess, "./x", { [cwd]: folder }), [126, ""])
      assert.deepStrictEqual(yield* said("Exec format error (os error 8)", "./x", { [cwd]: folder }), [126, ""])
      // As the original's terminals have said it.
      const words = [
        ["Unable to spawn x because it doesn't exist on the filesystem (ENOENT: No such file or directory)", 127],
        ['Unable to spawn x because:\nNo viable candidates found in PATH "/usr/bin:/bin"', 127],
        ["Unable to spawn /a folder/./x because it is not executable", 126]
      ] as const
      for (const [reason, code] of words) {
        assert.deepStrictEqual(yield* said(reason, "x", { [cwd]: folder }), [code, ""], reason)
      }
    })
  )

  it.effect("is that of its interpreter where the program is there", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* said(noEntry, "./x y", { [cwd]: folder, [`${cwd}/x%20y`]: file }), [126, ""])
      assert.deepStrictEqual(yield* said(noEntry, "/bin/x", { [cwd]: folder, "file:///bin/x": file }), [126, ""])
    })
  )

  it.effect("is that of the directory where this is not there, is none, or cannot be entered", () =>
    Effect.gen(function* () {
      const why = "cannot use /a folder as the working directory: "
      assert.deepStrictEqual(yield* said(noEntry, "x", {}), [1, `${why}${noEntry}`])
      assert.deepStrictEqual(yield* said("Not a directory (os error 20)", "x", { [cwd]: file }), [
        1,
        `${why}Not a directory (os error 20)`
      ])
      assert.deepStrictEqual(yield* said(noAccess, "x", { [cwd]: denied }), [1, `${why}${noAccess}`])
      const locked = { [cwd]: folder, [`${cwd}/.exec-server-is-not-here`]: denied }
      assert.deepStrictEqual(yield* said(noAccess, "x", locked), [1, `${why}${noAccess}`])
    })
  )

  it.effect("is told as the server told it where that cannot be found out, or is about neither", () =>
    Effect.gen(function* () {
      const plain = (reason: string) => [1, `exec-server rejected request (-32603): ${reason}`]
      const unsupported: Answer = new Unsupported({ server: "x", what: "do that" })
      assert.deepStrictEqual(yield* said(noEntry, "x", { [cwd]: unsupported }), plain(noEntry))
      assert.deepStrictEqual(yield* said(noEntry, "x", { [cwd]: error(-32603, "why not") }), plain(noEntry))
      const exhausted = "Cannot allocate memory (os error 12)"
      assert.deepStrictEqual(yield* said(exhausted, "x", { [cwd]: folder }), plain(exhausted))
      assert.deepStrictEqual(yield* said("missing program", "", { [cwd]: folder }), plain("missing program"))
      const waiting = yield* Effect.fork(said(noEntry, "x", { [cwd]: Effect.never }))
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* Fiber.join(waiting), plain(noEntry))
    })
  )
})
