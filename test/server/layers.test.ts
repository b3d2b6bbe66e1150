/** Servers composed of a transport, services and limits: each service replaced alone. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { PassThrough } from "node:stream"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as ExecClient from "../../src/client/ExecClient.js"
import { HttpLimits } from "../../src/http/HttpLimits.js"
import { ProcessLimits } from "../../src/process/ProcessLimits.js"
import { Confiner } from "../../src/sandbox/Confiner.js"
import * as ExecServer from "../../src/server/ExecServer.js"
import * as Limits from "../../src/server/Limits.js"
import * as NodeServices from "../../src/server/NodeServices.js"
import * as ServerConfig from "../../src/server/ServerConfig.js"
import { SessionLimits } from "../../src/session/SessionLimits.js"
import type { ChildSpec } from "../../src/spawn/Child.js"
import { Spawner } from "../../src/spawn/Spawner.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { MemoryFileSystem } from "../../src/testing/MemoryFileSystem.js"
import { ScriptedHttp } from "../../src/testing/ScriptedHttp.js"
import * as Memory from "../../src/transport/Memory.js"
import * as Stdio from "../../src/transport/Stdio.js"
import { Transport, TransportFailed } from "../../src/transport/Transport.js"
import { defaults as TransportDefaults, TransportLimits } from "../../src/transport/TransportLimits.js"
import * as WebSocket from "../../src/transport/WebSocket.js"
import { memoryServer, serverOn } from "../support/composed.js"
import { settle } from "../support/fake.js"
import { readRoot, sandbox } from "../support/sandbox.js"
import { allChildrenOf, connectTo, eventually, hasBubblewrap, memoryClient } from "../support/servers.js"
import { startParams } from "../support/TestClient.js"

const fake = FakeSpawner.layer
const quick = Limits.layer({ shutdownGracePeriod: 0 })

/** A server of fake children in this process, with limits from somewhere. */
const bounded = <E>(limits: Layer.Layer<never, E>) =>
  ExecServer.layer.pipe(
    Layer.provideMerge(Memory.layer),
    Layer.provide(fake),
    Layer.provide(NodeServices.layer),
    Layer.provide(limits)
  )

/** What a client of a server gets when it starts one process more than it may. */
const oneTooMany = Effect.gen(function* () {
  const client = yield* memoryClient
  yield* client.handshake()
  yield* client.ask("process/start", startParams("a", ["program"]))
  return (yield* client.call("process/start", startParams("b", ["program"]))).error?.message
})

