/** Screens of terminals for those who join later, or have skipped output. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { Emulator } from "../../src/screen/Emulator.js"
import { type HostEvents, ScreenHost } from "../../src/screen/ScreenHost.js"
import type { Request } from "../../src/screen/ScreenMessages.js"
import * as ScreenServing from "../../src/screen/ScreenServing.js"
import { defaults, SessionLimits } from "../../src/session/SessionLimits.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { serverLayer, settle } from "../support/fake.js"
import { stateOf } from "../support/screens.js"
import { connected, memoryClient } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"
import { attach, Viewer } from "../support/viewer.js"

const screen = { from: { type: "screen" } }
const size = { rows: 6, cols: 30 }
const tty = { tty: true, size }

/** A thread of screens within this one, which answers in a later turn of the event loop unless it is held. */
const threads = () => {
  const state = {
    requests: [] as Array<Request["type"]>,
    started: 0,
    ended: 0,
    held: false,
    /** Its answers, if they are to wait. */
    answers: undefined as Array<() => void> | undefined,
    crash: (_reason: string) => {}
  }
  const layer = Layer.succeed(ScreenHost, ({ onReply, onEnd }: HostEvents) => {
    state.started++
    state.crash = onEnd
    const handle = ScreenServing.serve((reply) => {
      if (state.answers === undefined) setImmediate(() => onReply(reply))
      else state.answers.push(() => onReply(reply))
    })
    return {
      post: (request) => {
        state.requests.push(request.type)
        if (!state.held) handle(request)
      },
      end: () => {
        state.ended++
      }
    }
  })
  return { state, layer }
}

/** A client with a terminal. */
const started = (more: object = tty) =>
  Effect.gen(function* () {
    const client = yield* memoryClient
    yield* client.handshake()
    yield* client.start("p", ["program"], more)
    yield* settle
    return { client, child: yield* (yield* FakeSpawner).child(0) }
  })

/** What a terminal of this size shows after these bytes. */
const shown = (answer: Json): unknown => {
  const emulator = new Emulator(answer.size.rows, answer.size.cols, 1000)
  emulator.write(Buffer.from(answer.screen, "base64"))
  return stateOf(emulator)
}

const shownAfter = (...outputs: ReadonlyArray<string>): unknown => {
  const emulator = new Emulator(size.rows, size.cols, 1000)
  for (const output of outputs) emulator.write(Buffer.from(output))
  return stateOf(emulator)
}

