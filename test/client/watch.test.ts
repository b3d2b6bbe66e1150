/** Watching processes with the client library: in memory, over sockets, and over connections that are lost. */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { chmodSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as ExecClient from "../../src/client/ExecClient.js"
import * as TextChannel from "../../src/client/TextChannel.js"
import type { WatchEvent } from "../../src/client/WatchEvent.js"
import { Emulator } from "../../src/screen/Emulator.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { FaultyLink } from "../../src/testing/FaultyLink.js"
import * as Memory from "../../src/transport/Memory.js"
import { failureOf, serverLayer, settle } from "../support/fake.js"
import { directory } from "../support/files.js"
import { stateOf } from "../support/screens.js"
import { webSocketServer } from "../support/servers.js"

const program = { argv: ["program"], cwd: "/", processId: "p" }

const sh = (script: string, more: object = {}): ExecClient.StartOptions => ({
  argv: ["/bin/sh", "-c", script],
  cwd: "/tmp",
  env: { PATH: "/usr/bin:/bin" },
  processId: "p",
  pipeStdin: true,
  ...more
})

const collect = (events: Stream.Stream<WatchEvent, unknown>) =>
  Effect.map(Stream.runCollect(events), (all) => Chunk.toReadonlyArray(all))

const tagsOf = (events: ReadonlyArray<WatchEvent>) => events.map(({ _tag }) => _tag)

const textOf = (events: ReadonlyArray<WatchEvent>) =>
  Buffer.concat(events.flatMap((event) => (event._tag === "Output" ? [event.chunk] : []))).toString()

describe("in the same process", () => {
  it.scoped("a stream has the events from the start to the end", () =>
    Effect.gen(function* () {
      const client = yield* ExecClient.connectInProcess()
      yield* client.start(program)
      yield* settle
      const child = yield* (yield* FakeSpawner).child(0)
      child.emit("stdout", "one ")
      const seen = yield* Effect.fork(collect(client.sessions.watch({ processId: "p" })))
      yield* settle
      child.emit("stderr", "two")
      yield* settle
      child.finish(3)
      const closed = yield* Effect.fork(Effect.flatMap(settle, () => client.sessions.end("")))
      yield* Effect.ignore(Fiber.join(closed))
      const [own] = yield* client.sessions.list
      yield* client.sessions.end(own?.session ?? "")
      const events = yield* Fiber.join(seen)
      assert.deepStrictEqual(tagsOf(events), ["Attached", "Viewers", "Output", "Output", "Exited", "Closed", "Ended"])
      assert.strictEqual(textOf(events), "one two")
      assert.deepInclude(events[4], { seq: 3, exitCode: 3 })
      assert.deepInclude(events[6], { reason: "sessionEnded" })
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("a stream that is not consumed skips output, and says so", () =>
    Effect.gen(function* () {
      const client = yield* ExecClient.connectInProcess()
      yield* client.start(program)
      yield* settle
      const child = yield* (yield* FakeSpawner).child(0)
      const { events } = yield* client.sessions.attach({ processId: "p", window: 16_384 })
      for (let i = 0; i < 100; i++) {
        child.emit("stdout", Buffer.alloc(4096))
        yield* settle
      }
      child.emit("stdout", "last")
      assert.isFalse(child.paused)
      const seen = yield* collect(
        Stream.takeUntil(events, (event) => event._tag === "Output" && event.chunk.length === 4)
      )
      const bytes = seen.reduce(
        (sum, event) => sum + (event._tag === "Gap" ? event.bytes : event._tag === "Output" ? event.chunk.length : 0),
        0
      )
      assert.strictEqual(bytes, 100 * 4096 + 4)
      assert.strictEqual(tagsOf(seen).filter((tag) => tag === "Gap").length, 1)
    }).pipe(Effect.provide(serverLayer({}, { retainedOutputBytesPerProcess: 65_536 })))
  )

  it.scoped("one viewer drives the size, where the process allows it", () =>
    Effect.gen(function* () {
      const client = yield* ExecClient.connectInProcess()
      const tty = { ...program, tty: true, size: { rows: 24, cols: 80 } }
      yield* client.start({ ...tty, sizePolicy: "driver" })
      yield* client.start({ ...tty, processId: "q" })
      yield* settle
      const child = yield* (yield* FakeSpawner).child(0)
      const watch = yield* client.sessions.attach({ processId: "p" })
      assert.deepStrictEqual(yield* watch.drive({ rows: 30, cols: 90 }), { rows: 30, cols: 90 })
      const second = yield* client.sessions.attach({ processId: "p" })
      yield* second.drive({ rows: 40, cols: 100 })
      yield* watch.release
      assert.deepStrictEqual(child.resizes, [
        [30, 90],
        [40, 100]
      ])
      yield* settle
      const seen = yield* collect(
        Stream.takeUntil(watch.events, (event) => event._tag === "Resized" && event.rows === 40)
      )
      const [attached] = seen
      const id = attached?._tag === "Attached" ? attached.attachmentId : 0
      assert.deepStrictEqual(
        seen
          .filter(({ _tag }) => _tag === "Resized")
          .map((event) => (event._tag === "Resized" ? [event.rows, event.by] : [])),
        [
          [30, id],
          [40, id + 1]
        ]
      )
      const drivers = seen.flatMap((event) =>
        event._tag === "Viewers" ? [event.viewers.map(({ drives }) => drives)] : []
      )
      assert.deepStrictEqual(drivers.at(-1), [false, true])
      const other = yield* client.sessions.attach({ processId: "q" })
      assert.include(
        (yield* failureOf(other.drive({ rows: 1, cols: 1 }))).message,
        "the owner keeps the size (sizePolicy owner)"
      )
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("the owner takes the size back", () =>
    Effect.gen(function* () {
      const client = yield* ExecClient.connectInProcess()
      const tty = { ...program, tty: true, size: { rows: 24, cols: 80 } }
      const owner = yield* client.start({ ...tty, sizePolicy: "driver" })
      yield* settle
      const watch = yield* client.sessions.attach({ processId: "p" })
      yield* watch.drive({ rows: 30, cols: 90 })
      yield* owner.resize(40, 100)
      const seen = yield* collect(
        Stream.takeUntil(watch.events, (event) => event._tag === "Resized" && event.rows === 40)
      )
      const drivers = seen.flatMap((event) =>
        event._tag === "Viewers" ? event.viewers.map(({ drives }) => drives) : []
      )
      assert.isFalse(drivers.at(-1))
    }).pipe(Effect.provide(serverLayer()))
  )
})

describe("over a connection that is lost", () => {
  it.scopedLive("the stream goes on where it was, or with a gap", () =>
    Effect.gen(function* () {
      const { connect } = yield* Memory.Connector
      const link = new FaultyLink(connect)
      const client = yield* ExecClient.make(TextChannel.connector(link.open, true))
      yield* client.start(program)
      yield* settle
      const child = yield* (yield* FakeSpawner).child(0)
      const { events } = yield* client.sessions.attach({ processId: "p" })
      const seen: Array<WatchEvent> = []
      yield* Effect.forkScoped(Stream.runForEach(events, (event) => Effect.sync(() => seen.push(event))))
      const sees = (text: string): Effect.Effect<void> =>
        Effect.suspend(() => (textOf(seen).endsWith(text) ? Effect.void : Effect.zipRight(settle, sees(text))))
      child.emit("stdout", "one ")
      yield* sees("one ")
      for (const text of ["two ", "three "]) {
        link.cut()
        link.tellServer()
        child.emit("stdout", text)
        yield* sees(text)
      }
      assert.strictEqual(textOf(seen), "one two three ")
      link.cut()
      link.tellServer()
      for (let i = 0; i < 30; i++) child.emit("stdout", Buffer.alloc(4096))
      child.finish(4)
      const closed: Effect.Effect<void> = Effect.suspend(() =>
        tagsOf(seen).includes("Closed") ? Effect.void : Effect.zipRight(settle, closed)
      )
      yield* closed
      assert.deepStrictEqual(
        seen.filter(({ _tag }) => _tag === "Exited" || _tag === "Gap").map(({ _tag }) => _tag),
        ["Gap", "Exited"]
      )
      assert.strictEqual(tagsOf(seen).filter((tag) => tag === "Attached").length, 1)
    }).pipe(Effect.provide(serverLayer({}, { retainedOutputBytesPerProcess: 65_536 })))
  )
})

describe("over a connection that is lost while it begins", () => {
  it.scopedLive("nothing comes twice", () =>
    Effect.gen(function* () {
      const { connect } = yield* Memory.Connector
      const link = new FaultyLink(connect)
      const client = yield* ExecClient.make(TextChannel.connector(link.open, true))
      yield* client.start(program)
      yield* settle
      const child = yield* (yield* FakeSpawner).child(0)
      link.hold()
      const attaching = yield* Effect.fork(client.sessions.attach({ processId: "p", from: "live" }))
      yield* settle
      link.cut()
      link.tellServer()
      // Message by message: output arrives at each step of what the client does about it.
      let last = 0
      const step = Effect.gen(function* () {
        child.emit("stdout", `${++last}\n`)
        // A line comes to the owner and to the attachment.
        for (let i = 0; i < 4; i++) {
          yield* settle
          link.deliver(1, 1)
        }
        yield* settle
      })
      while ((yield* Fiber.poll(attaching))._tag === "None") yield* step
      const { events } = yield* Fiber.join(attaching)
      const seen: Array<WatchEvent> = []
      yield* Effect.forkScoped(Stream.runForEach(events, (event) => Effect.sync(() => seen.push(event))))
      for (let i = 0; i < 50; i++) yield* step
      link.flow()
      while (!textOf(seen).endsWith(`\n${last}\n`)) yield* settle
      const numbers = textOf(seen).trim().split("\n").map(Number)
      assert.isAbove(numbers.length, 40)
      assert.deepStrictEqual(
        numbers,
        numbers.map((_, i) => (numbers[0] ?? 0) + i)
      )
    }).pipe(Effect.provide(serverLayer()))
  )
})

/** A server with a token for operators and one for viewers, and clients with them. */
const guarded = (listen?: string) =>
  Effect.gen(function* () {
    const folder = yield* directory
    chmodSync(folder, 0o700)
    for (const role of ["operator", "viewer"]) writeFileSync(`${folder}/${role}`, role, { mode: 0o600 })
    const { url } = yield* webSocketServer({
      ...(listen === "unix" ? { listen: `unix://${folder}/socket` } : {}),
      args: ["--console-token-file", `${folder}/operator`, "--console-viewer-token-file", `${folder}/viewer`]
    })
    const owner = yield* ExecClient.connect({ url, name: "build" })
    const as = (token: string) => ExecClient.connect({ url, token })
    const session = (yield* owner.sessions.list)[0]?.session ?? ""
    return { url, owner, as, session }
  })

describe("a process of another session", () => {
  for (const kind of ["ws", "unix"]) {
    it.scopedLive(`is watched by a viewer, over ${kind}`, () =>
      Effect.gen(function* () {
        const { owner, as, session } = yield* guarded(kind)
        const child = yield* owner.start(sh("read line; head -c 3000000 /dev/urandom | od; exit 5"))
        const viewer = yield* as("viewer")
        // Nothing is printed before it watches.
        const watched = Stream.tap(viewer.sessions.watch({ session, processId: "p" }), ({ _tag }) =>
          _tag === "Attached" ? child.write("\n") : Effect.void
        )
        const seen = yield* Effect.fork(collect(Stream.takeUntil(watched, ({ _tag }) => _tag === "Closed")))
        const output = yield* Effect.fork(
          Stream.runFold(child.output, createHash("sha1"), (hash, chunk) => hash.update(chunk))
        )
        const events = yield* Fiber.join(seen)
        yield* Fiber.join(output)
        assert.deepInclude(events[0], { _tag: "Attached", role: "viewer", size: null, truncated: false })
        const exited = events.find(({ _tag }) => _tag === "Exited")
        assert.deepInclude(exited, { exitCode: 5 })
        let last = 0
        for (const event of events) {
          if (event._tag !== "Output" && event._tag !== "Gap") continue
          // Output may follow the exit, which has a number too.
          const next = exited?._tag === "Exited" && exited.seq === last + 1 ? last + 2 : last + 1
          if (event._tag === "Output") assert.strictEqual(event.seq, next)
          last = event.seq
        }
      })
    )
  }

  it.scopedLive("on a terminal begins with the screen", () =>
    Effect.gen(function* () {
      const { owner, as, session } = yield* guarded()
      const size = { rows: 10, cols: 40 }
      const child = yield* owner.start(sh("printf '\\033[2;3Hhere'; read line; printf there", { tty: true, size }))
      yield* Stream.runDrain(Stream.take(child.output, 1))
      const operator = yield* as("operator")
      const { events } = yield* operator.sessions.attach({ session, processId: "p", from: "screen" })
      yield* operator.call("process/write", { session, processId: child.processId, chunk: Buffer.from("x\n") })
      const seen = yield* collect(Stream.takeUntil(events, ({ _tag }) => _tag === "Closed"))
      const copy = new Emulator(size.rows, size.cols, 0)
      for (const event of seen) {
        if (event._tag === "Screen") copy.write(event.screen)
        else if (event._tag === "Output") copy.write(event.chunk)
      }
      const original = new Emulator(size.rows, size.cols, 0)
      original.write(Buffer.from("\u001b[2;3Hherex\r\nthere"))
      assert.deepStrictEqual(stateOf(copy), stateOf(original))
    })
  )

  it.scopedLive("cannot be changed by a viewer, whatever it asks for", () =>
    Effect.gen(function* () {
      const { owner, as, session } = yield* guarded()
      const child = yield* owner.start(sh("cat", { tty: true, sizePolicy: "driver" }))
      const viewer = yield* as("viewer")
      const watch = yield* viewer.sessions.attach({ session, processId: "p" })
      const { processId } = child
      const about = { session, processId }
      const attempts = [
        viewer.call("process/write", { ...about, chunk: Buffer.from("x") }),
        viewer.call("process/resize", { ...about, rows: 5, cols: 5 }),
        viewer.call("process/signal", { ...about, signal: "SIGTERM" }),
        viewer.call("process/terminate", about),
        viewer.call("process/closeStdin", about),
        viewer.call("session/end", { session }),
        viewer.files.readFile("/etc/hostname"),
        viewer.http.request({ method: "GET", url: "http://127.0.0.1:1/" }),
        viewer.start(sh("true")),
        watch.drive({ rows: 5, cols: 5 })
      ]
      for (const attempt of attempts) {
        const error = yield* failureOf(attempt as Effect.Effect<unknown, { readonly message: string }>)
        assert.match(error.message, /\(-32003\): this token may only view/)
      }
      assert.isTrue((yield* owner.call("process/list", {})).processes[0]?.running)
    })
  )

  it.scopedLive("ends with its session, and an unknown one is none", () =>
    Effect.gen(function* () {
      const { owner, as, session } = yield* guarded()
      yield* owner.start(sh("read line"))
      const operator = yield* as("operator")
      const { events } = yield* operator.sessions.attach({ session, processId: "p" })
      yield* operator.sessions.end(session)
      assert.deepInclude((yield* collect(events)).at(-1), { _tag: "Ended", reason: "sessionEnded" })
      const { message } = yield* failureOf(Stream.runDrain(operator.sessions.watch({ session, processId: "p" })))
      assert.include(message, `unknown session id ${session}`)
    })
  )
})
