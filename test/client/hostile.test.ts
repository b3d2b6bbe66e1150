/** The client library, and servers that keep to nothing. */
import { assert, describe, it } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { ClientError } from "../../src/client/ClientError.js"
import { EventLog } from "../../src/client/EventLog.js"
import * as ExecClient from "../../src/client/ExecClient.js"
import { ProcessId } from "../../src/protocol/Ids.js"
import * as Wire from "../../src/protocol/Wire.js"
import { failureOf } from "../support/fake.js"
import { type Answers, type Asked, hello, hostileServer, listed, sessionId } from "../support/hostile.js"

const inTime = Effect.timeoutFail({ duration: "20 seconds", onTimeout: () => new Error("it takes too long") })

/** What becomes of a call to a server with these answers. */
const failing = <A, E>(answers: Answers, use: (client: ExecClient.Shape) => Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const url = yield* hostileServer(answers)
    return yield* inTime(failureOf(Effect.scoped(Effect.flatMap(ExecClient.connect({ url }), use))))
  })

/** Attaches to a process, and takes its events to the end. */
const attachedUntilEnd = (client: ExecClient.Shape) =>
  Effect.flatMap(client.attach("p"), ({ events }) => Stream.runDrain(events))

const read = {
  chunks: [],
  nextSeq: 1,
  exited: false,
  exitCode: null,
  closed: false,
  failure: null
}

describe("numbers of events", () => {
  const numbers = [-1, 0.5, 2 ** 53 - 1, 2 ** 53, 2 ** 63, 1e300, "1", null]
  for (const nextSeq of numbers) {
    it.scopedLive(`nextSeq ${nextSeq} of what is attached to ends the connection`, () =>
      Effect.gen(function* () {
        const answers = {
          "process/list": () => ({ processes: [listed] }),
          "process/read": () => ({ ...read, nextSeq })
        }
        const error = yield* failing(answers, (client) => client.attach("p"))
        assert.strictEqual(error._tag, "ProtocolViolation")
        assert.match(error.message, /process\/read is not one: .*nextSeq/)
      })
    )
  }

  it.scopedLive("a number that no process comes to in a session fails the process", () =>
    Effect.gen(function* () {
      for (const nextSeq of [2 ** 53 - 2, 1e9, 200_000]) {
        const answers = {
          "process/list": () => ({ processes: [listed] }),
          "process/read": () => ({ ...read, nextSeq })
        }
        const error = yield* failing(answers, (client) => client.attach("p"))
        assert.strictEqual(error._tag, "EventsLost")
      }
    })
  )

  it("a log recovers from as many restarts as may have been, and not from more", () => {
    const result = (nextSeq: number) => ({
      ...read,
      chunks: [],
      nextSeq,
      signal: null,
      sandboxDenied: false,
      truncated: false,
      droppedBytes: 0
    })
    assert.isTrue(new EventLog(() => {}, true).recover(result(5000)))
    assert.isFalse(new EventLog(() => {}, true).recover(result(Number.MAX_SAFE_INTEGER - 1)))
  })

  it.scopedLive("output that never ends of a process that has: the reading ends", () =>
    Effect.gen(function* () {
      let seq = 0
      const answers: Answers = {
        // As a server of codex says hello.
        initialize: () => ({ sessionId }),
        "environment/info": () => ({ shell: { name: "sh", path: "/bin/sh" } }),
        "process/read": () => ({
          ...read,
          chunks: [{ seq: ++seq, stream: "stdout", chunk: "AAAA" }],
          nextSeq: seq + 1,
          exited: true,
          exitCode: 0
        })
      }
      const error = yield* failing(answers, (client) => client.attach("p"))
      assert.strictEqual(error._tag, "ProtocolViolation")
    })
  )
})

