/** Recordings: what the files hold, what ends them, and who reaches them. */
import { execFileSync } from "node:child_process"
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as ExecClient from "../../src/client/ExecClient.js"
import { isOneLine } from "../support/command.js"
import { directory } from "../support/files.js"
import { at, entry, sandbox } from "../support/sandbox.js"
import {
  connectTo,
  eventually,
  hasBubblewrap,
  type LaunchOptions,
  launch,
  webSocketServer
} from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"

/** A server that keeps recordings, and a client. */
const recording = (args: ReadonlyArray<string> = [], options: LaunchOptions = {}) =>
  Effect.gen(function* () {
    const folder = yield* directory
    const dir = join(folder, "recordings")
    const operator = join(folder, "operator")
    writeFileSync(operator, "operator's", { mode: 0o600 })
    const launched = ["--recordings-dir", dir, "--console-token-file", operator, ...args]
    const server = yield* webSocketServer({ ...options, args: launched })
    const client = yield* server.connect
    yield* client.handshake()
    return { dir, server, client, launched }
  })

const asOperator = (url: string) =>
  Effect.tap(connectTo(url, { headers: { authorization: "Bearer operator's" } }), (client) => client.handshake())

/** The header and the events of a file. */
const parse = (text: string) => {
  const [header = "", ...events] = text.trimEnd().split("\n")
  return {
    header: JSON.parse(header),
    events: events.map((line) => JSON.parse(line) as readonly [number, string, string])
  }
}

const contentOf = (client: TestClient, recordingId: string) =>
  Effect.map(client.ask("recording/read", { recordingId, offset: 0 }), ({ chunk }) =>
    parse(Buffer.from(chunk, "base64").toString())
  )

const textOf = (events: ReadonlyArray<readonly [number, string, string]>, code: string) =>
  events
    .filter(([, of]) => of === code)
    .map(([, , data]) => data)
    .join("")

/** Starts a process that is recorded, and gives the id of the recording. */
const recorded = (client: TestClient, script: string, more: object = {}, record: object = {}) =>
  Effect.map(client.sh("p", script, { ...more, record }), ({ recordingId }): string => recordingId)

const entryOf = (client: TestClient, recordingId: string) =>
  Effect.map(client.ask("recording/list", { session: "*" }), ({ recordings }) =>
    recordings.find((one: { readonly recordingId: string }) => one.recordingId === recordingId)
  )

