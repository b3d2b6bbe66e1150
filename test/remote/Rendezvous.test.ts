/** The rendezvous: who may come, what goes where, and that nobody waits for anybody else. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { get, request } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type ClientOptions, WebSocket } from "ws"
import * as ExecClient from "../../src/client/ExecClient.js"
import * as EnvironmentToken from "../../src/remote/EnvironmentToken.js"
import * as RelayClient from "../../src/remote/RelayClient.js"
import * as RelayFrame from "../../src/remote/RelayFrame.js"
import { selfSigned } from "../support/certificate.js"
import { command } from "../support/command.js"
import { directory } from "../support/files.js"
import {
  clientUrl,
  environmentId,
  executor,
  localExecutor,
  localRendezvous,
  relayClient,
  rendezvous
} from "../support/relay.js"
import { eventually, isAlive, launch } from "../support/servers.js"

const path = (action: string) => `/cloud/environment/${environmentId}/${action}`

const call = (url: string, method: string, headers: Record<string, string> = {}) =>
  Effect.async<{ readonly status: number | undefined; readonly body: string }>((resume) => {
    const sent = (method === "GET" ? get : request)(url.replace("ws:", "http:"), { method, headers }, (response) => {
      let body = ""
      response.on("data", (chunk) => {
        body += chunk
      })
      response.on("end", () => resume(Effect.succeed({ status: response.statusCode, body })))
    })
    sent.end()
  })

/** A raw socket, or the status of the refusal. */
const open = (
  url: string,
  headers: Record<string, string> = {},
  options: ClientOptions = {}
): Effect.Effect<WebSocket | number, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<WebSocket | number>((resume) => {
      const ws = new WebSocket(url, { perMessageDeflate: false, headers, ...options })
      ws.once("open", () => resume(Effect.succeed(ws)))
      ws.once("unexpected-response", (_, response) => {
        resume(Effect.succeed(response.statusCode ?? 0))
        ws.terminate()
      })
      ws.on("error", () => {})
    }),
    (ws) => Effect.sync(() => typeof ws !== "number" && ws.terminate())
  )

const socket = (url: string, options?: ClientOptions) =>
  Effect.flatMap(open(url, {}, options), (ws) =>
    typeof ws === "number" ? Effect.dieMessage(`refused with ${ws}`) : Effect.succeed(ws)
  )

const register = (url: string, token = "executor-token") =>
  Effect.map(call(`${url}${path("register")}`, "POST", { authorization: `Bearer ${token}` }), ({ status, body }) => ({
    status,
    url: JSON.parse(body).url,
    error: JSON.parse(body).error
  }))

/** An executor that is connected and answers no ping. */
const silentExecutor = (url: string) => Effect.flatMap(register(url), ({ url }) => socket(url, { autoPong: false }))

/** Resolves with the code of the end of a socket. */
const endOf = (ws: WebSocket) => new Promise<number>((resolve) => ws.once("close", resolve))

const data = (streamId: string, payload: string): Uint8Array =>
  RelayFrame.encode({
    streamId,
    ack: 0,
    ackBits: 0,
    reliable: false,
    acknowledged: false,
    body: { _tag: "Data", seq: 0, index: 0, count: 1, payload: Buffer.from(payload) }
  })

/** What a socket receives, each frame as `stream payload` or `stream reset: reason`. */
const listen = (ws: WebSocket): ReadonlyArray<string> => {
  const seen: Array<string> = []
  ws.on("message", (bytes: Buffer) => {
    const frame = RelayFrame.decode(bytes)
    if (frame._tag === "Left") return seen.push(frame.left.reason)
    const { streamId, body } = frame.right
    if (body._tag === "Data") return seen.push(`${streamId} ${Buffer.from(body.payload)}`)
    return seen.push(body._tag === "Reset" ? `${streamId} reset: ${body.reason}` : `${streamId} ${body._tag}`)
  })
  return seen
}

const tokens = { executorToken: "executor-token", clientToken: "client-token" }

