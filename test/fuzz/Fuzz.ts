/** A run: servers under fire, lanes that fire at them, an observer beside them, and what has to hold at the end. */
import { type ChildProcess, spawn } from "node:child_process"
import { resolve } from "node:path"
import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import { type Batch, Fault } from "./Batch.js"
import * as ConfigLane from "./ConfigLane.js"
import type { Tally } from "./Ledger.js"
import * as LineLane from "./LineLane.js"
import * as MessageLane from "./MessageLane.js"
import * as RelayLane from "./RelayLane.js"
import * as SlowLane from "./SlowLane.js"
import * as SocketLane from "./SocketLane.js"
import * as Target from "./Target.js"
import * as World from "./World.js"

/** The lanes, with their share of all frames in a hundred, and the frames of one batch. */
export const lanes = {
  message: { share: 84, size: 200 },
  socket: { share: 3, size: 20 },
  line: { share: 5, size: 2000 },
  relay: { share: 6, size: 200 },
  config: { share: 1, size: 100 },
  slow: { share: 1, size: 100 }
} as const

export type Lane = keyof typeof lanes

/** What to run. */
export interface Options {
  readonly seed: number
  readonly count: number
  /** One lane alone, from a frame on; from the start of its batch, in truth. */
  readonly only?: { readonly lane: Lane; readonly from: number } | undefined
}

/** What the observer has seen, in milliseconds. */
export interface Observed {
  readonly questions: number
  readonly p50: number
  readonly p99: number
  readonly max: number
  /** How long the server computed before it answered: without the time that a busy machine gave to others. */
  readonly busyP99: number
  readonly busyMax: number
  /** Questions for which that was more than 100 ms. */
  readonly stalls: number
}

/** The figures of a run. */
export interface Figures {
  readonly seed: number
  readonly frames: number
  readonly seconds: number
  /** Answers to what was sent over WebSocket and stdio. */
  readonly answers: Tally
  readonly observed: Observed
  readonly peakMb: number
  readonly descriptors: { readonly before: number; readonly after: number }
}

/** Batches of one lane that are under way at a time. */
const concurrency: Readonly<Record<Lane, number>> = { message: 4, socket: 2, line: 1, relay: 1, config: 1, slow: 1 }

const observe = async (url: string, pid: number) => {
  const child: ChildProcess = spawn(process.execPath, [resolve("test/fuzz/observer.mjs"), url, String(pid)], {
    stdio: ["pipe", "pipe", "inherit"]
  })
  if (child.stdout === null) throw new Error("no stdout")
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async () => (await lines.next()).value ?? '{"error":"the observer has ended"}'
  if ((await next()) !== "ready") throw new Error("the observer could not connect")
  return {
    end: async (): Promise<Observed> => {
      child.stdin?.end("over\n")
      const told = JSON.parse(await next())
      if (told.error !== undefined) throw new Error(told.error)
      return told
    },
    kill: () => child.kill("SIGKILL")
  }
}

const batchesOf = function* (lane: Lane, { seed, count, only }: Options): Generator<Batch> {
  const { share, size } = lanes[lane]
  if (only !== undefined && only.lane !== lane) return
  const start = only === undefined ? 0 : only.from - (only.from % size)
  const end = only === undefined ? Math.floor((count * share) / 100) : only.from + count
  for (let from = start; from < end; from += size) yield { seed, from, to: Math.min(end, from + size) }
}

const runLane = async (lane: Lane, options: Options, fire: (batch: Batch) => Promise<void>): Promise<number> => {
  const batches = batchesOf(lane, options)
  let frames = 0
  const worker = async () => {
    for (const batch of batches) {
      await fire(batch).catch((error) => {
        const at = error instanceof Fault ? error.frame : batch.from
        const replay = `npm run fuzz -- --seed ${batch.seed} --lane ${lane} --from ${batch.from} --count ${batch.to - batch.from}`
        throw new Error(`seed ${batch.seed}, ${lane} frame ${at}: ${error.message}\nreplay: ${replay}`)
      })
      frames += batch.to - batch.from
    }
  }
  await Promise.all(Array.from({ length: concurrency[lane] }, worker))
  return frames
}

/** Runs; fails with a sentence that names seed and frame. */
export const run = async (options: Options): Promise<Figures> => {
  const startedAt = performance.now()
  const ground = await World.make()
  const server = Target.start(["--listen", "ws://127.0.0.1:0"])
  const relay = await RelayLane.open(ground)
  try {
    const url = await Target.address(server)
    const observer = await observe(url, server.pid)
    try {
      const before = Target.descriptors(server)
      const frames = await Promise.all([
        runLane("message", options, (batch) => MessageLane.run(url, batch, ground)),
        runLane("socket", options, (batch) => SocketLane.run(url, batch)),
        runLane("line", options, (batch) => LineLane.run(batch, ground)),
        runLane("relay", options, relay.run),
        runLane("config", options, (batch) => ConfigLane.run(batch, ground)),
        runLane("slow", options, SlowLane.run)
      ])
      await Target.eventually("no child is left", () => Target.children(server).length === 0)
      await Target.eventually("descriptors are back", () => Target.descriptors(server) <= before + 4)
      const observed = await observer.end()
      const peakMb = Target.residentMb(server, "VmHWM")
      const after = Target.descriptors(server)
      const executorMb = Target.residentMb(relay.executor, "VmHWM")
      await Target.stop(server)
      await relay.end()
      const complaint = server.stderr().replace(/^exec-server listening on \S+\n(exec-server console at .*\n)?/, "")
      if (complaint !== "") throw new Error(`the server complains: ${complaint.slice(0, 4000)}`)
      return {
        seed: options.seed,
        frames: frames.reduce((sum, n) => sum + n, 0),
        seconds: (performance.now() - startedAt) / 1000,
        answers: ground.tally,
        observed,
        peakMb: Math.max(peakMb, executorMb),
        descriptors: { before, after }
      }
    } finally {
      observer.kill()
    }
  } catch (error) {
    // A server that dies is first seen by its connections.
    const ended = await Promise.race([server.exit, sleep(500, undefined, { ref: false })])
    if (ended === undefined || ended === 0) throw error
    throw new Error(`the server is gone (${ended}): ${server.stderr().slice(-4000)}\n${error}`, { cause: error })
  } finally {
    server.child.kill("SIGKILL")
    await server.exit
    await relay.end().catch(() => {})
    ground.end()
  }
}
