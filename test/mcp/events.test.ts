/** Events of commands: what a program that shows a model's work is told. */
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Environment from "../../src/environment/Environment.js"
import { EventFeed } from "../../src/mcp/EventFeed.js"
import { ExecEvent } from "../../src/mcp/ExecEvent.js"
import * as UnifiedExec from "../../src/mcp/UnifiedExec.js"
import { settle } from "../support/fake.js"

/** The commands of this machine; the events so far, and a wait for one of them. */
const watched = Effect.gen(function* () {
  const machine = yield* Environment.local("local")
  const exec = yield* UnifiedExec.make()
  const events: Array<ExecEvent> = []
  const waiters = new Set<() => void>()
  yield* Effect.forkScoped(
    Stream.runForEach(exec.events, (event) =>
      Effect.sync(() => {
        events.push(event)
        for (const waiter of Array.from(waiters)) waiter()
      })
    )
  )
  yield* settle
  const told = (sessionId: number, tag: ExecEvent["_tag"]) =>
    Effect.async<void>((resume) => {
      const waiter = () => {
        if (!events.some((event) => event._tag === tag && "sessionId" in event && event.sessionId === sessionId)) return
        waiters.delete(waiter)
        resume(Effect.void)
      }
      waiters.add(waiter)
      waiter()
    })
  const of = (id: number) => events.filter((event) => "sessionId" in event && event.sessionId === id)
  return { exec, machine, told, of }
})

const outputOf = (events: ReadonlyArray<ExecEvent>) =>
  Buffer.concat(events.flatMap((event) => (event._tag === "ExecCommandOutputDelta" ? [event.chunk] : []))).toString()

describe("the events of a command", () => {
  it.scopedLive("begin, output, input and end, with the ids of both sides", () =>
    Effect.gen(function* () {
      const { exec, machine, told, of } = yield* watched
      const cmd = "echo name?; read name; echo hello $name; exit 3"
      const started = yield* exec.execCommand(machine, { cmd, workdir: "/tmp", callId: "call_7", yieldTimeMs: 0 })
      yield* exec.writeStdin(started.sessionId, { chars: "Ann\n" })
      yield* told(started.sessionId, "ExecCommandEnd")
      const events = of(started.sessionId)
      const [begin] = events
      const end = events.at(-1)
      if (begin?._tag !== "ExecCommandBegin" || end?._tag !== "ExecCommandEnd") return assert.fail("no begin or end")
      assert.deepInclude(begin, { cmd, workdir: "/tmp", environment: "local", tty: false, callId: "call_7" })
      assert.isAtMost(Math.abs(Date.now() - begin.startedAtMs), 60_000)
      assert.strictEqual(outputOf(events), "name?\nhello Ann\n")
      assert.deepInclude(end, { exitCode: 3, signal: null, timedOut: false, holdsOutput: false, lost: null })
      assert.isAtLeast(end.durationMs, 0)
      assert.deepStrictEqual(end.output, {
        head: "name?\nhello Ann",
        tail: "",
        omittedLines: 0,
        omittedBytes: 0,
        lines: 2,
        bytes: 16
      })
      const typed = events.filter(({ _tag }) => _tag === "TerminalInteraction")
      const { sessionId } = started
      const nothing = { omittedChars: 0, keys: [], closesStdin: false }
      assert.deepStrictEqual(typed, [
        { _tag: "TerminalInteraction", sessionId, callId: "call_7", stdin: "Ann\n", ...nothing }
      ])
      // As JSON and back.
      const wire = JSON.stringify(Schema.encodeSync(Schema.Array(ExecEvent))(events))
      const again = Schema.decodeUnknownEither(Schema.Array(ExecEvent))(JSON.parse(wire))
      assert.deepStrictEqual(
        Either.map(again, (each) => outputOf(each)),
        Either.right(outputOf(events))
      )
    })
  )

  it.scopedLive("of a terminal, a kill and a time limit; nothing is told of what was not written", () =>
    Effect.gen(function* () {
      const { exec, machine, told, of } = yield* watched
      const tty = yield* exec.execCommand(machine, { cmd: "cat", tty: true, yieldTimeMs: 0 })
      yield* exec.writeStdin(tty.sessionId, { keys: ["ctrl-c"] })
      const late = yield* exec.execCommand(machine, { cmd: "sleep 60", timeoutMs: 1 })
      yield* exec.writeStdin(late.sessionId, { chars: "too late" })
      for (const { sessionId } of [tty, late]) yield* told(sessionId, "ExecCommandEnd")
      assert.deepInclude(of(tty.sessionId).at(-1), { signal: "SIGINT", exitCode: 130, callId: null })
      assert.isTrue(of(tty.sessionId).some((event) => event._tag === "TerminalInteraction" && event.keys.length === 1))
      assert.deepInclude(of(late.sessionId).at(-1), { timedOut: true })
      assert.isFalse(of(late.sessionId).some(({ _tag }) => _tag === "TerminalInteraction"))
    })
  )

  it.scopedLive("end with the scope, which ends the commands", () =>
    Effect.gen(function* () {
      const machine = yield* Environment.local("local")
      const scope = yield* Scope.make()
      const exec = yield* Scope.extend(UnifiedExec.make(), scope)
      const all = yield* Effect.fork(Stream.runCollect(exec.events))
      yield* settle
      yield* exec.execCommand(machine, { cmd: "sleep 60", yieldTimeMs: 0 })
      yield* Scope.close(scope, Exit.void)
      const tags = Chunk.toReadonlyArray(yield* Fiber.join(all)).map(({ _tag }) => _tag)
      assert.deepStrictEqual(tags, ["ExecCommandBegin", "ExecCommandEnd"])
      assert.isTrue(Chunk.isEmpty(yield* Stream.runCollect(exec.events)))
    })
  )

  it.scopedLive("a reader that does not read delays no command, and misses output", () =>
    Effect.gen(function* () {
      const { exec, machine } = yield* watched
      const scope = yield* Scope.make()
      const idle = yield* Scope.extend(Stream.toPull(exec.events), scope)
      // The first pull makes it a reader.
      const first = yield* Effect.fork(idle)
      yield* settle
      const { state } = yield* exec.execCommand(machine, { cmd: "head -c 5000000 /dev/zero | tr '\\0' x" })
      assert.strictEqual(state._tag, "Ended")
      yield* Fiber.join(first)
      yield* Scope.close(scope, Exit.void)
    })
  )
})