describe("who may come", () => {
  it.scopedLive("executors with their token, and with a registration once; clients with theirs; no web page", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous(tokens)
      assert.strictEqual((yield* call(`${url}/readyz`, "GET")).status, 200)
      assert.strictEqual((yield* call(`${url}/other`, "GET")).status, 404)
      assert.strictEqual((yield* call(`${url}${path("register")}`, "GET")).status, 405)
      assert.strictEqual((yield* call(`${url}${path("register")}`, "POST")).status, 401)
      assert.strictEqual((yield* call(`${url}/cloud/environment/a%2Fb/register`, "POST")).status, 404)
      assert.strictEqual((yield* register(url, "executor-tokem")).status, 401)
      assert.strictEqual((yield* register(url, "client-token")).status, 401)
      const origin = { origin: "http://x", authorization: "Bearer executor-token" }
      assert.strictEqual((yield* call(`${url}${path("register")}`, "POST", origin)).status, 403)

      assert.strictEqual(yield* open(clientUrl(url)), 409)
      const { url: ticket } = yield* register(url)
      assert.strictEqual(yield* open(ticket.replace(environmentId, "other")), 401)
      assert.strictEqual(yield* open(ticket, { origin: "http://x" }), 403)
      assert.strictEqual(yield* open(`${ticket}x`), 401)
      yield* socket(ticket)
      assert.strictEqual(yield* open(ticket), 401)

      const bare = `${url}${path("connect")}?role=harness`
      assert.strictEqual(yield* open(bare), 401)
      assert.strictEqual(yield* open(`${bare}&token=executor-token`), 401)
      assert.strictEqual(yield* open(`${url}${path("register")}`), 404)
      yield* socket(`${bare}&token=client-token`)
      assert.notTypeOf(yield* open(bare, { authorization: "bearer client-token" }), "number")
      const refused = yield* Effect.flip(RelayClient.connect(bare))
      assert.strictEqual(refused.status, 401)
      assert.notInclude(refused.message, "role")
    })
  )

  it.scopedLive("an executor that registers again and again uses up its own registrations, not those of others", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous()
      const registerOther = call(`${url}/cloud/environment/other/register`, "POST")
      const other = JSON.parse((yield* registerOther).body).url
      const tickets = yield* Effect.replicateEffect(register(url), 9)
      assert.strictEqual(yield* open(tickets[0]?.url), 401)
      yield* socket(tickets[1]?.url)
      yield* socket(other)
    })
  )

  it.scopedLive("no more environments, clients and streams than allowed", () =>
    Effect.gen(function* () {
      const limits = { maxEnvironments: 1, maxClientsPerEnvironment: 1, maxStreamsPerClient: 2 }
      const url = yield* localRendezvous({ limits })
      const executorSeen = listen(yield* socket((yield* register(url)).url))
      const other = yield* call(`${url}/cloud/environment/other/register`, "POST")
      assert.strictEqual(yield* open(JSON.parse(other.body).url), 503)
      const client = yield* socket(clientUrl(url))
      const seen = listen(client)
      assert.strictEqual(yield* open(clientUrl(url)), 503)
      for (const name of ["a", "b", "c"]) client.send(data(name, "x"))
      yield* eventually("the refusal", () => seen.length === 1)
      assert.match(seen[0] ?? "", /^c reset: the limit of 2 streams is reached/)
      assert.deepStrictEqual(executorSeen, ["a x", "b x"])
    })
  )

  it.scopedLive("the command takes tokens from files, and no public address without them", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "exec-server-test-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const [executorFile, clientFile, empty] = ["executor", "client", "empty"].map((name) => join(folder, name))
      writeFileSync(executorFile ?? "", "executor-token\n")
      writeFileSync(clientFile ?? "", "client-token\n")
      writeFileSync(empty ?? "", "\n")
      const files = ["--executor-token-file", `${executorFile}`, "--client-token-file", `${clientFile}`]
      const { url, child, exit } = yield* rendezvous({ args: files })
      assert.strictEqual((yield* register(url, "wrong")).status, 401)
      yield* executor(url)
      yield* (yield* relayClient(url)).handshake()
      child.kill("SIGTERM")
      assert.strictEqual(yield* exit, 0)
      const cases: ReadonlyArray<readonly [ReadonlyArray<string>, number, RegExp, Record<string, string>?]> = [
        [["--listen", "ws://0.0.0.0:0"], 2, /^Error: refusing to listen on ws:\/\/0\.0\.0\.0:0/],
        [["--listen", "ws://0.0.0.0:0", "--client-token-file", `${clientFile}`], 2, /^Error: refusing to listen/],
        [["--listen", "ws://localhost:0"], 2, /^Error: invalid websocket --listen URL/],
        [["--listen", "unix:///tmp/rendezvous"], 2, /^Error: invalid websocket --listen URL `unix:.*expected `ws:/],
        [["--listen", "stdio"], 2, /^Error: invalid websocket --listen URL `stdio`/],
        [["--listen", "foo"], 2, /^Error: invalid websocket --listen URL `foo`; expected `ws:\/\/IP:PORT`\n$/],
        [["--client-token-file", `${empty}`], 1, /^Error: the token in .* is empty\n$/],
        [[], 2, /^Error: the token in the environment is empty\n$/, { EXEC_SERVER_CLIENT_TOKEN: " " }],
        [["--client-token-file", "/no/such/file"], 1, /^Error: cannot read the token \/no\/such\/file: No such file/],
        [["--public-url", "https://x"], 2, /^Error: invalid --public-url/],
        [["--listen", "wss://127.0.0.1:0"], 2, /^Error: --listen wss:.* needs a certificate/],
        [["--tls-cert", "/no/such/file"], 2, /^Error: `--tls-key` is missing/],
        [["--tls-cert", "/no/such/file", "--tls-key", "/no/such/file"], 1, /^Error: .*No such file/]
      ]
      for (const [args, code, message, env = {}] of cases) {
        const running = yield* launch({ args: ["rendezvous", ...args], env })
        assert.strictEqual(yield* running.exit, code, args.join(" "))
        assert.match(running.stderr(), message)
      }
    })
  )
})

