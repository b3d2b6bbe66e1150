/**
 * Sessions whose connections are cut at random moments, in a world without chance: the same seed gives the same run, to
 * the message. `SEED=n npx vitest run test/client/simulation` plays one again.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as ExecClient from "../../src/client/ExecClient.js"
import type { ProcessEvent } from "../../src/client/ProcessEvent.js"
import type { RemoteProcess } from "../../src/client/RemoteProcess.js"
import * as TextChannel from "../../src/client/TextChannel.js"
import { ExitStatus } from "../../src/spawn/Child.js"
import { type FakeChild, FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { FaultyLink } from "../../src/testing/FaultyLink.js"
import { Connector } from "../../src/transport/Memory.js"
import { serverLayer, settle } from "../support/fake.js"

const sessions = 50
const cutsEach = 20
const processesEach = 2

/** How far time goes with each step, in milliseconds: between two attempts to connect there are several steps. */
const stepMs = 25

/** Steps after which a run that has not come to its end never will. */
const maxSteps = 5000

const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31))

/** Mulberry32: numbers from 0 to 1. */
const randomFrom = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Time that goes on when it is told to, and at once: TestClock looks at every fiber first. */
const makeClock = () => {
  let now = 0
  const sleepers = new Set<{ readonly until: number; readonly wake: () => void }>()
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: () => now,
    unsafeCurrentTimeNanos: () => BigInt(now) * 1_000_000n,
    currentTimeMillis: Effect.sync(() => now),
    currentTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
    sleep: (duration) =>
      Effect.async<void>((resume) => {
        const sleeper = { until: now + Duration.toMillis(duration), wake: () => resume(Effect.void) }
        sleepers.add(sleeper)
        return Effect.sync(() => sleepers.delete(sleeper))
      })
  }
  const advance = (ms: number) => {
    now += ms
    for (const sleeper of Array.from(sleepers)) if (sleeper.until <= now && sleepers.delete(sleeper)) sleeper.wake()
  }
  return { clock, advance }
}

/** One process, seen from both ends. */
interface Pair {
  readonly process: RemoteProcess
  readonly child: FakeChild
  readonly code: number
  readonly takesInput: boolean
  readonly events: Array<ProcessEvent>
  readonly reader: Fiber.RuntimeFiber<void, unknown>
  emitted: string
  written: string
  readonly writers: Array<Fiber.RuntimeFiber<void, unknown>>
  exited: boolean
  ended: boolean
}

