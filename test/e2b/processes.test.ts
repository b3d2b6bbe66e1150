/** Processes by the Connect protocol: what travels, byte for byte. */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { gzipSync } from "node:zlib"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { envelope, outputOf, request, serve, shell, stream, unary, until } from "../support/e2b.js"
import { directory } from "../support/files.js"
import { eventually, isAlive } from "../support/servers.js"

const start = "process.Process/Start"

const end = { flags: 2, body: {} }

describe("Start", () => {
  it.scopedLive("answers with the pid, the output of each stream, the end, and the end of the stream", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const messages = yield* (yield* stream(url, start, shell("echo out; echo err >&2; exit 3"))).rest
      assert.isNumber(messages[0]?.body.event.start.pid)
      assert.strictEqual(outputOf(messages, "stdout"), "out\n")
      assert.strictEqual(outputOf(messages, "stderr"), "err\n")
      const status = "exit status 3"
      assert.deepStrictEqual(messages.at(-2)?.body, {
        event: { end: { exitCode: 3, exited: true, status, error: status } }
      })
      assert.deepStrictEqual(messages.at(-1), end)
    })
  )

  it.scopedLive("tells signals, and success without an error", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const ended = (script: string) =>
        Effect.map(
          Effect.flatMap(stream(url, start, shell(script)), ({ rest }) => rest),
          (all) => all.at(-2)?.body.event.end
        )
      assert.deepStrictEqual(yield* ended("true"), { exitCode: 0, exited: true, status: "exit status 0" })
      const status = "signal: terminated"
      assert.deepStrictEqual(yield* ended("kill -TERM $$"), { exitCode: -1, exited: false, status, error: status })
    })
  )

  it.scopedLive("sets variables and the directory, relative to home", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const output = (cwd: string | undefined) =>
        Effect.map(
          Effect.flatMap(
            stream(url, start, {
              process: { cmd: "sh", args: ["-c", "echo $A $PWD"], envs: { A: "1" }, cwd },
              stdin: false
            }),
            ({ rest }) => rest
          ),
          (messages) => outputOf(messages, "stdout")
        )
      const home = (yield* output(undefined)).trim().slice(2)
      assert.isTrue(existsSync(home))
      assert.strictEqual(yield* output("/usr"), "1 /usr\n")
      assert.strictEqual(yield* output("~/.."), yield* output(".."))
    })
  )

  it.scopedLive("refuses what cannot be started, and says why", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const error = (given: object, headers = {}) =>
        Effect.map(
          Effect.flatMap(stream(url, start, given, headers), ({ rest }) => rest),
          (messages) => messages.at(-1)?.body.error
        )
      const at = (cwd: string) => ({ process: { cmd: "true", cwd } })
      assert.deepStrictEqual(yield* error(at("/nowhere")), {
        code: "invalid_argument",
        message: "cwd '/nowhere' does not exist"
      })
      assert.match((yield* error(at("/etc/passwd"))).message, /cwd '\/etc\/passwd' is not a directory/)
      assert.deepInclude(yield* error({ process: { cmd: "/nowhere" } }), { code: "invalid_argument" })
      assert.match((yield* error({ process: {} })).message, /cmd/)
      const nobody = { authorization: `Basic ${Buffer.from("nobody-here:").toString("base64")}` }
      const refused = yield* error(shell("true"), nobody)
      assert.strictEqual(refused.code, "unauthenticated")
      assert.match(
        refused.message,
        /invalid username: 'nobody-here'; everything here runs as '.+', which 'user' means too/
      )
      const user = { authorization: `Basic ${Buffer.from("user:").toString("base64")}` }
      assert.isUndefined(yield* error(shell("true"), user))
    })
  )

  it.scopedLive("a deadline kills the process and ends the stream with deadline_exceeded", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const messages = yield* stream(url, start, shell("sleep 1000 & wait"), { "connect-timeout-ms": "500" })
      const pid = (yield* messages.next)?.body.event.start.pid
      const { error } = (yield* messages.rest).at(-1)?.body ?? {}
      assert.strictEqual(error.code, "deadline_exceeded")
      yield* eventually("the process is gone", () => !isAlive(pid))
    })
  )

  it.scopedLive("a quiet process has signs of life in between", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const messages = yield* stream(url, start, shell("sleep 1000"), { "keepalive-ping-interval": "1" })
      yield* messages.next
      assert.deepStrictEqual((yield* messages.next)?.body, { event: { keepalive: {} } })
    })
  )

  it.scopedLive("a client that leaves ends nothing; another one gets what comes from then on, and the end", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const dir = yield* directory
      const script = `while ! [ -e ${dir}/go ]; do sleep 0.05; done; echo late`
      const pid = yield* Effect.scoped(
        Effect.map(
          Effect.flatMap(stream(url, start, shell(script, { tag: "t" })), ({ next }) => next),
          (first) => first?.body.event.start.pid
        )
      )
      const again = yield* stream(url, "process.Process/Connect", { process: { tag: "t" } })
      assert.strictEqual((yield* again.next)?.body.event.start.pid, pid)
      writeFileSync(`${dir}/go`, "")
      const messages = yield* again.rest
      assert.strictEqual(outputOf(messages, "stdout"), "late\n")
      assert.strictEqual(messages.at(-2)?.body.event.end.exitCode, 0)
      // Who comes too late still learns how it has ended.
      const late = yield* (yield* stream(url, "process.Process/Connect", { process: { pid } })).rest
      assert.strictEqual(late.at(-2)?.body.event.end.exitCode, 0)
      const none = yield* (yield* stream(url, "process.Process/Connect", { process: { pid: 1 } })).rest
      assert.deepStrictEqual(none, [
        { flags: 2, body: { error: { code: "not_found", message: "process with pid 1 not found" } } }
      ])
    })
  )

  it.scopedLive("a slow reader gets every byte, and holds up no other process", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const bytes = 24_000_000
      const slow = yield* stream(url, start, shell(`head -c ${bytes} /dev/zero`))
      yield* slow.next
      for (let i = 0; i < 3; i++) {
        const other = yield* (yield* stream(url, start, shell("sleep 0.2"))).rest
        assert.strictEqual(other.at(-2)?.body.event.end.exitCode, 0)
      }
      let read = 0
      for (let message = yield* slow.next; message?.flags === 0; message = yield* slow.next) {
        const data = message.body.event.data?.stdout
        if (data !== undefined) read += Buffer.from(data, "base64").length
      }
      assert.strictEqual(read, bytes)
    })
  )
})