describe("a recording", () => {
  it.scopedLive("holds what a terminal printed, with its resizes and the exit status", () =>
    Effect.gen(function* () {
      const { client, dir } = yield* recording()
      const env = { PATH: "/usr/bin:/bin", TERM: "vt220" }
      const script = "printf 'caf\\303'; sleep 0.1; printf '\\251\\n'; read line; stty size; exit 3"
      const id = yield* recorded(client, script, { tty: true, size: { rows: 7, cols: 70 }, env })
      yield* client.sees("p", "\n", "pty")
      yield* client.ask("process/resize", { processId: "p", rows: 8, cols: 80 })
      yield* client.write("p", "secret\n")
      yield* client.closed("p")
      yield* client.ask("recording/stop", { recordingId: id })
      const { header, events } = yield* contentOf(client, id)
      assert.deepInclude(header, { version: 3, term: { cols: 70, rows: 7, type: "vt220" }, title: "p" })
      assert.closeTo(header.timestamp, Date.now() / 1000, 60)
      assert.match(header.command, /^\/bin\/sh -c printf /)
      assert.strictEqual(textOf(events, "o"), "café\r\nsecret\r\n8 80\r\n")
      assert.strictEqual(textOf(events, "i"), "")
      const resize = events.findIndex(([, code]) => code === "r")
      assert.strictEqual(events[resize]?.[2], "80x8")
      assert.strictEqual(textOf(events.slice(0, resize), "o"), "café\r\n")
      assert.deepStrictEqual(events.at(-1)?.slice(1), ["x", "3"])
      assert.isAtLeast(
        events.reduce((sum, [seconds]) => sum + seconds, 0),
        0.09
      )
      assert.strictEqual(statSync(dir).mode & 0o777, 0o700)
      assert.deepStrictEqual(readdirSync(dir), [`${id}.cast`])
      assert.strictEqual(statSync(join(dir, `${id}.cast`)).mode & 0o777, 0o600)
    })
  )

  it.scopedLive("of a process that runs already begins with what is retained, at the size of that time", () =>
    Effect.gen(function* () {
      const { client } = yield* recording()
      yield* client.sh("p", "echo one; read line; echo two; read line", { tty: true, size: { rows: 7, cols: 70 } })
      yield* client.sees("p", "one", "pty")
      yield* client.ask("process/resize", { processId: "p", rows: 8, cols: 80 })
      assert.isNull((yield* client.ask("process/list")).processes[0].recording)
      const { recordingId } = yield* client.ask("recording/start", { processId: "p" })
      const again = yield* client.call("recording/start", { processId: "p" })
      assert.strictEqual(again.error.message, `process p is being recorded already, as ${recordingId}`)
      assert.strictEqual((yield* client.ask("process/list")).processes[0].recording, recordingId)
      yield* client.write("p", "x\n")
      yield* client.sees("p", "two", "pty")
      const { bytes, durationMs } = yield* client.ask("recording/stop", { recordingId })
      assert.isAtLeast(durationMs, 0)
      yield* client.write("p", "late\n")
      yield* client.closed("p")
      const { header, events } = yield* contentOf(client, recordingId)
      assert.deepStrictEqual(header.term, { cols: 70, rows: 7 })
      assert.deepStrictEqual(events.map(([, code, data]) => [code, data]).slice(0, 2), [
        ["o", "one\r\n"],
        ["r", "80x8"]
      ])
      assert.strictEqual(textOf(events, "o"), "one\r\nx\r\ntwo\r\n")
      assert.deepInclude(yield* entryOf(client, recordingId), { bytes, durationMs, running: false, failure: null })
      const { recordingId: next } = yield* client.ask("recording/start", { processId: "p" })
      assert.deepStrictEqual((yield* contentOf(client, next)).events.at(-1)?.slice(1), ["x", "0"])
    })
  )

  it.scopedLive("has the input if that is asked for", () =>
    Effect.gen(function* () {
      const { client } = yield* recording()
      const id = yield* recorded(client, "read line; echo got $line", { pipeStdin: true }, { input: true })
      yield* client.write("p", "hello\n")
      yield* client.closed("p")
      yield* client.ask("recording/stop", { recordingId: id })
      const { events } = yield* contentOf(client, id)
      assert.strictEqual(textOf(events, "i"), "hello\n")
      assert.strictEqual(textOf(events, "o"), "got hello\r\n")
    })
  )

  it.scopedLive("of pipes has both outputs, with carriage returns; restarts are markers", () =>
    Effect.gen(function* () {
      const { client } = yield* recording()
      const restart = { policy: "always", maxRestarts: 1, withinMs: 60_000, backoffMs: 0, maxBackoffMs: 0 }
      const id = yield* recorded(client, "echo out; echo err >&2", { restart })
      yield* client.closed("p")
      yield* client.ask("recording/stop", { recordingId: id })
      const { header, events } = yield* contentOf(client, id)
      assert.deepStrictEqual(header.term, { cols: 80, rows: 24 })
      assert.strictEqual(textOf(events, "o").split("out\r\n").length, 3)
      assert.strictEqual(textOf(events, "o").split("err\r\n").length, 3)
      assert.strictEqual(textOf(events, "m"), "restart 1")
    })
  )

  it.scopedLive("ends at its maxBytes, before the event that would exceed them; the process goes on", () =>
    Effect.gen(function* () {
      const { client } = yield* recording()
      const script = "echo first; sleep 0.2; head -c 100000 /dev/zero | tr '\\0' x; echo last"
      const id = yield* recorded(client, script, {}, { maxBytes: 2000 })
      yield* client.closed("p")
      assert.lengthOf(client.output("p"), 100_000 + "first\nlast\n".length)
      yield* client.ask("recording/stop", { recordingId: id })
      const info = yield* entryOf(client, id)
      assert.deepInclude(info, { running: false, truncated: true, failure: null })
      assert.isAtMost(info.bytes, 2000)
      assert.strictEqual(textOf((yield* contentOf(client, id)).events, "o"), "first\r\n")
    })
  )

  it.scopedLive("of a flood ends near its maxBytes, or near what is left of recordingBytesTotal", () =>
    Effect.gen(function* () {
      const { client } = yield* recording(["--recording-bytes-total", "1500000"])
      for (const least of [800_000, 400_000]) {
        const id = yield* recorded(client, "yes | head -c 4000000", { processId: `p${least}` }, { maxBytes: 1_000_000 })
        yield* client.closed(`p${least}`)
        yield* client.ask("recording/stop", { recordingId: id })
        const { bytes, truncated } = yield* entryOf(client, id)
        assert.isTrue(truncated)
        assert.isAtLeast(bytes, least)
      }
    })
  )

  it.scopedLive("whose file was replaced by a pipe, by a link, or removed is not read", () =>
    Effect.gen(function* () {
      const { client, dir } = yield* recording()
      const id = yield* recorded(client, "echo hello")
      yield* client.closed("p")
      yield* client.ask("recording/stop", { recordingId: id })
      const file = join(dir, `${id}.cast`)
      rmSync(file)
      const read = client.call("recording/read", { recordingId: id, offset: 0 })
      assert.include((yield* read).error.message, "No such file")
      execFileSync("mkfifo", [file])
      assert.deepStrictEqual((yield* read).result, { chunk: "", size: 0, running: false })
      rmSync(file)
      symlinkSync("/etc/passwd", file)
      assert.include((yield* read).error.message, "symbolic links")
      yield* client.ask("recording/remove", { recordingId: id })
      assert.deepStrictEqual(readdirSync(dir), [])
    })
  )

  it.scopedLive("of a flood is complete, and no event is lost", () =>
    Effect.gen(function* () {
      const { client } = yield* recording()
      const id = yield* recorded(client, "seq 1 300000")
      yield* client.closed("p")
      const { bytes } = yield* client.ask("recording/stop", { recordingId: id })
      let text = ""
      for (let offset = 0; offset < bytes; ) {
        const { chunk } = yield* client.ask("recording/read", { recordingId: id, offset })
        offset += Buffer.from(chunk, "base64").length
        text += Buffer.from(chunk, "base64").toString("latin1")
      }
      const lines = textOf(parse(text).events, "o").split("\r\n")
      assert.lengthOf(lines, 300_001)
      assert.strictEqual(lines[299_999], "300000")
    })
  )

  it.scopedLive("whose file cannot be written ends with the system's text; the process goes on", () =>
    Effect.gen(function* () {
      // 4 KiB of a file, and no more.
      const { client } = yield* recording([], { under: 'ulimit -f 4; exec "$@"' })
      const id = yield* recorded(client, "echo first; sleep 0.2; seq 1 10000; echo last")
      yield* client.closed("p")
      assert.include(client.output("p").toString(), "last")
      yield* client.ask("recording/stop", { recordingId: id })
      const info = yield* entryOf(client, id)
      assert.deepInclude(info, { running: false, truncated: false, failure: "File too large (os error 27)" })
      const { events } = yield* contentOf(client, id)
      assert.strictEqual(textOf(events, "o"), "first\r\n")
    })
  )

  it.scopedLive("keeps the whole lines of what could be written, and nothing of one that could not begin", () =>
    Effect.gen(function* () {
      const { client, dir } = yield* recording([], { under: 'ulimit -f 256; exec "$@"' })
      const id = yield* recorded(client, "seq 1 300000; echo last")
      yield* client.closed("p")
      yield* client.ask("recording/stop", { recordingId: id })
      const { bytes, failure } = yield* entryOf(client, id)
      assert.strictEqual(failure, "File too large (os error 27)")
      const text = readFileSync(join(dir, `${id}.cast`), "utf8")
      assert.lengthOf(text, bytes)
      assert.isTrue(text.endsWith("]\n"), text.slice(-50))
      assert.isAtLeast(textOf(parse(text).events, "o").length, 1000)
      const before = readdirSync(dir)
      const { error } = yield* client.call("recording/start", { processId: "p" })
      assert.strictEqual(error.message, "File too large (os error 27)")
      assert.deepStrictEqual(readdirSync(dir), before, "one that has not begun leaves no file")
    })
  )

  it.scopedLive("whose file cannot be made fails, or is told of where it began with the process", () =>
    Effect.gen(function* () {
      const { client, dir } = yield* recording()
      rmSync(dir, { recursive: true })
      const id = yield* recorded(client, "echo hello; read line", { pipeStdin: true })
      yield* client.sees("p", "hello")
      yield* client.ask("recording/stop", { recordingId: id })
      const none = "No such file or directory (os error 2)"
      assert.deepInclude(yield* entryOf(client, id), { running: false, failure: none, bytes: 0 })
      assert.strictEqual((yield* client.call("recording/start", { processId: "p" })).error.message, none)
      assert.deepStrictEqual(yield* client.ask("recording/remove", { recordingId: id }), {})
      assert.lengthOf((yield* client.ask("recording/list")).recordings, 0)
    })
  )

  it.scopedLive("ends with its session, and stays", () =>
    Effect.gen(function* () {
      const { client, server } = yield* recording()
      const id = yield* recorded(client, "echo hello; exec sleep 1000")
      yield* client.sees("p", "hello")
      const [{ session }] = (yield* client.ask("session/list")).sessions
      const operator = yield* asOperator(server.url)
      assert.deepInclude(yield* entryOf(operator, id), { session, processId: "p", running: true })
      yield* operator.ask("session/end", { session })
      yield* operator.ask("recording/stop", { recordingId: id })
      assert.lengthOf((yield* operator.ask("recording/list", { session })).recordings, 1)
      assert.strictEqual(textOf((yield* contentOf(operator, id)).events, "o"), "hello\r\n")
    })
  )
})

