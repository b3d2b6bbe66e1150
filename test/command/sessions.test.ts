/** Commands that come back to a session; copies; the doctor. */
import { execFileSync } from "node:child_process"
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { atTerminal, command, commandLine, isOneLine } from "../support/command.js"
import { directory } from "../support/files.js"
import { eventually, isAlive, webSocketServer } from "../support/servers.js"

/** A server, and a process left running on it. */
const left = (...argv: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { url } = yield* webSocketServer()
    const detached = yield* command(["run", "--detach", "--url", url, "--json", "--", ...argv])
    assert.strictEqual(detached.code, 0)
    const { sessionId, processId, pid } = JSON.parse(detached.stdout)
    assert.include(detached.stderr, `exec-server attach ${processId} --session ${sessionId} --url ${url}\n`)
    const at = ["--url", url, "--session", sessionId]
    return { url, sessionId, processId: String(processId), pid: Number(pid), at }
  })

describe("a session that was left", () => {
  it.scopedLive("is listed, read, and attached to; the status is that of the process", () =>
    Effect.gen(function* () {
      const { at, processId } = yield* left("sh", "-c", "echo one; echo two >&2; read x; echo got $x; exit 5")
      const listed = yield* command(["ps", ...at])
      assert.match(
        listed.stdout,
        /^ID +PID +STATE +TTY +AGE +COMMAND\np1 +\d+ +running +no +\d+ s +sh -c 'echo one; .*'\n$/
      )
      const [info] = (yield* command(["ps", ...at, "--json"])).stdout.split("\n")
      assert.deepInclude(JSON.parse(info ?? ""), { processId, running: true, tty: false })
      const logs = yield* command(["logs", ...at, processId])
      assert.deepStrictEqual(logs, { code: 0, stdout: "one\n", stderr: "two\n" })
      const lines = (yield* command(["logs", ...at, "--json", processId])).stdout.trim().split("\n")
      assert.deepInclude(JSON.parse(lines[0] ?? ""), { seq: 1, chunk: Buffer.from("one\n").toString("base64") })
      const attached = yield* command(["attach", ...at, processId], { input: "it\n" })
      assert.deepStrictEqual(attached, { code: 5, stdout: "one\ngot it\n", stderr: "two\n" })
      const followed = yield* command(["logs", ...at, "--follow", processId])
      assert.strictEqual(followed.stdout, "one\ngot it\n")
      assert.include((yield* command(["ps", ...at])).stdout, " exited 5 ")
    })
  )

  it.scopedLive("takes further processes, and signals for them", () =>
    Effect.gen(function* () {
      const { at, pid } = yield* left("sleep", "1000")
      const second = yield* command([
        "run",
        "--detach",
        ...at,
        "--json",
        "--",
        "sh",
        "-c",
        "trap '' TERM; echo up; while :; do sleep 0.05; done"
      ])
      const other = JSON.parse(second.stdout)
      assert.strictEqual(other.processId, "p2")
      assert.strictEqual((yield* command(["kill", ...at, "p1"])).code, 0)
      yield* eventually("the first one is gone", () => !isAlive(pid))
      assert.isTrue(isAlive(other.pid))
      assert.strictEqual((yield* command(["kill", ...at, "--signal", "kill", "p2"])).code, 0)
      yield* eventually("the second one is gone", () => !isAlive(other.pid))
      const states = (yield* command(["ps", ...at])).stdout
      assert.include(states, " killed SIGTERM ")
      assert.include(states, " killed SIGKILL ")
    })
  )

  it.scopedLive("a terminal is attached to, and left with ^] as it was", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer()
      const detached = yield* command([
        "run",
        "--tty",
        "--detach",
        "--url",
        url,
        "--",
        "sh",
        "-c",
        "echo up; read x; stty size; read y"
      ])
      const at = ["--url", url, "--session", detached.stdout.trim()]
      const { type, sees } = yield* atTerminal(["/bin/sh"], { rows: 33, cols: 99 })
      yield* type(`${commandLine("attach", ...at, "p1").join(" ")}; echo code=$?\n`)
      yield* sees("^] detaches")
      yield* sees("up")
      yield* type("\n")
      yield* sees("33 99")
      yield* type("\u001d")
      yield* sees("code=0")
      assert.include((yield* command(["ps", ...at])).stdout, " running ")
    })
  )

  it.scopedLive("that is not there, or a process of it that is not: one line", () =>
    Effect.gen(function* () {
      const { url, at } = yield* left("sleep", "1000")
      const cases: ReadonlyArray<readonly [ReadonlyArray<string>, number, RegExp]> = [
        [["ps", "--url", url, "--session", "nobody"], 1, /unknown session id nobody/],
        [["ps", "--session", "nobody"], 2, /--session needs --url/],
        [["attach", "--url", url, "p1"], 1, /no session p1 is visible/],
        [["attach", ...at, "7"], 1, /unknown process id 7/],
        [["logs", ...at, "7"], 1, /unknown process id 7/],
        [["logs", ...at, "--follow", "7"], 1, /unknown process id 7/],
        [["kill", ...at, "7"], 1, /unknown process id 7/],
        [["kill", ...at, "--signal", "NONE", "p1"], 2, /unknown signal/]
      ]
      for (const [args, code, message] of cases) {
        const ended = yield* command(args)
        assert.match(ended.stderr, message)
        isOneLine(ended.stderr)
        assert.strictEqual(ended.code, code)
      }
    })
  )
})

