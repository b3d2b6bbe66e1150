/** One suite, once for each way to a server: what a client can rely on, however it is connected. */
import { createHash } from "node:crypto"
import { symlinkSync } from "node:fs"
import { PassThrough } from "node:stream"
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ClientError } from "../../src/client/ClientError.js"
import * as ExecClient from "../../src/client/ExecClient.js"
import { bytesOf } from "../../src/client/HeadTail.js"
import type { ProcessId } from "../../src/protocol/Ids.js"
import { realSessions } from "../support/composed.js"
import { failureOf, settle } from "../support/fake.js"
import { directory } from "../support/files.js"
import { clientUrl, environmentId, localExecutor, localRendezvous } from "../support/relay.js"
import { binary, eventually, isAlive, launch, webSocketServer } from "../support/servers.js"
import { upstream } from "../support/upstream.js"

type Connect = Effect.Effect<ExecClient.Shape, ClientError, Scope.Scope>

const PATH = "/usr/bin:/bin"

const sh = (script: string, more: Partial<ExecClient.StartOptions> = {}): ExecClient.StartOptions => ({
  argv: ["/bin/sh", "-c", script],
  cwd: "/tmp",
  env: { PATH },
  ...more
})

const lines = (count: number) => Array.from({ length: count }, (_, i) => `line ${i}\n`).join("")