describe("recording/read", () => {
  it.scopedLive("reads from an offset, at most maxBytes", () =>
    Effect.gen(function* () {
      const { client, dir } = yield* recording()
      const id = yield* recorded(client, "echo hello")
      yield* client.closed("p")
      const { bytes } = yield* client.ask("recording/stop", { recordingId: id })
      const whole = readFileSync(join(dir, `${id}.cast`))
      assert.lengthOf(whole, bytes)
      const read = (offset: number, maxBytes?: number) =>
        Effect.map(client.ask("recording/read", { recordingId: id, offset, maxBytes }), ({ chunk, size, running }) => [
          Buffer.from(chunk, "base64").toString(),
          size,
          running
        ])
      assert.deepStrictEqual(yield* read(2, 7), ["version", bytes, false])
      assert.deepStrictEqual(yield* read(10), [whole.subarray(10).toString(), bytes, false])
      for (const offset of [bytes, bytes + 1, 2 ** 53]) assert.deepStrictEqual(yield* read(offset), ["", bytes, false])
    })
  )

  it.scopedLive("takes no path for an id", () =>
    Effect.gen(function* () {
      const { client } = yield* recording()
      for (const recordingId of ["../operator", "..", "", "a/b", "0123456789abcdef0123456789abcdeF", 1]) {
        const { error } = yield* client.call("recording/read", { recordingId, offset: 0 })
        assert.strictEqual(error.code, -32602, String(recordingId))
      }
    })
  )
})