describe("cp", () => {
  it.scopedLive("copies files and directories to a server, and back", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const { url } = yield* webSocketServer()
      const content = Buffer.alloc(5_000_000)
      for (let i = 0; i < content.length; i++) content[i] = (i * 13 + (i >> 9)) & 255
      mkdirSync(`${folder}/tree/sub/deep`, { recursive: true })
      mkdirSync(`${folder}/there`)
      writeFileSync(`${folder}/tree/sub/large`, content)
      writeFileSync(`${folder}/tree/empty`, "")
      symlinkSync("empty", `${folder}/tree/link`)
      const copy = (...args: ReadonlyArray<string>) => command(["cp", "--url", url, ...args])
      const up = yield* copy("--recursive", "--json", `${folder}/tree`, `:${folder}/there`)
      assert.strictEqual(up.code, 0, up.stderr)
      assert.deepInclude(JSON.parse(up.stdout), { files: 2, skipped: 1, bytes: content.length })
      assert.isTrue(readFileSync(`${folder}/there/tree/sub/large`).equals(content))
      const down = yield* copy("-r", `:${folder}/there/tree`, `${folder}/back`)
      assert.strictEqual(down.code, 0, down.stderr)
      assert.sameMembers(readdirSync(`${folder}/back`), ["sub", "empty"])
      assert.sameMembers(readdirSync(`${folder}/back/sub`), ["deep", "large"])
      assert.isTrue(readFileSync(`${folder}/back/sub/large`).equals(content))
      const refusals: ReadonlyArray<readonly [ReadonlyArray<string>, number, RegExp]> = [
        [[`${folder}/none`, ":/tmp/x"], 1, /none: No such file or directory/],
        [[":/no/such/file", `${folder}/x`], 1, /:\/no\/such\/file: No such file or directory/],
        [[`:${folder}/tree`, `${folder}/x`], 2, /is a directory; give --recursive/],
        [[`${folder}/tree/empty`, `:${folder}/no/such/file`], 1, /No such file or directory/],
        [["a", "b"], 2, /exactly one path must be on the server/]
      ]
      execFileSync("mkfifo", [`${folder}/tree/fifo`])
      const special: ReadonlyArray<readonly [ReadonlyArray<string>, number, RegExp]> = [
        [[`${folder}/tree/fifo`, `:${folder}/there/x`], 1, /fifo: is neither a file nor a directory; it is not copied/],
        [
          [`:${folder}/tree/sub/large`, `${folder}/tree/fifo`],
          1,
          /is neither a file nor a directory; it is not replaced/
        ],
        [[`${folder}/tree/sub/large`, `:${folder}/tree/sub`], 1, /are the same file, by size and modification time/]
      ]
      for (const [args, code, message] of [...refusals, ...special]) {
        const ended = yield* copy(...args)
        assert.match(ended.stderr, message)
        isOneLine(ended.stderr)
        assert.strictEqual(ended.code, code)
      }
      assert.isTrue(readFileSync(`${folder}/tree/sub/large`).equals(content))
      // Nothing half done is left.
      assert.sameMembers(readdirSync(folder), ["tree", "there", "back"])
    })
  )

  it.scopedLive("shows at a terminal how far it is, and what it has copied", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const { url } = yield* webSocketServer()
      writeFileSync(`${folder}/large`, Buffer.alloc(3_000_000, 7))
      const { type, sees } = yield* atTerminal(["/bin/sh"])
      yield* type(`${commandLine("cp", "--url", url, `${folder}/large`, `:${folder}/copy`).join(" ")}; echo code=$?\n`)
      yield* sees(/large \d[\d.]* \w+ \d+ %/)
      yield* sees("1 file, 2.9 MiB, in ")
      yield* sees("code=0")
      assert.strictEqual(readFileSync(`${folder}/copy`).length, 3_000_000)
    })
  )
})

describe("doctor", () => {
  it.scopedLive("says what works, a line each, and what to do about what does not", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer()
      const { code, stdout } = yield* command(["doctor", "--url", url])
      assert.strictEqual(code, 0, stdout)
      assert.match(stdout, /^ok node +v\d+/m)
      assert.match(stdout, /^ok processes +a shell runs$/m)
      assert.match(stdout, /^ok terminal +a terminal of the right size$/m)
      assert.match(stdout, /^(ok|!!) bubblewrap +/m)
      assert.match(stdout, /^(ok|!!) cgroups +/m)
      assert.match(stdout, /^ok killed server +its guard ends all processes; if that is killed with it, ./m)
      assert.match(stdout, /^ok clients +the first design; May 2026 to 0\.169: all are supported$/m)
      assert.match(stdout, /^ok server +version /m)
      const broken = yield* command(["doctor", "--url", "ws://127.0.0.1:1", "--json"])
      assert.strictEqual(broken.code, 1)
      const findings = broken.stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
      const server = findings.find(({ name }) => name === "server")
      assert.strictEqual(server.status, "failed")
      assert.include(server.detail, "ECONNREFUSED")
      assert.isString(server.advice)
      for (const args of [
        ["--url", "foo"],
        ["--url", url, "--env", "x"],
        ["--env", "x"]
      ]) {
        const wrong = yield* command(["doctor", ...args])
        assert.deepStrictEqual([wrong.code, wrong.stdout], [2, ""], args.join(" "))
        isOneLine(wrong.stderr)
      }
    })
  )
})