describe("the command", () => {
  it.scopedLive("serves TLS with a certificate, and logs JSON where it is asked to", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const { cert, key } = selfSigned()
      writeFileSync(`${folder}/cert.pem`, cert)
      writeFileSync(`${folder}/key.pem`, key)
      const files = ["--tls-cert", `${folder}/cert.pem`, "--tls-key", `${folder}/key.pem`]
      const running = yield* rendezvous({ args: [...files, "--log-format", "json", "--log-level", "debug"] })
      assert.match(running.url, /^wss:\/\/127\.0\.0\.1:\d+$/)
      yield* executor(running.url, { env: { NODE_EXTRA_CA_CERTS: `${folder}/cert.pem` } })
      const answer = yield* Effect.async<string>((resume) => {
        const ws = new WebSocket(clientUrl(running.url), { ca: cert })
        ws.once("open", () => {
          ws.send("no frame")
          ws.once("close", () => resume(Effect.succeed("open")))
          ws.close()
        })
        ws.once("error", (error) => resume(Effect.succeed(error.message)))
        return Effect.sync(() => ws.terminate())
      }).pipe(Effect.repeat({ until: (answer) => answer !== "Unexpected server response: 409" }))
      assert.strictEqual(answer, "open")
      yield* eventually("it is logged", () => running.stderr().includes("is dropped"))
      const logged = running
        .stderr()
        .trim()
        .split("\n")
        .find((line) => line.includes("is dropped"))
      assert.include(JSON.parse(logged ?? "").message, "is dropped")
    })
  )
})

describe("what goes where", () => {
  it.scopedLive("executors are led to where they found it, or to where it says it is found", () =>
    Effect.gen(function* () {
      const plain = yield* localRendezvous()
      assert.match((yield* register(plain)).url, new RegExp(`^${plain}${path("executor")}\\?ticket=[\\w-]{43}$`))
      const behind = yield* localRendezvous({ publicUrl: "wss://example.com/" })
      assert.isTrue((yield* register(behind)).url.startsWith(`wss://example.com${path("executor")}?ticket=`))
    })
  )

  it.scopedLive("each stream to its client, unchanged, and no client into another one's", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous()
      const server = yield* socket((yield* register(url)).url)
      const [a, b] = [yield* socket(clientUrl(url)), yield* socket(clientUrl(url))]
      const [serverSeen, aSeen, bSeen] = [listen(server), listen(a), listen(b)]
      a.send(data("a", "from a"))
      yield* eventually("a's frame", () => serverSeen.includes("a from a"))
      b.send(data("a", "from b"))
      b.send(data("b", "from b"))
      b.send("text")
      b.send(Buffer.from("garbage"))
      b.send(data("b", "more"))
      yield* eventually("b's frames", () => serverSeen.includes("b more"))
      assert.deepStrictEqual(serverSeen, ["a from a", "b from b", "b more"])
      yield* eventually("the refusal", () => bSeen.length === 1)
      assert.deepStrictEqual(bSeen, ["a reset: the stream belongs to another client"])
      for (const name of ["a", "nobody", "b"]) server.send(data(name, "answer"))
      yield* eventually("the answers", () => aSeen.length === 1 && bSeen.length === 2)
      assert.deepStrictEqual([aSeen[0], bSeen[1]], ["a answer", "b answer"])
      a.terminate()
      yield* eventually("the executor is told", () => serverSeen.includes("a reset: the client is gone"))
    })
  )
})