describe("a composed server", () => {
  it.scoped("takes its limits as plain values", () =>
    Effect.map(oneTooMany, (message) => assert.match(message, /maxProcessesPerSession/)).pipe(
      Effect.provide(memoryServer(fake, { maxProcessesPerSession: 1 }))
    )
  )

  it.scoped("takes its limits from wherever configuration comes from", () =>
    Effect.map(oneTooMany, (message) => assert.match(message, /maxProcessesPerSession/)).pipe(
      Effect.provide(bounded(Limits.layerConfig(Limits.config))),
      Effect.withConfigProvider(
        ConfigProvider.fromMap(
          new Map([
            ["EXEC_SERVER_MAX_PROCESSES_PER_SESSION", "1"],
            ["EXEC_SERVER_SHUTDOWN_GRACE_PERIOD_MS", "0"]
          ])
        )
      )
    )
  )

  it.scoped("takes a configuration of the application's own names", () =>
    Effect.map(oneTooMany, (message) => assert.match(message, /maxProcessesPerSession/)).pipe(
      Effect.provide(
        bounded(
          Limits.layerConfig({
            maxProcessesPerSession: Config.integer("PROCESSES"),
            shutdownGracePeriod: Config.duration("GRACE")
          })
        )
      ),
      Effect.withConfigProvider(
        ConfigProvider.fromMap(
          new Map([
            ["PROCESSES", "1"],
            ["GRACE", "0 seconds"]
          ])
        )
      )
    )
  )

  it.effect("says which setting is wrong", () =>
    Effect.gen(function* () {
      const read = (name: string, value: string) =>
        Effect.withConfigProvider(ServerConfig.config, ConfigProvider.fromMap(new Map([[name, value]])))
      const exit = yield* Effect.exit(read("EXEC_SERVER_MAX_SESSIONS", "many"))
      assert.isTrue(Exit.isFailure(exit))
      if (Exit.isFailure(exit)) {
        const expected = 'EXEC_SERVER_MAX_SESSIONS: "many" is not a whole number of 0 or more'
        assert.include(Cause.pretty(exit.cause), expected)
      }
      assert.deepStrictEqual(yield* read("NOTHING", ""), ServerConfig.defaults)
      const { allowOrigin } = yield* read("EXEC_SERVER_ALLOW_ORIGIN", "http://a, http://b")
      assert.deepStrictEqual(allowOrigin, ["http://a", "http://b"])
    })
  )

  it.scopedLive("holds its transport to its limits, and says where it is found", () =>
    Effect.gen(function* () {
      const { address } = yield* ExecServer.Running
      const client = yield* connectTo(address)
      yield* client.handshake()
      client.post("environment/status", { padding: "x".repeat(2000) })
      assert.strictEqual((yield* client.ended()).code, 1009)
    }).pipe(Effect.provide(serverOn(WebSocket.layer({ host: "127.0.0.1", port: 0 }), fake, { maxMessageBytes: 1000 })))
  )

  const files = Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "layers-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  )
  const readOnly = sandbox([readRoot])
  const write = (path: string) => ({ path, dataBase64: "aGk=", sandbox: readOnly })

  for (const [name, services] of [
    ["layer", NodeServices.layer],
    ["layerContained", NodeServices.layerContained]
  ] as const) {
    it.scopedLive.runIf(hasBubblewrap)(`enforces sandboxes as the command does, with NodeServices.${name}`, () =>
      Effect.gen(function* () {
        const client = yield* memoryClient
        yield* client.handshake()
        const folder = yield* files
        const { sandboxType } = yield* client.sh("p", `touch ${folder}/p`, { sandbox: readOnly })
        assert.strictEqual(sandboxType, "linuxSeccomp")
        assert.deepInclude(yield* client.closed("p"), { exitCode: 1, sandboxDenied: true })
        const { error } = yield* client.call("fs/writeFile", write(`${folder}/f`))
        assert.match(error.message, /Read-only file system/)
        assert.deepStrictEqual(readdirSync(folder), [])
        // The same without a sandbox.
        yield* client.sh("q", `touch ${folder}/q`)
        assert.deepInclude(yield* client.closed("q"), { exitCode: 0, sandboxDenied: false })
        yield* client.ask("fs/writeFile", { ...write(`${folder}/f`), sandbox: undefined })
        assert.deepStrictEqual(readdirSync(folder), ["f", "q"])
      }).pipe(
        Effect.provide(
          ExecServer.layer.pipe(Layer.provideMerge(Memory.layer), Layer.provide(services), Layer.provide(quick))
        )
      )
    )
  }

  it.scopedLive("looks for bubblewrap when it is first asked for a sandbox, and not before", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      const { PATH } = process.env
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          process.env["PATH"] = "/nowhere"
        }),
        () =>
          Effect.sync(() => {
            process.env["PATH"] = PATH
          })
      )
      const { error } = yield* client.call("process/start", startParams("p", ["true"], { sandbox: readOnly }))
      assert.match(error.message, /bubblewrap \(bwrap\) is not installed/)
    }).pipe(Effect.provide(memoryServer(Layer.empty)))
  )

  const cannotEnforce = /^this server cannot enforce a restricted sandbox: .*; or request permissions of type disabled/

  it.scoped("refuses a sandboxed start where the spawner does not confine, and serves the others", () =>
    Effect.gen(function* () {
      const spawned: Array<ChildSpec> = []
      const spawner = Layer.effect(
        Spawner,
        Effect.map(Spawner, ({ spawn }) => ({
          confines: false,
          spawn: (spec) =>
            Effect.zipRight(
              Effect.sync(() => spawned.push(spec)),
              spawn(spec)
            )
        }))
      ).pipe(Layer.provide(fake))
      yield* Effect.gen(function* () {
        const client = yield* memoryClient
        yield* client.handshake()
        const start = (id: string, more: object) => client.call("process/start", startParams(id, ["program"], more))
        const { error } = yield* start("a", { sandbox: readOnly })
        assert.match(error.message, cannotEnforce)
        assert.deepStrictEqual(spawned, [])
        assert.strictEqual((yield* start("b", {})).result.sandboxType, "none")
        assert.lengthOf(spawned, 1)
      }).pipe(Effect.provide(memoryServer(spawner)))
    })
  )

  it.scopedLive("refuses a sandboxed start where a real spawner was given no launcher that confines", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      const folder = yield* files
      const start = startParams("p", ["touch", `${folder}/p`], { sandbox: readOnly })
      assert.match((yield* client.call("process/start", start)).error.message, cannotEnforce)
      yield* client.sh("q", "true")
      assert.deepInclude(yield* client.closed("q"), { exitCode: 0 })
      assert.deepStrictEqual(readdirSync(folder), [])
    }).pipe(Effect.provide(memoryServer(Layer.fresh(Spawner.layer))))
  )

  it.scoped("refuses sandboxed requests on files of the application's own, and serves the others", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      const { error } = yield* client.call("fs/writeFile", write("/f"))
      assert.match(error.message, cannotEnforce)
      yield* client.ask("fs/writeFile", { ...write("/f"), sandbox: undefined })
      assert.deepStrictEqual(yield* client.ask("fs/readFile", { path: "/f" }), { dataBase64: "aGk=" })
    }).pipe(Effect.provide(memoryServer(MemoryFileSystem.layer())))
  )

  it.scoped("gives confinements to a spawner that confines", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      const started = yield* client.ask("process/start", startParams("p", ["program"], { sandbox: readOnly }))
      assert.strictEqual(started.sandboxType, "linuxSeccomp")
      const { children } = yield* FakeSpawner
      assert.isTrue(children[0]?.spec.confinement?.isolated)
    }).pipe(
      Effect.provide(
        Layer.suspend(() => {
          const confining = FakeSpawner.layerOf({}, { confines: true })
          const confiner = Layer.succeed(Confiner, {
            isConfined: () => false,
            confine: () => Effect.succeed({ mounts: undefined, placeholders: [], isolated: true })
          })
          return Layer.merge(memoryServer(Layer.merge(confining, confiner)), confining)
        })
      )
    )
  )

  const failing = Layer.succeed(Transport, {
    address: "nowhere://",
    run: () => Effect.fail(new TransportFailed({ message: "nobody can come any more" }))
  })

  /** What is logged while an effect runs. */
  const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.suspend(() => {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      return Effect.map(
        Effect.provide(effect, Logger.replace(Logger.defaultLogger, logger)),
        (result) => [result, lines] as const
      )
    })

  it.scopedLive("ends at the end of its stdin, when what was received has been carried out", () =>
    Effect.gen(function* () {
      const [input, output] = [new PassThrough(), new PassThrough()]
      let said = ""
      output.on("data", (chunk) => {
        said += chunk
      })
      const { children } = yield* FakeSpawner
      const transport = Stdio.layerStreams(input, output)
      const spawner = Layer.succeed(Spawner, yield* Spawner)
      const running = yield* Effect.fork(ExecServer.launch(serverOn(transport, spawner)))
      for (const message of [
        { id: 1, method: "initialize", params: { clientName: "x" } },
        { method: "initialized" },
        { id: 2, method: "process/start", params: startParams("p", ["program"]) }
      ]) {
        input.write(`${JSON.stringify(message)}\n`)
      }
      yield* eventually("the process is started", () => said.includes('"id":2'))
      assert.isTrue(Option.isNone(yield* Fiber.poll(running)))
      input.end()
      yield* Fiber.join(running)
      assert.isTrue(children[0]?.exited)
    }).pipe(Effect.provide(FakeSpawner.layer))
  )

  it.scoped("fails whoever runs it where its transport fails", () =>
    Effect.gen(function* () {
      const [failure, lines] = yield* logged(Effect.flip(ExecServer.launch(serverOn(failing, fake))))
      assert.deepInclude(failure, { _tag: "TransportFailed", message: "nobody can come any more" })
      assert.deepStrictEqual(lines, [])
    })
  )

  it.scoped("says so in the log where nobody waits for it, and later to whoever asks", () =>
    Effect.gen(function* () {
      const [failure, lines] = yield* logged(
        Effect.gen(function* () {
          yield* settle
          return yield* Effect.flip(ExecServer.ended)
        }).pipe(Effect.provide(serverOn(failing, fake)))
      )
      assert.strictEqual(failure.message, "nobody can come any more")
      assert.deepStrictEqual(lines, ["no peer can connect any more,nobody can come any more"])
    })
  )

  it.scoped("has ended in good order when its scope has closed, and ends when whoever runs it is interrupted", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = yield* Scope.extend(Layer.build(memoryServer(fake)), scope)
      const { ended } = Context.get(server, ExecServer.Running)
      const waiting = yield* Effect.fork(ended)
      yield* settle
      assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)))
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(waiting)
      const launched = yield* Effect.fork(ExecServer.launch(memoryServer(fake)))
      yield* settle
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(launched)))
    })
  )

  it.scoped("has any of its services replaced, alone", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      yield* client.ask("process/start", startParams("a", ["no such program"]))
      assert.lengthOf((yield* FakeSpawner).children, 1)
      assert.deepStrictEqual(yield* client.ask("fs/readFile", { path: "/a" }), { dataBase64: "aGk=" })
      const { status } = yield* client.ask("http/request", { method: "GET", url: "http://nowhere/", requestId: "r" })
      assert.strictEqual(status, 418)
    }).pipe(
      Effect.provide(
        ExecServer.layer.pipe(
          Layer.provideMerge(Memory.layer),
          Layer.provideMerge(FakeSpawner.layer),
          Layer.provide(MemoryFileSystem.layer({ "/a": "hi" })),
          Layer.provide(ScriptedHttp.layer(() => ({ status: 418 }))),
          Layer.provide(NodeServices.layer),
          Layer.provide(quick)
        )
      )
    )
  )

  it.scoped("has a service replaced by the later one of a merge as well", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      yield* client.ask("process/start", startParams("a", ["no such program"]))
      assert.lengthOf((yield* FakeSpawner).children, 1)
    }).pipe(
      Effect.provide(
        ExecServer.layer.pipe(
          Layer.provideMerge(Memory.layer),
          Layer.provideMerge(Layer.merge(NodeServices.layer, FakeSpawner.layer)),
          Layer.provide(quick)
        )
      )
    )
  )

  it.scopedLive("starts nothing of its own for services that are replaced", () =>
    Effect.gen(function* () {
      const before = allChildrenOf(process.pid)
      const client = yield* memoryClient
      yield* client.handshake()
      yield* client.ask("process/start", startParams("a", ["no such program"]))
      const started = allChildrenOf(process.pid).filter((pid) => !before.includes(pid))
      assert.deepStrictEqual(started, [])
    }).pipe(Effect.provide(memoryServer(fake)))
  )

  it.scoped("serves peers and a client of this process from the same sessions", () =>
    Effect.gen(function* () {
      const peer = yield* memoryClient
      yield* peer.handshake()
      const client = yield* ExecClient.ExecClient
      yield* client.start({ argv: ["program"], cwd: "/" })
      // One session is the peer's, one the client's, and there is no third.
      const { error } = yield* (yield* memoryClient).call("initialize", { clientName: "third" })
      assert.match(error.message, /maxSessions/)
    }).pipe(
      Effect.provide(
        Layer.merge(ExecServer.layerServe, ExecClient.layerInProcess()).pipe(
          Layer.provide(ExecServer.layerSessions),
          Layer.provideMerge(Memory.layer),
          Layer.provide(fake),
          Layer.provide(NodeServices.layer),
          Layer.provide(Limits.layer({ maxSessions: 2, shutdownGracePeriod: 0 }))
        )
      )
    )
  )
})