/** A client, its broken line to the server, and all that happens on it; `step` does the next thing. */
const makeSession = (index: number, cutsEach: number, random: () => number) =>
  Effect.gen(function* () {
    const { connect } = yield* Connector
    const fake = yield* FakeSpawner
    const link = new FaultyLink(connect)
    const client = yield* ExecClient.make(TextChannel.connector(link.open, true))
    const pairs = yield* Effect.forEach(Array.from({ length: processesEach }), (_, i) =>
      Effect.gen(function* () {
        const name = `${index}-${i}`
        const process = yield* client.start({ processId: name, argv: [name], cwd: "/", pipeStdin: true })
        const child = fake.children.find(({ spec }) => spec.argv[0] === name)
        if (child === undefined) return yield* Effect.dieMessage("the child is missing")
        const events: Array<ProcessEvent> = []
        const reader = yield* Effect.forkScoped(
          Stream.runForEach(process.events, (event) => Effect.sync(() => events.push(event)))
        )
        const code = Math.floor(random() * 256)
        const pair: Pair = {
          process,
          child,
          code,
          takesInput: i % 2 === 0,
          events,
          reader,
          emitted: "",
          written: "",
          writers: [],
          exited: false,
          ended: false
        }
        return pair
      })
    )
    link.hold()
    let cuts = 0
    let n = 0

    const chance = (p: number) => random() < p
    const some = () => Math.floor(random() * 6)

    const isOver = () => cuts === cutsEach && pairs.every(({ ended, exited }) => ended && exited)

    const act = (pair: Pair) =>
      Effect.gen(function* () {
        const finishing = cuts >= cutsEach - 2
        if (!pair.ended && chance(0.5)) {
          const text = `${n++} `.repeat(1 + some())
          pair.emitted += text
          pair.child.emit(chance(0.2) ? "stderr" : "stdout", text)
        }
        // Every other process gets no input, so that it may also end while nobody hears it.
        if (pair.takesInput && !pair.exited && chance(0.2)) {
          const text = `in${n++} `
          pair.written += text
          pair.writers.push(yield* Effect.forkScoped(pair.process.write(text)))
        }
        // Late, so that the cuts find processes that run; with its writes behind it, or some would be refused.
        const written = pair.writers.every((fiber) => fiber.unsafePoll() !== null)
        if (!pair.exited && finishing && written && chance(0.3)) {
          pair.exited = true
          pair.child.exit(ExitStatus.Exited({ code: pair.code }))
        }
        if (pair.exited && !pair.ended && chance(0.3)) {
          pair.ended = true
          pair.child.endOutput()
        }
      })

    const step = Effect.gen(function* () {
      yield* Effect.forEach(pairs, act, { discard: true })
      if (chance(0.7)) link.deliver(some(), some())
      if (chance(0.3)) link.tellServer()
      if (cuts < cutsEach && link.isOpen && chance(0.2)) {
        cuts++
        link.cut()
        if (chance(0.5)) link.tellServer()
      }
      if (isOver()) {
        link.tellServer()
        link.flow()
      }
    })

    /** All that must hold when everything has arrived; the texts name what does not. */
    const verify = (): ReadonlyArray<string> =>
      pairs.flatMap(({ process, child, code, events, emitted, written, writers }) => {
        const faults: Array<string> = []
        const fault = (what: string) => faults.push(`process ${process.processId}: ${what}`)
        events.forEach((event, i) => {
          if (event._tag === "Missed") fault(`missed ${event.events} events`)
          else if (event.seq !== i + 1) fault(`event ${i + 1} has the number ${event.seq}`)
        })
        const output = events.map((event) => (event._tag === "Output" ? event.chunk.toString() : "")).join("")
        if (output !== emitted) fault(`emitted ${emitted.length} characters, got ${output.length}`)
        const exits = events.flatMap((event) => (event._tag === "Exited" ? [event.exitCode] : []))
        if (exits.length !== 1 || exits[0] !== code) fault(`exited with ${code}, got ${exits}`)
        if (events[events.length - 1]?._tag !== "Closed") fault("the last event is not its close")
        if (child.written !== written) fault(`wrote ${written.length} characters, got ${child.written.length}`)
        for (const writer of writers) {
          const exit = writer.unsafePoll()
          if (exit === null || Exit.isFailure(exit)) fault(`a write failed: ${exit}`)
        }
        return faults
      })

    const isDone = () => isOver() && pairs.every(({ reader }) => reader.unsafePoll() !== null)
    const trace = () => pairs.map(({ events, written }) => `${events.length} ${written}`).join("; ")
    return { step, isDone, verify, trace, cuts: () => cuts, connections: () => link.connections }
  })

/** A whole run: what is wrong, and a text that only the same run has. */
const run = (seed: number, count: number, cutsEach: number) => {
  const { clock, advance } = makeClock()
  return Effect.gen(function* () {
    const random = randomFrom(seed)
    const all = yield* Effect.forEach(Array.from({ length: count }), (_, i) => makeSession(i, cutsEach, random))
    let steps = 0
    for (; steps < maxSteps && !all.every(({ isDone }) => isDone()); steps++) {
      for (const { step } of all) yield* step
      yield* settle
      advance(stepMs)
    }
    const faults = all.flatMap(({ verify }) => verify())
    if (steps === maxSteps) faults.push("it did not come to its end")
    const cuts = all.reduce((total, { cuts }) => total + cuts(), 0)
    const connections = all.reduce((total, { connections }) => total + connections(), 0)
    return { faults, cuts, connections, trace: [steps, connections, ...all.map(({ trace }) => trace())].join("\n") }
  }).pipe(Effect.scoped, Effect.provide(serverLayer()), Effect.withClock(clock))
}

describe("the simulation", () => {
  it.live(
    `${sessions * cutsEach} cuts over ${sessions} sessions: nothing lost, doubled or out of order (seed ${seed})`,
    () =>
      Effect.gen(function* () {
        const { faults, cuts, connections } = yield* run(seed, sessions, cutsEach)
        assert.deepStrictEqual(faults, [], `play it again with SEED=${seed}`)
        assert.strictEqual(cuts, sessions * cutsEach)
        // Every cut was followed by a connection, many by an attempt that the old one was in the way of.
        assert.isAbove(connections, cuts)
      })
  )

  it.live("is the same for the same seed", () =>
    Effect.gen(function* () {
      const [one, two, other] = [yield* run(seed, 3, 4), yield* run(seed, 3, 4), yield* run(seed + 1, 3, 4)]
      assert.strictEqual(one.trace, two.trace, `SEED=${seed}`)
      assert.notStrictEqual(one.trace, other.trace)
    })
  )
})
