/** A gateway on an embedded directory, with hosts, from the outside: it looks like one server. */
import { Buffer } from "node:buffer"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { selfSigned } from "../support/certificate.js"
import { command } from "../support/command.js"
import { databases, folder, gateway, host } from "../support/fleet.js"
import { connectTo, eventually, rawSocket, type WsServer } from "../support/servers.js"
import type { Json, TestClient } from "../support/TestClient.js"

const sessionOf = (client: TestClient) => Effect.map(client.handshake(), ({ sessionId }): string => sessionId)

const start = (client: TestClient, processId: string, script: string) =>
  client.ask("process/start", {
    processId,
    argv: ["sh", "-c", script],
    cwd: "/tmp",
    env: { PATH: process.env["PATH"] },
    tty: false
  })

/** The host that runs the client's processes: the parent of one. */
const hostPid = (client: TestClient, processId: string) =>
  Effect.gen(function* () {
    yield* start(client, processId, "echo $PPID")
    yield* client.until("the process has closed", () =>
      client.messages.find(({ method, params }: Json) => method === "process/closed" && params.processId === processId)
    )
    return Number(outputOf(client, processId))
  })

const outputOf = (client: TestClient, processId: string): string =>
  client.messages
    .filter(({ method, params }: Json) => method === "process/output" && params.processId === processId)
    .map(({ params }: Json) => Buffer.from(params.chunk, "base64").toString())
    .join("")

