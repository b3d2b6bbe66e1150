/** A lost connection loses no line and doubles none. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WebSocket } from "ws"
import { swallowingProxy } from "../support/proxy.js"
import { webSocketServer } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"

/** How many cuts; the moments are drawn from a fixed seed. */
const cuts = 100

const next = (seed: number) => (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff

/** A bare client that takes a session up, catches up by reading, then takes notifications, and is cut off. */
class Follower {
  lastSeq = 0
  text = ""
  sessionId: string | undefined
  closed = false
  written = 0

  constructor(private readonly takeover: boolean) {}

  /** One connection, until the process is closed or for so many milliseconds; `cut` cuts it before its end is sent. */
  async connect(url: string, forMs: number, cut: () => void = () => {}): Promise<void> {
    const ws = new WebSocket(url, { perMessageDeflate: false })
    await new Promise((resolve) => ws.once("open", resolve))
    let id = 0
    const replies = new Map<number, (message: Json) => void>()
    const call = (method: string, params: object) =>
      new Promise<Json>((resolve) => {
        replies.set(++id, resolve)
        ws.send(JSON.stringify({ id, method, params }))
      })
    const early: Array<Json> = []
    let caughtUp = false
    const gone = new Promise<void>((resolve) => ws.once("close", () => resolve()))
    const done = new Promise<void>((resolve) => {
      ws.on("message", (data) => {
        const message = JSON.parse(data.toString())
        if (message.method === undefined) return replies.get(message.id)?.(message)
        if (caughtUp) this.take(message)
        else early.push(message)
        if (this.closed) resolve()
      })
    })
    for (;;) {
      const { sessionId: resumeSessionId = null, takeover } = this
      const resumption = resumeSessionId !== null && takeover ? { resumeSessionId, takeover } : { resumeSessionId }
      const reply = await call("initialize", { clientName: "x", ...resumption })
      if (reply.error === undefined) {
        this.sessionId = reply.result.sessionId
        break
      }
      assert.strictEqual(reply.error.code, -32010)
      assert.isFalse(takeover)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    ws.send('{"method":"initialized"}')
    if (!this.started) {
      const script = "i=0; while read line; do i=$((i+1)); echo $i $line; done; echo end"
      const argv = ["/bin/sh", "-c", script]
      await call("process/start", { processId: "p", argv, cwd: "/tmp", env: {}, tty: false, pipeStdin: true })
      this.started = true
    } else {
      const { result } = await call("process/read", { processId: "p", afterSeq: this.lastSeq })
      assert.isFalse(result.truncated)
      for (const { seq, chunk } of result.chunks) this.output(seq, chunk)
    }
    caughtUp = true
    for (const message of early) this.take(message)
    // Not waiting for the answers: some of them are lost with the connection, and repeated under the same id.
    const from = this.written
    for (let i = from; i < from + 20; i++) {
      const chunk = Buffer.from(`line${i}\n`).toString("base64")
      void call("process/write", { processId: "p", chunk, writeId: `w${i}` }).then(({ result }) => {
        assert.strictEqual(result.status, "accepted")
        this.written = Math.max(this.written, i + 1)
      })
    }
    if (this.finish) void call("process/closeStdin", { processId: "p" })
    await Promise.race([done, new Promise((resolve) => setTimeout(resolve, forMs))])
    cut()
    ws.terminate()
    await gone
  }

  finish = false
  private started = false

  private take({ method, params }: Json): void {
    if (method === "process/output") this.output(params.seq, params.chunk)
    if (method === "process/closed") this.closed = true
  }

  private output(seq: number, chunk: string): void {
    if (seq <= this.lastSeq) return
    assert.strictEqual(seq, this.lastSeq + 1)
    this.lastSeq = seq
    this.text += Buffer.from(chunk, "base64").toString()
  }
}

/** All output after the cuts: one numbered line per line that was written. */
const follow = (follower: Follower, connect: (forMs: number, cut: number) => Promise<void>, url: string) =>
  Effect.gen(function* () {
    yield* Effect.promise(async () => {
      let seed = 7
      for (let i = 0; i < cuts; i++) {
        seed = next(seed)
        await connect(seed % 30, i)
      }
      follower.finish = true
      for (let i = 0; i < 20 && !follower.closed; i++) await follower.connect(url, 5000)
    })
    const lines = follower.text.trimEnd().split("\n")
    assert.strictEqual(lines.pop(), "end")
    assert.isAbove(lines.length, 100)
    lines.forEach((line, i) => {
      assert.strictEqual(line, `${i + 1} line${i}`)
    })
  })

describe("resume", () => {
  it.scopedLive(
    `${cuts} cuts at random moments: no line is missing, none doubled, and each write applied once`,
    () =>
      Effect.gen(function* () {
        const { url } = yield* webSocketServer()
        const follower = new Follower(false)
        yield* follow(follower, (forMs) => follower.connect(url, forMs), url)
      }),
    120_000
  )

  it.scopedLive(
    "the same with takeovers, of connections that are half-open at every other cut",
    () =>
      Effect.gen(function* () {
        const { url } = yield* webSocketServer()
        const follower = new Follower(true)
        const proxies = yield* Effect.all(Array.from({ length: cuts / 2 }, () => swallowingProxy(url)))
        const connect = (forMs: number, cut: number) => {
          const proxy = cut % 2 === 0 ? undefined : proxies[(cut - 1) / 2]
          if (proxy === undefined) return follower.connect(url, forMs)
          return follower.connect(proxy.url, forMs, () => Effect.runSync(proxy.swallow))
        }
        yield* follow(follower, connect, url)
      }),
    120_000
  )
})
