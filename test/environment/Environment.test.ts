/** One suite for every kind of environment, and what the manager makes of a configuration. */
import { writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { bytesOf } from "../../src/client/HeadTail.js"
import * as Environment from "../../src/environment/Environment.js"
import * as EnvironmentConfig from "../../src/environment/EnvironmentConfig.js"
import * as EnvironmentManager from "../../src/environment/EnvironmentManager.js"
import * as EnvironmentProvider from "../../src/environment/EnvironmentProvider.js"
import { failureOf } from "../support/fake.js"
import { directory } from "../support/files.js"
import { noiseExecutor } from "../support/noise.js"
import { environmentId, localRendezvous } from "../support/relay.js"
import { binary, isAlive, webSocketServer } from "../support/servers.js"
import { upstream } from "../support/upstream.js"

const configured = (content: string) =>
  Effect.flatMap(EnvironmentConfig.parse(content, "test", undefined), (config) =>
    EnvironmentManager.make(config, { startFor: 0 })
  )

const single = (lines: string) =>
  Effect.flatMap(configured(`[[environments]]\nid = "x"\n${lines}`), ({ get }) => get("x"))

const suite = (name: string, environment: Effect.Effect<Environment.Environment, unknown, Scope.Scope>) =>
  describe(name, () => {
    const test = (
      title: string,
      body: (environment: Environment.Environment) => Effect.Effect<unknown, unknown, Scope.Scope>
    ) => it.scopedLive(title, () => Effect.flatMap(environment, body))

    test("runs processes", ({ processes }) =>
      Effect.gen(function* () {
        const process = yield* processes.start({
          argv: ["/bin/sh", "-c", 'cat; echo "to $NAME" >&2; exit 7'],
          cwd: "/",
          env: { NAME: "stderr", PATH: "/usr/bin:/bin" },
          pipeStdin: true
        })
        const { exit, stdout, stderr } = yield* process.communicate({ input: "hello" })
        assert.strictEqual(exit.exitCode, 7)
        assert.strictEqual(bytesOf(stdout).toString(), "hello")
        assert.strictEqual(bytesOf(stderr).toString(), "to stderr\n")
      }))

    test("has files", ({ files }) =>
      Effect.gen(function* () {
        const root = yield* directory
        yield* files.write(`${root}/file`, Stream.make(Buffer.from("con"), Buffer.from("tent")))
        assert.strictEqual((yield* files.readFile(`${root}/file`)).toString(), "content")
        const missing = yield* failureOf(files.getMetadata(`${root}/missing`))
        assert.deepInclude(missing, { _tag: "ServerError", code: -32004 })
      }))

    test("makes HTTP requests", ({ http }) =>
      Effect.gen(function* () {
        const { url } = yield* upstream((response) => void response.end("body"))
        const { status, body } = yield* http.request({ url })
        assert.deepStrictEqual([status, body.toString()], [200, "body"])
        const streamed = yield* http.stream({ url, method: "POST" })
        assert.strictEqual(Buffer.concat(Array.from(yield* Stream.runCollect(streamed.body))).toString(), "body")
      }))

    test("describes its machine", ({ info, client }) =>
      Effect.gen(function* () {
        assert.match(info.shell?.path ?? "", /^\//)
        assert.strictEqual((yield* client.state)._tag, "Connected")
      }))
  })

suite(
  "this machine",
  Effect.flatMap(configured(""), ({ getDefault }) => getDefault)
)

suite(
  "an environment at a URL",
  Effect.flatMap(webSocketServer(), ({ url }) => single(`url = "${url}"`))
)

suite(
  "an environment behind a rendezvous that cannot read",
  Effect.gen(function* () {
    const rendezvous = yield* localRendezvous({ encrypted: true, clientToken: "client-token" })
    yield* noiseExecutor(rendezvous)
    const url = `${rendezvous.replace("ws", "noise")}/${environmentId}`
    const token = `${yield* directory}/token`
    writeFileSync(token, "client-token", { mode: 0o600 })
    return yield* Effect.retry(single(`url = "${url}"\ntoken_file = "${token}"`), {
      times: 200,
      schedule: Schedule.spaced("25 millis"),
      while: (error) => "status" in error && error.status === 409
    })
  })
)

suite("an environment that is a program", single(`program = "${process.execPath}"\nargs = ["${binary}"]`))

describe("the manager", () => {
  it.scopedLive("connects at first use, once for all who ask, and anew after the end", () =>
    Effect.gen(function* () {
      const lines = `program = "${process.execPath}"\nargs = ["${binary}"]`
      const manager = yield* configured(`default = "x"\n[[environments]]\nid = "x"\n${lines}`)
      assert.deepStrictEqual(yield* manager.ids, ["local", "x"])
      assert.strictEqual(manager.defaultId, "x")
      const [first, second] = yield* Effect.all([manager.get("x"), manager.getDefault], { concurrency: 2 })
      assert.strictEqual(first, second)
      assert.isFalse(first.isLocal)
      assert.isTrue((yield* manager.get("local")).isLocal)
      // The server of the environment ends itself.
      yield* Effect.ignore(
        first.processes.start({ argv: ["/bin/sh", "-c", "kill -KILL $PPID"], cwd: "/", env: { PATH: "/bin" } })
      )
      yield* first.client.ended
      const third = yield* manager.get("x")
      assert.notStrictEqual(third, first)
      assert.strictEqual((yield* third.client.state)._tag, "Connected")
    })
  )

  it.scopedLive("ends what runs in its environments with itself", () =>
    Effect.gen(function* () {
      const pids = yield* Effect.scoped(
        Effect.gen(function* () {
          const manager = yield* configured(
            `[[environments]]\nid = "x"\nprogram = "${process.execPath}"\nargs = ["${binary}"]`
          )
          return yield* Effect.forEach(["local", "x"], (id) =>
            Effect.flatMap(manager.get(id), ({ processes }) =>
              Effect.map(processes.start({ argv: ["/bin/sleep", "1000"], cwd: "/" }), ({ pid }) => pid)
            )
          )
        })
      )
      assert.deepStrictEqual(pids.map(isAlive), [false, false])
    })
  )

  it.scopedLive("knows no others, and may have no default", () =>
    Effect.gen(function* () {
      const manager = yield* configured("include_local = false")
      assert.strictEqual((yield* failureOf(manager.get("x"))).message, "unknown environment `x`: there are none")
      assert.strictEqual((yield* failureOf(manager.getDefault)).message, "there is no default environment")
      const none = yield* EnvironmentConfig.fromVariables({ CODEX_HOME: "/nowhere", CODEX_EXEC_SERVER_URL: "none" })
      assert.isUndefined(none.defaultId)
    })
  )

  it.scopedLive("takes environments at run time", () =>
    Effect.gen(function* () {
      const manager = yield* configured("")
      const { url } = yield* webSocketServer()
      yield* manager.upsert("later", url)
      assert.deepStrictEqual(yield* manager.ids, ["local", "later"])
      assert.isFalse((yield* manager.get("later")).isLocal)
      const refused = (id: string, given: string) => Effect.map(failureOf(manager.upsert(id, given)), (e) => e.detail)
      assert.strictEqual(yield* refused("x", " None "), "remote environment cannot use disabled exec-server url")
      assert.strictEqual(yield* refused("x", ""), "remote environment requires an exec-server url")
      assert.strictEqual(yield* refused("local", url), "environment id `local` is reserved")
      assert.strictEqual(
        yield* refused("x", "http://h"),
        "environment url `http://h` must use ws:// or wss://, or unix:///, noise://, noises://, relay:// or relays://"
      )
    })
  )

  it.scopedLive("ends the connection to an environment that gets another URL", () =>
    Effect.gen(function* () {
      const manager = yield* configured("")
      const first = yield* webSocketServer()
      const second = yield* webSocketServer()
      yield* manager.upsert("later", first.url)
      const old = yield* manager.get("later")
      yield* manager.upsert("later", second.url)
      assert.include((yield* old.client.ended).message, "the client has ended")
      const current = yield* manager.get("later")
      assert.notStrictEqual(current.client.sessionId, old.client.sessionId)
      assert.strictEqual((yield* current.client.state)._tag, "Connected")
      assert.strictEqual(yield* manager.get("later"), current)
    })
  )

  it.scopedLive("gives who waits for a replaced environment the one in its place", () =>
    Effect.gen(function* () {
      const config = yield* EnvironmentConfig.parse("", "test", undefined)
      const manager = yield* EnvironmentManager.make(config)
      // Nobody listens there: it is waited for.
      yield* manager.upsert("later", "ws://127.0.0.1:1")
      const waiting = yield* Effect.fork(manager.get("later"))
      yield* Effect.yieldNow()
      const { url } = yield* webSocketServer()
      yield* manager.upsert("later", url)
      assert.strictEqual(yield* Fiber.join(waiting), yield* manager.get("later"))
    })
  )

  it.scopedLive("names what new work starts with: all of a file, the default first; of a variable that alone", () =>
    Effect.gen(function* () {
      const entries = '[[environments]]\nid = "a"\nurl = "ws://h:1"\n[[environments]]\nid = "b"\nurl = "ws://h:2"\n'
      const initial = (content: string) => Effect.map(configured(content), ({ initialIds }) => initialIds)
      assert.deepStrictEqual(yield* initial(entries), ["local", "a", "b"])
      assert.deepStrictEqual(yield* initial(`default = "b"\n${entries}`), ["b", "local", "a"])
      assert.deepStrictEqual(yield* initial(`include_local = false\ndefault = "b"\n${entries}`), ["b", "a"])
      assert.deepStrictEqual(yield* initial(`default = "none"\n${entries}`), [])
      const variable = (url: string | undefined) =>
        Effect.map(
          Effect.flatMap(EnvironmentConfig.fromUrl(url), (config) => EnvironmentManager.make(config)),
          ({ initialIds }) => initialIds
        )
      assert.deepStrictEqual(yield* variable(undefined), ["local"])
      assert.deepStrictEqual(yield* variable("ws://h:1"), ["remote"])
      assert.deepStrictEqual(yield* variable("none"), [])
    })
  )

  it.scopedLive("knows what each environment is there for, and refuses the rest", () =>
    Effect.gen(function* () {
      const lines = `program = "${process.execPath}"\nargs = ["${binary}"]`
      const manager = yield* configured(
        `[[environments]]\nid = "files"\n${lines}\nexec_enabled = false\n` +
          `[[environments]]\nid = "processes"\n${lines}\nfilesystem_enabled = false`
      )
      assert.deepStrictEqual(yield* manager.enabled("local"), { execEnabled: true, filesystemEnabled: true })
      assert.deepStrictEqual(yield* manager.enabled("files"), { execEnabled: false, filesystemEnabled: true })
      assert.deepStrictEqual(yield* manager.enabled("processes"), { execEnabled: true, filesystemEnabled: false })
      assert.deepStrictEqual(yield* manager.enabled(undefined), { execEnabled: false, filesystemEnabled: false })
      assert.strictEqual((yield* failureOf(manager.enabled("x")))._tag, "UnknownEnvironment")
      const start = { argv: ["/bin/true"], cwd: "/" }
      const files = yield* manager.get("files")
      assert.isFalse(files.execEnabled)
      assert.strictEqual(
        (yield* failureOf(files.processes.start(start))).message,
        "environment `files` cannot run processes; its configuration says exec_enabled = false"
      )
      assert.isTrue((yield* files.files.getMetadata("/")).isDirectory)
      const processes = yield* manager.get("processes")
      assert.strictEqual((yield* failureOf(processes.files.getMetadata("/")))._tag, "Unsupported")
      assert.strictEqual((yield* failureOf(Stream.runDrain(processes.files.read("/x"))))._tag, "Unsupported")
      assert.strictEqual((yield* (yield* processes.processes.start(start)).exit).exitCode, 0)
    })
  )

  it.scopedLive("takes its environments from a provider", () =>
    Effect.gen(function* () {
      let connections = 0
      const connect = Effect.tap(Environment.local("mine"), () => Effect.sync(() => connections++))
      const provided = {
        sources: [{ id: "mine", mayBeStarting: false, ...EnvironmentConfig.allEnabled, connect }],
        includeLocal: false,
        defaultId: "mine",
        initial: "default"
      } as const
      const { EnvironmentProvider: Provider } = EnvironmentProvider
      const using = <A, E>(
        provider: Layer.Layer<EnvironmentProvider.EnvironmentProvider>,
        use: (manager: EnvironmentManager.Shape) => Effect.Effect<A, E>
      ) =>
        Effect.flatMap(EnvironmentManager.EnvironmentManager, use).pipe(
          Effect.provide(EnvironmentManager.EnvironmentManager.layerProvider()),
          Effect.provide(provider)
        )
      const id = yield* using(Layer.succeed(Provider, Effect.succeed(provided)), ({ getDefault, ids }) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* ids, ["mine"])
          assert.strictEqual(connections, 0)
          return (yield* getDefault).id
        })
      )
      assert.deepStrictEqual([id, connections], ["mine", 1])
      const broken = Provider.layerConfig(EnvironmentConfig.parse("bogus", "test", undefined))
      assert.strictEqual((yield* failureOf(using(broken, ({ ids }) => ids)))._tag, "EnvironmentConfigError")
    })
  )

  it.scopedLive("waits for a server that is not there yet, and not for a refusal", () =>
    Effect.gen(function* () {
      const listener = createServer((socket) => void socket.end("HTTP/1.1 404 Not Found\r\n\r\n"))
      yield* Effect.async<void>((resume) => {
        listener.listen(0, "127.0.0.1", () => resume(Effect.void))
      })
      yield* Effect.addFinalizer(() => Effect.sync(() => listener.close()))
      const address = listener.address()
      const port = typeof address === "object" ? address?.port : 0
      const config = Either.getOrThrow(EnvironmentConfig.fromUrl(`ws://127.0.0.1:${port}`))
      const manager = yield* EnvironmentManager.make(config)
      assert.deepInclude(yield* failureOf(manager.getDefault), { _tag: "ConnectFailed", status: 404 })
      yield* Effect.sync(() => listener.close())
      const late = yield* Effect.fork(manager.getDefault)
      const { connect } = yield* webSocketServer({ listen: `ws://127.0.0.1:${port}` })
      yield* connect
      assert.strictEqual((yield* (yield* late).client.state)._tag, "Connected")
    })
  )

  it.live("is a service", () =>
    Effect.gen(function* () {
      const { defaultId } = yield* EnvironmentManager.EnvironmentManager
      assert.strictEqual(defaultId, "remote")
    }).pipe(
      Effect.provide(
        Layer.orDie(
          EnvironmentManager.EnvironmentManager.layerVariables({ CODEX_HOME: "/nowhere", EXEC_SERVER_URL: "ws://h:1" })
        )
      )
    )
  )
})
