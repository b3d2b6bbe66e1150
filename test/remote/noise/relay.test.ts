/** Our own executor, rendezvous and client, encrypted: what arrives, what can be read on the way, who comes in. */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { WebSocket } from "ws"
import { isRetryable } from "../../../src/client/ClientError.js"
import * as ExecClient from "../../../src/client/ExecClient.js"
import * as NoiseLink from "../../../src/client/NoiseLink.js"
import * as Identity from "../../../src/remote/noise/Identity.js"
import * as KeyPair from "../../../src/remote/noise/KeyPair.js"
import * as NoiseFrame from "../../../src/remote/noise/NoiseFrame.js"
import { command } from "../../support/command.js"
import { fakeRelay } from "../../support/fakeRelay.js"
import { directory } from "../../support/files.js"
import { noiseExecutor, registered } from "../../support/noise.js"
import { recordingProxy } from "../../support/proxy.js"
import { environmentId, executor, localExecutor, localRendezvous, rendezvous } from "../../support/relay.js"

const noiseUrl = (url: string) => `${url.replace("ws:", "noise:")}/${environmentId}`

/** A client that retries until the executor has connected. */
const client = (url: string, options: Partial<ExecClient.Options> & { readonly token?: string } = {}) =>
  ExecClient.connect({ url, clientName: "test", ...options }).pipe(
    Effect.retry({
      times: 200,
      schedule: Schedule.spaced("25 millis"),
      while: (error) => error._tag === "ConnectFailed" && error.status === 409
    })
  )

const run = (shape: ExecClient.Shape, script: string) =>
  Effect.gen(function* () {
    const started = yield* shape.start({ argv: ["sh", "-c", script], cwd: "/" })
    return (yield* started.communicate()).stdout.head.toString()
  })

const secret = "the-words-that-nobody-on-the-way-may-read"

/** What somebody on the way sees of a client that talks of a secret. */
const recordingOf = (encrypted: boolean) =>
  Effect.gen(function* () {
    const proxy = yield* recordingProxy(yield* localRendezvous({ encrypted }))
    yield* encrypted ? noiseExecutor(proxy.url) : localExecutor(proxy.url)
    const url = `${proxy.url.replace("ws", encrypted ? "noise" : "relay")}/${environmentId}`
    const shape = yield* client(url)
    assert.include(yield* run(shape, `echo ${secret}; pwd`), secret)
    // A refusal that quotes it, too.
    yield* Effect.flip(shape.files.readFile(`/${secret}`))
    return proxy.recorded().toString("latin1")
  })