describe("the buffer of a reader", () => {
  const about = { sessionId: 1, callId: null }
  const interaction = (stdin: string) => () =>
    ({
      _tag: "TerminalInteraction",
      ...about,
      stdin,
      omittedChars: 0,
      keys: [],
      closesStdin: false
    }) as const

  /** Tells of things in one turn, before the reader runs; returns what it reads. */
  const readAfter = (tell: (feed: EventFeed) => void) =>
    Effect.gen(function* () {
      const feed = new EventFeed()
      const events = yield* Effect.fork(Stream.runCollect(feed.events))
      yield* settle
      tell(feed)
      feed.end()
      return Chunk.toReadonlyArray(yield* Fiber.join(events))
    })

  it.effect("merges output of one command, in pieces of at most 64 KiB, and keeps the order of all else", () =>
    Effect.gen(function* () {
      const events = yield* readAfter((feed) => {
        for (let i = 0; i < 100_000; i++) feed.print(about, Buffer.from(i % 2 === 0 ? "a" : "b"))
        feed.tell(interaction("x"))
        feed.print(about, Buffer.from("c"))
        feed.print({ ...about, sessionId: 2 }, Buffer.from("d"))
      })
      assert.deepStrictEqual(
        events.map((event) => (event._tag === "ExecCommandOutputDelta" ? event.chunk.length : event._tag)),
        [65536, 100_000 - 65536, "TerminalInteraction", 1, 1]
      )
      assert.strictEqual(outputOf(events.slice(0, 2)), "ab".repeat(50_000))
    })
  )

  it.effect("keeps 1 MiB, and says with the next output how much is missing before it", () =>
    Effect.gen(function* () {
      const piece = Buffer.alloc(65536, "x")
      const events = yield* readAfter((feed) => {
        for (let i = 0; i < 20; i++) feed.print(about, piece)
        feed.tell(() => ({
          _tag: "ExecCommandEnd",
          ...about,
          exitCode: 0,
          signal: null,
          timedOut: false,
          holdsOutput: false,
          lost: null,
          durationMs: 1,
          output: { head: "", tail: "", omittedLines: 0, omittedBytes: 0, lines: 0, bytes: 0 }
        }))
      })
      assert.strictEqual(outputOf(events).length, 16 * piece.length)
      const [missed, end] = events.slice(-2)
      assert.deepInclude(missed, { _tag: "ExecCommandOutputDelta", missedBytes: 4 * piece.length })
      assert.strictEqual(end?._tag, "ExecCommandEnd")
    })
  )

  it.effect("keeps 4096 events, the newest, and says how many are missing", () =>
    Effect.gen(function* () {
      const events = yield* readAfter((feed) => {
        feed.print(about, Buffer.from("out"))
        for (let i = 0; i < 5000; i++) feed.tell(interaction(String(i)))
      })
      assert.deepStrictEqual(events[0], { _tag: "EventsMissed", events: 5001 - 4096, bytes: 3 })
      assert.strictEqual(events.length, 4097)
      assert.deepInclude(events.at(-1), { stdin: "4999" })
    })
  )

  it.effect("makes no event if nobody reads", () =>
    Effect.sync(() => {
      new EventFeed().tell(() => assert.fail("it was made"))
    })
  )
})