describe("recordings", () => {
  it.scopedLive("are as many as the server says, and no more bytes; then nothing starts that is to be recorded", () =>
    Effect.gen(function* () {
      const { client } = yield* recording(["--max-recordings", "1"])
      const id = yield* recorded(client, "echo hello")
      yield* client.closed("p")
      yield* client.ask("recording/stop", { recordingId: id })
      const full = "the limit maxRecordings (1) is reached; remove some with recording/remove"
      const { error } = yield* client.call("recording/start", { processId: "p" })
      assert.deepStrictEqual(error, { code: -32600, message: full })
      const params = { processId: "q", argv: ["true"], cwd: "/tmp", env: {}, tty: false, record: {} }
      assert.strictEqual((yield* client.call("process/start", params)).error.message, full)
      assert.lengthOf((yield* client.ask("process/list")).processes, 1)
      yield* client.ask("recording/remove", { recordingId: id })
      yield* client.ask("recording/start", { processId: "p" })
    })
  )

  it.scopedLive("end when all of them have recordingBytesTotal, which counts those of earlier runs", () =>
    Effect.gen(function* () {
      const { client, dir, launched } = yield* recording(["--recording-bytes-total", "2000"])
      const id = yield* recorded(client, "echo first; sleep 0.2; seq 1 2000")
      yield* client.closed("p")
      yield* client.ask("recording/stop", { recordingId: id })
      assert.deepInclude(yield* entryOf(client, id), { truncated: true, running: false })
      writeFileSync(join(dir, `${"0".repeat(32)}.cast`), "x".repeat(2000), { mode: 0o600 })
      const next = yield* webSocketServer({ args: launched })
      const other = yield* next.connect
      yield* other.handshake()
      yield* other.sh("p", "true")
      const { error } = yield* other.call("recording/start", { processId: "p" })
      assert.include(error.message, "the limit recordingBytesTotal (2000) is reached")
    })
  )

  it.scopedLive("of an earlier run of the server are listed, read and removed by operators", () =>
    Effect.gen(function* () {
      const { client, server, launched, dir } = yield* recording()
      const id = yield* recorded(client, "echo hello")
      yield* client.closed("p")
      yield* client.ask("recording/stop", { recordingId: id })
      server.child.kill("SIGTERM")
      yield* server.exit
      writeFileSync(join(dir, "other.cast"), "")
      writeFileSync(join(dir, `${"1".repeat(32)}.cast`), "no header")
      const next = yield* webSocketServer({ args: launched })
      const operator = yield* asOperator(next.url)
      const { recordings } = yield* operator.ask("recording/list", { session: "*" })
      assert.lengthOf(recordings, 2)
      assert.deepInclude(
        recordings.find(({ recordingId }: { readonly recordingId: string }) => recordingId === id),
        { processId: "p", argv: ["/bin/sh", "-c", "echo hello"], running: false }
      )
      assert.strictEqual(textOf((yield* contentOf(operator, id)).events, "o"), "hello\r\n")
      const stranger = yield* next.connect
      yield* stranger.handshake()
      assert.lengthOf((yield* stranger.ask("recording/list", { session: "*" })).recordings, 0)
      assert.strictEqual(
        (yield* stranger.call("recording/read", { recordingId: id, offset: 0 })).error.message,
        "this token may only use its own session (recording/read needs viewer)"
      )
      yield* operator.ask("recording/remove", { recordingId: id })
      assert.notInclude(readdirSync(dir), `${id}.cast`)
      assert.strictEqual((yield* operator.call("recording/read", { recordingId: id, offset: 0 })).error.code, -32004)
    })
  )

  it.scopedLive("of an earlier run keep what is known of long arguments; strange headers hide no others", () =>
    Effect.gen(function* () {
      const { client, server, launched, dir } = yield* recording()
      const argv = ["/bin/sh", "-c", "exit", "中".repeat(3000), "\u0001".repeat(3000)]
      const { recordingId } = yield* client.start("p", argv, { record: {} })
      yield* client.closed("p")
      yield* client.ask("recording/stop", { recordingId })
      server.child.kill("SIGKILL")
      yield* server.exit
      for (const [index, timestamp] of ["1e300", "-1e300", "-5.5", "1.5", '"x"', "8.64e12"].entries()) {
        const header = `{"version":3,"term":{"cols":80,"rows":24},"timestamp":${timestamp},"exec_server":{"processId":5}}\n`
        writeFileSync(join(dir, `${String(index).repeat(32)}.cast`), header)
      }
      const next = yield* webSocketServer({ args: launched })
      const operator = yield* asOperator(next.url)
      const { recordings } = yield* operator.ask("recording/list", { session: "*" })
      assert.lengthOf(recordings, 7)
      const found = yield* entryOf(operator, recordingId)
      assert.deepInclude(found, { processId: "p", running: false })
      assert.lengthOf(found.argv, 5)
    })
  )

  it.scopedLive("are written to their end when the server is shut down", () =>
    Effect.gen(function* () {
      const { client, server, dir } = yield* recording()
      const id = yield* recorded(client, "echo hello; exec sleep 1000")
      yield* client.sees("p", "hello")
      server.child.kill("SIGTERM")
      yield* server.exit
      const { events } = parse(readFileSync(join(dir, `${id}.cast`), "utf8"))
      assert.strictEqual(textOf(events, "o"), "hello\r\n")
      assert.deepStrictEqual(events.at(-1)?.slice(1), ["x", "143"])
    })
  )

  it.scopedLive("are refused without the setting, which is named", () =>
    Effect.gen(function* () {
      const { connect } = yield* webSocketServer()
      const client = yield* connect
      yield* client.handshake()
      yield* client.sh("p", "true")
      for (const [method, params] of [
        ["recording/start", { processId: "p" }],
        ["recording/list", {}],
        ["recording/stop", { recordingId: "0".repeat(32) }],
        ["process/start", { processId: "q", argv: ["true"], cwd: "/tmp", env: {}, tty: false, record: {} }]
      ] as const) {
        const { error } = yield* client.call(method, params)
        assert.strictEqual(error.code, -32600)
        assert.include(error.message, "set recordingsDir (--recordings-dir DIR)", method)
      }
    })
  )

  it.scopedLive("are not kept where others may read them, or where there can be no folder", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const [open, file] = [join(folder, "open"), join(folder, "file")]
      mkdirSync(open)
      chmodSync(open, 0o755)
      writeFileSync(file, "")
      for (const [dir, why] of [
        [open, "others may use it (mode 0755): run chmod 700"],
        [file, "File exists"]
      ] as const) {
        const { exit, stderr } = yield* launch({ args: ["--listen", "ws://127.0.0.1:0", "--recordings-dir", dir] })
        assert.strictEqual(yield* exit, 1)
        yield* eventually("it says why", () => stderr().includes("\n"))
        isOneLine(stderr())
        assert.include(stderr(), why)
      }
    })
  )

  it.scopedLive.skipIf(!hasBubblewrap)("are hidden from sandboxes", () =>
    Effect.gen(function* () {
      const { client, dir } = yield* recording()
      const id = yield* recorded(client, "echo hello")
      yield* client.closed("p")
      yield* client.ask("recording/stop", { recordingId: id })
      const everything = sandbox([entry(at("/"), "read")])
      yield* client.start("q", ["/bin/sh", "-c", `ls -a ${dir}; cat ${dir}/${id}.cast`], { sandbox: everything })
      yield* client.closed("q")
      assert.notInclude(client.output("q").toString(), "hello")
      assert.notInclude(client.output("q").toString(), id)
    })
  )
})

