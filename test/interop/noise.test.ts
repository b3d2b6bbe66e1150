/** The genuine program at either end of an encrypted relay, with our rendezvous between. */
import { Buffer } from "node:buffer"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as ExecClient from "../../src/client/ExecClient.js"
import { fakeRelay } from "../support/fakeRelay.js"
import { directory } from "../support/files.js"
import { Harness, keyOf, noiseExecutor, registered } from "../support/noise.js"
import { ignored, protocolError, refusedHandshakes, violations } from "../support/noiseRules.js"
import { recordingProxy } from "../support/proxy.js"
import { environmentId, localRendezvous } from "../support/relay.js"
import { webSocketServer } from "../support/servers.js"
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

const outputOf = (client: ExecClient.Shape, script: string) =>
  Effect.gen(function* () {
    const started = yield* client.start({ argv: ["sh", "-c", script], cwd: "/" })
    return (yield* started.communicate()).stdout.head.toString()
  })

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

  it.scopedLive("as a client: 40 commands, and a patch of a file of 2 MiB", () =>
    Effect.gen(function* () {
      const { url, http } = yield* relay
      yield* noiseExecutor(url)
      yield* connected(url)
      const client = yield* codexOverNoise(version, { url: http, environmentId, token: "client-token" })
      for (let i = 0; i < 40; i++) {
        assert.deepInclude(yield* client.call(command(`echo ${i}; exit ${i}`)), { exitCode: i, text: `${i}\n` })
      }
      const path = join(client.cwd, "large.txt")
      const lines = Array.from({ length: 400_000 }, (_, i) => `${i + 1}\n`)
      writeFileSync(path, lines.join(""))
      const patch = ["*** Begin Patch", "*** Update File: large.txt", "@@", "-1", "+one", " 2", "*** End Patch"]
      const { text } = yield* client.call(command(["apply_patch <<'PATCH'", ...patch, "PATCH"].join("\n")))
      assert.include(text, "Success. Updated the following files:")
      assert.strictEqual(readFileSync(path, "utf8"), ["one\n", ...lines.slice(1)].join(""))
      yield* client.finish
    })
  )

  it.scopedLive("as an executor: commands, much output, a cut", () =>
    Effect.gen(function* () {
      const { url, http, cut } = yield* relay
      yield* genuineExecutor(version, { url: http, environmentId, token: "executor-token" })
      const client = yield* connected(url)
      const run = (script: string) => outputOf(client, script)
      assert.strictEqual(yield* run("echo hello"), "hello\n")
      yield* Effect.fork(Effect.delay(cut, "1 second"))
      const script = "for i in $(seq 1 40); do echo line $i; sleep 0.1; done"
      assert.strictEqual(yield* run(script), Array.from({ length: 40 }, (_, i) => `line ${i + 1}\n`).join(""))
    })
  )

  it.scopedLive("as an executor: 40 commands, hundreds of requests at once, a file of megabytes", () =>
    Effect.gen(function* () {
      const { url, http } = yield* relay
      yield* genuineExecutor(version, { url: http, environmentId, token: "executor-token" })
      const client = yield* connected(url)
      for (let i = 0; i < 40; i++) assert.strictEqual(yield* outputOf(client, `echo ${i}`), `${i}\n`)
      const { sessionId } = client
      const found = yield* Effect.all(
        Array.from({ length: 300 }, () => client.files.getMetadata("/")),
        { concurrency: "unbounded" }
      )
      assert.lengthOf(found, 300)
      const path = join(yield* directory, "large")
      const bytes = Buffer.from(Array.from({ length: 2_500_000 }, (_, i) => i % 251))
      yield* client.files.writeFile(path, bytes)
      assert.isTrue(readFileSync(path).equals(bytes))
      assert.isTrue(Buffer.from(yield* client.files.readFile(path)).equals(bytes))
      assert.strictEqual(client.sessionId, sessionId)
    })
  )

  it.scopedLive("in front of a server of ours", () =>
    Effect.gen(function* () {
      const { url, http } = yield* relay
      const server = yield* webSocketServer()
      yield* genuineExecutor(version, { url: http, environmentId, token: "executor-token" }, server.url)
      const client = yield* connected(url)
      assert.strictEqual(yield* outputOf(client, "echo hello"), "hello\n")
      assert.strictEqual((yield* outputOf(client, "head -c 2000000 /dev/zero | tr '\\0' x")).length, 2_000_000)
    })
  )
})

describe(`the rules around streams, as codex ${version} keeps them`, () => {
  const executor = Effect.gen(function* () {
    const fake = yield* fakeRelay(environmentId)
    fake.answers = [registered(fake)]
    yield* genuineExecutor(version, { url: fake.url, environmentId, token: "executor-token" })
    const socket = yield* fake.socket(0)
    const key = keyOf(fake)
    const live = Effect.gen(function* () {
      const stream = new Harness(socket, key)
      yield* stream.shake()
      yield* stream.initialize()
      return stream
    })
    return { fake, socket, key, live }
  })

  it.scopedLive("what is wrong on a stream resets it, and no other one", () =>
    Effect.gen(function* () {
      const { live } = yield* executor
      const bystander = yield* live
      for (const [name, provoke] of violations) {
        const stream = yield* live
        provoke(stream)
        assert.strictEqual(yield* stream.reset(), protocolError, name)
      }
      yield* bystander.works(2)
    })
  )

  it.scopedLive("what means nothing is ignored, acknowledgements among it", () =>
    Effect.gen(function* () {
      const { live } = yield* executor
      const stream = yield* live
      let id = 2
      for (const [name, send] of ignored) {
        send(stream)
        yield* stream.works(id++)
        assert.isFalse(stream.isReset, name)
      }
    })
  )

  it.scopedLive("handshakes that fail are reset; after 8 of them all are, for 10 seconds", () =>
    Effect.gen(function* () {
      const { socket, key, live } = yield* executor
      const stream = yield* live
      for (const [name, make] of refusedHandshakes) {
        const [bad, payload] = make(socket, key)
        bad.begin(payload)
        assert.strictEqual(yield* bad.reset(), protocolError, name)
      }
      for (let i = refusedHandshakes.length; i < 8; i++) {
        const bad = new Harness(socket, key, { registration: "other" })
        bad.begin()
        yield* bad.reset()
      }
      const good = new Harness(socket, key)
      good.begin()
      yield* good.reset()
      yield* stream.works(2)
    })
  )
})
