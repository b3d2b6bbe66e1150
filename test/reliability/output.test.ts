/** Bytes are conserved, and a peer that does not read harms nobody but itself. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { cpuSeconds, eventually, isAlive, residentMb, webSocketServer } from "../support/servers.js"
import { startParams } from "../support/TestClient.js"

describe("output", () => {
  it.scopedLive(
    "20 kB from a terminal's child that exits at once arrive whole, 1,000 of 1,000 times",
    () =>
      Effect.gen(function* () {
        const server = yield* webSocketServer({ args: ["--closed-process-retention-ms", "50"] })
        const client = yield* server.connect
        yield* client.handshake()
        for (let round = 0; round < 50; round++) {
          const ids = Array.from({ length: 20 }, (_, i) => `${round}-${i}`)
          const argv = ["/usr/bin/head", "-c", "20000", "/dev/zero"]
          for (const id of ids) client.post("process/start", startParams(id, argv, { tty: true }))
          for (const id of ids) {
            yield* client.closed(id)
            assert.strictEqual(client.output(id, "pty").length, 20000, id)
          }
        }
      }),
    120_000
  )

  it.scopedLive("--retain head-tail keeps the beginning and the end, and tells the gap", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({
        args: ["--retain", "head-tail", "--retained-output-bytes-per-process", "100000"]
      })
      const client = yield* server.connect
      yield* client.handshake()
      yield* client.sh("p", "seq 1 200000; echo error >&2")
      yield* client.closed("p")
      const whole = client.output("p")
      const { chunks, truncated, droppedBytes, gap } = yield* client.ask("process/read", { processId: "p" })
      const kept = (stream: string, from: number, below: number) =>
        Buffer.concat(
          chunks
            .filter((chunk: { stream: string; seq: number }) => {
              return chunk.stream === stream && chunk.seq >= from && chunk.seq < below
            })
            .map((chunk: { chunk: string }) => Buffer.from(chunk.chunk, "base64"))
        )
      const head = kept("stdout", 0, gap.fromSeq)
      const tail = kept("stdout", gap.throughSeq, Number.POSITIVE_INFINITY)
      assert.isTrue(truncated)
      assert.strictEqual(gap.bytes, droppedBytes)
      assert.strictEqual(head.length + droppedBytes + tail.length, whole.length)
      assert.isTrue(head.length > 0 && head.equals(whole.subarray(0, head.length)))
      assert.isTrue(tail.length > 0 && tail.equals(whole.subarray(whole.length - tail.length)))
      const snapshot = yield* client.ask("process/snapshot", { processId: "p" })
      assert.strictEqual(snapshot.stdout, Buffer.concat([head, tail]).toString("base64"))
      assert.deepStrictEqual(snapshot.omitted, { stdout: { offset: head.length, bytes: droppedBytes } })
      assert.strictEqual(Buffer.from(snapshot.stderr, "base64").toString(), "error\n")
    })
  )

  it.scopedLive("300 MB through a pipe and 50 MB through a terminal arrive byte for byte, in order", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      client.discard = true
      yield* client.handshake()
      for (const [tty, lines] of [
        [false, 34_000_000],
        [true, 6_000_000]
      ] as const) {
        let expected = 1
        let bytes = 0
        let rest = ""
        client.onOutput = (chunk) => {
          bytes += chunk.length
          // Only the borders are parsed: every chunk must continue where the last one stopped.
          const text = rest + chunk.toString("latin1")
          const end = text.lastIndexOf("\n") + 1
          if (end > 0) {
            const first = Number(text.slice(0, text.indexOf("\n")))
            assert.strictEqual(first, expected)
            expected = Number(text.slice(text.lastIndexOf("\n", end - 2) + 1, end - 1)) + 1
          }
          rest = text.slice(end)
        }
        yield* client.sh(`p${tty}`, `${tty ? "stty raw; " : ""}seq ${lines}`, { tty })
        yield* client.closed(`p${tty}`)
        assert.strictEqual(expected, lines + 1)
        assert.strictEqual(rest, "")
        assert.isAbove(bytes, tty ? 46_000_000 : 290_000_000)
      }
    })
  )

  it.scopedLive("output of a grandchild that outlives the leader of a terminal arrives whole", () =>
    Effect.gen(function* () {
      const client = yield* (yield* webSocketServer()).connect
      yield* client.handshake()
      const script =
        "trap '' HUP; (sleep 0.2; head -c 20000 /dev/zero | tr '\\0' y; sleep 0.1; printf end) & echo x; exit 3"
      yield* client.sh("p", script, { tty: true })
      assert.strictEqual((yield* client.closed("p")).exitCode, 3)
      assert.strictEqual(client.output("p", "pty").toString(), `x\r\n${"y".repeat(20000)}end`)
    })
  )

  it.scopedLive(
    "a client that stops reading slows its own processes; memory is bounded and others notice nothing",
    () =>
      Effect.gen(function* () {
        const server = yield* webSocketServer()
        const stalled = yield* server.connect
        stalled.discard = true
        yield* stalled.handshake()
        const other = yield* server.connect
        yield* other.handshake()
        const before = residentMb(server.pid)
        for (let i = 0; i < 10; i++) yield* stalled.start(`p${i}`, ["yes"], { tty: i % 2 === 0 })
        stalled.carrier.pause()
        // Requests whose answers are large must not pile up either.
        for (let i = 0; i < 400; i++) stalled.post("process/snapshot", { processId: `p${i % 10}` })
        yield* Effect.sleep("2 seconds")
        assert.isBelow(residentMb(server.pid) - before, 150)
        for (let i = 0; i < 20; i++) {
          yield* other.sh(`q${i}`, "echo hello")
          yield* other.closed(`q${i}`)
          assert.strictEqual(other.output(`q${i}`).toString(), "hello\n")
        }
        for (let i = 0; i < 10; i++) stalled.post("process/terminate", { processId: `p${i}` })
        stalled.carrier.resume()
        for (let i = 0; i < 10; i++) assert.strictEqual((yield* stalled.closed(`p${i}`)).signal, "SIGKILL")
      }),
    120_000
  )

  it.scopedLive("what a process wrote before it ran out of time reaches a client that was slow", () =>
    Effect.gen(function* () {
      const client = yield* (yield* webSocketServer()).connect
      client.discard = true
      yield* client.handshake()
      let last: Buffer = Buffer.alloc(0)
      let received = 0
      client.onOutput = (chunk) => {
        received += chunk.length
        last = chunk
      }
      yield* client.start("p", ["seq", "1000000000"], { timeoutMs: 1500 })
      client.carrier.pause()
      yield* Effect.sleep("4 seconds")
      client.carrier.resume()
      assert.isTrue((yield* client.closed("p")).timedOut)
      // The child writes 4 kB at a time: whole lines of one more digit follow each other without a gap.
      const lines = last.toString().trimEnd().split("\n")
      const end = Number(lines[lines.length - (last.at(-1) === 10 ? 1 : 2)])
      let total = 0
      for (let digits = 1, from = 1; from <= end; digits++, from *= 10)
        total += (Math.min(end, from * 10 - 1) - from + 1) * (digits + 1)
      assert.isAtMost(Math.abs(received - total), 11)
    })
  )

  it.scopedLive("a congested client can still end its processes", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      client.discard = true
      yield* client.handshake()
      const { pid } = yield* client.start("p", ["yes"])
      client.carrier.pause()
      yield* Effect.sleep("1 second")
      client.post("process/snapshot", { processId: "p" })
      client.post("process/terminate", { processId: "p" })
      yield* eventually("the process is gone", () => !isAlive(pid))
      client.carrier.resume()
      yield* client.closed("p")
    })
  )

  it.scopedLive("writes that wait are bounded in memory", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      yield* client.start("p", ["sleep", "1000"], { pipeStdin: true })
      const before = residentMb(server.pid)
      const chunk = Buffer.alloc(2 ** 20).toString("base64")
      for (let i = 0; i < 250; i++) client.post("process/write", { processId: "p", chunk })
      yield* Effect.sleep("2 seconds")
      assert.isBelow(residentMb(server.pid) - before, 250)
    })
  )

  it.scopedLive("a child that does not read its terminal blocks nothing but its own queue, at no cost", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ args: ["--stdin-queue-bytes-per-process", "100000"] })
      const client = yield* server.connect
      yield* client.handshake()
      for (const tty of [true, false]) {
        const id = `p${tty}`
        yield* client.sh(id, `${tty ? "stty raw -echo; " : ""}echo ready; sleep 1000`, { tty, pipeStdin: true })
        yield* client.sees(id, "ready", tty ? "pty" : "stdout")
        const chunk = Buffer.alloc(90_000).toString("base64")
        const writes = Array.from({ length: 5 }, () => client.post("process/write", { processId: id, chunk }))
        assert.strictEqual((yield* client.reply(writes[0] ?? 0)).result.status, "accepted")
        assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
        const cpu = cpuSeconds(server.pid)
        yield* Effect.sleep("1 second")
        assert.isBelow(cpuSeconds(server.pid) - cpu, 0.5, "waiting costs nothing")
        assert.isFalse(client.messages.some((message) => message.id === writes[4]))
        yield* client.ask("process/terminate", { processId: id })
        for (const write of writes) yield* client.reply(write)
        assert.strictEqual((yield* client.reply(writes[4] ?? 0)).result.status, "stdinClosed")
        yield* client.closed(id)
      }
    })
  )

  it.scopedLive("all retained output together stays within its limit: closed processes give way first", () =>
    Effect.gen(function* () {
      const client = yield* (yield* webSocketServer({ args: ["--retained-output-bytes-total", "2000000"] })).connect
      yield* client.handshake()
      for (let i = 0; i < 4; i++) {
        yield* client.sh(`p${i}`, "head -c 900000 /dev/zero")
        yield* client.closed(`p${i}`)
      }
      const dropped: Array<number> = []
      for (let i = 0; i < 4; i++)
        dropped.push((yield* client.ask("process/snapshot", { processId: `p${i}` })).droppedBytes)
      assert.deepStrictEqual(dropped, [900000, 900000, 0, 0])
    })
  )
})