describe("a second executor of an environment", () => {
  const taken = {
    code: "environment_taken",
    message: "another executor of this environment is connected, and answers; end it first"
  }

  it.scopedLive("is refused while the first one answers, at its registration and at its connection", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous()
      const [first, second] = [yield* register(url), yield* register(url)]
      const connected = yield* socket(first.url)
      const seen = listen(connected)
      const client = yield* socket(clientUrl(url))
      assert.deepInclude(yield* register(url), { status: 409, error: taken })
      assert.strictEqual(yield* open(second.url), 409)
      client.send(data("a", "x"))
      yield* eventually("the first one still gets frames", () => seen.includes("a x"))
      const other = yield* call(`${url}/cloud/environment/other/register`, "POST")
      yield* socket(JSON.parse(other.body).url)
      connected.close()
      yield* Effect.promise(() => endOf(connected))
      yield* socket((yield* register(url)).url)
    })
  )

  it.scopedLive("takes the place of one that does not answer; clients are told, and come again", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous()
      const first = yield* silentExecutor(url)
      const client = yield* socket(clientUrl(url))
      const seen = listen(client)
      client.send(data("a", "x"))
      const [ended, replaced] = [endOf(client), endOf(first)]
      const firstSeen = listen(first)
      yield* eventually("the frame", () => firstSeen.length === 1)
      const second = yield* socket((yield* register(url)).url)
      assert.strictEqual(yield* Effect.promise(() => replaced), 1000)
      assert.strictEqual(yield* Effect.promise(() => ended), 1013)
      assert.deepStrictEqual(seen, ["a reset: the executor is gone"])
      const again = yield* socket(clientUrl(url))
      const secondSeen = listen(second)
      again.send(data("a", "y"))
      yield* eventually("the new executor gets it", () => secondSeen.includes("a y"))
    })
  )

  it.scopedLive("of several that come at a time for one that does not answer, one gets the place", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous()
      const tickets = [yield* register(url), yield* register(url), yield* register(url), yield* register(url)]
      const [ticket = "", ...others] = tickets.map(({ url }) => url)
      yield* socket(ticket, { autoPong: false })
      const results = yield* Effect.all(
        others.map((one) => open(one)),
        { concurrency: "unbounded" }
      )
      assert.sameMembers(
        results.map((ws) => (typeof ws === "number" ? ws : "open")),
        ["open", 409, 409]
      )
    })
  )

  it.scopedLive.each([[false], [true]])(
    "is told so by the command, which ends; one that stood still ends as well when it goes on (encrypted: %s)",
    ([encrypted]) =>
      Effect.gen(function* () {
        const { url } = yield* rendezvous({ args: encrypted ? ["--encrypted"] : [] })
        const isServed = encrypted
          ? ExecClient.connect({ url: `${url.replace("ws:", "noise:")}/${environmentId}` }).pipe(
              Effect.retry({ times: 400, schedule: Schedule.spaced("25 millis") }),
              Effect.scoped
            )
          : Effect.flatMap(relayClient(url), (client) => client.handshake())
        const first = yield* executor(url)
        yield* isServed
        const args = ["--remote", url.replace("ws:", "http:"), "--environment-id", environmentId]
        const env = { EXEC_SERVER_REMOTE_TOKEN: "executor-token" }
        const twin = yield* launch({ args, env })
        assert.strictEqual(yield* twin.exit, 1)
        const refusal = `environment registry request failed (409 Conflict, ${taken.code}): ${taken.message}`
        assert.strictEqual(twin.stderr(), `Error: ${refusal}\n`)
        first.child.kill("SIGSTOP")
        yield* executor(url)
        yield* isServed
        first.child.kill("SIGCONT")
        assert.strictEqual(yield* first.exit, 1)
        assert.include(first.stderr(), refusal)
      })
  )
})

