/** Commands, and servers that say what no server should. */
import { readdirSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { command, start } from "../support/command.js"
import { directory } from "../support/files.js"
import { type Answers, type Asked, hello, hostileServer, listed, metadata, sessionId } from "../support/hostile.js"
import { eventually, isAlive, residentMb } from "../support/servers.js"

/** What a terminal acts on, and what looks different from what it is. */
const evil = "\u001b]0;owned\u0007\u009b31m\u007f\u202egpj\u2028\ud800"

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
const control = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e]|\ufffd/

const at = (url: string) => ["--url", url, "--session", sessionId]

/** What the commands ask for. */
const methods = [
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
]

/** Refuses whatever it is asked for. */
const refusing: Answers = Object.fromEntries(
  methods.map((method) => [method, ({ id, say }) => say({ id, error: { code: -32600, message: `no ${evil}\nnever` } })])
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

describe("a process whose numbers do not advance", () => {
  const lies: { readonly [what: string]: object } = {
    closed: { exited: true, exitCode: 0, closed: true, nextSeq: 1 },
    "ahead of itself": { chunks: [{ seq: 9, stream: "stdout", chunk: "AAAA" }], nextSeq: 1 }
  }
  for (const [what, lie] of Object.entries(lies)) {
    it.scopedLive(`is not followed for ever: ${what}`, () =>
      Effect.gen(function* () {
        const read = { chunks: [], exited: false, exitCode: null, closed: false, failure: null, ...lie }
        const url = yield* hostileServer({
          "process/list": () => ({ processes: [{ ...listed, processId: "p1" }] }),
          "process/read": () => read
        })
        for (const args of [
          ["logs", "-f", ...at(url), "p1"],
          ["attach", ...at(url), "p1"]
        ]) {
          const ended = yield* command(args)
          assert.strictEqual(ended.code, 1, args[0])
          assert.match(ended.stderr, /^Error: .*process\/read of process p1 cannot be true: [^\n]+\n$/, args[0])
        }
      })
    )
  }
})

/** As much as a command may take whatever a server says, in MB: without one it takes about a third. */
const boundMb = 600

/** Runs a command to its end; also gives the most memory that it was seen to take. */
const watched = (args: ReadonlyArray<string>, whenRunning: (pid: number) => void = () => {}) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { child, pid, exit, stdout, stderr } = yield* start(args)
      child.stdin?.end()
      let peakMb = 0
      const timer = setInterval(() => {
        if (isAlive(pid)) peakMb = Math.max(peakMb, residentMb(pid))
      }, 20)
      whenRunning(pid)
      const code = yield* Effect.ensuring(
        exit,
        Effect.sync(() => clearInterval(timer))
      )
      yield* eventually("its output has ended", () => child.stderr?.readableEnded !== false)
      return { code, peakMb, stdout: stdout(), stderr: stderr() }
    })
  )

/** The head of a text frame of a tebibyte. */
const giant = Buffer.from([0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0])

/** What is said instead of an answer. */
const behaviours: { readonly [what: string]: (asked: Asked) => void } = {
  garbage: ({ ws }) => ws.send(Buffer.from(evil), { binary: false }),
  "binary garbage": ({ ws }) => ws.send(Buffer.alloc(70_000, 0xff)),
  "a giant": ({ ws }) => Reflect.get(ws, "_socket").write(giant),
  "wrong ids": ({ say, id }) => say({ id: id + 1000, result: {} }),
  "wrong types": ({ say, id }) => say({ id, result: [evil, { processes: -1, entries: 1, chunk: {} }] })
}

describe("the exit status of a process", () => {
  it.scopedLive("that is none is an error, and no other status", () =>
    Effect.gen(function* () {
      for (const exitCode of [256, -1, 4_294_967_296, 0.5, "0"]) {
        const url = yield* hostileServer({
          "process/start": ({ id, params: { processId }, say }) => {
            say({ id, result: { processId, sandboxType: "none", pid: 1 } })
            say({ method: "process/exited", params: { processId, seq: 1, exitCode, signal: null } })
            say({ method: "process/closed", params: { processId, seq: 2 } })
          },
          "process/list": () => ({ processes: [] }),
          "process/closeStdin": () => ({}),
          "process/terminate": () => ({ running: false })
        })
        const ended = yield* command(["run", "--url", url, "--", "true"])
        assert.strictEqual(ended.code, 1, `${exitCode}`)
        assert.include(ended.stderr, String(exitCode))
        assert.match(ended.stderr, /^Error: exec-server [^\n]+\n$/)
      }
    })
  )
})

describe("every command, and a server that answers with", () => {
  for (const [what, say] of Object.entries(behaviours)) {
    it.scopedLive(`${what}: one line, status 1, nothing written, and little memory taken`, () =>
      Effect.gen(function* () {
        const folder = yield* directory
        const answers: Answers = Object.fromEntries(
          methods.map((method) => [method, (asked: Asked) => void say(asked)])
        )
        const url = yield* hostileServer(answers)
        const calls: ReadonlyArray<ReadonlyArray<string>> = [
          ["run", "--url", url, "--", "true"],
          ["ps", ...at(url)],
          ["attach", ...at(url), "p1"],
          ["logs", ...at(url), "p1"],
          ["logs", "--follow", ...at(url), "p1"],
          ["kill", ...at(url), "p1"],
          ["cp", "-r", "--url", url, ":/x", `${folder}/x`],
          ["doctor", "--url", url]
        ]
        for (const args of calls) {
          const ended = yield* watched(args)
          const shown = `${args.slice(0, 2).join(" ")}: ${ended.stderr}`
          assert.strictEqual(ended.code, 1, shown)
          // The doctor's findings are its output.
          if (args[0] !== "doctor") assert.match(ended.stderr, /^Error: exec-server [^\n]+\n$/, shown)
          assert.notMatch(ended.stderr + ended.stdout, control, shown)
          assert.isBelow(ended.peakMb, boundMb, shown)
        }
        assert.deepStrictEqual(readdirSync(folder), [])
      })
    )
  }

  it.scopedLive("notifications without end and no answer: little memory taken, and ^C ends it", () =>
    Effect.gen(function* () {
      const chunk = Buffer.alloc(65536, 1).toString("base64")
      let sent = 0
      let pid = -1
      const url = yield* hostileServer({
        "process/list": ({ ws }) => {
          const flood = () => {
            if (ws.readyState !== ws.OPEN) return
            sent++
            if (sent === 5000) process.kill(pid, "SIGINT")
            const params = { processId: `x${sent}`, seq: sent, stream: "stdout", chunk }
            ws.send(JSON.stringify({ method: "process/output", params }), flood)
          }
          flood()
        }
      })
      const ended = yield* watched(["ps", ...at(url)], (started) => {
        pid = started
      })
      assert.isAtLeast(sent, 5000)
      assert.isBelow(ended.peakMb, boundMb)
    })
  )

  it.scopedLive("300,000 processes: all are shown", () =>
    Effect.gen(function* () {
      const processes = Array.from({ length: 300_000 }, (_, i) => ({ ...listed, processId: `p${i}` }))
      const url = yield* hostileServer({ "process/list": () => ({ processes }) })
      const { code, stdout, stderr } = yield* command(["ps", ...at(url)])
      assert.strictEqual(code, 0, stderr)
      assert.lengthOf(stdout.trimEnd().split("\n"), processes.length + 1)
    })
  )
})