describe("input", () => {
  it.scopedLive("is sent, ends, and is a stream as well", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const messages = yield* stream(url, start, { process: { cmd: "cat" } })
      const process = { pid: (yield* messages.next)?.body.event.start.pid }
      const stdin = (text: string) => ({ input: { stdin: Buffer.from(text).toString("base64") } })
      assert.deepStrictEqual((yield* unary(url, "process.Process/SendInput", { process, ...stdin("a") })).body, {})
      const body = Buffer.concat([
        envelope({ start: { process } }),
        envelope({ data: stdin("b") }),
        envelope({ keepalive: {} }),
        envelope({ data: stdin("c") })
      ])
      const headers = { "content-type": "application/connect+json" }
      const streamed = yield* request(`${url}/process.Process/StreamInput`, { method: "POST", headers, body })
      assert.strictEqual(streamed.text, Buffer.concat([envelope({}), envelope({}, 2)]).toString())
      const wrong = yield* unary(url, "process.Process/SendInput", { process, input: { pty: "YQ==" } })
      assert.strictEqual(wrong.status, 400)
      assert.match(wrong.body.message, /has no terminal: send stdin/)
      yield* unary(url, "process.Process/CloseStdin", { process })
      const all = yield* messages.rest
      assert.strictEqual(outputOf(all, "stdout"), "abc")
      const gone = yield* unary(url, "process.Process/SendInput", { process, ...stdin("d") })
      assert.strictEqual(gone.status, 404)
      assert.deepStrictEqual(gone.body, { code: "not_found", message: `process with pid ${process.pid} not found` })
    })
  )

  it.scopedLive("of a process without stdin is refused", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const messages = yield* stream(url, start, shell("sleep 1000"))
      const process = { pid: (yield* messages.next)?.body.event.start.pid }
      const { status, body } = yield* unary(url, "process.Process/SendInput", { process, input: { stdin: "YQ==" } })
      assert.strictEqual(status, 400)
      assert.match(body.message, /stdin of process \d+ is not enabled/)
    })
  )
})