describe("tokens of one environment each", () => {
  const secret = "0123456789abcdef0123456789abcdef"
  const derived = (role: EnvironmentToken.Role) => EnvironmentToken.derive(secret, role)

  it.scopedLive("let executors and clients into theirs, and into no other one", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous({ executorToken: derived("executor"), clientToken: derived("client") })
      const own = derived("executor")(environmentId)
      for (const token of [derived("executor")("other"), derived("client")(environmentId), secret, "", `${own}x`]) {
        const { status, error } = yield* register(url, token)
        assert.strictEqual(status, 401)
        assert.strictEqual(error.message, "the token is missing, or it is not that of this environment")
      }
      yield* socket((yield* register(url, own)).url)
      const bare = `${url}${path("connect")}?role=harness`
      const clientToken = derived("client")(environmentId)
      for (const token of [own, derived("client")("other"), secret]) {
        assert.strictEqual(yield* open(`${bare}&token=${token}`), 401)
      }
      assert.strictEqual(yield* open(bare), 401)
      yield* socket(`${bare}&token=${clientToken}`)
      assert.notTypeOf(yield* open(bare, { authorization: `Bearer ${clientToken}` }), "number")
    })
  )

  it.scopedLive("are printed by the command, and work for executor and client as any token does", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      for (const name of ["executor.secret", "client.secret"]) {
        writeFileSync(join(folder, name), `${name} ${secret}\n`, { mode: 0o600 })
      }
      const files = ["executor", "client"].flatMap((role) => [`--${role}-secret-file`, join(folder, `${role}.secret`)])
      const running = yield* rendezvous({ args: files })
      assert.notInclude(running.stderr(), "share")
      for (const [role, flags] of [
        ["executor", files.slice(0, 2)],
        ["client", files.slice(2)]
      ] as const) {
        const printed = yield* command(["rendezvous", "token", environmentId, ...flags])
        assert.deepStrictEqual([printed.code, printed.stderr], [0, ""])
        assert.match(printed.stdout, /^[\w-]{43}\n$/)
        writeFileSync(join(folder, `${role}.token`), printed.stdout, { mode: 0o600 })
      }
      yield* executor(running.url, { args: ["--remote-token-file", join(folder, "executor.token")] })
      const relay = running.url.replace("ws:", "relay:")
      const client = ["--token-file", join(folder, "client.token")]
      const ran = yield* command(["run", "--url", `${relay}/${environmentId}`, ...client, "--", "echo", "hello"])
      assert.deepStrictEqual(ran, { code: 0, stdout: "hello\n", stderr: "" })
      const other = yield* command(["run", "--url", `${relay}/other`, ...client, "--", "true"])
      assert.strictEqual(other.code, 1)
      assert.include(other.stderr, "401")
      const args = ["--remote", running.url.replace("ws:", "http:"), "--environment-id", "other"]
      const stranger = yield* launch({ args: [...args, "--remote-token-file", join(folder, "executor.token")] })
      assert.strictEqual(yield* stranger.exit, 1)
      assert.match(stranger.stderr(), /401 Unauthorized\): the token is missing, or it is not that of this environment/)
    })
  )

  it.scopedLive("are asked for in a way that makes sense", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const file = join(folder, "secret")
      writeFileSync(file, secret)
      const short = join(folder, "short")
      writeFileSync(short, "short")
      const cases: ReadonlyArray<readonly [ReadonlyArray<string>, number, RegExp]> = [
        [["my-env"], 2, /^Error: give --executor-secret-file, for the token of the executor, or --client-secret-file/],
        [["my-env", "--executor-secret-file", file, "--client-secret-file", file], 2, /^Error: give --executor-secret/],
        [["a/b", "--executor-secret-file", file], 2, /^Error: environment id must contain only ASCII letters/],
        [["my-env", "--executor-secret-file", short], 1, /^Error: the secret in .* is shorter than 32 bytes\n$/],
        [["my-env", "--client-secret-file", "/no/file"], 1, /^Error: cannot read the secret \/no\/file: No such file/]
      ]
      for (const [args, code, message] of cases) {
        const ended = yield* command(["rendezvous", "token", ...args])
        assert.deepStrictEqual([ended.code, ended.stdout], [code, ""], args.join(" "))
        assert.match(ended.stderr, message)
      }
    })
  )

  it.scopedLive("are advised where all executors share one", () =>
    Effect.gen(function* () {
      const shared = { EXEC_SERVER_EXECUTOR_TOKEN: "executor-token", EXEC_SERVER_CLIENT_TOKEN: "client-token" }
      const { stderr } = yield* rendezvous({ env: shared })
      yield* eventually("the warning", () => stderr().includes("share one token"))
      assert.include(stderr(), "--executor-secret-file")
      assert.lengthOf(stderr().match(/share one token/g) ?? [], 1)
    })
  )
})