describe("a late joiner", () => {
  it.scoped("gets the screen and the title, and the output after it", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started()
      child.emit("pty", "\u001b]2;the title\u0007one\r\n\u001b[31mtwo")
      assert.deepInclude((yield* client.ask("process/list")).processes[0], { title: null, viewers: 0 })
      const viewer = yield* attach(client, "p", screen)
      assert.deepInclude(viewer.answer, { seq: 1, size, title: "the title", truncated: false })
      assert.deepStrictEqual(shown(viewer.answer), shownAfter("\u001b]2;the title\u0007one\r\n\u001b[31mtwo"))
      child.emit("pty", " more")
      viewer.ack(1)
      yield* viewer.sees(" more")
      assert.deepStrictEqual(viewer.kinds, ["output 2"])
      const again = yield* client.ask("attachment/screen", { attachmentId: viewer.id })
      assert.deepStrictEqual([again.seq, again.size, again.truncated], [2, size, false])
      assert.deepStrictEqual(shown(again), shownAfter("\u001b]2;the title\u0007one\r\n\u001b[31mtwo more"))
      assert.deepInclude((yield* client.ask("process/list")).processes[0], { title: "the title", viewers: 1 })
    }).pipe(Effect.provide(serverLayer()), Effect.provide(threads().layer))
  )

  it.scoped("gets the screen at the size that it was written for", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started()
      child.emit("pty", `${"x".repeat(30)}y`)
      yield* client.ask("process/resize", { processId: "p", rows: 7, cols: 40 })
      child.emit("pty", "\r\nnow")
      const { answer } = yield* attach(client, "p", screen)
      const emulator = new Emulator(6, 30, 1000)
      emulator.write(Buffer.from(`${"x".repeat(30)}y`))
      emulator.resize(7, 40)
      emulator.write(Buffer.from("\r\nnow"))
      assert.deepStrictEqual(answer.size, { rows: 7, cols: 40 })
      assert.deepStrictEqual(shown(answer), stateOf(emulator))
    }).pipe(Effect.provide(serverLayer()), Effect.provide(threads().layer))
  )

  it.scoped("is told of a resize while the screen is made", () => {
    const { state, layer } = threads()
    return Effect.gen(function* () {
      const { client, child } = yield* started()
      child.emit("pty", "still")
      state.answers = []
      const asked = client.post("process/attach", { processId: "p", window: 1, ...screen })
      yield* client.ask("process/list")
      yield* client.ask("process/resize", { processId: "p", rows: 7, cols: 40 })
      for (const answer of state.answers) answer()
      const { result } = yield* client.reply(asked)
      assert.deepStrictEqual(result.size, size)
      const viewer = new Viewer(client, result)
      viewer.ack(result.seq)
      yield* viewer.notified("resized", ({ rows, cols }) => rows === 7 && cols === 40)
      assert.deepStrictEqual(viewer.kinds, ["resized 1"])
    }).pipe(Effect.provide(serverLayer()), Effect.provide(layer))
  })

  it.scoped("has as many lines above it as asked for", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started()
      child.emit("pty", Array.from({ length: 100 }, (_, i) => `line ${i}`).join("\r\n"))
      const has = ({ screen }: Json, line: number) =>
        Buffer.from(screen, "base64").toString().includes(`line ${line}\r`)
      const { answer, id } = yield* attach(client, "p", { from: { type: "screen", scrollback: 50 } })
      assert.deepStrictEqual([has(answer, 45), has(answer, 40)], [true, false])
      const ask = (more: object) => client.ask("attachment/screen", { attachmentId: id, ...more })
      assert.isFalse(has(yield* ask({}), 93))
      assert.isTrue(has(yield* ask({ scrollback: 1000 }), 0))
    }).pipe(Effect.provide(serverLayer()), Effect.provide(threads().layer))
  )

  it.scoped("is told that the beginning is lost", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started()
      for (let i = 0; i < 30; i++) child.emit("pty", `line ${i}\r\n`)
      const { answer } = yield* attach(client, "p", screen)
      assert.isTrue(answer.truncated)
      assert.isTrue(Buffer.from(answer.screen, "base64").toString().includes("line 29"))
    }).pipe(Effect.provide(serverLayer({}, { retainedOutputBytesPerProcess: 100 })), Effect.provide(threads().layer))
  )

  it.scoped("misses nothing if the screen was kept from the start", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started({ ...tty, screen: true })
      child.emit("pty", `\u001b[?1049h\u001b[2;2Hfirst${"\u001b[m".repeat(6000)}`)
      yield* settle
      for (let i = 0; i < 20; i++) child.emit("pty", `\u001b[4;4H${i}${"\u001b[m".repeat(100)}`)
      const { answer } = yield* attach(client, "p", screen)
      assert.isFalse(answer.truncated)
      assert.deepStrictEqual(shown(answer), shownAfter("\u001b[?1049h\u001b[2;2Hfirst\u001b[4;4H19"))
    }).pipe(Effect.provide(serverLayer({}, { retainedOutputBytesPerProcess: 20_000 })), Effect.provide(threads().layer))
  )

  it.scoped("shares the screen with those who ask at the same time", () => {
    const { state, layer } = threads()
    return Effect.gen(function* () {
      const { client, child } = yield* started()
      child.emit("pty", "one")
      const ids = [1, 2, 3].map(() => client.post("process/attach", { processId: "p", window: 1, ...screen }))
      for (const id of ids) assert.isUndefined((yield* client.reply(id)).error)
      assert.deepStrictEqual(state.requests, ["open", "feed", "show"])
    }).pipe(Effect.provide(serverLayer()), Effect.provide(layer))
  })
})

/** A viewer whose window is full, of a terminal that has printed more than is retained since. */
const behind = Effect.gen(function* () {
  const { client, child } = yield* started()
  const viewer = yield* attach(client, "p", { window: 16_384 })
  viewer.ack(0)
  yield* settle
  child.emit("pty", "x".repeat(16_384))
  yield* viewer.notified("output")
  for (let i = 0; i < 2000; i++) child.emit("pty", `\r\nline ${i}`)
  return { client, child, viewer }
})