const test = (name: string, body: () => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.scopedLive(name, body, 90_000)

const connect = ({ connect }: WsServer) => connect

describe("a gateway", () => {
  const database = databases()
  const gatewayAlone = (args: ReadonlyArray<string> = []) => Effect.flatMap(database, (url) => gateway(url, args))

  test("places sessions on the least loaded host; a session is resumed where it is", () =>
    Effect.gen(function* () {
      const door = yield* gatewayAlone()
      const [one, two] = [yield* host(door, "h1"), yield* host(door, "h2")]
      const first = yield* connect(door)
      const id = yield* sessionOf(first)
      const second = yield* connect(door)
      yield* second.handshake()
      const pids = [yield* hostPid(first, "p"), yield* hostPid(second, "p")]
      assert.sameMembers(pids, [one.pid, two.pid])
      first.carrier.close()
      const again = yield* connect(door)
      assert.strictEqual((yield* again.resume(id)).sessionId, id, "the id stays")
      assert.strictEqual(yield* hostPid(again, "q"), pids[0])
    }))

  test("with --grace, it serves whom it has after SIGTERM, says 503 meanwhile, and ends when they have left", () =>
    Effect.gen(function* () {
      const door = yield* gatewayAlone(["--grace", "60s"])
      yield* host(door, "h1")
      const client = yield* connect(door)
      yield* client.handshake()
      const status = (path: string) =>
        Effect.promise(async () => (await fetch(door.url.replace(/^ws/, "http") + path)).status)
      assert.strictEqual(yield* status("/readyz"), 200)
      door.child.kill("SIGTERM")
      yield* eventually("it ends", () => door.stderr().includes("no more clients are taken"))
      assert.strictEqual(yield* status("/readyz"), 503)
      assert.strictEqual(yield* status("/livez"), 200)
      const refused = yield* Effect.flip(Effect.sandbox(connectTo(door.url)))
      assert.include(Cause.pretty(refused), "503")
      yield* hostPid(client, "p")
      client.carrier.close()
      assert.strictEqual(yield* door.exit, 0)
    }))

  test("nobody else's session, no made-up one and no broken id is resumed", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const secret = "0123456789abcdef0123456789abcdef"
      const file = join(path, "secret")
      writeFileSync(file, secret, { mode: 0o600 })
      const door = yield* gatewayAlone(["--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", file])
      yield* host(door, "h1")
      const { SignJWT } = yield* Effect.promise(() => import("jose"))
      const as = (sub: string) =>
        Effect.flatMap(
          Effect.promise(() =>
            new SignJWT({ sub }).setProtectedHeader({ alg: "HS256" }).setExpirationTime("1h").sign(Buffer.from(secret))
          ),
          (token) => connectTo(door.url, { headers: { authorization: `Bearer ${token}` } })
        )
      const alice = yield* as("alice")
      const id = yield* sessionOf(alice)
      const mallory = yield* as("mallory")
      const [no, epoch, inner, seal] = id.split(".")
      for (const wrong of [
        id,
        `${no}.${epoch}.${inner}`,
        inner,
        `${no}.${Number(epoch) + 1}.${inner}.${seal}`,
        `${id}x`,
        "1.1..x"
      ]) {
        const { error }: Json = yield* mallory.call("initialize", { clientName: "m", resumeSessionId: wrong })
        assert.deepInclude(error, { code: -32600, message: `unknown session id ${wrong}` })
      }
      assert.isString(yield* sessionOf(mallory), "the connection can still be used")
      alice.carrier.close()
      const again = yield* as("alice")
      assert.strictEqual((yield* again.resume(id)).sessionId, id)
      const stranger = yield* command(["run", "--url", door.url, "--", "true"])
      assert.include(stranger.stderr, "401")
    }))

  test("a client waits for a place in turn, and is told when there is none", () =>
    Effect.gen(function* () {
      const door = yield* gatewayAlone(["--wait", "3s"])
      yield* host(door, "h1", { args: ["--capacity", "1", "--labels", "gpu"] })
      const first = yield* connect(door)
      yield* first.handshake()
      const second = yield* connect(door)
      const { error }: Json = yield* second.call("initialize", { clientName: "t", resumeSessionId: null })
      assert.strictEqual(error.code, -32600)
      assert.include(error.message, "all 1 places of the 1 hosts are taken")
      const elsewhere = yield* connectTo(`${door.url}/?label=tpu`)
      const none: Json = yield* elsewhere.call("initialize", { clientName: "t", resumeSessionId: null })
      assert.include(none.error.message, "no host with the label tpu is ready")
      first.carrier.close()
      const third = yield* connect(door)
      assert.isString((yield* third.handshake()).sessionId, "nothing runs in a session that was left")
      const waiting = second.post("initialize", { clientName: "t", resumeSessionId: null })
      yield* host(door, "h2", { args: ["--capacity", "1"] })
      assert.isString((yield* second.reply(waiting)).result.sessionId, "placed as soon as a host has come")
    }))

  test("a host that has registered and not connected is no place, and a client is told so", () =>
    Effect.gen(function* () {
      const door = yield* gatewayAlone(["--wait", "1s"])
      const url = `${door.url.replace("ws", "http")}/cloud/environment/h1/register`
      const fleet = { incarnation: "i", labels: [], capacity: 3, version: "1" }
      const { status } = yield* Effect.promise(() => fetch(url, { method: "POST", body: JSON.stringify({ fleet }) }))
      assert.strictEqual(status, 200)
      const client = yield* connect(door)
      const { error }: Json = yield* client.call("initialize", { clientName: "t" })
      assert.include(error.message, "none of the 1 hosts is connected to this gateway; try again later")
    }))

  test("a quota is the subject's, and said in a sentence", () =>
    Effect.gen(function* () {
      const door = yield* gatewayAlone(["--quota", "1"])
      yield* host(door, "h1")
      const [first, second] = [yield* connect(door), yield* connect(door)]
      yield* first.handshake()
      const { error }: Json = yield* second.call("initialize", { clientName: "t", resumeSessionId: null })
      assert.match(error.message, /^local:\d+ has as many sessions as its quota allows/)
    }))

  test("a second host under one id waits, and takes over when the first has left", () =>
    Effect.gen(function* () {
      const door = yield* gatewayAlone()
      const first = yield* host(door, "h1")
      const client = yield* connect(door)
      const id = yield* sessionOf(client)
      const twin = yield* Effect.forkScoped(host(door, "h1"))
      yield* Effect.sleep("1 second")
      first.child.kill("SIGTERM")
      const { pid } = yield* twin
      const again = yield* connect(door)
      const { error }: Json = yield* again.call("initialize", { clientName: "t", resumeSessionId: id })
      assert.deepInclude(error, { code: -32600, message: `unknown session id ${id}: its host was lost` })
      yield* again.handshake()
      assert.strictEqual(yield* hostPid(again, "p"), pid)
    }))

  test("a host that dies is lost after a lease, and its sessions are told lost, never left hanging", () =>
    Effect.gen(function* () {
      const door = yield* gatewayAlone(["--lease", "4s"])
      const dead = yield* host(door, "h1")
      const client = yield* connect(door)
      const id = yield* sessionOf(client)
      // The gateway's own lease must have held for one lease.
      yield* Effect.sleep("4500 millis")
      dead.child.kill("SIGKILL")
      const killedAt = Date.now()
      const codes: Array<number> = []
      const ask: Effect.Effect<void> = Effect.gen(function* () {
        const again = yield* connect(door)
        again.post("initialize", { clientName: "t", resumeSessionId: id })
        yield* eventually("an answer", () => again.hasReply(1) || again.ending !== undefined)
        if (!again.hasReply(1)) {
          codes.push(again.ending?.code ?? 0)
          return yield* Effect.zipRight(Effect.sleep("200 millis"), ask)
        }
        const { error }: Json = yield* again.reply(1)
        assert.strictEqual(error.message, `unknown session id ${id}: its host was lost`)
      }).pipe(Effect.scoped)
      yield* ask
      assert.isBelow(Date.now() - killedAt, 9000)
      assert.isTrue(
        codes.every((code) => code === 1013),
        "try again, until it is known"
      )
    }))

  test("a host that was frozen for longer than a lease ends its sessions, and comes back as a new one", () =>
    Effect.gen(function* () {
      const door = yield* gatewayAlone(["--lease", "4s"])
      const frozen = yield* host(door, "h1")
      const client = yield* connect(door)
      const id = yield* sessionOf(client)
      const { pid }: Json = yield* start(client, "p", "sleep 1000")
      yield* Effect.sleep("4500 millis")
      frozen.child.kill("SIGSTOP")
      yield* Effect.sleep("8 seconds")
      frozen.child.kill("SIGCONT")
      yield* eventually("its process has ended", () => {
        try {
          process.kill(pid, 0)
          return false
        } catch {
          return true
        }
      })
      const again = yield* connect(door)
      const { error }: Json = yield* again.call("initialize", { clientName: "t", resumeSessionId: id })
      assert.include(error.message, "its host was lost")
      yield* again.handshake()
      assert.strictEqual(yield* hostPid(again, "q"), frozen.pid)
    }))

  test("a gateway that starts again serves the same sessions", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const listen = ["--lease", "20s"]
      const first = yield* gateway(`file:${path}/db`, listen)
      assert.include((yield* command(["gateway", "--database", `file:${path}/db`])).stderr, "one gateway at a time")
      const one = yield* host(first, "h1")
      const client = yield* connect(first)
      const id = yield* sessionOf(client)
      yield* start(client, "p", "echo still; sleep 1000")
      first.child.kill("SIGKILL")
      yield* first.exit
      const second = yield* gateway(`file:${path}/db`, listen, first.url)
      const resumed: Effect.Effect<TestClient, never, Scope.Scope> = Effect.gen(function* () {
        const again = yield* connect(second)
        again.post("initialize", { clientName: "t", resumeSessionId: id })
        yield* eventually("an answer", () => again.hasReply(1) || again.ending !== undefined)
        if (again.hasReply(1)) {
          const { error }: Json = yield* again.reply(1)
          assert.isUndefined(error, JSON.stringify(error))
          again.raw('{"method":"initialized"}')
          return again
        }
        return yield* Effect.zipRight(Effect.sleep("200 millis"), resumed)
      })
      assert.strictEqual(yield* hostPid(yield* resumed, "q"), one.pid)
    }))

  for (const profile of ["legacy", "noise"])
    test(`an executor that knows of no fleets is a host too, over relay streams: ${profile}`, () =>
      Effect.gen(function* () {
        const door = yield* gatewayAlone()
        const plain = yield* host(door, "plain", { args: ["--remote-profile", profile] })
        const client = yield* connect(door)
        const id = yield* sessionOf(client)
        assert.strictEqual(yield* hostPid(client, "p"), plain.pid)
        client.carrier.close()
        const again = yield* connect(door)
        assert.strictEqual((yield* again.resume(id)).sessionId, id)
        yield* start(again, "big", "head -c 3000000 /dev/zero | tr '\\0' x")
        yield* again.until("the end", () =>
          again.messages.find(({ method, params }: Json) => method === "process/closed" && params.processId === "big")
        )
        assert.strictEqual(outputOf(again, "big"), "x".repeat(3_000_000))
        const other = yield* connect(door)
        yield* other.handshake()
        assert.strictEqual(yield* hostPid(other, "p"), plain.pid)
        plain.child.kill("SIGKILL")
        yield* other.ended()
        yield* again.ended()
      }))

  test("with TLS: hosts and clients that trust its certificate connect, and what it carries is whole", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const { cert, key } = selfSigned()
      writeFileSync(join(path, "cert.pem"), cert)
      writeFileSync(join(path, "key.pem"), key)
      const door = yield* gatewayAlone(["--tls-cert", join(path, "cert.pem"), "--tls-key", join(path, "key.pem")])
      assert.match(door.url, /^wss:/)
      const one = yield* host(door, "h1", { env: { NODE_EXTRA_CA_CERTS: join(path, "cert.pem") } })
      const client = yield* connectTo(door.url, { ca: cert })
      const id = yield* sessionOf(client)
      assert.strictEqual(yield* hostPid(client, "p"), one.pid)
      yield* start(client, "big", "head -c 3000000 /dev/zero | tr '\\0' x")
      yield* client.closed("big")
      assert.strictEqual(outputOf(client, "big"), "x".repeat(3_000_000))
      client.carrier.close()
      const again = yield* connectTo(door.url, { ca: cert })
      assert.strictEqual((yield* again.resume(id)).sessionId, id)
      assert.notMatch(one.stderr(), /Warning|DEP\d/)
    }))

  test("garbage is answered, and ends nothing", () =>
    Effect.gen(function* () {
      const door = yield* gatewayAlone()
      yield* host(door, "h1")
      const client = yield* connect(door)
      client.raw("this is no message")
      client.raw('{"method":"initialized"}')
      const { error }: Json = yield* client.call("process/start", {})
      assert.deepInclude(error, { code: -32600, message: "client must call initialize before using process/start" })
      assert.isString(yield* sessionOf(client))
      for (const bytes of [
        "GET / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01",
        `GET /fleet/back?ticket=x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: exec-server-reverse\r\n\r\n`
      ]) {
        const raw = yield* rawSocket(door.url)
        let answer = ""
        raw.on("data", (chunk) => {
          answer += chunk
        })
        raw.write(bytes, "latin1")
        yield* eventually("an answer", () => /^HTTP\/1.1 4/.test(answer))
      }
      const health: Json = yield* Effect.promise(async () =>
        (await fetch(`${door.url.replace("ws", "http")}/healthz`)).json()
      )
      assert.deepInclude(health, { hosts: 1, directory: true })
      assert.strictEqual(
        yield* Effect.promise(async () => (await fetch(`${door.url.replace("ws", "http")}/readyz`)).status),
        200
      )
    }))
})
