/** One suite, once for each transport: what a client of any kind can rely on. */
import { createHash } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { relayPair } from "./support/relay.js"
import {
  eventually,
  hasBubblewrap,
  isAlive,
  memoryClient,
  memoryLayer,
  runningWith,
  stdioClient,
  webSocketServer
} from "./support/servers.js"
import { type Json, startParams, type TestClient } from "./support/TestClient.js"

type Connect = Effect.Effect<TestClient, never, Scope.Scope>

let marks = 0

/** Seconds that nothing else sleeps, so that the whole process table can be searched for them. */
const freshMark = () => String(87_000_000 + (process.pid % 10_000) * 100 + marks++)

const seq = (n: number) => Array.from({ length: n }, (_, i) => i)

const e2eSuite = (name: string, connect: Connect, contained = false) =>
  describe(name, () => {
    const test = (title: string, body: (client: TestClient) => Effect.Effect<unknown, unknown, Scope.Scope>) =>
      it.scopedLive(title, () =>
        Effect.gen(function* () {
          const client = yield* connect
          yield* client.handshake()
          yield* body(client)
        })
      )

    test("initialize tells of the session and the machine, for clients of every generation", (client) =>
      Effect.gen(function* () {
        const { result } = client.messages[0]
        assert.strictEqual(result.protocolVersion, "exec-server.v0")
        assert.match(result.sessionId, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
        assert.match(result.environmentInfo.shell.path, /^\//)
        assert.match(result.environmentInfo.cwd, /^file:\/\/\//)
        assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
        assert.deepStrictEqual(yield* client.ask("environment/info"), result.environmentInfo)
      }))

    test("a pipe process: reply, output, exit, close, and all of it again through read", (client) =>
      Effect.gen(function* () {
        const started = yield* client.sh("p", "printf out; printf err >&2; exit 3")
        assert.strictEqual(started.processId, "p")
        assert.strictEqual(started.sandboxType, "none")
        assert.isNumber(started.pid)
        const exited = yield* client.closed("p")
        assert.deepInclude(exited, { processId: "p", exitCode: 3, signal: null, sandboxDenied: false })
        assert.strictEqual(client.output("p").toString(), "out")
        assert.strictEqual(client.output("p", "stderr").toString(), "err")
        const read = yield* client.ask("process/read", { processId: "p" })
        assert.deepStrictEqual(
          read.chunks.map((c: Json) => [c.stream, Buffer.from(c.chunk, "base64").toString()]).sort(),
          [
            ["stderr", "err"],
            ["stdout", "out"]
          ]
        )
        assert.deepInclude(read, {
          nextSeq: 5,
          exited: true,
          exitCode: 3,
          signal: null,
          closed: true,
          failure: null,
          sandboxDenied: false,
          truncated: false,
          droppedBytes: 0
        })
      }))

    test("a terminal: size, echo, resize, its end", (client) =>
      Effect.gen(function* () {
        yield* client.sh("t", "stty size; read line; stty size; echo got $line; exit 4", { tty: true })
        yield* client.sees("t", "24 80\r\n", "pty")
        assert.deepStrictEqual(yield* client.ask("process/resize", { processId: "t", rows: 50, cols: 132 }), {})
        assert.deepInclude((yield* client.write("t", "hello\n")).result, { status: "accepted", accepted: true })
        assert.strictEqual((yield* client.closed("t")).exitCode, 4)
        assert.strictEqual(client.output("t", "pty").toString(), "24 80\r\nhello\r\n50 132\r\ngot hello\r\n")
      }))

    test("a terminal of a chosen size", (client) =>
      Effect.gen(function* () {
        yield* client.sh("t", "stty size", { tty: true, size: { rows: 10, cols: 200 } })
        yield* client.closed("t")
        assert.strictEqual(client.output("t", "pty").toString(), "10 200\r\n")
      }))

    test("input reaches a pipe in order and closeStdin ends it after all of it", (client) =>
      Effect.gen(function* () {
        yield* client.start("c", ["cat"], { pipeStdin: true })
        for (const i of seq(50))
          client.post("process/write", { processId: "c", chunk: Buffer.from(`${i}\n`).toString("base64") })
        client.post("process/closeStdin", { processId: "c" })
        assert.strictEqual((yield* client.closed("c")).exitCode, 0)
        assert.strictEqual(
          client.output("c").toString(),
          seq(50)
            .map((i) => `${i}\n`)
            .join("")
        )
        assert.deepStrictEqual(yield* client.ask("process/closeStdin", { processId: "c" }), {})
        assert.deepInclude((yield* client.write("c", "x")).result, { status: "stdinClosed", accepted: false })
      }))

    test("closeStdin ends a terminal's reader, also in the middle of a line", (client) =>
      Effect.gen(function* () {
        yield* client.start("c", ["cat"], { tty: true })
        yield* client.write("c", "abc")
        yield* client.ask("process/closeStdin", { processId: "c" })
        assert.strictEqual((yield* client.closed("c")).exitCode, 0)
        assert.include(client.output("c", "pty").toString(), "abcabc")
      }))

    test("a repeated writeId writes once", (client) =>
      Effect.gen(function* () {
        yield* client.start("c", ["cat"], { pipeStdin: true })
        for (const text of ["one\n", "one\n", "other\n"]) {
          assert.strictEqual((yield* client.write("c", text, { writeId: "w1" })).result.status, "accepted")
        }
        yield* client.write("c", "two\n", { writeId: "w2" })
        yield* client.ask("process/closeStdin", { processId: "c" })
        yield* client.closed("c")
        assert.strictEqual(client.output("c").toString(), "one\ntwo\n")
      }))

    for (const tty of [false, true]) {
      const kind = tty ? "terminal" : "pipe"
      const stream = tty ? "pty" : "stdout"

      test(`${kind}: 2 MiB written to a child that reads arrive whole`, (client) =>
        Effect.gen(function* () {
          const lines = Buffer.from(`${"x".repeat(63)}\n`.repeat(32768))
          const hash = createHash("sha256").update(lines).digest("hex")
          const prepare = tty ? "stty raw -echo; " : ""
          yield* client.sh("c", `${prepare}echo ready; head -c ${lines.length} | sha256sum`, { tty, pipeStdin: true })
          yield* client.sees("c", "ready", stream)
          const reply = yield* client.write("c", lines)
          assert.strictEqual(reply.result.status, "accepted")
          yield* client.closed("c")
          assert.include(client.output("c", stream).toString(), hash)
        }))

      test(`${kind}: bytes that are no text pass unchanged`, (client) =>
        Effect.gen(function* () {
          const octal = seq(256)
            .map((i) => `\\${i.toString(8).padStart(3, "0")}`)
            .join("")
          yield* client.sh("b", `${tty ? "stty raw;" : ""} printf '${octal}'`, { tty })
          yield* client.closed("b")
          assert.deepStrictEqual(client.output("b", stream), Buffer.from(seq(256)))
        }))

      test(`${kind}: 20 children at a time that print 20 kB and exit at once lose nothing`, (client) =>
        Effect.gen(function* () {
          for (const round of seq(5)) {
            const ids = seq(20).map((i) => `r${round}-${i}`)
            for (const id of ids) {
              client.post(
                "process/start",
                startParams(id, ["/bin/sh", "-c", "head -c 20000 /dev/zero | tr '\\0' x"], { tty })
              )
            }
            for (const id of ids) {
              yield* client.closed(id)
              assert.strictEqual(client.output(id, stream).length, 20000, id)
            }
          }
        }))

      test(`${kind}: every exit code is told as it is`, (client) =>
        Effect.gen(function* () {
          for (const code of [0, 1, 2, 126, 127, 128, 137, 255]) {
            yield* client.sh(`e${code}`, `exit ${code}`, { tty })
            assert.deepInclude(yield* client.closed(`e${code}`), { exitCode: code, signal: null })
          }
        }))

      test(`${kind}: every signal is told by name and as 128 + its number`, (client) =>
        Effect.gen(function* () {
          const signals = {
            SIGHUP: 1,
            SIGINT: 2,
            SIGQUIT: 3,
            SIGABRT: 6,
            SIGKILL: 9,
            SIGUSR1: 10,
            SIGSEGV: 11,
            SIGTERM: 15
          }
          for (const [signal, number] of Object.entries(signals)) {
            yield* client.start(signal, ["sleep", "100"], { tty })
            assert.deepStrictEqual(yield* client.ask("process/signal", { processId: signal, signal }), {})
            assert.deepInclude(yield* client.closed(signal), { exitCode: 128 + number, signal })
            const read = yield* client.ask("process/read", { processId: signal })
            assert.deepInclude(read, { exitCode: 128 + number, signal })
            const waited = yield* client.ask("process/wait", { processId: signal })
            assert.deepInclude(waited, { exitCode: 128 + number, signal, exited: true })
          }
        }))

      test(`${kind}: interrupt reaches the whole group`, (client) =>
        Effect.gen(function* () {
          yield* client.sh("i", 'trap "echo INT; exit 7" INT; echo go; while :; do sleep 0.05; done', { tty })
          yield* client.sees("i", "go", stream)
          yield* client.ask("process/signal", { processId: "i", signal: "interrupt" })
          assert.strictEqual((yield* client.closed("i")).exitCode, 7)
          assert.include(client.output("i", stream).toString(), "INT")
        }))

      test(`${kind}: terminate ends the tree, also what left the group`, (client) =>
        Effect.gen(function* () {
          const mark = freshMark()
          const stubborn = `setsid sh -c "trap '' TERM HUP; echo in; sleep ${mark}; :"`
          yield* client.sh("k", `sleep ${mark} & setsid sleep ${mark} & ${stubborn} & echo up; wait`, { tty })
          yield* client.sees("k", "in", stream)
          yield* client.sees("k", "up", stream)
          yield* eventually("the tree has grown", () => runningWith(mark).length >= 4)
          assert.deepStrictEqual(yield* client.ask("process/terminate", { processId: "k" }), { running: true })
          assert.deepInclude(yield* client.closed("k"), { exitCode: 137, signal: "SIGKILL" })
          yield* eventually("all of it is gone", () => runningWith(mark).length === 0)
          assert.deepStrictEqual(yield* client.ask("process/terminate", { processId: "k" }), { running: false })
        }))

      test(`${kind}: graceful termination gives time, and no more than that`, (client) =>
        Effect.gen(function* () {
          yield* client.sh("g", 'trap "echo bye; exit 5" TERM; echo go; while :; do sleep 0.05; done', { tty })
          yield* client.sees("g", "go", stream)
          const mode = { type: "graceful", timeoutMs: 20000 }
          assert.deepStrictEqual(yield* client.ask("process/terminate", { processId: "g", mode }), { running: true })
          assert.strictEqual((yield* client.closed("g")).exitCode, 5)
          assert.include(client.output("g", stream).toString(), "bye")
          yield* client.sh("h", 'trap "" TERM; echo go; while :; do sleep 0.05; done', { tty })
          yield* client.sees("h", "go", stream)
          yield* client.ask("process/terminate", { processId: "h", mode: { type: "graceful", timeoutMs: 100 } })
          assert.strictEqual((yield* client.closed("h")).signal, "SIGKILL")
        }))

      test(`${kind}: arg0 changes argv[0] and nothing else`, (client) =>
        Effect.gen(function* () {
          yield* client.sh("a", 'echo "$0"; readlink /proc/$$/exe; env', { tty, arg0: "other name", env: { A: "1" } })
          yield* client.closed("a")
          const [name, program, ...env] = client.output("a", stream).toString().split(/\r?\n/)
          assert.strictEqual(name, "other name")
          assert.notInclude(program, "argv0")
          assert.deepStrictEqual(
            env.filter((line) => !/^(PWD=.*|)$/.test(line)),
            ["A=1"]
          )
        }))

      test(`${kind}: the environment is exactly what was asked for`, (client) =>
        Effect.gen(function* () {
          yield* client.start("v", ["/usr/bin/env"], {
            tty,
            env: { B: "2", "A=B": "c", EMPTY: "", ["__proto__"]: "p" }
          })
          yield* client.closed("v")
          const lines = client.output("v", stream).toString().trim().split(/\r?\n/).sort()
          assert.deepStrictEqual(lines, ["A=B=c", "B=2", "EMPTY=", "__proto__=p"])
        }))

      test(`${kind}: what cannot be started is an error of the system's, and leaves its id free`, (client) =>
        Effect.gen(function* () {
          const cases: ReadonlyArray<readonly [object, number, string | RegExp]> = [
            [{ argv: ["/no/such/bin"] }, -32603, "No such file or directory (os error 2): /no/such/bin"],
            [{ argv: ["no-such-bin-xyz"] }, -32603, "No such file or directory (os error 2): no-such-bin-xyz"],
            [{ argv: ["/etc/passwd"] }, -32603, "Permission denied (os error 13): /etc/passwd"],
            [{ argv: ["/tmp"] }, -32603, "Permission denied (os error 13): /tmp"],
            [
              { argv: ["true"], cwd: "file:///no/such%20dir" },
              -32603,
              "No such file or directory (os error 2): /no/such dir"
            ],
            [{ argv: ["true"], cwd: "/etc/passwd" }, -32603, "Not a directory (os error 20): /etc/passwd"],
            [{ argv: ["a\0b"] }, -32603, "nul byte found in provided data"],
            [{ argv: ["true"], env: { A: "x\0y" } }, -32603, "data provided contains a nul byte"],
            [{ argv: ["true", "x".repeat(200000)] }, -32603, "Argument list too long (os error 7): true"],
            [
              { argv: ["true", ...Array(30).fill("x".repeat(100000))] },
              -32602,
              /larger than the limit of 2097152 bytes/
            ],
            [{ argv: [""] }, -32603, tty ? "missing program for PTY spawn" : "missing program for pipe spawn"],
            [{ argv: [] }, -32602, "argv must not be empty"],
            [{ argv: ["true"], cwd: "relative/dir" }, -32602, /relative URL without a base.*cwd/],
            [{ argv: ["true"], cwd: "http://x/y" }, -32602, /unsupported path URI scheme `http`.*cwd/],
            [{ argv: ["true"], cwd: "file://host/tmp" }, -32602, /'file:\/\/host\/tmp' is invalid on 'linux'.*cwd/]
          ]
          for (const [more, code, message] of cases) {
            const { error } = yield* client.call("process/start", startParams("x", ["true"], { tty, ...more }))
            assert.strictEqual(error?.code, code, JSON.stringify(more))
            if (typeof message === "string") assert.strictEqual(error.message, message)
            else assert.match(error.message, message)
          }
          yield* client.start("x", ["true"], { tty })
          assert.strictEqual((yield* client.closed("x")).exitCode, 0)
        }))

      test(`${kind}: real-time signals, for which Node.js has no names, are told as well`, (client) =>
        Effect.gen(function* () {
          for (let number = 34; number <= 64; number += 5) {
            const id = `r${number}`
            yield* client.sh(id, `kill -${number} $$; sleep 100`, { tty })
            const signal = number === 34 ? "SIGRTMIN" : `SIGRTMIN+${number - 34}`
            assert.deepInclude(yield* client.closed(id), { exitCode: 128 + number, signal })
          }
        }))
    }

    test("a process with a restart policy comes back until it succeeds", (client) =>
      Effect.gen(function* () {
        const folder = mkdtempSync(join(tmpdir(), "restart-"))
        yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(folder, { recursive: true })))
        const restart = { policy: "onFailure", maxRestarts: 5, withinMs: 60000, backoffMs: 10, maxBackoffMs: 100 }
        yield* client.sh("r", "printf x >> log; cat log; [ $(wc -c < log) = 3 ]", { cwd: folder, restart })
        assert.deepInclude(yield* client.closed("r"), { exitCode: 0, signal: null })
        assert.strictEqual(client.output("r").toString(), "xxxxxx")
        const restarts = client.messages.filter(({ method }) => method === "process/restarted")
        assert.deepStrictEqual(
          restarts.map(({ params }) => params.attempt),
          [1, 2]
        )
      }))

    test("a child finds real pipes behind /dev/stdin, /dev/stdout and /dev/stderr", (client) =>
      Effect.gen(function* () {
        yield* client.sh("d", "cat /dev/stdin > /dev/stdout; echo e > /dev/stderr", { pipeStdin: true })
        yield* client.write("d", "through")
        yield* client.ask("process/closeStdin", { processId: "d" })
        assert.strictEqual((yield* client.closed("d")).exitCode, 0)
        assert.strictEqual(client.output("d").toString(), "through")
        assert.strictEqual(client.output("d", "stderr").toString(), "e\n")
      }))

    test("a child inherits no descriptor but its three, whatever else runs", (client) =>
      Effect.gen(function* () {
        yield* client.start("other", ["sleep", "1000"], { tty: true })
        yield* client.start("another", ["cat"], { pipeStdin: true })
        for (const tty of [false, true]) {
          yield* client.sh(`f${tty}`, "ls -l /proc/self/fd", { tty })
          yield* client.closed(`f${tty}`)
          const fds = client.output(`f${tty}`, tty ? "pty" : "stdout").toString()
          assert.notInclude(fds, "ptmx")
          assert.notInclude(fds, "socket:")
          assert.lengthOf(fds.match(/-> '?(\/dev\/null|\/dev\/pts\/\d+)/g) ?? [], tty ? 3 : 1, fds)
        }
        for (const id of ["other", "another"]) yield* client.ask("process/terminate", { processId: id })
      }))

    test("a long-poll waits for output, for the exit and for the close, and holds up nobody", (client) =>
      Effect.gen(function* () {
        yield* client.sh("l", "read a; echo hi; read b; exit 5", { pipeStdin: true })
        const first = client.post("process/read", { processId: "l", afterSeq: 0, waitMs: 60000 })
        yield* client.ask("environment/status")
        assert.strictEqual((yield* client.ask("process/read", { processId: "l", waitMs: 50 })).nextSeq, 1)
        yield* client.write("l", "\n")
        const output = (yield* client.reply(first)).result
        assert.deepInclude(output, { nextSeq: 2, exited: false, exitCode: null, closed: false })
        assert.lengthOf(output.chunks, 1)
        const second = client.post("process/read", { processId: "l", afterSeq: 1, waitMs: 60000 })
        const waited = client.post("process/wait", { processId: "l", until: "closed" })
        assert.deepStrictEqual(yield* client.ask("process/wait", { processId: "l", waitMs: 10 }), {
          exited: false,
          exitCode: null,
          signal: null,
          closed: false
        })
        yield* client.write("l", "\n")
        assert.deepInclude((yield* client.reply(second)).result, { exited: true, exitCode: 5, chunks: [] })
        assert.deepInclude((yield* client.reply(waited)).result, { exited: true, exitCode: 5, closed: true })
      }))

    test("read: cursors, maxBytes and nextSeq", (client) =>
      Effect.gen(function* () {
        yield* client.sh("p", "for i in 1 2 3 4 5; do read x; echo line$i; done; read x", { pipeStdin: true })
        for (const i of seq(5)) {
          yield* client.write("p", "\n")
          yield* client.sees("p", `line${i + 1}`)
        }
        // It lives until its last line was seen: an exit may be told before output that came with it.
        yield* client.write("p", "\n")
        yield* client.closed("p")
        const read = (params: object) =>
          Effect.map(client.ask("process/read", { processId: "p", ...params }), ({ chunks, nextSeq }) => [
            chunks.map((chunk: Json) => chunk.seq),
            nextSeq
          ])
        assert.deepStrictEqual(yield* read({}), [[1, 2, 3, 4, 5], 8])
        assert.deepStrictEqual(yield* read({ afterSeq: 1 }), [[2, 3, 4, 5], 8])
        assert.deepStrictEqual(yield* read({ afterSeq: 2, maxBytes: 6 }), [[3], 4])
        assert.deepStrictEqual(yield* read({ maxBytes: 1 }), [[1], 2])
        assert.deepStrictEqual(yield* read({ maxBytes: 0 }), [[1], 2])
        assert.deepStrictEqual(yield* read({ maxBytes: 13 }), [[1, 2], 3])
        assert.deepStrictEqual(yield* read({ afterSeq: 5 }), [[], 8])
        assert.deepStrictEqual(yield* read({ afterSeq: 99, waitMs: 10000 }), [[], 8])
        assert.deepStrictEqual(yield* read({ afterSeq: null, maxBytes: null, waitMs: null }), [[1, 2, 3, 4, 5], 8])
      }))

    // A contained process's descendants end with it.
    if (!contained)
      test("the leader's exit is told at once, the close when the last holder of the pipe is done", (client) =>
        Effect.gen(function* () {
          yield* client.sh("p", "(sleep 1000; echo late) & echo early; exit 4")
          yield* client.exited("p")
          yield* client.sees("p", "early\n")
          assert.deepInclude(yield* client.ask("process/wait", { processId: "p", until: "closed", waitMs: 20 }), {
            exited: true,
            closed: false
          })
          assert.deepStrictEqual(yield* client.ask("process/terminate", { processId: "p" }), { running: false })
          yield* client.closed("p")
        }))

    test("snapshot and list show processes as they are", (client) =>
      Effect.gen(function* () {
        yield* client.sh("a", "printf out; printf err >&2; read x", { pipeStdin: true })
        yield* client.sh("b", "echo term", { tty: true })
        yield* client.closed("b")
        yield* client.sees("a", "out")
        yield* client.sees("a", "err", "stderr")
        const a = yield* client.ask("process/snapshot", { processId: "a" })
        assert.deepInclude(a, { terminal: "", truncated: false, droppedBytes: 0, exitCode: null, running: true })
        assert.strictEqual(Buffer.from(a.stdout, "base64").toString(), "out")
        assert.strictEqual(Buffer.from(a.stderr, "base64").toString(), "err")
        const b = yield* client.ask("process/snapshot", { processId: "b" })
        assert.strictEqual(Buffer.from(b.terminal, "base64").toString(), "term\r\n")
        assert.deepInclude(b, { stdout: "", stderr: "", exitCode: 0, signal: null, running: false })
        const { processes } = yield* client.ask("process/list")
        assert.deepStrictEqual(
          processes.map((p: Json) => [p.processId, p.tty, p.running, p.exitCode]),
          [
            ["a", false, true, null],
            ["b", true, false, 0]
          ]
        )
        yield* client.ask("process/terminate", { processId: "a" })
      }))

    test("unknown ids and ids in use", (client) =>
      Effect.gen(function* () {
        for (const [method, more] of [
          ["process/read", {}],
          ["process/closeStdin", {}],
          ["process/resize", { rows: 1, cols: 1 }],
          ["process/wait", {}],
          ["process/snapshot", {}]
        ] as const) {
          const { error } = yield* client.call(method, { processId: "nope", ...more })
          assert.deepStrictEqual(error, { code: -32600, message: "unknown process id nope" }, method)
        }
        assert.deepStrictEqual(yield* client.ask("process/signal", { processId: "nope", signal: "SIGTERM" }), {})
        assert.deepStrictEqual(yield* client.ask("process/terminate", { processId: "nope" }), { running: false })
        assert.deepStrictEqual((yield* client.write("nope", "x")).result, { accepted: false, status: "unknownProcess" })
        yield* client.start("", ["true"])
        const { error } = yield* client.call("process/start", startParams("", ["true"]))
        assert.deepStrictEqual(error, { code: -32600, message: "process  already exists" })
        yield* client.closed("")
        const resized = yield* client.call("process/resize", { processId: "", rows: 1, cols: 1 })
        assert.strictEqual(resized.error.code, -32600)
        assert.include(resized.error.message, "tty: true")
      }))

    test("values out of range name the field", (client) =>
      Effect.gen(function* () {
        const cases: ReadonlyArray<readonly [string, object, RegExp]> = [
          ["process/start", {}, /^missing field `processId`$/],
          ["process/start", { ...startParams("a", ["true"]), env: undefined }, /^missing field `env`$/],
          ["process/start", { ...startParams("a", ["true"]), tty: undefined }, /^missing field `tty`$/],
          ["process/start", { ...startParams("a", ["true"]), tty: null }, /null, expected a boolean.*tty/],
          ["process/start", { ...startParams("a", ["true"]), pipeStdin: null }, /null, expected a boolean.*pipeStdin/],
          [
            "process/start",
            { ...startParams("a", ["true"]), argv: "true" },
            /string "true", expected a sequence.*argv/
          ],
          ["process/start", { ...startParams("a", ["true"]), env: { A: 1 } }, /number, expected a string.*env/],
          ["process/start", { ...startParams("a", ["true"]), envPolicy: {} }, /missing field `inherit`/],
          ["process/start", { ...startParams("a", ["true"]), size: { rows: 0, cols: 80 } }, /size\.rows/],
          ["process/read", { processId: "a", afterSeq: -1 }, /invalid number.*afterSeq/],
          ["process/read", { processId: "a", waitMs: 1.5 }, /invalid number.*waitMs/],
          ["process/read", { processId: "a", maxBytes: "5" }, /string "5".*maxBytes/],
          ["process/write", { processId: "a", chunk: "!!!" }, /^Invalid symbol 33, offset 0\..*chunk/],
          ["process/write", { processId: "a", chunk: "YWI" }, /^Invalid padding.*chunk/],
          ["process/write", { processId: "a", chunk: "YWI=\n" }, /^Invalid symbol 10, offset 4\./],
          ["process/write", { processId: "a", chunk: "", writeId: "" }, /^writeId must not be empty$/],
          ["process/resize", { processId: "a", rows: 65536, cols: 1 }, /rows/],
          ["process/signal", { processId: "a", signal: "term" }, /unknown variant `term`, expected `interrupt`/],
          ["process/signal", { processId: "a", signal: "SIGTERM", target: "all" }, /target/],
          ["process/terminate", { processId: "a", mode: { type: "gentle" } }, /graceful.*mode/],
          ["environment/status", { a: 1 }, /invalid type: map, expected unit/],
          ["environment/status", [1], /invalid type: sequence/]
        ]
        for (const [method, params, message] of cases) {
          const { error } = yield* client.call(method, params)
          assert.strictEqual(error?.code, -32602, `${method} ${JSON.stringify(params)}`)
          assert.match(error.message, message)
        }
      }))

    test("requests on one process take effect in the order sent, without waiting", (client) =>
      Effect.gen(function* () {
        for (const i of seq(20)) {
          const processId = `o${i}`
          client.post("process/start", startParams(processId, ["cat"], { pipeStdin: true }))
          client.post("process/write", { processId, chunk: Buffer.from("a").toString("base64") })
          client.post("process/write", { processId, chunk: Buffer.from("b").toString("base64") })
          client.post("process/closeStdin", { processId })
          const late = client.post("process/write", { processId, chunk: Buffer.from("c").toString("base64") })
          assert.strictEqual((yield* client.reply(late)).result.status, "stdinClosed")
          yield* client.closed(processId)
          assert.strictEqual(client.output(processId).toString(), "ab")
        }
      }))

    test("start and terminate sent at once end the process", (client) =>
      Effect.gen(function* () {
        for (const tty of [false, true]) {
          client.post("process/start", startParams(`k${tty}`, ["sleep", "1000"], { tty }))
          const id = client.post("process/terminate", { processId: `k${tty}` })
          assert.deepStrictEqual((yield* client.reply(id)).result, { running: true })
          assert.strictEqual((yield* client.closed(`k${tty}`)).signal, "SIGKILL")
        }
      }))

    test("metadata is in the environment, and wins over env and envPolicy", (client) =>
      Effect.gen(function* () {
        const metadata = { threadId: "0191d8b0-0000-7000-8000-000000000001", toolCallId: "call-7" }
        const env = { PATH: "/usr/bin:/bin", CODEX_THREAD_ID: "mine" }
        const envPolicy = { inherit: "none", ignoreDefaultExcludes: false, exclude: ["*"], set: {}, includeOnly: ["A"] }
        for (const [id, more] of [
          ["a", {}],
          ["b", { envPolicy }]
        ] as const) {
          yield* client.start(id, ["env"], { env, metadata, ...more })
          yield* client.closed(id)
          assert.sameMembers(client.output(id).toString().trim().split("\n"), [
            "PATH=/usr/bin:/bin",
            `CODEX_THREAD_ID=${metadata.threadId}`,
            "CODEX_TOOL_CALL_ID=call-7"
          ])
        }
        yield* client.start("c", ["env"], { metadata: {} })
        yield* client.closed("c")
        assert.strictEqual(client.output("c").toString(), "PATH=/usr/bin:/bin\n")
      }))

    test("timeoutMs ends the tree and says so", (client) =>
      Effect.gen(function* () {
        yield* client.sh("t", "echo a; sleep 1000", { timeoutMs: 100 })
        assert.deepInclude(yield* client.closed("t"), { signal: "SIGKILL", timedOut: true })
        yield* client.sh("u", "exit 0", { timeoutMs: 20000 })
        assert.notProperty(yield* client.closed("u"), "timedOut")
      }))

    test("retention drops whole oldest chunks and tells how many bytes", (client) =>
      Effect.gen(function* () {
        yield* client.sh("r", "head -c 3000000 /dev/zero")
        yield* client.closed("r")
        assert.strictEqual(client.output("r").length, 3000000)
        const read = yield* client.ask("process/read", { processId: "r" })
        const kept = read.chunks.reduce((sum: number, c: Json) => sum + Buffer.from(c.chunk, "base64").length, 0)
        assert.isTrue(read.truncated)
        assert.isAtMost(kept, 1048576)
        assert.isAbove(kept, 1048576 - 65536)
        assert.strictEqual(read.droppedBytes + kept, 3000000)
        assert.isFalse(
          (yield* client.ask("process/read", { processId: "r", afterSeq: read.chunks[0].seq - 1 })).truncated
        )
      }))

    test("chunks hold at most 64 KiB", (client) =>
      Effect.gen(function* () {
        for (const tty of [false, true]) {
          yield* client.sh(`c${tty}`, `${tty ? "stty raw; " : ""}head -c 5000000 /dev/zero`, { tty })
          yield* client.closed(`c${tty}`)
          assert.strictEqual(client.output(`c${tty}`, tty ? "pty" : "stdout").length, 5000000)
        }
        for (const { method, params } of client.messages) {
          if (method === "process/output") assert.isAtMost(Buffer.from(params.chunk, "base64").length, 65536)
        }
      }))

    test("a sandbox that restricts nothing runs directly, one that cannot be understood is refused", (client) =>
      Effect.gen(function* () {
        const start = (processId: string, permissions: object) =>
          client.call(
            "process/start",
            startParams(processId, ["true"], { sandbox: { permissions, windowsSandboxLevel: "disabled" } })
          )
        const unrestricted = { type: "unrestricted" }
        const direct = [
          { type: "disabled" },
          { type: "external", network: "enabled" },
          { type: "managed", file_system: unrestricted, network: "enabled" }
        ]
        for (const permissions of direct) {
          const id = JSON.stringify(permissions)
          assert.strictEqual((yield* start(id, permissions)).result?.sandboxType, "none", id)
          yield* client.closed(id)
        }
        assert.strictEqual((yield* start("r", { type: "bogus" })).error.code, -32602)
        assert.strictEqual(
          (yield* start("r", { type: "managed" })).error.message,
          "missing field `file_system` in `sandbox.permissions`"
        )
        yield* client.start("r", ["true"], { sandbox: null })
        yield* client.closed("r")
      }))

    test("what restricts a process and cannot be enforced is refused, what asks for nothing is not", (client) =>
      Effect.gen(function* () {
        const members = ["enforceManagedNetwork", "managedNetwork", "networkProxy", "shellSnapshot", "sandboxPolicy"]
        const refused: ReadonlyArray<readonly [string, unknown]> = [
          ["enforceManagedNetwork", true],
          ["managedNetwork", { loopbackPorts: [8080] }],
          ["networkProxy", { proxy: { enabled: true } }],
          ["shellSnapshot", { scopeId: "a", shell: { name: "bash", path: "file:///bin/bash" } }],
          ["sandboxPolicy", { type: "read-only" }],
          ["sandboxPolicy", { type: "workspace-write", writable_roots: [] }],
          ["sandboxPolicy", { type: "external-sandbox" }],
          ["sandboxPolicy", "read-only"],
          ["sandboxPolicy", { type: "no-such-policy" }],
          ["sandboxPolicy", {}]
        ]
        for (const [member, value] of refused) {
          const { error } = yield* client.call("process/start", startParams("p", ["true"], { [member]: value }))
          assert.strictEqual(error?.code, -32600, member)
          assert.include(error.message, `\`${member}\``)
        }
        const { error } = yield* client.call(
          "process/start",
          startParams("p", ["true"], { enforceManagedNetwork: "yes" })
        )
        assert.strictEqual(error.code, -32602)
        // None of those has used the id.
        yield* client.start("p", ["true"], Object.fromEntries(members.map((member) => [member, null])))
        yield* client.start("q", ["true"], Object.fromEntries(members.map((member) => [member, false])))
        yield* client.start("r", ["true"], { sandboxPolicy: { type: "danger-full-access" } })
        yield* client.start("s", ["true"], { sandboxPolicy: { type: "external-sandbox", network_access: "enabled" } })
        for (const id of ["p", "q", "r", "s"]) assert.strictEqual((yield* client.closed(id)).exitCode, 0)
      }))

    test("envPolicy builds on the server's environment", (client) =>
      Effect.gen(function* () {
        const envPolicy = {
          inherit: "core",
          ignoreDefaultExcludes: false,
          exclude: ["LANG"],
          set: { X: "1" },
          includeOnly: []
        }
        yield* client.start("e", ["/usr/bin/env"], { env: { Y: "2" }, envPolicy })
        yield* client.closed("e")
        const names = client
          .output("e")
          .toString()
          .split("\n")
          .map((line) => line.split("=")[0])
        assert.includeMembers(names, ["PATH", "X", "Y"])
      }))

    test("ids of every allowed kind are echoed exactly; the same id twice is served twice", (client) =>
      Effect.gen(function* () {
        for (const id of ['"str"', '""', "-7", "9007199254740991", "9223372036854775807", "-9223372036854775808"]) {
          const before = client.messages.length
          client.raw(
            `{"jsonrpc":"2.0","foo":{"id":3},"id":${id},"method":"environment/status","trace":{"traceparent":"x"}}`
          )
          yield* client.until(`an answer to ${id}`, () => client.messages[before])
        }
        const before = client.messages.length
        client.raw('{"id":5,"method":"environment/status","params":{}}')
        client.raw('{"id":5,"method":"environment/status","result":{}}')
        yield* client.until("two answers", () => client.messages[before + 1])
      }))

    test("malformed messages are answered with id -1 and the connection lives on", (client) =>
      Effect.gen(function* () {
        const deep = `{"id":1,"method":"environment/status","params":${"[".repeat(100000)}${"]".repeat(100000)}}`
        const bad = [
          "not json",
          "{}",
          "[]",
          "5",
          "null",
          '{"id":1}',
          '{"method":5,"id":1}',
          '{"id":1.5,"method":"x"}',
          '{"id":1.0,"method":"x"}',
          '{"id":1e3,"method":"x"}',
          '{"id":null,"method":"x"}',
          '{"id":true,"method":"x"}',
          '{"id":9223372036854775808,"method":"x"}',
          '[{"id":1,"method":"environment/status"}]',
          '{"id":1,"method":"environment/status","trace":"bad"}',
          deep
        ]
        for (const text of bad) {
          const before = client.messages.length
          client.raw(text)
          const reply = yield* client.until(`an answer to ${text.slice(0, 50)}`, () => client.messages[before])
          assert.strictEqual(reply.id, -1, text.slice(0, 50))
          assert.strictEqual(reply.error.code, -32600)
          assert.match(reply.error.message, /^failed to parse .*JSON-RPC message from exec-server /)
        }
        assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
      }))

    test("a large message with an id of 64 bits is answered under that id", (client) =>
      Effect.gen(function* () {
        const chunk = "A".repeat(8 * 2 ** 20)
        client.raw(`{"id":9223372036854775807,"method":"process/write","params":{"processId":"x","chunk":"${chunk}"}}`)
        yield* client.message("an answer", (message) => message.result?.status === "unknownProcess")
      }))

    test("no pattern of an envPolicy takes long", (client) =>
      Effect.gen(function* () {
        const name = "a".repeat(5000)
        const includeOnly = [`${"*a".repeat(40)}*b`]
        const envPolicy = {
          inherit: "none",
          ignoreDefaultExcludes: true,
          exclude: [],
          set: { [name]: "1" },
          includeOnly
        }
        yield* client.start("e", ["/usr/bin/env"], { env: {}, envPolicy })
        yield* client.closed("e")
        assert.strictEqual(client.output("e").toString(), "")
      }))

    test("an unknown method is -32601, in any state", (client) =>
      Effect.gen(function* () {
        const { error } = yield* client.call("process/unknown", {})
        assert.deepStrictEqual(error, { code: -32601, message: "unknown method: process/unknown" })
      }))

    it.scopedLive("the handshake's order is enforced, and a failed initialize does not count", () =>
      Effect.gen(function* () {
        const client = yield* connect
        const start = startParams("p", ["true"])
        const before = yield* client.call("process/start", start)
        assert.deepStrictEqual(before.error, {
          code: -32600,
          message: "client must call initialize before using exec methods"
        })
        assert.strictEqual((yield* client.call("process/start", {})).error.code, -32602)
        assert.strictEqual((yield* client.call("nope")).error.code, -32601)
        const info = yield* client.call("environment/info")
        assert.strictEqual(info.error.message, "client must call initialize before using environment info methods")
        assert.strictEqual((yield* client.call("initialize", {})).error.message, "missing field `clientName`")
        const unknown = yield* client.call("initialize", { clientName: "x", resumeSessionId: "nope" })
        assert.deepStrictEqual(unknown.error, { code: -32600, message: "unknown session id nope" })
        yield* client.ask("initialize", { clientName: "x", resumeSessionId: null })
        const between = yield* client.call("process/start", start)
        assert.strictEqual(between.error.message, "client must send initialized before using exec methods")
        const again = yield* client.call("initialize", { clientName: "x" })
        assert.deepStrictEqual(again.error, {
          code: -32600,
          message: "initialize may only be sent once per connection"
        })
        client.raw('{"method":"initialized","params":{}}')
        client.raw('{"method":"initialized","params":null}')
        yield* client.start("p", ["true"])
        yield* client.closed("p")
      })
    )

    it.scopedLive("v0 dialect: a write that cannot be accepted is an error", () =>
      Effect.gen(function* () {
        const client = yield* connect
        yield* client.handshake({})
        yield* client.start("p", ["sleep", "1000"])
        assert.deepStrictEqual((yield* client.write("p", "x")).error, {
          code: -32600,
          message: "stdin is closed for process p"
        })
        assert.deepStrictEqual((yield* client.write("q", "x")).error, { code: -32600, message: "unknown process id q" })
        yield* client.start("c", ["cat"], { pipeStdin: true })
        assert.deepStrictEqual((yield* client.write("c", "x")).result, { accepted: true, status: "accepted" })
      })
    )

    it.scopedLive("lifecycle notifications go to those who ask, and to nobody else", () =>
      Effect.gen(function* () {
        const client = yield* connect
        const granted = yield* client.handshake({ capabilities: { lifecycle: true, other: 1 } })
        assert.deepStrictEqual(granted.capabilities, { lifecycle: true })
        const { pid } = yield* client.start("p", ["true"])
        assert.deepStrictEqual(yield* client.notified("process/started"), { processId: "p", pid })
        yield* client.closed("p")
        client.post("process/start", startParams("q", ["/no/such"]))
        assert.deepStrictEqual(yield* client.notified("process/failed"), {
          processId: "q",
          message: "No such file or directory (os error 2): /no/such"
        })
        assert.isTrue(
          client.messages.findIndex((m) => m.error !== undefined) <
            client.messages.findIndex((m) => m.method === "process/failed")
        )
      })
    )

    for (const [what, text] of [
      ["an unknown notification", '{"method":"nope"}'],
      ["a stray response", '{"id":6,"result":{}}'],
      ["a stray error", '{"id":6,"error":{"code":1,"message":""}}']
    ] as const) {
      it.scopedLive(`${what} ends the connection, and a v0 client's processes with it`, () =>
        Effect.gen(function* () {
          const client = yield* connect
          yield* client.handshake({})
          const { pid } = yield* client.start("p", ["sleep", "1000"])
          client.raw(text)
          yield* client.ended()
          yield* eventually("the process is gone", () => !isAlive(pid))
        })
      )
    }

    it.scopedLive("initialized before initialize ends the connection", () =>
      Effect.gen(function* () {
        const client = yield* connect
        client.raw('{"method":"initialized"}')
        yield* client.ended()
      })
    )

    it.scopedLive("what was sent before the end of the connection is carried out", () =>
      Effect.gen(function* () {
        const client = yield* connect
        yield* client.handshake()
        const { pid } = yield* client.start("p", ["sleep", "1000"])
        client.post("process/terminate", { processId: "p" })
        client.carrier.close()
        yield* client.ended()
        yield* eventually("the process is gone", () => !isAlive(pid))
      })
    )
  })

e2eSuite(
  "memory",
  Effect.flatMap(Layer.build(memoryLayer), (context) => Effect.provide(memoryClient, context))
)
// Mutation testing changes the code of this process: servers of their own would not notice.
const isMutated = process.env["MUTATE"] !== undefined

if (!isMutated) {
  e2eSuite(
    "stdio",
    Effect.map(stdioClient(), ({ client }) => client)
  )
  e2eSuite(
    "WebSocket",
    Effect.flatMap(webSocketServer(), ({ connect }) => connect)
  )
  e2eSuite(
    "WebSocket, binary output",
    Effect.flatMap(webSocketServer(), ({ connect }) =>
      Effect.tap(connect, (client) => {
        client.capabilities = { binaryOutput: true }
      })
    )
  )
  e2eSuite("relay", relayPair)
  e2eSuite(
    "relay, binary output",
    Effect.tap(relayPair, (client) => {
      client.capabilities = { binaryOutput: true }
    })
  )
}

// Whatever is true of a process is true of a contained one. Where bubblewrap is missing, contain.test.ts sees it refused.
if (hasBubblewrap && !isMutated) {
  e2eSuite(
    "stdio, contained",
    Effect.map(stdioClient({ args: ["--contain", "namespace"] }), ({ client }) => client),
    true
  )
}
