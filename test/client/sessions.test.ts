/** Clients that take up a session somebody else has left, and what they show to a server that asks. */
import { chmodSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as ExecClient from "../../src/client/ExecClient.js"
import * as HeadTail from "../../src/client/HeadTail.js"
import * as RelayLink from "../../src/client/RelayLink.js"
import { failureOf } from "../support/fake.js"
import { directory } from "../support/files.js"
import { webSocketServer } from "../support/servers.js"

const sh = (script: string, processId: string): ExecClient.StartOptions => ({
  argv: ["/bin/sh", "-c", script],
  cwd: "/tmp",
  env: { PATH: "/usr/bin:/bin" },
  processId,
  pipeStdin: true
})

const textOf = (chunks: Chunk.Chunk<Buffer>) => Buffer.concat(Chunk.toReadonlyArray(chunks)).toString()

describe("a session that was left", () => {
  it.scopedLive("is taken up with its processes, from the first byte that is retained", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer()
      const sessionId = yield* Effect.scoped(
        Effect.gen(function* () {
          const client = yield* ExecClient.connect({ url })
          const process = yield* client.start(sh("echo one; read line; echo got $line; exit 4", "p"))
          yield* Stream.runDrain(Stream.take(process.output, 1))
          return client.sessionId
        })
      )
      const client = yield* ExecClient.connect({ url, resumeSessionId: sessionId })
      assert.strictEqual(client.sessionId, sessionId)
      const process = yield* client.attach("p")
      assert.strictEqual((yield* failureOf(client.attach("p")))._tag, "DuplicateProcess")
      yield* process.write("it\n")
      assert.strictEqual(textOf(yield* Stream.runCollect(process.output)), "one\ngot it\n")
      assert.deepInclude(yield* process.closed, { exitCode: 4 })
      assert.include((yield* failureOf(client.attach("q"))).message, "unknown process id q")
    })
  )

  it.scopedLive("is taken over from a client that is attached, which does not take it back", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer()
      const first = yield* ExecClient.connect({ url })
      yield* first.start(sh("read line; echo got $line", "p"))
      const { sessionId: resumeSessionId } = first
      assert.strictEqual(
        (yield* failureOf(Effect.scoped(ExecClient.connect({ url, resumeSessionId }))))._tag,
        "ServerError"
      )
      const second = yield* ExecClient.connect({ url, resumeSessionId, takeover: true })
      const process = yield* second.attach("p")
      assert.include((yield* first.ended).message, "the session was taken over")
      yield* process.write("it\n")
      assert.strictEqual(textOf(yield* Stream.runCollect(process.output)), "got it\n")
      assert.strictEqual((yield* second.state)._tag, "Connected")
    })
  )

  it.scopedLive("is kept, found by its name, and ended", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer({ args: ["--detached-session-ttl-ms", "100"] })
      const left = yield* Effect.scoped(
        Effect.gen(function* () {
          const client = yield* ExecClient.connect({ url, name: "build", sessionTtl: "forever" })
          yield* client.start(sh("read line", "p"))
          return client.sessionId
        })
      )
      yield* Effect.sleep("1 second")
      const client = yield* ExecClient.connect({ url, resumeSessionId: left })
      const [own] = yield* client.sessions.list
      assert.deepInclude(own, { name: "build", own: true, running: 1 })
      const [listed] = yield* client.sessions.processes()
      assert.deepStrictEqual([listed?.processId, listed?.session], ["p", own?.session])
      assert.strictEqual(yield* client.sessions.end(own?.session ?? ""), 1)
      assert.include((yield* client.ended).message, "the session was ended")
    })
  )

  it.scopedLive("what a second client writes arrives, whatever the first one has written", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer()
      const write = (sessionId: string | undefined, text: string) =>
        Effect.scoped(
          Effect.gen(function* () {
            const client = yield* ExecClient.connect({ url, resumeSessionId: sessionId })
            const process = yield* sessionId === undefined
              ? client.start({ ...sh("cat", "p"), pipeStdin: true })
              : client.attach("p")
            yield* process.write(text)
            return client.sessionId
          })
        )
      const sessionId = yield* write(undefined, "one ")
      yield* write(sessionId, "two ")
      const client = yield* ExecClient.connect({ url, resumeSessionId: sessionId })
      const process = yield* client.attach("p")
      const { stdout } = yield* process.communicate({ input: "three" })
      assert.strictEqual(HeadTail.bytesOf(stdout).toString(), "one two three")
    })
  )

  it.scopedLive("what is not retained any more is missed, and said so; the end is known", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer({ args: ["--retained-output-bytes-per-process", "1000"] })
      const total = 300000
      const sessionId = yield* Effect.scoped(
        Effect.gen(function* () {
          const client = yield* ExecClient.connect({ url })
          const process = yield* client.start(sh(`head -c ${total} /dev/zero; exit 5`, "p"))
          yield* process.closed
          return client.sessionId
        })
      )
      const client = yield* ExecClient.connect({ url, resumeSessionId: sessionId })
      const process = yield* client.attach("p")
      const events = Chunk.toReadonlyArray(yield* Stream.runCollect(process.events))
      const bytes = events.reduce(
        (sum, event) =>
          sum + (event._tag === "Missed" ? event.bytes : event._tag === "Output" ? event.chunk.length : 0),
        0
      )
      assert.strictEqual(bytes, total)
      assert.strictEqual(events[0]?._tag, "Missed")
      assert.deepInclude(yield* process.closed, { exitCode: 5 })
    })
  )

  it.scopedLive("of which the server kept the beginning and the end: what lay between is missed", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer({
        args: ["--retained-output-bytes-per-process", "1000", "--retain", "head-tail"]
      })
      const sessionId = yield* Effect.scoped(
        Effect.gen(function* () {
          const client = yield* ExecClient.connect({ url })
          yield* (yield* client.start(sh("seq 1 20000; exit 5", "p"))).closed
          return client.sessionId
        })
      )
      const client = yield* ExecClient.connect({ url, resumeSessionId: sessionId })
      const process = yield* client.attach("p")
      const events = Chunk.toReadonlyArray(yield* Stream.runCollect(process.events))
      const gap = events.findIndex(({ _tag }) => _tag === "Missed")
      const text = (some: typeof events) =>
        some.map((event) => (event._tag === "Output" ? event.chunk.toString() : "")).join("")
      const all = Array.from({ length: 20000 }, (_, i) => `${i + 1}\n`).join("")
      const [head, tail] = [text(events.slice(0, gap)), text(events.slice(gap))]
      assert.isTrue(head.length > 0 && all.startsWith(head), head)
      assert.isTrue(tail.length > 0 && all.endsWith(tail), tail)
      assert.deepInclude(events[gap], { bytes: all.length - head.length - tail.length })
      assert.notInclude(
        events.map(({ _tag }) => _tag),
        "Restarted"
      )
      assert.deepInclude(yield* process.closed, { exitCode: 5 })
    })
  )

  it.scopedLive("that nobody knows, or that is in use, is refused", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer()
      const unknown = yield* failureOf(ExecClient.connect({ url, resumeSessionId: "nobody" }))
      assert.strictEqual(unknown.message, "exec-server rejected request (-32600): unknown session id nobody")
      const { sessionId } = yield* ExecClient.connect({ url })
      const attached = yield* failureOf(ExecClient.connect({ url, resumeSessionId: sessionId }))
      assert.deepInclude(attached, { _tag: "ServerError", code: -32010 })
    })
  )
})