describe("a process that cannot be", () => {
  const chunk = (seq: number) => ({ seq, stream: "stdout", chunk: "AAAA" })
  const answers: ReadonlyArray<readonly [what: string, read: object, why: string]> = [
    ["closed without an event", { exited: true, exitCode: 0, closed: true }, "it has ended, and is said to have no"],
    ["ended without an event", { exited: true, exitCode: 0 }, "it has ended, and is said to have no event"],
    ["output of later than now", { chunks: [chunk(5)] }, "it has output 5, and the next event is said to be 1"]
  ]
  /** Both kinds of servers: ours, and those of codex. */
  const hellos: ReadonlyArray<Answers> = [
    { "process/list": () => ({ processes: [listed] }) },
    {
      initialize: () => ({ sessionId }),
      "environment/info": () => ({ shell: { name: "sh", path: "/bin/sh" } })
    }
  ]
  for (const [what, more, why] of answers) {
    it.scopedLive(`${what} is not waited for`, () =>
      Effect.forEach(hellos, (hello) =>
        Effect.gen(function* () {
          const error = yield* failing({ ...hello, "process/read": () => ({ ...read, ...more }) }, attachedUntilEnd)
          assert.strictEqual(error._tag, "ProtocolViolation")
          assert.include(error.message, why)
        })
      )
    )
  }

  it.scopedLive("an event was sent, and reading never comes to it: the process fails", () =>
    Effect.gen(function* () {
      let reads = 0
      const answers: Answers = {
        "process/list": () => ({ processes: [listed] }),
        "process/read": ({ id, say }) => {
          say({ id, result: read })
          if (++reads === 1) say({ method: "process/output", params: { processId: "p", ...chunk(5) } })
        }
      }
      const error = yield* failing(answers, attachedUntilEnd)
      assert.strictEqual(error._tag, "ProtocolViolation")
      assert.include(error.message, "its event 5 was heard, and the next one is said to be 1")
      assert.strictEqual(reads, 2)
    })
  )

  it.scopedLive("its numbers go back: the process fails", () =>
    Effect.gen(function* () {
      let reads = 0
      const answers: Answers = {
        "process/list": () => ({ processes: [listed] }),
        "process/read": ({ id, say }) => {
          reads++
          say({ id, result: { ...read, ...(reads === 1 ? { chunks: [chunk(1)], nextSeq: 2 } : {}) } })
          if (reads === 1) say({ method: "process/output", params: { processId: "p", ...chunk(3) } })
        }
      }
      const error = yield* failing(answers, attachedUntilEnd)
      assert.include(error.message, "its event 1 was heard, and the next one is said to be 1")
    })
  )

  it.scopedLive("it is closed by an event that was another one", () =>
    Effect.gen(function* () {
      let reads = 0
      const answers: Answers = {
        "process/list": () => ({ processes: [listed] }),
        "process/read": ({ id, say }) => {
          reads++
          const ended = { exited: true, exitCode: 0, closed: true, nextSeq: 3 }
          say({ id, result: { ...read, ...(reads === 1 ? { chunks: [chunk(1), chunk(2)], nextSeq: 3 } : ended) } })
          if (reads === 1) say({ method: "process/output", params: { processId: "p", ...chunk(4) } })
        }
      }
      const error = yield* failing(answers, attachedUntilEnd)
      assert.include(error.message, "it is closed, and the event of that is said to be 2")
    })
  )
})

