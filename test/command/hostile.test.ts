/** Commands, and servers that say what no server should. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { command } from "../support/command.js"
import { type Answers, hello, hostileServer, metadata, sessionId } from "../support/hostile.js"

/** What a terminal acts on, and what looks different from what it is. */
const evil = "\u001b]0;owned\u0007\u009b31m\u007f\u202egpj\u2028\ud800"

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
const control = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e]|\ufffd/

/** A process, as a list has it. */
const listed = {
  processId: "p1",
  pid: 1,
  argv: ["sh"],
  tty: false,
  running: true,
  exitCode: null,
  signal: null,
  startedAtMs: 0
}

const at = (url: string) => ["--url", url, "--session", sessionId]

/** Refuses whatever it is asked for. */
const refusing: Answers = Object.fromEntries(
  [
    "process/list",
    "process/read",
    "process/start",
    "process/signal",
    "process/terminate",
    "process/closeStdin",
    "process/resize",
    "fs/getMetadata",
    "fs/walk",
    "fs/open",
    "fs/readFile"
  ].map((method) => [method, ({ id, say }) => say({ id, error: { code: -32600, message: `no ${evil}\nnever` } })])
)

describe("text of a server", () => {
  it.scopedLive("is shown in tables, JSON, ids and names without what a terminal acts on", () =>
    Effect.gen(function* () {
      const url = yield* hostileServer({
        "process/list": () => ({
          processes: [
            { ...listed, processId: `a b'${evil}`, argv: ["x", evil], signal: null },
            { ...listed, processId: "p2", running: false, signal: evil }
          ]
        })
      })
      const table = yield* command(["ps", ...at(url)])
      assert.strictEqual(table.code, 0, table.stderr)
      assert.notMatch(table.stdout, control)
      // As a shell takes it.
      assert.include(table.stdout, "$'a b\\'\\u001b]0;owned\\u0007")
      const json = yield* command(["ps", ...at(url), "--json"])
      assert.notMatch(json.stdout, control)
      assert.strictEqual(JSON.parse(json.stdout.split("\n")[0] ?? "").processId, `a b'${evil}`)
    })
  )

  it.scopedLive("is shown in every command's errors on one line, without what a terminal acts on", () =>
    Effect.gen(function* () {
      const url = yield* hostileServer(refusing)
      const calls: ReadonlyArray<ReadonlyArray<string>> = [
        ["run", "--url", url, "--", "true"],
        ["run", "--detach", "--id", "x", "--url", url, "--", "true"],
        ["ps", ...at(url)],
        ["attach", ...at(url), "p1"],
        ["logs", ...at(url), "p1"],
        ["logs", "-f", ...at(url), "p1"],
        ["kill", ...at(url), "p1"],
        ["cp", "--url", url, ":/x", "/nowhere/x"],
        ["cp", "-r", "--url", url, ":/x", "/nowhere/x"]
      ]
      for (const args of calls) {
        const ended = yield* command(args)
        assert.strictEqual(ended.code, 1, args[0])
        assert.match(ended.stderr, /^Error: [^\n]+\n$/, args[0])
        assert.include(ended.stderr, "no ?]0;owned", args[0])
        assert.notMatch(ended.stderr + ended.stdout, control, args[0])
      }
    })
  )

  it.scopedLive("is shown by the doctor, and in what is printed to be pasted", () =>
    Effect.gen(function* () {
      const url = yield* hostileServer({
        initialize: () => ({
          ...hello,
          sessionId: `x; reboot ${evil}`,
          environmentInfo: { ...hello.environmentInfo, executorVersion: evil, platformOs: evil }
        }),
        "process/start": ({ params }) => ({ processId: params.processId, sandboxType: "none", pid: 1 }),
        "process/list": () => ({ processes: [] }),
        "fs/getMetadata": () => metadata("file")
      })
      const detached = yield* command(["run", "--detach", "--url", url, "--", "true"])
      assert.strictEqual(detached.code, 0, detached.stderr)
      assert.notMatch(detached.stdout + detached.stderr, control)
      assert.include(detached.stderr, "--session $'x; reboot \\u001b]0;owned")
      const refuses = yield* hostileServer({
        initialize: ({ id, say }) => say({ id, error: { code: 1, message: `no ${evil}` } })
      })
      for (const json of [[], ["--json"]]) {
        const doctor = yield* command(["doctor", "--url", refuses, ...json])
        assert.strictEqual(doctor.code, 1)
        assert.include(doctor.stdout, "owned")
        assert.notMatch(doctor.stdout + doctor.stderr, control)
      }
    })
  )
})