describe("an encrypted relay", () => {
  it.scopedLive("carries what a client and a server say, of any size", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous({ encrypted: true })
      yield* noiseExecutor(url, { profile: "noise" })
      const shape = yield* client(noiseUrl(url))
      const output = yield* run(shape, "head -c 3000000 /dev/zero | tr '\\0' x")
      assert.strictEqual(output.length, 3000000)
      assert.isTrue(shape.capabilities?.binaryOutput)
      const folder = yield* directory
      const path = join(folder, "large")
      const bytes = Buffer.from(Array.from({ length: 5_000_000 }, (_, i) => i % 251))
      yield* shape.files.writeFile(path, bytes)
      const digest = (data: Uint8Array) => createHash("sha256").update(data).digest("hex")
      assert.strictEqual(digest(readFileSync(path)), digest(bytes))
      assert.strictEqual(digest(yield* shape.files.readFile(path)), digest(bytes))
      const others = yield* Effect.all(
        Array.from({ length: 10 }, (_, i) => Effect.flatMap(client(noiseUrl(url)), (other) => run(other, `echo ${i}`))),
        { concurrency: 10 }
      )
      assert.deepStrictEqual(
        others,
        others.map((_, i) => `${i}\n`)
      )
    })
  )

  it.scopedLive("shows nothing to whoever forwards it", () =>
    Effect.gen(function* () {
      const readable = ["process/start", "initialize", secret, Buffer.from(secret).toString("base64").slice(4, -8)]
      const encrypted = yield* recordingOf(true)
      assert.isAbove(encrypted.length, 10000)
      for (const text of readable) assert.notInclude(encrypted, text)
      const plain = yield* recordingOf(false)
      for (const text of readable.slice(0, 3)) assert.include(plain, text)
    })
  )

  it.scopedLive("loses nothing when it is cut in the middle of a command", () =>
    Effect.gen(function* () {
      const proxy = yield* recordingProxy(yield* localRendezvous({ encrypted: true }))
      yield* noiseExecutor(proxy.url)
      const shape = yield* client(noiseUrl(proxy.url))
      const { sessionId } = shape
      const script = "for i in $(seq 1 40); do echo line $i; sleep 0.05; done"
      const started = yield* shape.start({ argv: ["sh", "-c", script], cwd: "/" })
      yield* Effect.fork(Effect.delay(proxy.cut, "700 millis"))
      const { stdout } = yield* started.communicate()
      assert.strictEqual(stdout.head.toString(), Array.from({ length: 40 }, (_, i) => `line ${i + 1}\n`).join(""))
      assert.strictEqual(shape.sessionId, sessionId)
    })
  )

  it.scopedLive("takes no forged byte for a true one: the stream ends, and the client comes back", () =>
    Effect.gen(function* () {
      const address = yield* localRendezvous({ encrypted: true })
      yield* noiseExecutor(address)
      // The executor is connected once a client is.
      yield* client(noiseUrl(address))
      const proxy = yield* recordingProxy(address)
      const shape = yield* client(noiseUrl(proxy.url))
      const { sessionId } = shape
      const states: Array<string> = []
      yield* shape.watch(({ _tag }) => states.push(_tag))
      const script = "for i in $(seq 1 40); do echo line $i; sleep 0.02; done"
      const started = yield* shape.start({ argv: ["sh", "-c", script], cwd: "/" })
      yield* proxy.forge
      const { stdout } = yield* started.communicate()
      assert.strictEqual(stdout.head.toString(), Array.from({ length: 40 }, (_, i) => `line ${i + 1}\n`).join(""))
      assert.isTrue(proxy.hasForged())
      assert.include(states, "Recovering")
      assert.strictEqual(shape.sessionId, sessionId)
    })
  )

  it.scopedLive("ends a client whose executor has another key than before", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous({ encrypted: true })
      const first = yield* Scope.make()
      yield* Scope.extend(noiseExecutor(url), first)
      const shape = yield* client(noiseUrl(url))
      yield* Scope.close(first, Exit.void)
      yield* noiseExecutor(url)
      assert.include((yield* shape.ended).message, "executor key changed during session recovery")
    })
  )

  it.scopedLive("tells a client that the registry rejects the executor, and that is final", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous({ encrypted: true })
      const registry = yield* fakeRelay(environmentId)
      const { json } = yield* post(url, "register", undefined, {
        security_profile: "noise_hybrid_ik_v1",
        executor_public_key: key
      })
      const { url: address, ...members } = json
      registry.answers = [registered(registry, { ...members, url: address })]
      registry.validations = [{ status: 401, body: "" }]
      const identityFile = join(yield* directory, "identity")
      yield* noiseExecutor(registry.url, { identityFile })
      const executor = KeyPair.encode((yield* Identity.load(identityFile)).public)
      // The rendezvous knows the key of the first registration: its answer is given the executor's.
      const desk = yield* fakeRelay(environmentId)
      const admitted = yield* Effect.retry(
        Effect.filterOrFail(
          post(url, "connect", undefined, { harness_public_key: key }),
          ({ status }) => status === 200
        ),
        { times: 200, schedule: Schedule.spaced("25 millis") }
      )
      desk.answers = [{ status: 200, body: JSON.stringify({ ...admitted.json, executor_public_key: executor }) }]
      const error = yield* Effect.flip(client(noiseUrl(desk.url.replace("http", "ws"))))
      assert.include(error.message, "the registry does not accept the executor's credential")
      assert.isFalse(isRetryable(error))
    })
  )

  it.scopedLive("knows an executor again that keeps its key in a file", () =>
    Effect.gen(function* () {
      const identityFile = join(yield* directory, "identity")
      const url = yield* localRendezvous({ encrypted: true })
      const first = yield* Scope.make()
      yield* Scope.extend(noiseExecutor(url, { identityFile }), first)
      assert.strictEqual(statSync(identityFile).mode & 0o777, 0o600)
      const shape = yield* client(noiseUrl(url))
      yield* Scope.close(first, Exit.void)
      yield* noiseExecutor(url, { identityFile })
      // The session went with the server. The client found the server that it knows, and was told so.
      assert.notInclude((yield* shape.ended).message, "key changed")
    })
  )
})