describe("a viewer that falls behind", () => {
  it.scoped("gets the screen instead of what it has skipped, and goes on after it", () =>
    Effect.gen(function* () {
      const { child, viewer } = yield* behind
      viewer.ack(1)
      const params = yield* viewer.notified("screen")
      assert.strictEqual(params.seq, 2001)
      assert.isAbove(params.skippedBytes, 10_000)
      assert.isTrue(Buffer.from(params.screen, "base64").toString().includes("line 1999"))
      child.emit("pty", "after")
      viewer.ack(params.seq)
      yield* viewer.sees("after")
      assert.deepStrictEqual(viewer.kinds, ["output 1", "screen 2001", "output 2002"])
    }).pipe(Effect.provide(serverLayer({}, { retainedOutputBytesPerProcess: 17_000 })), Effect.provide(threads().layer))
  )

  it.scoped("gets the screen before the end", () =>
    Effect.gen(function* () {
      const { client, child, viewer } = yield* behind
      child.finish(0)
      yield* client.closed("p")
      viewer.ack(1)
      yield* viewer.notified("event", ({ type }) => type === "closed")
      assert.deepStrictEqual(viewer.kinds, ["output 1", "screen 2001", "event exited 2002", "event closed 2003"])
    }).pipe(Effect.provide(serverLayer({}, { retainedOutputBytesPerProcess: 17_000 })), Effect.provide(threads().layer))
  )

  it.scoped("goes on with a gap if there can be no screen", () =>
    Effect.gen(function* () {
      const { viewer } = yield* behind
      viewer.ack(1)
      const { screen, seq } = yield* viewer.notified("screen")
      assert.isNull(screen)
      yield* viewer.notified("output", (params) => params.seq > seq)
      viewer.ack(1900)
      yield* viewer.sees("line 1999")
    }).pipe(
      Effect.provide(serverLayer({}, { retainedOutputBytesPerProcess: 17_000 })),
      Effect.provide(Layer.succeed(SessionLimits, { ...defaults, maxScreens: 0 }))
    )
  )
})