describe("executor and clients", () => {
  it.scopedLive("a client that does not read holds up neither others nor its own end", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous()
      yield* localExecutor(url)
      const [stalled, quick] = [yield* relayClient(url), yield* relayClient(url)]
      yield* stalled.handshake()
      yield* quick.handshake()
      stalled.discard = true
      let received = 0
      stalled.onOutput = (chunk) => {
        received += chunk.length
      }
      yield* stalled.sh("flood", "exec head -c 60000000 /dev/zero")
      stalled.carrier.pause()
      yield* quick.sh("p", "head -c 20000000 /dev/zero | wc -c")
      yield* quick.sees("p", "20000000")
      for (let i = 0; i < 200; i++) yield* quick.ask("environment/status")
      assert.isBelow(received, 60_000_000)
      stalled.carrier.resume()
      yield* stalled.closed("flood")
      assert.strictEqual(received, 60_000_000)
    })
  )

  it.scopedLive("a client whose connection breaks is detached, and takes its session up again over another", () =>
    Effect.gen(function* () {
      const { url } = yield* rendezvous()
      const server = yield* executor(url)
      const client = yield* relayClient(url)
      const { sessionId } = yield* client.handshake()
      const { pid } = yield* client.sh("p", "echo one; read x; echo two; sleep 1000", { pipeStdin: true })
      yield* client.sees("p", "one\n")
      client.carrier.close()
      yield* client.ended()
      const again = yield* relayClient(url)
      again.knows("p")
      assert.strictEqual((yield* again.resume(sessionId)).sessionId, sessionId)
      yield* again.write("p", "go\n")
      yield* again.sees("p", "two\n")
      assert.isTrue(isAlive(pid))
      server.child.kill("SIGTERM")
      yield* again.ended()
      assert.strictEqual(again.ending?.reason, "the server is shutting down")
      assert.strictEqual(yield* server.exit, 0)
    })
  )

  it.scopedLive("the rendezvous starts again: the executor comes back, and sessions are there", () =>
    Effect.gen(function* () {
      const first = yield* rendezvous()
      const server = yield* executor(first.url)
      const client = yield* relayClient(first.url)
      const { sessionId } = yield* client.handshake()
      const { pid } = yield* client.start("p", ["sleep", "1000"])
      first.child.kill("SIGKILL")
      yield* client.ended()
      // Meanwhile the registry cannot be reached, which is waited for.
      yield* eventually("an attempt has failed", () => server.stderr().includes("error sending request"))
      const port = new URL(first.url).port
      const second = yield* rendezvous({ args: ["--listen", `ws://127.0.0.1:${port}`] })
      const again = yield* relayClient(second.url)
      again.knows("p")
      assert.strictEqual((yield* again.resume(sessionId)).sessionId, sessionId)
      assert.strictEqual((yield* again.ask("process/list")).processes[0].pid, pid)
    })
  )

  it.scopedLive("a message of many megabytes goes both ways, cut in segments, and holds up no other client", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous()
      yield* localExecutor(url)
      const [large, small] = [yield* relayClient(url), yield* relayClient(url)]
      yield* large.handshake()
      yield* small.handshake()
      yield* large.start("c", ["wc", "-c"], { pipeStdin: true })
      const reply = large.post("process/write", {
        processId: "c",
        chunk: Buffer.alloc(12_000_000, "x").toString("base64")
      })
      yield* small.ask("environment/status")
      assert.strictEqual((yield* large.reply(reply)).result.status, "accepted")
      yield* large.ask("process/closeStdin", { processId: "c" })
      yield* large.closed("c")
      assert.strictEqual(large.output("c").toString().trim(), "12000000")
    })
  )
})
