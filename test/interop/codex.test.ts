/** The genuine client does its work on this server, and its model is told the truth. */
import { Buffer } from "node:buffer"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { childrenOf, eventually, runningWith } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"
import { type Codex, codex, command, install, installTimeoutMs, type } from "./support/codex.js"

let marks = 0

/** Seconds that nothing else sleeps, so that the whole process table can be searched for them. */
const freshMark = () => String(86_000_000 + (process.pid % 10_000) * 100 + marks++)

/** Runs a command for as little as the client waits, and leaves it running. */
const leave = (client: Codex, cmd: string, more: object = {}) =>
  Effect.gen(function* () {
    const output = yield* client.call(command(cmd, { yield_time_ms: 250, ...more }))
    assert.isDefined(output.sessionId, output.whole)
    return output
  })

/** Writes, and polls until the output has what is waited for. */
const until = (client: Codex, sessionId: number | undefined, chars: string, wanted: RegExp) =>
  Effect.gen(function* () {
    let text = ""
    let output = yield* client.call(type(sessionId, chars))
    for (let polls = 0; polls < 3; polls++) {
      text += output.text
      if (wanted.test(text)) break
      output = yield* client.call(type(sessionId, ""))
    }
    assert.match(text, wanted)
    return { ...output, text }
  })

const methods = (client: Codex) => client.proxy.asked.map(({ method }) => method)

/** Bytes of output that the server has sent. */
const outputBytes = (client: Codex) =>
  client.proxy.told
    .filter(({ method }) => method === "process/output")
    .reduce((sum, { params }) => sum + Buffer.from(params.chunk, "base64").length, 0)

const lines = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `${from + i}\n`).join("")

const patch = (...body: ReadonlyArray<string>) =>
  command(["apply_patch <<'PATCH'", "*** Begin Patch", ...body, "*** End Patch", "PATCH"].join("\n"))

interface Generation {
  readonly version: string
  /** Whether it takes its session up again after a lost connection. */
  readonly resumes: boolean
  /** Whether it can interrupt a command that has no terminal. */
  readonly signals: boolean
  /** Whether it takes output from the server's notifications; if not, it asks for what is retained. */
  readonly listens: boolean
}

const generations: ReadonlyArray<Generation> = [
  { version: "0.169.0", resumes: true, signals: true, listens: true },
  { version: "0.130.0", resumes: false, signals: false, listens: false }
]