describe("messages that no server may send", () => {
  const instead: ReadonlyArray<readonly [what: string, say: (asked: Asked) => void]> = [
    ["no JSON", ({ say }) => say("{")],
    ["nothing", ({ say }) => say("")],
    ["a number", ({ say }) => say("1")],
    ["nesting", ({ say }) => say("[".repeat(1_000_000))],
    ["an answer that was not asked for", ({ say, id }) => say({ id: id + 1, result: {} })],
    ["an answer with a text as its id", ({ say, id }) => say({ id: String(id), result: {} })],
    ["an answer with a negative id", ({ say, id }) => say({ id: -id, result: {} })],
    [
      "the same answer twice",
      ({ say, id }) => {
        say({ id, result: { processes: [] } })
        say({ id, result: { processes: [] } })
      }
    ],
    ["a request", ({ say }) => say({ id: 1, method: "initialize", params: {} })],
    ["a result of another type", ({ say, id }) => say({ id, result: { processes: "none" } })],
    ["a result with wrong members", ({ say, id }) => say({ id, result: { processes: [{}] } })],
    ["no result", ({ say, id }) => say({ id, result: null })],
    ["an exit that is none", ({ say }) => say({ method: "process/exited", params: { processId: 1, seq: -1 } })],
    [
      "output that is no base64",
      ({ say }) => say({ method: "process/output", params: { processId: "p", seq: 1, stream: "stdout", chunk: "!" } })
    ],
    ["a binary message", ({ ws }) => ws.send(Buffer.from([9, 9, 9]))],
    ["text that is not UTF-8", ({ ws }) => ws.send(Buffer.from([0x22, 0xff, 0x22]), { binary: false })],
    ["millions of values", ({ say }) => say(`{"id":1,"result":[${"[],".repeat(Wire.maxValues / 2 + 1)}1]}`)]
  ]
  for (const [what, say] of instead) {
    it.scopedLive(`${what}: the connection is ended with a typed error`, () =>
      Effect.gen(function* () {
        const answers: Answers = { "process/list": (asked) => void say(asked) }
        const error = yield* failing(answers, (client) =>
          Effect.zipRight(client.call("process/list", {}), Effect.flatMap(client.ended, Effect.fail))
        )
        assert.strictEqual(error._tag, "ProtocolViolation", error.message)
      })
    )
  }

  it.scopedLive("a message longer than the client reads ends the connection", () =>
    Effect.gen(function* () {
      const url = yield* hostileServer({ "process/list": ({ say }) => say(`"${"x".repeat(100_000)}"`) })
      const client = yield* ExecClient.connect({ url, maxMessageBytes: 65536 })
      const error = yield* inTime(failureOf(client.call("process/list", {})))
      assert.strictEqual(error._tag, "ProtocolViolation")
    })
  )

  it.scopedLive("the connection ends in the middle of a request", () =>
    Effect.gen(function* () {
      const url = yield* hostileServer({ "process/start": ({ ws }) => ws.terminate() })
      const client = yield* ExecClient.connect({ url, recoverFor: 0 })
      const error = yield* inTime(failureOf(client.start({ argv: ["x"], cwd: "/" })))
      assert.strictEqual(error._tag, "TransportClosed")
    })
  )

  it.scopedLive("a server that never says hello is given up", () =>
    Effect.gen(function* () {
      const url = yield* hostileServer({ initialize: () => undefined })
      const error = yield* failureOf(Effect.scoped(ExecClient.connect({ url, initializeTimeout: 50 })))
      assert.strictEqual(error._tag, "InitializeTimeout")
    })
  )

  it.scopedLive("300,000 processes, and notifications for processes that nobody has, are taken", () =>
    Effect.gen(function* () {
      const processes = Array.from({ length: 300_000 }, (_, i) => ({ ...listed, processId: `p${i}` }))
      const url = yield* hostileServer({
        "process/list": ({ say }) => {
          for (const params of [
            { processId: "x", seq: 5 },
            { processId: "", seq: 1 }
          ]) {
            say({ method: "process/closed", params })
            say({ method: "made/up", params })
          }
          return { processes }
        }
      })
      const client = yield* ExecClient.connect({ url })
      const { processes: got } = yield* inTime(client.call("process/list", {}))
      assert.lengthOf(got, processes.length)
    })
  )

  it.scopedLive("names of files that are no names end in a typed error, from servers that list and that walk", () =>
    Effect.gen(function* () {
      for (const fileName of ["..", ".", "", "a/b", "/etc/passwd", "a\0b"]) {
        const answers: Answers = {
          initialize: () => ({ sessionId }),
          "environment/info": () => ({ shell: { name: "sh", path: "/bin/sh" } }),
          "fs/getMetadata": () => ({
            isDirectory: true,
            isFile: false,
            isSymlink: false,
            createdAtMs: 0,
            modifiedAtMs: 0
          }),
          "fs/readDirectory": () => ({ entries: [{ fileName, isDirectory: false, isFile: true }] })
        }
        for (const use of [
          ({ files }: ExecClient.Shape) => Effect.asVoid(files.walk("/srv")),
          ({ files }: ExecClient.Shape) => Effect.asVoid(files.readDirectory("/srv"))
        ]) {
          const error = yield* failing(answers, use)
          assert.strictEqual(error._tag, "ProtocolViolation", JSON.stringify(fileName))
        }
      }
      const walked = yield* failing(
        {
          "fs/walk": () => ({ entries: [{ path: "/etc/passwd", kind: "file" }], errors: [], truncated: false })
        },
        ({ files }) => files.walk("/srv")
      )
      assert.strictEqual(walked._tag, "ProtocolViolation")
      const blocks = yield* failing(
        {
          "fs/open": ({ params }) => ({ handleId: params.handleId }),
          "fs/readBlock": () => ({ chunk: "", eof: false }),
          "fs/close": () => ({})
        },
        ({ files }) => Stream.runDrain(files.read("/srv/x"))
      )
      assert.strictEqual(blocks._tag, "ProtocolViolation")
    })
  )
})

