/** The genuine client works through the gateway of a fleet, and knows nothing of it. */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as ExecClient from "../../src/client/ExecClient.js"
import { gatewayAlone, host } from "../support/fleet.js"
import { codexAlone, command, genuineExecutor, install, type } from "./support/codex.js"
import { installTimeoutMs } from "./support/npm.js"
import { proxyTo } from "./support/proxy.js"

const version = "0.169.0"

const lines = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `${from + i}\n`).join("")

const fleet = Effect.gen(function* () {
  const door = yield* gatewayAlone()
  yield* host(door, "h1")
  yield* host(door, "h2")
  const proxy = yield* proxyTo(door.url)
  const client = yield* codexAlone(version, {}, { CODEX_EXEC_SERVER_URL: proxy.url })
  return { door, proxy, client }
})

describe(`codex ${version} and a fleet`, () => {
  beforeAll(() => install(version), installTimeoutMs)

  it.scopedLive(
    "commands, terminals and much output",
    () =>
      Effect.gen(function* () {
        const { client } = yield* fleet
        const failed = yield* client.call(command("echo out; echo err >&2; exit 7"))
        assert.strictEqual(failed.exitCode, 7)
        assert.include(failed.text, "out\n")
        const much = yield* client.call(command("seq 1 200000 | tail -n 3", { yield_time_ms: 20_000 }))
        assert.strictEqual(much.text.trim(), "199998\n199999\n200000")
        const shell = yield* client.call(command("read x; echo got $x", { tty: true, yield_time_ms: 500 }))
        assert.include((yield* client.call(type(shell.sessionId, "it\n", { yield_time_ms: 2000 }))).text, "got it")
        yield* client.finish
      }),
    180_000
  )

  it.scopedLive(
    "a connection cut in the middle of a command is resumed, and nothing is lost",
    () =>
      Effect.gen(function* () {
        const { client, proxy } = yield* fleet
        const script = "for i in $(seq 1 40); do echo $i; sleep 0.1; done"
        const running = yield* Effect.fork(client.call(command(script, { yield_time_ms: 20_000 })))
        yield* Effect.sleep("1500 millis")
        yield* proxy.cutDuring(Effect.sleep("500 millis"))
        const output = yield* Fiber.join(running)
        assert.strictEqual(output.text.replaceAll("\r", "").trim(), lines(1, 40).trim())
        yield* client.finish
      }),
    180_000
  )

  it.scopedLive(
    "as a host: commands, a terminal, much output, a session that is resumed",
    () =>
      Effect.gen(function* () {
        const door = yield* gatewayAlone()
        yield* genuineExecutor(version, { url: door.url.replace("ws", "http"), environmentId: "g", token: "any" })
        const proxy = yield* proxyTo(door.url)
        // Until the host has come, there is no place.
        const client = yield* ExecClient.connectWebSocket({ url: proxy.url, clientName: "test" }).pipe(
          Effect.retry({ times: 20, schedule: Schedule.spaced("200 millis") })
        )
        const outputOf = (script: string, tty = false) =>
          Effect.gen(function* () {
            const started = yield* client.start({ argv: ["/bin/sh", "-c", script], cwd: "/", tty })
            const { stdout, terminal, exit } = yield* started.communicate()
            return { exit, text: (tty ? terminal : stdout).head.toString() }
          })
        const { exit, text } = yield* outputOf("echo out; exit 7")
        assert.deepInclude(exit, { exitCode: 7 })
        assert.strictEqual(text, "out\n")
        assert.include((yield* outputOf("tty", true)).text, "/dev/pts/")
        const cut = yield* Effect.fork(Effect.delay(proxy.cutDuring(Effect.sleep("500 millis")), "1500 millis"))
        const counted = yield* outputOf("for i in $(seq 1 40); do echo $i; sleep 0.1; done")
        assert.strictEqual(counted.text, lines(1, 40))
        yield* Fiber.join(cut)
      }),
    180_000
  )
})