it.scopedLive("terminals have a size, which can be changed", () =>
  Effect.gen(function* () {
    const url = yield* serve()
    const size = { cols: 100, rows: 30 }
    const messages = yield* stream(url, start, { ...shell("stty size; read line; stty size"), pty: { size } })
    const process = { pid: (yield* messages.next)?.body.event.start.pid }
    yield* until(messages, "pty", "30 100\r\n")
    const pty = { size: { cols: 90, rows: 20 } }
    assert.strictEqual((yield* unary(url, "process.Process/Update", { process, pty })).status, 200)
    assert.strictEqual((yield* unary(url, "process.Process/CloseStdin", { process })).status, 400)
    yield* unary(url, "process.Process/SendInput", { process, input: { pty: Buffer.from("\n").toString("base64") } })
    const all = yield* messages.rest
    assert.include(outputOf(all, "pty"), "20 90\r\n")
    assert.strictEqual(all.at(-2)?.body.event.end.exitCode, 0)
  })
)

it.scopedLive("List and SendSignal: a kill ends the whole tree", () =>
  Effect.gen(function* () {
    const url = yield* serve()
    const dir = yield* directory
    const script = `sleep 1000 & echo $! > ${dir}/pid; echo ready; wait`
    const messages = yield* stream(url, start, shell(script, { tag: "tree" }))
    const pid = (yield* messages.next)?.body.event.start.pid
    yield* until(messages, "stdout", "ready\n")
    const child = Number(readFileSync(`${dir}/pid`, "utf8"))
    const { processes } = (yield* unary(url, "process.Process/List")).body
    assert.deepStrictEqual(processes, [
      { pid, tag: "tree", config: { cmd: "/bin/sh", args: ["-c", script], envs: {} } }
    ])
    const signal = (name: string | number) =>
      unary(url, "process.Process/SendSignal", { process: { pid }, signal: name })
    assert.strictEqual((yield* signal("SIGNAL_SIGHUP")).body.code, "invalid_argument")
    assert.strictEqual((yield* signal("SIGNAL_SIGKILL")).status, 200)
    assert.strictEqual((yield* messages.rest).at(-2)?.body.event.end.status, "signal: killed")
    yield* eventually("its child is gone", () => !isAlive(child))
    assert.strictEqual((yield* signal(9)).body.code, "not_found")
    assert.deepStrictEqual((yield* unary(url, "process.Process/List")).body, { processes: [] })
  })
)

describe("the protocol", () => {
  it.scopedLive("takes JSON alone, also compressed, and says so", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const post = (
        type: string,
        body: Uint8Array | string,
        more: Record<string, string> = {},
        path = "process.Process/List"
      ) => request(`${url}/${path}`, { method: "POST", headers: { "content-type": type, ...more }, body })
      const proto = yield* post("application/proto", "x")
      assert.strictEqual(proto.status, 415)
      assert.strictEqual(proto.headers.get("accept-post"), "application/json")
      assert.deepStrictEqual(proto.body, {
        code: "unimplemented",
        message: "application/proto is not served here: send application/json"
      })
      assert.strictEqual((yield* post("application/connect+proto", "x", {}, start)).status, 415)
      assert.strictEqual((yield* post("application/json", gzipSync("{}"), { "content-encoding": "gzip" })).status, 200)
      assert.strictEqual((yield* post("application/json", "{}", { "content-encoding": "br" })).status, 501)
      assert.strictEqual((yield* post("application/json", "{")).body.code, "invalid_argument")
      assert.strictEqual((yield* request(`${url}/process.Process/List`)).status, 400)
      assert.strictEqual((yield* request(`${url}/nothing`)).status, 404)
    })
  )

  it.scopedLive("takes one whole message for a stream, and none that is too long", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const headers = { "content-type": "application/connect+json" }
      const post = (body: Uint8Array) =>
        Effect.map(
          request(`${url}/${start}`, { method: "POST", headers, body }),
          ({ text }) => JSON.parse(text.slice(5)).error
        )
      const whole = envelope(shell("true"))
      assert.match((yield* post(whole.subarray(0, -1))).message, /must be one message/)
      assert.match((yield* post(Buffer.concat([whole, whole]))).message, /must be one message/)
      assert.match((yield* post(envelope(shell("true"), 4))).message, /unknown flags 4/)
      const long = Buffer.alloc(5)
      long.writeUInt32BE(0xffffffff, 1)
      assert.strictEqual((yield* post(long)).code, "resource_exhausted")
    })
  )
})
