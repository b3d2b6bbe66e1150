/** The genuine program at either end of an encrypted relay, with our rendezvous between. */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as ExecClient from "../../src/client/ExecClient.js"
import { noiseExecutor } from "../support/noise.js"
import { recordingProxy } from "../support/proxy.js"
import { environmentId, localRendezvous } from "../support/relay.js"
import { codexOverNoise, command, genuineExecutor, install } from "./support/codex.js"
import { installTimeoutMs } from "./support/npm.js"

const version = "0.169.0"

/** An encrypted rendezvous, whose connections can be cut. */
const relay = Effect.gen(function* () {
  const address = yield* localRendezvous({
    encrypted: true,
    executorToken: "executor-token",
    clientToken: "client-token"
  })
  const proxy = yield* recordingProxy(address)
  return { ...proxy, http: proxy.url.replace("ws", "http") }
})

const connected = (url: string) =>
  ExecClient.connectNoise({
    url: `${url.replace("ws", "noise")}/${environmentId}`,
    token: "client-token",
    clientName: "test"
  }).pipe(
    Effect.retry({
      times: 400,
      schedule: Schedule.spaced("50 millis"),
      while: (error) => error._tag === "ConnectFailed" && error.status === 409
    })
  )

describe(`codex ${version} on an encrypted relay`, () => {
  beforeAll(() => install(version), installTimeoutMs)

  it.scopedLive("as a client: commands, much output, a command during which the connection is cut", () =>
    Effect.gen(function* () {
      const { url, http, cut } = yield* relay
      yield* noiseExecutor(url)
      // The executor has connected once a client of ours has.
      yield* connected(url)
      const client = yield* codexOverNoise(version, { url: http, environmentId, token: "client-token" })
      for (let i = 0; i < 5; i++) {
        const output = yield* client.call(command(`echo command ${i}; exit ${i}`))
        assert.deepInclude(output, { exitCode: i, text: `command ${i}\n` })
      }
      const large = yield* client.call(command("head -c 2000000 /dev/zero | tr '\\0' x; echo END"))
      assert.match(large.text, /x+END\n$/)
      yield* Effect.fork(Effect.delay(cut, "1500 millis"))
      const script = "for i in $(seq 1 40); do echo line $i; sleep 0.1; done"
      const output = yield* client.call(command(script, { yield_time_ms: 20_000 }))
      assert.strictEqual(output.text, Array.from({ length: 40 }, (_, i) => `line ${i + 1}\n`).join(""))
      yield* client.finish
    })
  )

  it.scopedLive("as an executor: commands, much output, a cut", () =>
    Effect.gen(function* () {
      const { url, http, cut } = yield* relay
      yield* genuineExecutor(version, { url: http, environmentId, token: "executor-token" })
      const client = yield* connected(url)
      const run = (script: string) =>
        Effect.gen(function* () {
          const started = yield* client.start({ argv: ["sh", "-c", script], cwd: "/" })
          return (yield* started.communicate()).stdout.head.toString()
        })
      assert.strictEqual(yield* run("echo hello"), "hello\n")
      yield* Effect.fork(Effect.delay(cut, "1 second"))
      const script = "for i in $(seq 1 40); do echo line $i; sleep 0.1; done"
      assert.strictEqual(yield* run(script), Array.from({ length: 40 }, (_, i) => `line ${i + 1}\n`).join(""))
    })
  )
})