const suite = (name: string, connect: Connect) =>
  describe(name, () => {
    const test = (title: string, body: (client: ExecClient.Shape) => Effect.Effect<unknown, unknown, Scope.Scope>) =>
      it.scopedLive(title, () => Effect.flatMap(connect, body))

    test("knows the session and the machine", (client) =>
      Effect.gen(function* () {
        assert.match(client.sessionId, /^[0-9a-f-]{36}$/)
        assert.match(client.environmentInfo.shell?.path ?? "", /^\//)
        assert.deepStrictEqual(yield* client.call("environment/status", {}), { status: "ready" })
        assert.strictEqual((yield* client.state)._tag, "Connected")
      }))

    test("a process: its events in order, from the first, for every reader", (client) =>
      Effect.gen(function* () {
        const process = yield* client.start(sh("echo one; sleep 0.05; echo two; exit 3"))
        const first = Chunk.toReadonlyArray(yield* Stream.runCollect(process.events))
        assert.deepStrictEqual(
          first.map((event) => ("seq" in event ? event.seq : undefined)),
          first.map((_, i) => i + 1)
        )
        assert.deepStrictEqual(
          first.slice(-2).map(({ _tag }) => _tag),
          ["Exited", "Closed"]
        )
        const again = Chunk.toReadonlyArray(yield* Stream.runCollect(process.events))
        assert.deepStrictEqual(again, first)
        const output = Chunk.toReadonlyArray(yield* Stream.runCollect(process.output))
        assert.strictEqual(Buffer.concat(output).toString(), "one\ntwo\n")
        assert.deepInclude(yield* process.exit, { exitCode: 3, signal: null, timedOut: false })
        assert.deepInclude((yield* process.wait({ until: "closed" })).exit, { exitCode: 3 })
      }))

    test("notifications can be heard as well: in order, closed after all others", (client) =>
      Effect.gen(function* () {
        const seen: Array<readonly [processId: string, seq: number, method: string]> = []
        for (const method of ["process/output", "process/exited", "process/closed"] as const) {
          yield* client.subscribe(method, ({ processId, seq }: { readonly processId: string; readonly seq: number }) =>
            seen.push([processId, seq, method])
          )
        }
        const processes = yield* Effect.forEach(Array.from({ length: 20 }), () => client.start(sh("echo hello")), {
          concurrency: "unbounded"
        })
        yield* Effect.forEach(processes, ({ closed }) => closed, { concurrency: "unbounded" })
        for (const { processId } of processes) {
          const own = seen.filter(([id]) => id === processId)
          assert.deepStrictEqual(
            own.map(([, seq]) => seq),
            [1, 2, 3]
          )
          assert.strictEqual(own[2]?.[2], "process/closed")
        }
      }))

    test("input arrives in the order of the calls, also when nobody waits for the answers", (client) =>
      Effect.gen(function* () {
        const process = yield* client.start(sh("cat", { pipeStdin: true }))
        const count = 50
        yield* Effect.forEach(
          Array.from({ length: count }, (_, i) => `line ${i}\n`),
          process.write,
          {
            concurrency: "unbounded",
            discard: true
          }
        )
        yield* process.closeStdin
        const output = Chunk.toReadonlyArray(yield* Stream.runCollect(process.stdout))
        assert.strictEqual(Buffer.concat(output).toString(), lines(count))
        assert.strictEqual((yield* failureOf(process.write("late")))._tag, "WriteRefused")
      }))

    test("a terminal: size, resize, input, interrupt", (client) =>
      Effect.gen(function* () {
        const process = yield* client.start(
          sh("stty size; read line; stty size; echo got $line; exec sleep 1000", {
            tty: true,
            size: { rows: 10, cols: 20 }
          })
        )
        yield* process.resize(50, 132)
        yield* process.write("hello\n")
        const text = yield* process.terminal.pipe(
          Stream.scan("", (seen, chunk) => seen + chunk.toString()),
          Stream.takeUntil((seen) => seen.includes("got hello")),
          Stream.runLast
        )
        assert.include(text._tag === "Some" ? text.value : "", "50 132")
        yield* process.signal("SIGINT")
        assert.deepInclude(yield* process.closed, { exitCode: 130, signal: "SIGINT" })
        assert.strictEqual((yield* failureOf(process.resize(0, 1)))._tag, "InvalidRequest")
      }))

    test("signals have the names of the protocol; another name is refused with it", (client) =>
      Effect.gen(function* () {
        const words = ["interrupt", "SIGINT", "SIGTERM", "SIGUSR1", "SIGRTMIN+1"] as const
        for (const word of words) {
          const process = yield* client.start({ argv: ["/bin/sleep", "1000"], cwd: "/", env: {} })
          yield* process.signal(word)
          assert.deepInclude(yield* process.closed, { signal: word === "interrupt" ? "SIGINT" : word })
        }
        const process = yield* client.start({ argv: ["/bin/true"], cwd: "/", env: {} })
        const wrong = yield* failureOf(process.signal("SIGNOPE" as "SIGINT"))
        assert.strictEqual(wrong._tag, "InvalidRequest")
        assert.match(wrong.message, /unknown signal `SIGNOPE`, expected a POSIX name such as `SIGTERM`/)
      }))

    test("terminate ends the tree; a scoped process ends with its scope", (client) =>
      Effect.gen(function* () {
        const process = yield* client.start(sh("sleep 1000 & wait"))
        assert.deepStrictEqual(yield* process.terminate(), { running: true })
        assert.deepInclude(yield* process.closed, { signal: "SIGKILL", exitCode: 137 })
        assert.deepStrictEqual(yield* process.terminate({ type: "graceful", timeoutMs: 10 }), { running: false })
        const scoped = yield* Effect.scoped(client.startScoped(sh("exec sleep 1000")))
        assert.deepInclude(yield* scoped.closed, { signal: "SIGKILL" })
        assert.isFalse(isAlive(scoped.pid))
      }))

    test("errors of the system name the path, both paths, and the program or the directory at fault", (client) =>
      Effect.gen(function* () {
        const root = yield* directory
        const { files } = client
        yield* files.writeFile(`${root}/file`, "")
        const messageOf = <A>(effect: Effect.Effect<A, ClientError>) =>
          Effect.map(failureOf(effect), ({ message }) => message.replace("exec-server rejected request ", ""))
        const enoent = "No such file or directory (os error 2)"
        for (const [effect, message] of [
          [files.readFile(`${root}/none`), `(-32004): ${enoent}: ${root}/none`],
          [files.writeFile(`file://${root}/none/x`, ""), `(-32004): ${enoent}: ${root}/none/x`],
          [files.readDirectory(`${root}/file`), `(-32603): Not a directory (os error 20): ${root}/file`],
          [files.writeFile(root, ""), `(-32603): Is a directory (os error 21): ${root}`],
          [files.copy(`${root}/none`, `${root}/x`), `(-32004): ${enoent}: ${root}/none to ${root}/x`],
          [client.start(sh("", { cwd: `${root}/none` })), `(-32603): ${enoent}: ${root}/none`],
          [client.start(sh("", { argv: ["/none"] })), `(-32603): ${enoent}: /none`],
          [client.start(sh("", { argv: [`${root}/file`] })), `(-32603): Permission denied (os error 13): ${root}/file`]
        ] as ReadonlyArray<readonly [Effect.Effect<unknown, ClientError>, string]>) {
          assert.strictEqual(yield* messageOf(effect), message)
        }
        const unknown = yield* failureOf(client.call("process/snapshot", { processId: "none" as ProcessId }))
        assert.notProperty(unknown, "about")
      }))

    test("what cannot be started is the server's error, and leaves nothing behind", (client) =>
      Effect.gen(function* () {
        const missing = yield* failureOf(client.start(sh("", { processId: "x", argv: ["/no/such/bin"] })))
        assert.deepInclude(missing, { _tag: "ServerError", code: -32603 })
        assert.include(missing.message, "exec-server rejected request (-32603): No such file or directory")
        const relative = yield* failureOf(client.start(sh("", { cwd: "relative" })))
        assert.deepInclude(relative, { _tag: "InvalidRequest", method: "process/start" })
        assert.include(relative.message, "cwd")
        const first = yield* client.start(sh("sleep 1000", { processId: "x" }))
        assert.strictEqual((yield* failureOf(client.start(sh("true", { processId: "x" }))))._tag, "DuplicateProcess")
        yield* first.terminate()
        yield* first.closed
        const unknown = yield* failureOf(
          client.call("process/read", { processId: first.processId, afterSeq: 0, waitMs: -1 })
        )
        assert.strictEqual(unknown._tag, "InvalidRequest")
      }))

    test("communicate: 8 MiB in, the same 8 MiB out, and what it says on stderr", (client) =>
      Effect.gen(function* () {
        const input = Buffer.alloc(8 * 1048576)
        for (let i = 0; i < input.length; i++) input[i] = (i * 31 + (i >> 8)) & 255
        const process = yield* client.start(sh("cat; echo done >&2; exit 4", { pipeStdin: true }))
        const result = yield* process.communicate({ input })
        assert.deepInclude(result.exit, { exitCode: 4, signal: null })
        assert.strictEqual(result.missedBytes, 0)
        const hash = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex")
        assert.strictEqual(hash(bytesOf(result.stdout)), hash(input))
        assert.strictEqual(bytesOf(result.stderr).toString(), "done\n")
        assert.strictEqual(bytesOf(result.terminal).length, 0)
      }))

    test("communicate keeps head and tail of too much output, and counts the rest", (client) =>
      Effect.gen(function* () {
        const total = 3_000_000
        const process = yield* client.start(sh(`printf head; head -c ${total - 8} /dev/zero; printf tail`))
        const { stdout, missedBytes } = yield* process.communicate({ maxBytes: 1000 })
        assert.strictEqual(stdout.head.length, 500)
        assert.strictEqual(stdout.tail.length, 500)
        assert.strictEqual(stdout.head.subarray(0, 4).toString(), "head")
        assert.strictEqual(stdout.tail.subarray(-4).toString(), "tail")
        assert.strictEqual(stdout.omittedBytes + missedBytes, total - 1000)
      }))

    test("communicate with a program that does not read its input", (client) =>
      Effect.gen(function* () {
        const process = yield* client.start(sh("exec true", { pipeStdin: true }))
        const result = yield* process.communicate({ input: Buffer.alloc(4 * 1048576) })
        assert.strictEqual(result.exit.exitCode, 0)
        const without = yield* client.start(sh("exec cat"))
        assert.strictEqual((yield* failureOf(without.communicate({ input: "x" })))._tag, "WriteRefused")
      }))

    test("collectFor: a window at a time, nothing twice, nothing left out", (client) =>
      Effect.gen(function* () {
        const process = yield* client.start(sh('echo up; while read l; do echo "got $l"; done', { pipeStdin: true }))
        const windows: Array<string> = []
        const collect = (yieldMs: number) =>
          Effect.tap(process.collectFor({ duration: yieldMs, maxBytes: 100000 }), ({ output }) =>
            Effect.sync(() => windows.push(bytesOf(output).toString()))
          )
        for (let i = 0; i < 5; i++) {
          yield* process.write(`${i}\n`)
          const { exit, closed } = yield* collect(30)
          assert.deepStrictEqual([exit, closed], [undefined, false])
        }
        yield* process.closeStdin
        const last = yield* collect(30_000)
        assert.isTrue(last.closed)
        assert.strictEqual(last.exit?.exitCode, 0)
        assert.strictEqual(windows.join(""), "up\ngot 0\ngot 1\ngot 2\ngot 3\ngot 4\n")
        const after = yield* collect(30_000)
        assert.strictEqual(bytesOf(after.output).length, 0)
        assert.isTrue(after.closed)
      }))

    test("collectFor is bounded by head and tail", (client) =>
      Effect.gen(function* () {
        const process = yield* client.start(sh("printf 0123456789; head -c 100000 /dev/zero; printf 9876543210"))
        const { output, closed } = yield* process.collectFor({ duration: "30 seconds", maxBytes: 20 })
        assert.isTrue(closed)
        assert.strictEqual(output.head.toString(), "0123456789")
        assert.strictEqual(output.tail.toString(), "9876543210")
        assert.strictEqual(output.omittedBytes, 100000)
      }))

    test("wait gives up after its time and says how things stand", (client) =>
      Effect.gen(function* () {
        const process = yield* client.start(sh("exec sleep 1000"))
        assert.deepStrictEqual(yield* process.wait({ duration: 20 }), { exit: undefined, closed: false })
        yield* process.terminate()
        assert.strictEqual((yield* process.wait()).exit?.signal, "SIGKILL")
      }))

    test("a reader that stops holds nobody up, and is told exactly what it missed", (client) =>
      Effect.gen(function* () {
        const total = 24_000_000
        const loud = yield* client.start(sh(`head -c ${total} /dev/zero`))
        const latch = yield* Effect.makeLatch()
        let bytes = 0
        let missed = 0
        const reader = yield* Effect.fork(
          Stream.runForEach(loud.events, (event) => {
            if (event._tag === "Output") bytes += event.chunk.length
            if (event._tag === "Missed") missed += event.bytes
            return latch.await
          })
        )
        assert.strictEqual((yield* loud.closed).exitCode, 0)
        const other = yield* client.start(sh("echo other"))
        assert.strictEqual(bytesOf((yield* other.communicate()).stdout).toString(), "other\n")
        assert.isNull(reader.unsafePoll())
        yield* latch.open
        yield* Fiber.join(reader)
        assert.isAbove(missed, 0)
        assert.strictEqual(bytes + missed, total)
      }))

    test("a process that is started again: its restarts are events, also for who comes late", (client) =>
      Effect.gen(function* () {
        const restart = { policy: "onFailure", maxRestarts: 2, withinMs: 60000, backoffMs: 1, maxBackoffMs: 1 } as const
        const process = yield* client.start(sh("echo up; exit 3", { restart }))
        const events = Chunk.toReadonlyArray(yield* Stream.runCollect(process.events))
        assert.deepStrictEqual(
          events.map(({ _tag }) => _tag),
          ["Output", "Restarted", "Output", "Restarted", "Output", "Exited", "Closed"]
        )
        assert.deepStrictEqual(
          events.flatMap((event) => (event._tag === "Restarted" ? [event.attempt] : [])),
          [1, 2]
        )
        assert.deepInclude(yield* process.closed, { exitCode: 3 })
      }))

    test("http: a whole response, and a body as a stream", (client) =>
      Effect.gen(function* () {
        const piece = Buffer.alloc(300_000, "x")
        const { url } = yield* upstream((response, arrived) => {
          if (arrived.url === "/broken") {
            response.writeHead(200, { "content-length": "10" }).write("short", () => response.destroy())
            return
          }
          response.writeHead(201, { "x-name": "value" })
          for (let i = 0; i < 10; i++) response.write(piece)
          response.end()
        })
        const whole = yield* client.http.request({ url })
        assert.strictEqual(whole.status, 201)
        assert.deepInclude(whole.headers, { name: "x-name", value: "value" })
        assert.strictEqual(whole.body.length, 10 * piece.length)
        const { status, body } = yield* client.http.stream({ url })
        assert.strictEqual(status, 201)
        const pieces = Chunk.toReadonlyArray(yield* Stream.runCollect(body))
        assert.isTrue(Buffer.concat(pieces).equals(whole.body))
        const broken = yield* client.http.stream({ url: `${url}/broken` })
        assert.deepInclude(yield* failureOf(Stream.runDrain(broken.body)), {
          _tag: "BodyBroken",
          message: "HTTP request failed: error decoding response body"
        })
        const refused = yield* failureOf(client.http.request({ url: "ftp://x" }))
        assert.deepInclude(refused, { _tag: "ServerError", code: -32602 })
      }))

    test("files: written, read, listed, copied and removed", (client) =>
      Effect.gen(function* () {
        const root = yield* directory
        yield* client.files.createDirectory(`${root}/a/b`)
        yield* client.files.writeFile(`${root}/a/text`, "hello")
        assert.strictEqual((yield* client.files.readFile(`file://${root}/a/text`)).toString(), "hello")
        const large = Buffer.alloc(5_000_000)
        for (let i = 0; i < large.length; i++) large[i] = (i * 7 + (i >> 10)) & 255
        const chunks = [large.subarray(0, 1), large.subarray(1, 2_500_000), large.subarray(2_500_000)]
        yield* client.files.write(`${root}/large`, Stream.fromIterable(chunks))
        const read = Chunk.toReadonlyArray(yield* Stream.runCollect(client.files.read(`${root}/large`)))
        assert.isTrue(Buffer.concat(read).equals(large))
        assert.deepInclude(yield* client.files.getMetadata(`${root}/large`), { isFile: true, size: large.length })
        yield* client.files.copy(`${root}/a`, `${root}/c`)
        assert.deepStrictEqual(
          (yield* client.files.walk(root)).entries.map(({ path }) => path.slice(root.length)),
          ["/a", "/c", "/large", "/a/b", "/a/text", "/c/b", "/c/text"]
        )
        assert.strictEqual(yield* client.files.canonicalize(`${root}/a/../c`), `${root}/c`)
        yield* client.files.remove(`${root}/a`)
        assert.sameMembers(
          (yield* client.files.readDirectory(root)).map(({ fileName }) => fileName),
          ["c", "large"]
        )
        const missing = yield* failureOf(client.files.readFile(`${root}/a/text`))
        assert.deepInclude(missing, { _tag: "ServerError", code: -32004 })
        assert.strictEqual((yield* failureOf(client.files.readFile("relative")))._tag, "InvalidRequest")
      }))

    test("files: options are the request's", ({ files }) =>
      Effect.gen(function* () {
        const root = yield* directory
        yield* files.createDirectory(`${root}/a/b`)
        yield* files.writeFile(`${root}/a/text`, "hello")
        symlinkSync("text", `${root}/a/link`)
        const refused = (effect: Effect.Effect<unknown, ClientError>) =>
          Effect.map(failureOf(effect), (error) => error._tag)
        const server = "ServerError"
        assert.strictEqual(yield* refused(files.createDirectory(`${root}/x/y`, { recursive: false })), server)
        assert.strictEqual(yield* refused(files.readFile(`${root}/a/link`, { followSymlinks: false })), server)
        assert.strictEqual(yield* refused(files.writeFile(`${root}/a/link`, "x", { followSymlinks: false })), server)
        assert.strictEqual(yield* refused(files.getMetadata(`${root}/a/link`, { followSymlinks: false })), server)
        assert.strictEqual(yield* refused(files.remove(`${root}/a`, { recursive: false })), server)
        assert.strictEqual(yield* refused(files.remove(`${root}/none`, { force: false })), server)
        assert.strictEqual(yield* refused(files.copy(`${root}/a`, `${root}/c`, { recursive: false })), server)
        assert.strictEqual((yield* files.readFile(`${root}/a/link`, { followSymlinks: true })).toString(), "hello")
        const nothing = {
          permissions: { type: "managed", file_system: { type: "restricted", entries: [] }, network: "restricted" },
          windowsSandboxLevel: "disabled"
        } as const
        const sandboxed = { sandbox: nothing }
        assert.strictEqual(yield* refused(files.readFile(`${root}/a/text`, sandboxed)), server)
        assert.strictEqual(yield* refused(files.readDirectory(root, sandboxed)), server)
        assert.strictEqual(yield* refused(files.canonicalize(root, sandboxed)), server)
        assert.strictEqual(yield* refused(Stream.runDrain(files.read(`${root}/a/text`, sandboxed))), server)
        assert.strictEqual(yield* refused(files.copy(`${root}/a`, `${root}/c`, sandboxed)), server)
        const direct = { sandbox: { ...nothing, permissions: { type: "disabled" } } } as const
        assert.strictEqual((yield* files.readFile(`${root}/a/text`, direct)).toString(), "hello")
        const odd = { sandbox: { ...nothing, cwd: "relative" } }
        assert.strictEqual(yield* refused(files.readFile(`${root}/a/text`, odd)), "InvalidRequest")
        // More than the original takes, and no more than is asked for.
        assert.lengthOf((yield* files.walk(root, { maxDepth: 0 })).entries, 1)
      }))

    test("who holds the server up misses nothing, however much there is", (client) =>
      Effect.gen(function* () {
        const total = 40_000_000
        const loud = yield* client.start(sh(`head -c ${total} /dev/zero`))
        let bytes = 0
        let holds = 0
        yield* Stream.runForEach(loud.output, (chunk) => {
          bytes += chunk.length
          return bytes < 10_000_000 || holds++ > 20
            ? Effect.void
            : Effect.scoped(Effect.zipRight(client.hold, Effect.repeatN(settle, 100)))
        })
        assert.strictEqual(bytes, total)
      }))

    test("100 processes at a time, with as many readers", (client) =>
      Effect.gen(function* () {
        const texts = yield* Effect.forEach(
          Array.from({ length: 100 }, (_, i) => i),
          (i) =>
            client.start(sh(`echo ${i}`)).pipe(
              Effect.flatMap(({ output }) => Stream.runCollect(output)),
              Effect.map((chunks) => Buffer.concat(Chunk.toReadonlyArray(chunks)).toString())
            ),
          { concurrency: 20 }
        )
        assert.deepStrictEqual(
          texts,
          texts.map((_, i) => `${i}\n`)
        )
      }))
  })

const node = { command: process.execPath, args: [binary] }

suite(
  "a client over WebSocket",
  Effect.flatMap(webSocketServer(), ({ url }) => ExecClient.connectWebSocket({ url }))
)

suite("a client over stdio", ExecClient.connectStdio(node))

suite(
  "a client in the server's process",
  Effect.flatMap(Layer.build(realSessions), (server) => Effect.provide(ExecClient.connectInProcess(), server))
)

/** A client of an executor behind a rendezvous, whose address for clients is made of the rendezvous's own. */
const relayed = (urlOf: (rendezvous: string) => string) =>
  Effect.gen(function* () {
    const rendezvous = yield* localRendezvous({ clientToken: "client-token" })
    yield* localExecutor(rendezvous)
    // The executor may need a moment until it is connected.
    return yield* ExecClient.connect({ url: urlOf(rendezvous), token: "client-token" }).pipe(
      Effect.retry({
        times: 400,
        schedule: Schedule.spaced("25 millis"),
        while: ({ _tag }) => _tag === "ConnectFailed"
      })
    )
  })

suite(
  "a client over a rendezvous",
  relayed((rendezvous) => `${rendezvous.replace("ws:", "relay:")}/${environmentId}`)
)

it.scopedLive("the WebSocket URL of a rendezvous leads there as well, and output comes without base64", () =>
  Effect.gen(function* () {
    const client = yield* relayed(clientUrl)
    assert.deepStrictEqual(client.capabilities, { binaryOutput: true })
    const process = yield* client.start(sh("echo hello"))
    assert.strictEqual(bytesOf((yield* process.communicate()).stdout).toString(), "hello\n")
  })
)

suite(
  "a client of a server of its own",
  Effect.flatMap(ExecClient.launchLocal(node), ({ url }) => ExecClient.connectWebSocket({ url }))
)

/** A client over the streams of a server that somebody else has started. */
const overStreams = Effect.gen(function* () {
  const { child } = yield* launch({})
  const { stdin, stdout } = child
  if (stdin === null || stdout === null) return yield* Effect.dieMessage("the server has no streams")
  return { client: yield* ExecClient.connectStreams({ input: stdout, output: stdin }), stdin, stdout, child }
})

suite(
  "a client over streams",
  Effect.map(overStreams, ({ client }) => client)
)

describe("streams that the caller has", () => {
  it.scopedLive("stay the caller's: only the end of the client is told", () =>
    Effect.gen(function* () {
      const { stdin, stdout, client } = yield* overStreams
      assert.strictEqual((yield* client.state)._tag, "Connected")
      const input = new PassThrough()
      const output = new PassThrough()
      const error = yield* failureOf(
        Effect.scoped(ExecClient.connectStreams({ input, output, initializeTimeout: "100 millis" }))
      )
      assert.strictEqual(error._tag, "InitializeTimeout")
      assert.isTrue(output.writableEnded)
      assert.isFalse(input.destroyed)
      assert.strictEqual(input.listenerCount("data"), 0)
      stdin.end()
      yield* eventually("the server has ended", () => stdout.readableEnded)
    })
  )

  it.scopedLive("end the connection with their end, their failure, and what is no message", () =>
    Effect.gen(function* () {
      const ended = new PassThrough()
      ended.end()
      ended.resume()
      yield* eventually("it has ended", () => ended.readableEnded)
      const over = yield* failureOf(ExecClient.connectStreams({ input: ended, output: new PassThrough() }))
      assert.strictEqual(over._tag, "TransportClosed")
      const broken = new PassThrough()
      const failing = yield* Effect.fork(
        failureOf(ExecClient.connectStreams({ input: new PassThrough(), output: broken }))
      )
      yield* eventually("something is sent", () => broken.readableLength > 0)
      broken.destroy(new Error("the line is cut"))
      assert.include((yield* Fiber.join(failing)).message, "the line is cut")
      const garbage = new PassThrough()
      garbage.write("Welcome!\n")
      const odd = yield* failureOf(ExecClient.connectStreams({ input: garbage, output: new PassThrough() }))
      assert.strictEqual(odd._tag, "ProtocolViolation")
    })
  )
})

describe("the layers", () => {
  const echo = Effect.gen(function* () {
    const client = yield* ExecClient.ExecClient
    const process = yield* client.start(sh("echo hello"))
    const { stdout } = yield* process.communicate()
    return { text: bytesOf(stdout).toString(), client }
  })

  it.live("provide a client, and end everything with it", () =>
    Effect.gen(function* () {
      for (const layer of [ExecClient.layerStdio(node), ExecClient.layerLocal(node)]) {
        const { pid, client } = yield* Effect.gen(function* () {
          const { text, client } = yield* echo
          assert.strictEqual(text, "hello\n")
          const { pid } = yield* client.start(sh("exec sleep 1000"))
          return { pid, client }
        }).pipe(Effect.provide(layer))
        yield* eventually("the process is gone", () => !isAlive(pid))
        const error = yield* failureOf(client.call("process/list", {}))
        assert.strictEqual(error.message, "exec-server transport disconnected: the client has ended")
      }
    })
  )

  it.live("layerInProcess takes any server's layers", () =>
    Effect.gen(function* () {
      const { text } = yield* echo.pipe(Effect.provide(ExecClient.layerInProcess()), Effect.provide(realSessions))
      assert.strictEqual(text, "hello\n")
    })
  )
})