describe("limits", () => {
  const inForce = Effect.all([ProcessLimits, SessionLimits, HttpLimits, TransportLimits])
  const within = (limits: Layer.Layer<never>) => Effect.provide(inForce, limits)

  it.effect("change what is given, and leave the rest as it is around them", () =>
    Effect.gen(function* () {
      const inner = Limits.layer({
        closedProcessRetention: "5 minutes",
        pingInterval: 1500,
        detachedSessionTtl: Duration.infinity,
        retain: "head-tail"
      })
      const outer = Limits.layer({ maxSessions: 3, retain: "tail", maxHttpRequestsPerConnection: 0 })
      const [processes, sessions, http, transports] = yield* within(Layer.provide(inner, outer))
      assert.deepInclude(processes, { closedProcessRetentionMs: 300_000, retain: "head-tail", allowDirectExec: true })
      assert.deepInclude(sessions, { maxSessions: 3, detachedSessionTtlMs: Number.POSITIVE_INFINITY })
      assert.strictEqual(http.maxHttpRequestsPerConnection, 0)
      assert.deepInclude(transports, { pingIntervalMs: 1500, maxConnections: TransportDefaults.maxConnections })
    })
  )

  /** Why a server is not built; it must be for a defect. */
  const refusalOf = <A, E>(server: Layer.Layer<A, E>) =>
    Effect.map(Effect.flip(Effect.sandbox(Effect.scoped(Layer.build(server)))), (cause) => {
      assert.isTrue(Cause.isDie(cause))
      return Cause.pretty(cause).split("\n")[0]
    })
  const withoutEffect = (limits: string, service: string) =>
    `Error: Limits.layer({ ${limits} }) has no effect on the ${service}, built before it: ` +
    "provide Limits.layer last, after the transport and the services"

  it.effect("refuse a transport that was built before them", () =>
    Effect.gen(function* () {
      const server = ExecServer.layer.pipe(
        Layer.provide(
          Limits.layer({
            maxMessageBytes: 1000,
            unfinishedMessageBytesTotal: 2000,
            pingInterval: "1 minute",
            maxSessions: 2
          })
        ),
        Layer.provide(Memory.layer),
        Layer.provide(fake),
        Layer.provide(NodeServices.layer)
      )
      assert.strictEqual(
        yield* refusalOf(server),
        withoutEffect("maxMessageBytes, unfinishedMessageBytesTotal, pingInterval", "transport")
      )
    })
  )

  it.effect("refuse retained output that was built before them", () =>
    Effect.gen(function* () {
      const server = ExecServer.layer.pipe(
        Layer.provide(Limits.layerConfig(Config.succeed({ retain: "head-tail" as const }))),
        Layer.provide(fake),
        Layer.provide(NodeServices.layer),
        Layer.provide(Memory.layer)
      )
      assert.strictEqual(yield* refusalOf(server), withoutEffect("retain", "retained output"))
    })
  )

  it.effect("refuse sessions that were built before them, with a transport and without", () =>
    Effect.gen(function* () {
      const late = Limits.layer({
        detachedSessionTtl: 0,
        processBytesPerSession: 1,
        processBytesTotal: 1,
        allowFiles: false,
        allowHttp: false,
        httpEnvAllow: [],
        concurrentRequests: 1
      })
      const unread =
        "detachedSessionTtl, processBytesPerSession, processBytesTotal, allowFiles, allowHttp, httpEnvAllow"
      const sessions = ExecServer.layerSessions.pipe(Layer.provide(fake), Layer.provide(NodeServices.layer))
      const served = ExecServer.layerServe.pipe(
        Layer.provide(late),
        Layer.provide(sessions),
        Layer.provide(Memory.layer)
      )
      const client = ExecClient.layerInProcess().pipe(Layer.provide(late), Layer.provide(sessions))
      assert.strictEqual(yield* refusalOf(served), withoutEffect(unread, "sessions"))
      assert.strictEqual(yield* refusalOf(client), withoutEffect(unread, "sessions"))
    })
  )

  it.scoped("bound sessions alone, beside a transport and another server that were there before", () =>
    Effect.gen(function* () {
      // Of a transport that is there this reads nothing, and the bytes of the messages are for another one.
      const sessions = Limits.layer({ maxProcessesPerSession: 1, shutdownGracePeriod: 0, maxConnections: 1024 })
      const built = yield* Layer.build(
        Layer.provideMerge(Layer.provide(ExecServer.layer, sessions), Memory.layer)
      ).pipe(
        Effect.provide(Layer.provide(fake, Limits.layer({ maxMessageBytes: 1000 }))),
        Effect.provide(NodeServices.layer)
      )
      assert.match(yield* Effect.provide(oneTooMany, built), /maxProcessesPerSession/)
      const other = yield* Effect.provide(Layer.build(memoryServer(fake, { maxMessageBytes: 1000 })), built)
      yield* Effect.provide(
        Effect.flatMap(memoryClient, (client) => client.handshake()),
        other
      )
    })
  )

  it.effect("that make no sense are a defect that names them", () =>
    Effect.gen(function* () {
      const wrong: ReadonlyArray<readonly [options: object, message: string]> = [
        [{ maxSessions: -1 }, "maxSessions: -1 is not a whole number of 0 or more"],
        [{ maxMessageBytes: 0 }, "maxMessageBytes: 0 is not a whole number of 1 or more"],
        [{ maxSessions: 1.5 }, "maxSessions: 1.5 is not a whole number of 0 or more"],
        [{ pingInterval: "soon" }, 'pingInterval: "soon" is not a duration of 1 ms or more'],
        [{ handshakeTimeout: 0 }, "handshakeTimeout: 0 is not a duration of 1 ms or more"],
        [{ retain: "head" }, 'retain: "head" is not one of tail, head-tail'],
        [{ allowDirectExec: "yes" }, 'allowDirectExec: "yes" is not true or false'],
        [{ allowFiles: 0 }, "allowFiles: 0 is not true or false"],
        [{ httpEnvAllow: "A" }, 'httpEnvAllow: "A" is not a list, each item the name of a variable'],
        [{ httpEnvAllow: ["A", "B*"] }, 'httpEnvAllow: ["A","B*"] is not a list, each item the name of a variable'],
        [{ shutdownGracePeriodMs: 5 }, "shutdownGracePeriodMs is not a limit; the limits are maxProcessesPerSession"]
      ]
      for (const [options, message] of wrong) {
        const cause = yield* Effect.flip(Effect.sandbox(within(Limits.layer(options))))
        assert.isTrue(Cause.isDie(cause))
        assert.include(Cause.pretty(cause), message)
        const failure = yield* Effect.flip(Effect.provide(inForce, Limits.layerConfig(Config.succeed(options))))
        assert.include(String(failure), message)
      }
    })
  )

  it.effect("under the names of the environment variables are those of the command", () =>
    Effect.gen(function* () {
      const read = (variables: ReadonlyArray<readonly [string, string]>) =>
        Effect.withConfigProvider(Limits.config, ConfigProvider.fromMap(new Map(variables)))
      const given = yield* read([
        ["EXEC_SERVER_MAX_SESSIONS", "7"],
        ["EXEC_SERVER_DETACHED_SESSION_TTL_MS", "60000"],
        ["EXEC_SERVER_RETAIN", "head-tail"]
      ])
      const [processes, sessions] = yield* within(Limits.layer(given))
      assert.deepInclude(sessions, { maxSessions: 7, detachedSessionTtlMs: 60_000 })
      assert.deepInclude(processes, { retain: "head-tail", shutdownGracePeriodMs: 2000 })
      assert.deepStrictEqual(yield* within(Limits.layer(yield* read([]))), yield* inForce)
    })
  )
})
