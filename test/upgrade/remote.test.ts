/** Encrypted executors over upgrades: they keep their key, their registration and their sessions. */
import { Buffer } from "node:buffer"
import { rmSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as ExecClient from "../../src/client/ExecClient.js"
import { command } from "../support/command.js"
import { fakeRelay } from "../support/fakeRelay.js"
import { Harness, keyOf, registered } from "../support/noise.js"
import { environmentId, executor, rendezvous } from "../support/relay.js"
import { temporary, versionBeside } from "../support/upgrades.js"

const env = { PATH: process.env["PATH"] ?? "" }

/** An executor that can be upgraded. */
const upgradable = (url: string, args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const socket = join(yield* temporary, "control.sock")
    const running = yield* executor(url, {
      args: ["--remote-profile", "noise", ...args],
      env: { EXEC_SERVER_CONTROL_SOCKET: socket }
    })
    const upgrade = (entry: string) =>
      Effect.map(command(["upgrade", "--control-socket", socket, "--command", entry, "--json"]), ({ code, stderr }) => {
        assert.strictEqual(code, 0, `${stderr}\n${running.stderr()}`)
      })
    return { ...running, upgrade }
  })

describe("an encrypted executor over an upgrade", () => {
  it.scopedLive.each([[false], [true]])(
    "keeps its key, its registration and its sessions (key in a file: %s)",
    ([hasFile]) =>
      Effect.gen(function* () {
        const relay = yield* fakeRelay(environmentId)
        relay.answers = [registered(relay)]
        const folder = yield* temporary
        const file = hasFile ? ["--remote-identity", join(folder, "identity")] : []
        const running = yield* upgradable(relay.url, file)
        const first = new Harness(yield* relay.socket(0), keyOf(relay))
        yield* first.shake()
        const { sessionId } = (yield* first.initialize()).result
        const argv = ["sh", "-c", "read line; echo got $line"]
        const params = { processId: "p", argv, cwd: "/", env, tty: false, pipeStdin: true }
        first.send({ id: 2, method: "process/start", params })
        yield* first.reply(2)
        yield* running.upgrade(yield* versionBeside("9.9.9"))
        const second = new Harness(yield* relay.socket(1), keyOf(relay))
        yield* second.shake()
        assert.strictEqual((yield* second.initialize(sessionId)).result.sessionId, sessionId)
        const chunk = Buffer.from("hello\n").toString("base64")
        second.send({ id: 2, method: "process/write", params: { processId: "p", chunk } })
        yield* second.reply(2)
        second.send({ id: 3, method: "process/read", params: { processId: "p", afterSeq: null, waitMs: 20_000 } })
        const { result } = yield* second.reply(3)
        assert.include(JSON.stringify(result), Buffer.from("got hello\n").toString("base64"))
        assert.lengthOf(
          relay.requests.filter(({ url }) => url?.endsWith("/register")),
          1
        )
      })
  )

  it.scopedLive("registers again with the key of a file that was replaced", () =>
    Effect.gen(function* () {
      const relay = yield* fakeRelay(environmentId)
      relay.answers = [registered(relay)]
      const folder = yield* temporary
      const identity = join(folder, "identity")
      const running = yield* upgradable(relay.url, ["--remote-identity", identity])
      yield* new Harness(yield* relay.socket(0), keyOf(relay)).shake()
      rmSync(identity)
      yield* running.upgrade(yield* versionBeside("9.9.9"))
      const socket = yield* relay.socket(1)
      const registrations = relay.requests.flatMap(({ url }, i) => (url?.endsWith("/register") ? [i] : []))
      assert.lengthOf(registrations, 2)
      yield* new Harness(socket, keyOf(relay, registrations[1])).shake()
    })
  )

  it.scopedLive.each([[false], [true]])(
    "is found again by a client with a running command (key in a file: %s)",
    ([hasFile]) =>
      Effect.gen(function* () {
        const { url } = yield* rendezvous({ args: ["--encrypted"] })
        const folder = yield* temporary
        const running = yield* upgradable(url, hasFile ? ["--remote-identity", join(folder, "identity")] : [])
        const client = yield* ExecClient.connect({ url: `${url.replace("ws:", "noise:")}/${environmentId}` }).pipe(
          Effect.retry({ times: 200, schedule: Schedule.spaced("25 millis") })
        )
        const { sessionId } = client
        const script = "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); sleep 0.01; done; read line; echo $line"
        const started = yield* client.start({ argv: ["sh", "-c", script], cwd: "/", env, pipeStdin: true })
        yield* running.upgrade(yield* versionBeside("9.9.9"))
        yield* client.call("environment/status", {})
        const { stdout } = yield* started.communicate({ input: "end\n" })
        const expected = [...Array.from({ length: 300 }, (_, i) => String(i)), "end", ""].join("\n")
        assert.strictEqual(stdout.head.toString(), expected)
        assert.strictEqual(client.sessionId, sessionId)
      })
  )
})