describe("the file with the key", () => {
  it.scoped("is made once, and refused if it is anything else", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const path = join(folder, "identity")
      const [one, other] = [yield* Identity.load(path), yield* Identity.load(path)]
      assert.isTrue(KeyPair.isSame(one.public, other.public))
      assert.isFalse(KeyPair.isSame(one.public, (yield* Identity.load(undefined)).public))
      for (const text of ["", "x", readFileSync(path, "utf8").slice(0, -9), `${readFileSync(path, "utf8")}\n`]) {
        const wrong = join(folder, "wrong")
        writeFileSync(wrong, text)
        assert.include((yield* Effect.flip(Identity.load(wrong))).message, wrong)
        assert.strictEqual(readFileSync(wrong, "utf8"), text)
      }
      const nowhere = join(folder, "no", "folder")
      assert.include((yield* Effect.flip(Identity.load(nowhere))).message, nowhere)
    })
  )
})

describe("URLs of encrypted relays", () => {
  it("name the registry and the environment", () => {
    assert.deepStrictEqual(NoiseLink.addressOf("noise://127.0.0.1:80/e-1"), {
      registry: "http://127.0.0.1:80",
      environmentId: "e-1"
    })
    assert.deepStrictEqual(NoiseLink.addressOf("noises://host/some/path/e_1"), {
      registry: "https://host/some/path",
      environmentId: "e_1"
    })
    for (const url of ["noise://host", "noise://host/", "noise://host/a?b", "noise://user@host/a", "noise:///a"]) {
      assert.isUndefined(NoiseLink.addressOf(url), url)
    }
  })
})

const key = KeyPair.encode(KeyPair.generate().public)

const post = (url: string, action: string, token: string | undefined, body: unknown) =>
  Effect.promise(async () => {
    const response = await fetch(`${url.replace("ws", "http")}/cloud/environment/${environmentId}/${action}`, {
      method: "POST",
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      body: typeof body === "string" ? body : JSON.stringify(body)
    })
    return { status: response.status, json: JSON.parse(await response.text()) }
  })

const upgradeStatus = (url: string) =>
  Effect.async<number>((resume) => {
    const ws = new WebSocket(url)
    ws.once("open", () => {
      resume(Effect.succeed(101))
      ws.terminate()
    })
    ws.once("unexpected-response", (_, response) => {
      resume(Effect.succeed(response.statusCode ?? 0))
      ws.terminate()
    })
    ws.on("error", () => {})
  })