describe.each(generations)("codex $version", ({ version, resumes, signals, listens }) => {
  beforeAll(() => install(version), installTimeoutMs)

  const test = (
    title: string,
    body: (client: Codex) => Effect.Effect<unknown, unknown, Scope.Scope>,
    prepare?: (cwd: string) => void
  ) => it.scopedLive(title, () => Effect.flatMap(codex(version, prepare), body))

  test("a command's output, errors and exit code", (client) =>
    Effect.gen(function* () {
      const output = yield* client.call(command("pwd; echo problem >&2; exit 3"))
      assert.strictEqual(output.exitCode, 3)
      assert.sameMembers(output.text.trimEnd().split("\n"), [client.cwd, "problem"])
      assert.strictEqual((yield* client.call(command("no-such-program"))).exitCode, 127)
      assert.strictEqual((yield* client.call(command("kill -KILL $$"))).exitCode, 137)
      const silent = yield* client.call(command("true"))
      assert.deepInclude(silent, { exitCode: 0, text: "" })
      yield* client.finish
    }))

  test("output that is not UTF-8 loses only what is not", (client) =>
    Effect.gen(function* () {
      const output = yield* client.call(command("printf 'a\\xff\\xfeok\\x80 w\\xc3\\xb6rld'"))
      assert.deepInclude(output, { exitCode: 0, text: "a\uFFFD\uFFFDok\uFFFD wörld" })
      yield* client.finish
    }))

  test("several megabytes of output, from beginning to end", (client) =>
    Effect.gen(function* () {
      const output = yield* client.call(
        command("echo BEGIN; head -c 6000000 /dev/zero | tr '\\0' x; echo END", { max_output_tokens: 50 })
      )
      assert.strictEqual(output.exitCode, 0)
      assert.match(output.text, /x+END\n$/)
      assert.strictEqual(outputBytes(client), 6_000_010)
      // Four bytes each.
      if (listens) assert.strictEqual(output.tokens, Math.ceil(6_000_010 / 4))
      yield* client.finish
    }))

  test("a session in a terminal, continued with write_stdin", (client) =>
    Effect.gen(function* () {
      const script = "test -t 0 && echo tty; while read -r line; do echo got $line; [ $line = quit ] && exit 4; done"
      const { sessionId } = yield* leave(client, script, { tty: true })
      assert.include((yield* until(client, sessionId, "one\n", /got one/)).text, "got one\r\n")
      assert.include((yield* until(client, sessionId, "zwölf\n", /got zw/)).text, "got zwölf\r\n")
      assert.strictEqual((yield* until(client, sessionId, "quit\n", /got quit/)).exitCode, 4)
      yield* client.finish
    }))

  test("^C in a terminal", (client) =>
    Effect.gen(function* () {
      const { sessionId } = yield* leave(client, "trap 'echo caught; exit 7' INT; while :; do sleep 0.1; done", {
        tty: true
      })
      const output = yield* until(client, sessionId, "\u0003", /caught/)
      assert.strictEqual(output.exitCode, 7)
      yield* client.finish
    }))

  if (signals) {
    test("^C without a terminal", (client) =>
      Effect.gen(function* () {
        const { sessionId } = yield* leave(client, "trap 'echo caught; exit 7' INT; while :; do sleep 0.1; done")
        const output = yield* until(client, sessionId, "\u0003", /caught/)
        assert.strictEqual(output.exitCode, 7)
        assert.include(methods(client), "process/signal")
        yield* client.finish
      }))
  }

  test("several commands at once", (client) =>
    Effect.gen(function* () {
      yield* client.call(command("mkfifo a b"))
      // Each waits for the other one.
      const outputs = yield* client.callAll([
        command("echo ping > a; cat b"),
        command("cat a; echo pong > b"),
        command("echo third")
      ])
      assert.deepStrictEqual(
        outputs.map(({ exitCode, text }) => [exitCode, text]),
        [
          [0, "pong\n"],
          [0, "ping\n"],
          [0, "third\n"]
        ]
      )
      yield* client.finish
    }))

  test(
    "apply_patch adds, changes, moves and removes files",
    (client) =>
      Effect.gen(function* () {
        const { text } = yield* client.call(
          patch(
            "*** Add File: new/deep/added.txt",
            "+hello",
            "+wörld",
            "*** Update File: changed.txt",
            "@@",
            " one",
            "-two",
            "+zwei",
            " three",
            "*** Update File: moved.txt",
            "*** Move to: elsewhere/moved.txt",
            "@@",
            "-old",
            "+new",
            "*** Delete File: removed.txt"
          )
        )
        assert.include(text, "Success. Updated the following files:")
        const left = yield* client.call(command("find . -type f | sort"))
        assert.strictEqual(left.text, "./changed.txt\n./elsewhere/moved.txt\n./new/deep/added.txt\n")
        const content = (name: string) => readFileSync(join(client.cwd, name), "utf8")
        assert.strictEqual(content("new/deep/added.txt"), "hello\nwörld\n")
        assert.strictEqual(content("changed.txt"), "one\nzwei\nthree\n")
        assert.strictEqual(content("elsewhere/moved.txt"), "new\n")
        // By the server, not by the client on a disk that happens to be the same.
        assert.includeMembers(methods(client), ["fs/readFile", "fs/createDirectory", "fs/writeFile", "fs/remove"])
        const missing = yield* client.call(patch("*** Update File: missing.txt", "@@", "-a", "+b"))
        assert.match(missing.whole, /missing\.txt/)
        assert.notInclude(missing.whole, "Success")
        yield* client.finish
      }),
    (cwd) => {
      writeFileSync(join(cwd, "changed.txt"), "one\ntwo\nthree\n")
      writeFileSync(join(cwd, "moved.txt"), "old\n")
      writeFileSync(join(cwd, "removed.txt"), "old\n")
    }
  )

  test(
    "AGENTS.md is found, from a folder further down",
    (client) =>
      Effect.gen(function* () {
        assert.include(client.heard(), "answer in hexameters")
        assert.include(methods(client), "fs/readFile")
        yield* client.finish
      }),
    (cwd) => {
      mkdirSync(join(cwd, ".git"))
      writeFileSync(join(cwd, "AGENTS.md"), "Please answer in hexameters.\n")
    }
  )

  if (resumes) {
    test("a connection cut in the middle of a command is resumed, and nothing is lost", (client) =>
      Effect.gen(function* () {
        const call = yield* Effect.fork(
          client.call(
            command("seq 1 900; until [ -e go ]; do sleep 0.05; done; seq 901 1800; exit 5", {
              yield_time_ms: 30_000
            })
          )
        )
        yield* eventually("the first half has arrived", () => outputBytes(client) === lines(1, 900).length)
        yield* client.proxy.cut
        writeFileSync(join(client.cwd, "go"), "")
        const output = yield* Fiber.join(call)
        assert.deepInclude(output, { exitCode: 5, text: lines(1, 1800) })
        const hellos = client.proxy.asked.filter(({ method }) => method === "initialize")
        const welcome = client.proxy.told.find(({ result }) => result?.sessionId !== undefined)
        assert.deepStrictEqual(
          hellos.map(({ params }: Json) => params.resumeSessionId).filter((id: unknown) => id !== null),
          hellos.slice(1).map(() => welcome.result.sessionId)
        )
        assert.isAbove(hellos.length, 1)
        assert.strictEqual((yield* client.call(command("echo still there"))).text, "still there\n")
        yield* client.finish
      }))
  }

  test("no process is left when the client has exited", (client) =>
    Effect.gen(function* () {
      const mark = freshMark()
      yield* leave(client, `sleep ${mark}`)
      yield* leave(client, `setsid sleep ${mark} & sleep ${mark}`)
      yield* leave(client, `trap '' INT HUP TERM; sleep ${mark}; sleep ${mark}`, { tty: true })
      assert.isAtLeast(runningWith(`sleep ${mark}`).length + runningWith(`sleep\0${mark}`).length, 4)
      yield* client.finish
      yield* eventually("all of them are gone", () => runningWith(mark).length === 0)
      yield* eventually("the server has no children", () => childrenOf(client.server.pid).length === 0)
    }))
})