describe("a server that hangs up", () => {
  for (const answers of [0, 1]) {
    it.scopedLive(`after its hello${answers === 0 ? "" : " and an answer"} is not connected to without pause`, () =>
      Effect.gen(function* () {
        let hellos = 0
        const url = yield* hostileServer({
          initialize: ({ ws }) => {
            hellos++
            setTimeout(() => ws.terminate(), 20)
            return hello
          },
          "environment/status": () => (answers === 0 ? undefined : { status: "ready" })
        })
        const client = yield* ExecClient.connect({ url, recoverFor: "3 seconds" })
        const asking = Effect.forever(Effect.zipRight(client.call("environment/status", {}), Effect.sleep(10)))
        const started = Date.now()
        const error = yield* Effect.timeoutOption(failureOf(asking), "6 seconds")
        assert.isBelow(hellos, answers === 0 ? 15 : 100)
        // What is of no use is given up like what cannot be reached; what is, is not.
        if (answers === 1) return assert.isTrue(Option.isNone(error))
        assert.strictEqual(Option.getOrUndefined(error)?._tag, "SessionLost")
        assert.isAbove(Date.now() - started, 2500)
      })
    )
  }
})

describe("a server that does not answer", () => {
  const connected = (answerTimeout: Duration.DurationInput, answers: Answers = {}) =>
    Effect.flatMap(hostileServer(answers), (url) => ExecClient.connect({ url, answerTimeout }))

  it.scopedLive("is not waited for longer than the client says", () =>
    Effect.gen(function* () {
      const client = yield* connected("200 millis")
      const processId = ProcessId.make("p")
      const calls: ReadonlyArray<readonly [string, Effect.Effect<unknown, ClientError>]> = [
        ["process/list", client.call("process/list", {})],
        ["process/start", client.start({ argv: ["true"], cwd: "/" })],
        ["process/read", client.call("process/read", { processId })],
        ["process/terminate", client.call("process/terminate", { processId })],
        ["process/signal", client.call("process/signal", { processId, signal: "SIGTERM" })],
        ["fs/getMetadata", client.files.getMetadata("/")],
        ["fs/readDirectory", client.files.readDirectory("/")]
      ]
      for (const [method, call] of calls) {
        const error = yield* inTime(failureOf(call))
        assert.deepInclude(error, { _tag: "AnswerTimeout", method, afterMs: 200 })
        assert.strictEqual(error.message, `exec-server did not answer ${method} within 200 ms`)
      }
      // What may be much work has more time.
      const walking = client.call("fs/walk", {
        path: { bytes: Buffer.from("/"), form: "plain" },
        options: {
          maxDepth: 1,
          maxDirectories: 1,
          maxEntries: 1,
          followDirectorySymlinks: false,
          pruneHiddenDirectories: false
        }
      } as never)
      assert.deepInclude(yield* inTime(failureOf(walking)), { _tag: "AnswerTimeout", afterMs: 2000 })
    })
  )

  it.scopedLive("is waited for where a request waits, behind a long one, and while nothing is read", () =>
    Effect.gen(function* () {
      let asked: Asked | undefined
      const client = yield* connected("200 millis", {
        "process/list": (request) => {
          asked = request
          return undefined
        }
      })
      const processId = ProcessId.make("p")
      const waiting = [
        client.call("process/read", { processId, waitMs: 60_000 }),
        client.call("process/write", { processId, chunk: Buffer.from("x") }),
        client.files.copy("/a", "/b"),
        client.files.getMetadata("/")
      ]
      const fibers = yield* Effect.forEach(waiting, (call) => Effect.fork(call))
      yield* Effect.sleep(1000)
      for (const fiber of fibers) assert.isTrue(Option.isNone(yield* Fiber.poll(fiber)))
      const list = yield* Effect.scoped(
        Effect.gen(function* () {
          yield* client.hold
          const list = yield* Effect.fork(client.call("process/list", {}))
          yield* Effect.sleep(1000)
          assert.isTrue(Option.isNone(yield* Fiber.poll(list)))
          return list
        })
      )
      asked?.say({ id: asked.id, result: { processes: [] } })
      assert.deepStrictEqual(yield* Fiber.join(list), { processes: [] })
      yield* Fiber.interruptAll(fibers)
    })
  )
})
