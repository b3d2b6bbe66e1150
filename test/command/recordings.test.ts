/** Commands about recordings: `record` and `play`. */
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { atTerminal, command, commandLine, isOneLine, start } from "../support/command.js"
import { directory } from "../support/files.js"
import { eventually, webSocketServer } from "../support/servers.js"

const recording = (events: ReadonlyArray<readonly [number, string, string]>) =>
  [{ version: 3, term: { cols: 80, rows: 24 } }, ...events].map((line) => `${JSON.stringify(line)}\n`).join("")

const fileWith = (text: string) =>
  Effect.map(directory, (folder) => {
    const file = join(folder, "a.cast")
    writeFileSync(file, text)
    return file
  })

describe("record", () => {
  const served = Effect.gen(function* () {
    const folder = yield* directory
    const operator = join(folder, "operator")
    writeFileSync(operator, "operator's", { mode: 0o600 })
    const dir = join(folder, "recordings")
    const { url } = yield* webSocketServer({ args: ["--recordings-dir", dir, "--console-token-file", operator] })
    return { folder, dir, url, as: ["--url", url, "--token-file", operator] }
  })

  it.scopedLive("writes a new file until the process has ended, and leaves none on the server", () =>
    Effect.gen(function* () {
      const { folder, dir, url, as } = yield* served
      const file = join(folder, "a.cast")
      const script = "echo one; sleep 1; echo two"
      yield* command(["run", "--detach", "--keep", "--name", "b", "--url", url, "--", "sh", "-c", script])
      const { code, stderr } = yield* command(["record", "b/p1", file, ...as])
      assert.strictEqual(code, 0, stderr)
      assert.include(stderr, `exec-server: recording p1 into ${file}; ^C ends it`)
      assert.match(readFileSync(file, "utf8"), /"one\\r\\n.*two\\r\\n"].*"x", "0"]\n$/s)
      assert.strictEqual(statSync(file).mode & 0o777, 0o600)
      assert.deepStrictEqual(readdirSync(dir), [])
      const again = yield* command(["record", "b/p1", file, ...as])
      assert.strictEqual(again.code, 1)
      assert.include(again.stderr, `cannot write ${file}: it exists; choose another name`)
    })
  )

  it.scopedLive("ends by a signal, with all that was printed until then", () =>
    Effect.gen(function* () {
      const { folder, dir, url, as } = yield* served
      const file = join(folder, "a.cast")
      const script = "echo one; exec sleep 1000"
      yield* command(["run", "--detach", "--keep", "--name", "b", "--url", url, "--", "sh", "-c", script])
      const running = yield* start(["record", "b/p1", file, ...as])
      yield* eventually("it records", () => running.stderr().includes("^C ends it"))
      running.child.kill("SIGINT")
      assert.strictEqual(yield* running.exit, 0)
      assert.include(readFileSync(file, "utf8"), '"one\\r\\n"')
      assert.deepStrictEqual(readdirSync(dir), [])
    })
  )
})

describe("play", () => {
  it.scopedLive("prints only the text, at once, where there is no terminal", () =>
    Effect.gen(function* () {
      const file = yield* fileWith(
        recording([
          [0, "o", "\u001b[31mred\u001b[0m\r\n"],
          [3600, "i", "secret"],
          [3600, "o", "end\r\n"],
          [0, "x", "3"]
        ])
      )
      assert.deepStrictEqual(yield* command(["play", file]), { code: 0, stdout: "red\nend\n", stderr: "" })
    })
  )

  it.scopedLive("fails for what is no recording, no file, or no speed", () =>
    Effect.gen(function* () {
      const file = yield* fileWith("hello\n")
      for (const [args, status, why] of [
        [[file], 1, "its first line is no header"],
        [[`${file}x`], 1, "No such file or directory"],
        [[file, "--speed", "0"], 2, "expected a number above 0"]
      ] as const) {
        const { code, stderr } = yield* command(["play", ...args])
        assert.strictEqual(code, status)
        isOneLine(stderr)
        assert.include(stderr, why)
      }
    })
  )

  it.scopedLive("skips what is no event, and fails for a line without end", () =>
    Effect.gen(function* () {
      const lines = [
        '[-5, "o", "a"]',
        '[NaN, "o", "x"]',
        '[0, "o", 5]',
        "[".repeat(100_000),
        "null",
        "",
        '[0, "o", "b"]'
      ]
      const file = yield* fileWith(`${recording([])}${lines.join("\r\n")}\r\n[0, "o", "cut`)
      assert.deepStrictEqual(yield* command(["play", file]), { code: 0, stdout: "ab", stderr: "" })
      const long = yield* fileWith(`${recording([[0, "o", "a"]])}[0, "o", "${"x".repeat(17_000_000)}`)
      const { code, stdout, stderr } = yield* command(["play", long])
      assert.deepStrictEqual([code, stdout], [1, "a"])
      isOneLine(stderr)
      assert.include(stderr, `cannot play ${long}: it has a line of more than 16777216 characters`)
    })
  )

  it.scopedLive("keeps the pauses, up to the limit, and pauses by space", () =>
    Effect.gen(function* () {
      const file = yield* fileWith(
        recording([
          [0, "o", "\u001b[31mone\u001b[6n\r\n"],
          [3600, "o", "two\r\n"],
          [0.001, "o", "\u001b]52;c;aGVsbG8=\u0007three\r\n"]
        ])
      )
      const line = commandLine("play", "--idle-limit", "1s", "--speed", "0.5", file).join(" ")
      const { type, sees, screen } = yield* atTerminal(["sh", "-c", `${line}; echo co''de=$?; stty -a`])
      yield* sees("\u001b[31mone\r\n")
      const before = Date.now()
      yield* sees("two")
      assert.isAtLeast(Date.now() - before, 1000)
      yield* sees("three")
      yield* sees("\u001b[?1049l")
      yield* sees("code=0")
      yield* sees(" echo ")
      assert.notInclude(screen(), "\u001b[6n")
      assert.notInclude(screen(), "aGVsbG8")
      yield* type("")
    })
  )

  it.scopedLive("ends by q, and leaves the terminal as it was", () =>
    Effect.gen(function* () {
      const file = yield* fileWith(
        recording([
          [0, "o", "one\r\n"],
          [3600, "o", "two\r\n"]
        ])
      )
      const { type, sees, screen } = yield* atTerminal([
        "sh",
        "-c",
        `${commandLine("play", file).join(" ")}; echo co''de=$?; stty -a`
      ])
      yield* sees("one")
      yield* type(" ")
      yield* type("q")
      // A scroll region or a character set that a program has left.
      yield* sees("\u001b[?1049l\u001b[!p")
      yield* sees("code=0")
      yield* sees(" echo ")
      assert.notInclude(screen(), "two")
    })
  )
})