describe("addresses and credentials", () => {
  it.scopedLive("a bearer token is shown, and missed where it is asked for", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      writeFileSync(`${folder}/token`, "secret-token")
      const { url } = yield* webSocketServer({
        args: ["--ws-auth", "capability-token", "--ws-token-file", `${folder}/token`]
      })
      assert.deepInclude(yield* failureOf(ExecClient.connect({ url })), { _tag: "ConnectFailed", status: 401 })
      const client = yield* ExecClient.connect({ url, token: "secret-token" })
      assert.strictEqual((yield* client.state)._tag, "Connected")
    })
  )

  it.scopedLive("a socket of this machine", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      chmodSync(folder, 0o700)
      const { url } = yield* webSocketServer({ listen: `unix://${folder}/socket` })
      const client = yield* ExecClient.connect({ url })
      assert.strictEqual((yield* client.state)._tag, "Connected")
    })
  )

  it.scopedLive("relay URLs", () =>
    Effect.gen(function* () {
      const path = "/cloud/environment/e-1/connect?role=harness"
      assert.strictEqual(RelayLink.addressOf("relay://127.0.0.1:80/e-1"), `ws://127.0.0.1:80${path}`)
      assert.strictEqual(RelayLink.addressOf("relays://host/e-1"), `wss://host${path}`)
      const given = `wss://host${path}&token=t`
      assert.strictEqual(RelayLink.addressOf(given), given)
      assert.isTrue(RelayLink.isRelay(given))
      for (const url of ["ws://host/e-1", "ws://host/?role=executor", "unix:///run/s?role=harness", "role=harness"]) {
        assert.isFalse(RelayLink.isRelay(url), url)
      }
      for (const url of [
        "relay://host",
        "relay://host/",
        "relay://host/a/b",
        "relay://user@host/e",
        "relay://host/e?x"
      ]) {
        const error = yield* failureOf(ExecClient.connect({ url }))
        assert.include(error.message, "a relay URL is relay://HOST:PORT/ENVIRONMENT")
      }
    })
  )
})