describe("a rendezvous of encrypted relays", () => {
  it.scopedLive("lets in who has a token, and nobody twice with one ticket", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous({
        encrypted: true,
        executorToken: "executor-token",
        clientToken: "client-token"
      })
      assert.strictEqual((yield* post(url, "connect", "client-token", { harness_public_key: key })).status, 409)
      yield* noiseExecutor(url)
      yield* client(noiseUrl(url), { token: "client-token" })
      for (const token of [undefined, "executor-token"]) {
        assert.strictEqual((yield* post(url, "connect", token, { harness_public_key: key })).status, 401)
        const error = yield* Effect.flip(client(noiseUrl(url), token === undefined ? {} : { token }))
        assert.include(error.message, "token")
      }
      const { status, json } = yield* post(url, "connect", "client-token", { harness_public_key: key })
      assert.strictEqual(status, 200)
      assert.sameMembers(Object.keys(json), [
        "environment_id",
        "url",
        "security_profile",
        "executor_registration_id",
        "executor_public_key",
        "harness_key_authorization"
      ])
      assert.deepStrictEqual([yield* upgradeStatus(json.url), yield* upgradeStatus(json.url)], [101, 401])
      // A ticket of a client opens nothing else.
      const another = yield* post(url, "connect", "client-token", { harness_public_key: key })
      const ticket = new URL(another.json.url).searchParams.get("ticket")
      const asExecutor = `${url}/cloud/environment/${environmentId}/executor?ticket=${ticket}`
      assert.strictEqual(yield* upgradeStatus(asExecutor), 401)
      assert.strictEqual(yield* upgradeStatus(another.json.url.replace(environmentId, "other")), 401)
    })
  )

  it.scopedLive("ends a client that sends a frame too long for the executor, and no other one", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous({ encrypted: true })
      yield* noiseExecutor(url)
      const bystander = yield* client(noiseUrl(url))
      const states: Array<string> = []
      yield* bystander.watch(({ _tag }) => states.push(_tag))
      const { json } = yield* post(url, "connect", undefined, { harness_public_key: key })
      const sender = new WebSocket(json.url)
      const ended = new Promise<number>((resolve) => sender.once("close", resolve))
      yield* Effect.promise(() => new Promise((resolve) => sender.once("open", resolve)))
      const longest = NoiseFrame.record("a-stream", 1, [Buffer.alloc(NoiseFrame.maxFrameBytes - 24)])
      assert.strictEqual(longest.length, NoiseFrame.maxFrameBytes)
      const answered = new Promise((resolve) => sender.once("message", resolve))
      sender.send(longest)
      yield* Effect.promise(() => answered)
      sender.send(NoiseFrame.record("a-stream", 1, [Buffer.alloc(300_000)]))
      assert.strictEqual(yield* Effect.promise(() => ended), 1009)
      assert.strictEqual(yield* run(bystander, "echo hello"), "hello\n")
      assert.deepStrictEqual(
        states.filter((state) => state !== "Connected"),
        []
      )
    })
  )

  it.scopedLive("vouches for a client once, with its key, to the executor that it asked for", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous({ encrypted: true, executorToken: "executor-token" })
      yield* noiseExecutor(url)
      yield* client(noiseUrl(url))
      const vouched = (more: object) =>
        Effect.gen(function* () {
          const { json } = yield* post(url, "connect", undefined, { harness_public_key: key })
          const question = {
            executor_registration_id: json.executor_registration_id,
            harness_public_key: key,
            harness_key_authorization: json.harness_key_authorization,
            ...more
          }
          const ask = Effect.map(post(url, "validate", "executor-token", question), ({ json }) => json.valid)
          return [yield* ask, yield* ask]
        })
      assert.deepStrictEqual(yield* vouched({}), [true, false])
      const stranger = KeyPair.encode(KeyPair.generate().public)
      for (const more of [
        { harness_public_key: stranger },
        { harness_public_key: null },
        { executor_registration_id: "other" },
        { harness_key_authorization: "made up" },
        { harness_key_authorization: 1 }
      ]) {
        assert.deepStrictEqual(yield* vouched(more), [false, false], JSON.stringify(Object.keys(more)))
      }
      assert.strictEqual((yield* post(url, "validate", undefined, {})).status, 401)
    })
  )

  it.scopedLive("refuses what is not encrypted, and what is wrong", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous({ encrypted: true })
      const refused = [
        ["register", ""],
        ["register", {}],
        ["register", { security_profile: "p2", executor_public_key: key }],
        ["register", { security_profile: "noise_hybrid_ik_v1", executor_public_key: {} }]
      ] as const
      for (const [action, body] of refused) {
        assert.strictEqual((yield* post(url, action, undefined, body)).status, 400, JSON.stringify(body))
      }
      assert.strictEqual((yield* post(url, "register", undefined, "x".repeat(20000))).status, 413)
      yield* noiseExecutor(url)
      yield* client(noiseUrl(url))
      assert.strictEqual((yield* post(url, "connect", undefined, {})).status, 400)
      assert.strictEqual(yield* upgradeStatus(`${url}/cloud/environment/${environmentId}/connect?role=harness`), 401)

      const plain = yield* localRendezvous()
      yield* localExecutor(plain)
      const error = yield* Effect.flip(client(noiseUrl(plain)))
      assert.include(error.message, "--encrypted")
    })
  )
})

describe("the commands", () => {
  it.scopedLive("run an encrypted rendezvous, executor and client", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const { url } = yield* rendezvous({
        args: ["--encrypted"],
        env: { EXEC_SERVER_EXECUTOR_TOKEN: "executor-token", EXEC_SERVER_CLIENT_TOKEN: "client-token" }
      })
      const identity = join(folder, "identity")
      yield* executor(url, { args: ["--remote-profile", "noise", "--remote-identity", identity] })
      const run = () =>
        command(["run", "--url", noiseUrl(url), "--", "echo", "hello"], { env: { EXEC_SERVER_TOKEN: "client-token" } })
      const { stdout, stderr, code } = yield* run().pipe(
        Effect.filterOrFail(({ code }) => code === 0),
        Effect.retry({ times: 20, schedule: Schedule.spaced("100 millis") }),
        Effect.orElse(run)
      )
      assert.deepStrictEqual([stdout, code], ["hello\n", 0], stderr)
    })
  )
})
