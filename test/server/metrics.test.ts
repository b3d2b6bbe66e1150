/** `/metrics` of real servers says what has happened, whatever clients call things. */
import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { read, scrape, scrapeUntil } from "../support/metrics.js"
import { answer } from "../support/raw.js"
import { webSocketServer } from "../support/servers.js"

const ofRequests = (method: string, code: string) => `exec_server_requests_total{method="${method}",code="${code}"}`

describe("/metrics", () => {
  it.scopedLive("counts connections, sessions, processes, bytes and requests as they were", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ args: ["--retained-output-bytes-per-process", "10"] })
      const before = yield* scrape(server.url)
      for (const name of [
        "exec_server_connections",
        "exec_server_connections_total",
        'exec_server_sessions{state="attached"}',
        'exec_server_sessions{state="detached"}',
        "exec_server_processes_running",
        "exec_server_processes_started_total",
        "exec_server_processes_failed_total",
        "exec_server_process_input_bytes_total",
        "exec_server_received_bytes_total",
        "exec_server_output_dropped_bytes_total"
      ]) {
        assert.strictEqual(before.get(name), 0, name)
      }

      const first = yield* server.connect
      yield* first.handshake()
      const second = yield* server.connect
      yield* second.handshake()
      yield* first.sh("out", "printf 0123456789; printf abc >&2")
      yield* first.closed("out")
      yield* first.sh("cat", "cat; echo ended", { pipeStdin: true })
      yield* first.write("cat", "12345")
      yield* first.sees("cat", "12345")
      yield* first.call("process/start", {
        processId: "missing",
        argv: ["/no/such/program"],
        cwd: "/tmp",
        env: {},
        tty: false
      })
      yield* first.call("process/read", { processId: 7 })
      yield* first.call("no/such/method")
      first.raw("{")
      yield* first.call("process/resize", { processId: "unknown", rows: 1, cols: 1 })
      second.carrier.close()
      yield* second.ended()
      yield* first.ask("environment/status")

      const samples = yield* scrape(server.url)
      for (const [name, value] of [
        ["exec_server_connections", 1],
        ["exec_server_connections_total", 2],
        ['exec_server_sessions{state="attached"}', 1],
        ['exec_server_sessions{state="detached"}', 1],
        ["exec_server_processes_running", 1],
        ["exec_server_processes_started_total", 2],
        ["exec_server_processes_failed_total", 1],
        ["exec_server_process_restarts_total", 0],
        ['exec_server_process_output_bytes_total{stream="stdout"}', 15],
        ['exec_server_process_output_bytes_total{stream="stderr"}', 3],
        ['exec_server_process_output_bytes_total{stream="pty"}', 0],
        ["exec_server_process_input_bytes_total", 5],
        ["exec_server_spawn_duration_seconds_count", 2],
        [ofRequests("initialize", "ok"), 2],
        [ofRequests("process/start", "ok"), 2],
        [ofRequests("process/start", "-32603"), 1],
        [ofRequests("process/write", "ok"), 1],
        [ofRequests("process/read", "-32602"), 1],
        [ofRequests("process/resize", "-32600"), 1],
        [ofRequests("unknown", "-32601"), 1],
        [ofRequests("malformed", "-32600"), 1],
        ['exec_server_request_duration_seconds_count{method="process/start",code="ok"}', 2],
        ['exec_server_invariant_violations_total{kind="event_after_closed"}', 0],
        ['exec_server_invariant_violations_total{kind="seq_gap"}', 0],
        ['exec_server_invariant_violations_total{kind="second_exit"}', 0]
      ] as const) {
        assert.strictEqual(samples.get(name), value, name)
      }
      // Of 13 bytes in two or more chunks, 10 could be kept; chunks are dropped whole.
      assert.include([3, 10], samples.get("exec_server_output_dropped_bytes_total"))
      assert.isAbove(samples.get("exec_server_received_bytes_total") ?? 0, 500)
      assert.isAbove(samples.get("exec_server_sent_bytes_total") ?? 0, 500)
      assert.isAbove(samples.get("process_resident_memory_bytes") ?? 0, 10_000_000)
      for (const quantile of ["0.5", "0.99", "1"]) {
        assert.isAtLeast(samples.get(`exec_server_event_loop_delay_seconds{quantile="${quantile}"}`) ?? -1, 0)
      }

      yield* first.ask("process/terminate", { processId: "cat" })
      yield* first.closed("cat")
      assert.strictEqual((yield* scrape(server.url)).get("exec_server_processes_running"), 0)
    })
  )

  it.scopedLive("nothing that clients choose becomes a label", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      yield* client.sh("warm", "true")
      yield* client.closed("warm")
      yield* client.call("made-up/0")
      const names = new Set((yield* scrape(server.url)).keys())
      for (let i = 1; i <= 20; i++) {
        yield* client.sh(`chosen-${i}`, "true")
        yield* client.closed(`chosen-${i}`)
        yield* client.call(`made-up/${i}`)
      }
      const { body } = yield* answer(`${server.url}/metrics`)
      assert.notMatch(body, /chosen|made-up/)
      assert.deepStrictEqual(
        Array.from(read(body).keys()).filter((name) => !names.has(name)),
        []
      )
    })
  )

  it.scopedLive("asks for authentication, and answers GET and HEAD alone", () =>
    Effect.gen(function* () {
      const sha256 = createHash("sha256").update("token").digest("hex")
      const server = yield* webSocketServer({
        args: ["--ws-auth", "capability-token", "--ws-token-sha256", sha256]
      })
      const url = `${server.url}/metrics`
      const authorization = "Bearer token"
      assert.deepStrictEqual(yield* answer(url), { status: 401, body: "" })
      assert.strictEqual((yield* answer(url, "GET", { authorization: "Bearer x" })).status, 401)
      assert.strictEqual((yield* answer(url, "GET", { authorization })).status, 200)
      assert.deepStrictEqual(yield* answer(url, "HEAD", { authorization }), { status: 200, body: "" })
      assert.strictEqual((yield* answer(url, "POST", { authorization })).status, 405)
    })
  )

  it.scopedLive("connections that are gone are not counted as open, what they carried is", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      for (let i = 0; i < 3; i++) {
        const client = yield* server.connect
        yield* client.handshake({})
        client.carrier.close()
        yield* client.ended()
      }
      const samples = yield* scrapeUntil(server.url, (found) => found.get("exec_server_connections") === 0)
      assert.strictEqual(samples.get("exec_server_connections"), 0)
      assert.strictEqual(samples.get("exec_server_connections_total"), 3)
      assert.strictEqual(samples.get('exec_server_sessions{state="attached"}'), 0)
      assert.strictEqual(samples.get('exec_server_sessions{state="detached"}'), 0)
      assert.isAbove(samples.get("exec_server_received_bytes_total") ?? 0, 100)
    })
  )
})