describe("the screens of a server", () => {
  it.scoped("are limited, also those that are kept from the start", () =>
    Effect.gen(function* () {
      const { client } = yield* started({ ...tty, screen: true })
      const refused = "the limit maxScreens (1) is reached; do without a screen, or end other attachments"
      const { error } = yield* client.call("process/start", {
        ...{ processId: "q", argv: ["program"], cwd: "/tmp", env: {} },
        ...tty,
        screen: true
      })
      assert.deepStrictEqual(error, { code: -32600, message: refused })
      assert.lengthOf((yield* client.ask("process/list")).processes, 1)
      yield* client.start("q", ["program"], tty)
      const attached = yield* client.call("process/attach", { processId: "q", window: 1, ...screen })
      assert.strictEqual(attached.error.message, refused)
      assert.strictEqual((yield* client.ask("process/list")).processes[1].viewers, 0)
    }).pipe(
      Effect.provide(serverLayer()),
      Effect.provide(Layer.succeed(SessionLimits, { ...defaults, maxScreens: 1 })),
      Effect.provide(threads().layer)
    )
  )

  it.scoped("are kept for a minute after the last viewer; the thread ends with the last of them", () => {
    const { state, layer } = threads()
    return Effect.gen(function* () {
      const { client, child } = yield* started()
      child.emit("pty", "one")
      const detach = (attachmentId: number) => client.ask("attachment/detach", { attachmentId })
      yield* detach((yield* attach(client, "p", screen)).id)
      yield* TestClock.adjust("59 seconds")
      const second = yield* attach(client, "p", screen)
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual([state.started, state.ended], [1, 0])
      yield* detach(second.id)
      yield* TestClock.adjust("61 seconds")
      assert.deepStrictEqual([state.started, state.ended], [1, 1])
      yield* attach(client, "p", screen)
      assert.deepStrictEqual([state.started, state.ended], [2, 1])
    }).pipe(Effect.provide(serverLayer()), Effect.provide(layer))
  })

  it.scoped("are not made of terminals that are too large, and again once those are smaller", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started()
      child.emit("pty", "one")
      const resize = (rows: number, cols: number) => client.ask("process/resize", { processId: "p", rows, cols })
      yield* resize(65_535, 65_535)
      const { error } = yield* client.call("process/attach", { processId: "p", window: 1, ...screen })
      assert.deepStrictEqual(error, {
        code: -32603,
        message: "a terminal of 65535 rows and 65535 columns has no screen: it may have 100000 cells"
      })
      yield* resize(6, 30)
      child.emit("pty", " two")
      assert.deepStrictEqual(shown((yield* attach(client, "p", screen)).answer), shownAfter("one two"))
      const wide = yield* client.call("process/resize", { processId: "p", rows: 1, cols: 65_535 })
      assert.deepStrictEqual(wide.result, {})
      assert.include(shown((yield* attach(client, "p", screen)).answer), { type: "normal" })
    }).pipe(Effect.provide(serverLayer()), Effect.provide(threads().layer))
  )

  it.scoped("fail with the thread, and the next one is made by a new thread", () => {
    const { state, layer } = threads()
    return Effect.gen(function* () {
      const { client, child } = yield* started()
      child.emit("pty", "one")
      const { id } = yield* attach(client, "p", screen)
      state.held = true
      const asked = client.post("attachment/screen", { attachmentId: id })
      yield* settle
      state.crash("out of memory")
      assert.deepStrictEqual((yield* client.reply(asked)).error, {
        code: -32603,
        message: "the screen could not be made: its thread has ended: out of memory"
      })
      state.held = false
      assert.deepStrictEqual(shown(yield* client.ask("attachment/screen", { attachmentId: id })), shownAfter("one"))
      assert.strictEqual(state.started, 2)
    }).pipe(Effect.provide(serverLayer()), Effect.provide(layer))
  })

  it.scoped("that are not answered in time fail", () => {
    const { state, layer } = threads()
    return Effect.gen(function* () {
      const { client } = yield* started()
      state.held = true
      const asked = client.post("process/attach", { processId: "p", window: 1, ...screen })
      yield* settle
      yield* TestClock.adjust("31 seconds")
      assert.strictEqual((yield* client.reply(asked)).error.code, -32603)
      assert.strictEqual((yield* client.ask("process/list")).processes[0].viewers, 0)
    }).pipe(Effect.provide(serverLayer()), Effect.provide(layer))
  })

  it.scoped("are given up if their output keeps the thread busy, and those of others are made by the next one", () => {
    let ended = 0
    const layer = Layer.succeed(ScreenHost, ({ onReply }: HostEvents) => {
      const handle = ScreenServing.serve((reply) => setImmediate(() => onReply(reply)))
      let isBusy = false
      return {
        post: (request) => {
          const items = request.type === "feed" ? request.items : []
          isBusy ||= items.some((item) => !("rows" in item) && Buffer.from(item).includes("bomb"))
          if (!isBusy) handle(request)
        },
        end: () => {
          ended++
        }
      }
    })
    return Effect.gen(function* () {
      const { client, child } = yield* started()
      child.emit("pty", "shown")
      const victim = yield* attach(client, "p", screen)
      yield* client.start("bomb", ["program"], tty)
      yield* settle
      const bomb = yield* (yield* FakeSpawner).child(1)
      bomb.emit("pty", "bomb")
      const first = client.post("process/attach", { processId: "bomb", window: 1, ...screen })
      yield* settle
      const asked = client.post("attachment/screen", { attachmentId: victim.id })
      yield* settle
      yield* TestClock.adjust("11 seconds")
      assert.strictEqual((yield* client.reply(first)).error.code, -32603)
      assert.deepStrictEqual(shown((yield* client.reply(asked)).result), shownAfter("shown"))
      assert.strictEqual(ended, 1)
      // One that watches it anyway keeps nobody busy again.
      const viewer = yield* attach(client, "bomb")
      const again = client.post("attachment/screen", { attachmentId: viewer.id })
      yield* settle
      assert.deepStrictEqual((yield* client.reply(again)).error.code, -32603)
      assert.strictEqual(ended, 1)
    }).pipe(Effect.provide(serverLayer()), Effect.provide(layer))
  })

  it.scopedLive("are made by a thread of their own", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      yield* client.sh("p", "printf 'hello\\033[?25l'; sleep 1000", tty)
      yield* client.sees("p", "hello", "pty")
      const viewer = yield* attach(client, "p", screen)
      assert.deepStrictEqual(shown(viewer.answer), shownAfter("hello\u001b[?25l"))
    })
  )
})