describe("client.recordings", () => {
  it.scopedLive("starts, follows, stops, lists and removes recordings", () =>
    Effect.gen(function* () {
      const { server } = yield* recording()
      const client = yield* ExecClient.connect({ url: server.url })
      const process = yield* client.start({
        processId: "p",
        argv: ["/bin/sh", "-c", "echo one; read line; echo two; read line"],
        cwd: "/tmp",
        env: { PATH: "/usr/bin:/bin" },
        pipeStdin: true
      })
      const { recordings } = client
      const id = yield* recordings.start("p", { input: true })
      const following = yield* Effect.fork(Stream.runCollect(recordings.content(id, { follow: true })))
      yield* process.write("x\n")
      yield* Stream.runDrain(Stream.takeUntil(process.output, (chunk) => chunk.toString().includes("two")))
      yield* recordings.stop(id)
      const content = Buffer.concat(Chunk.toReadonlyArray(yield* following.await.pipe(Effect.flatten))).toString()
      const { events } = parse(content)
      assert.strictEqual(textOf(events, "o"), "one\r\ntwo\r\n")
      assert.strictEqual(textOf(events, "i"), "x\n")
      const whole = yield* Stream.runCollect(recordings.content(id))
      assert.strictEqual(Buffer.concat(Chunk.toReadonlyArray(whole)).toString(), content)
      const [own] = yield* recordings.list()
      assert.deepInclude(own, { recordingId: id, processId: "p", bytes: content.length })
      yield* recordings.remove(id)
      assert.deepStrictEqual(yield* recordings.list(), [])
    })
  )
})
