/** Servers composed of a configuration, a transport and services: each replaced alone. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { PassThrough } from "node:stream"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { Confiner } from "../../src/sandbox/Confiner.js"
import * as ExecServer from "../../src/server/ExecServer.js"
import * as ServerConfig from "../../src/server/ServerConfig.js"
import { Spawner } from "../../src/spawn/Spawner.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { MemoryFileSystem } from "../../src/testing/MemoryFileSystem.js"
import { ScriptedHttp } from "../../src/testing/ScriptedHttp.js"
import * as Memory from "../../src/transport/Memory.js"
import * as Stdio from "../../src/transport/Stdio.js"
import { Transport, TransportFailed } from "../../src/transport/Transport.js"
import * as WebSocket from "../../src/transport/WebSocket.js"
import { settle } from "../support/fake.js"
import { readRoot, sandbox } from "../support/sandbox.js"
import { connectTo, eventually, hasBubblewrap, memoryClient } from "../support/servers.js"
import { startParams } from "../support/TestClient.js"

const fake = { spawner: FakeSpawner.layer }
const quick = { shutdownGracePeriodMs: 0 }

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
      Effect.provide(ExecServer.layerOf({ ...quick, maxProcessesPerSession: 1 }, Memory.layer, fake))
    )
  )

  it.scoped("takes its limits from wherever configuration comes from", () =>
    Effect.map(oneTooMany, (message) => assert.match(message, /maxProcessesPerSession/)).pipe(
      Effect.provide(ExecServer.layerConfig(ServerConfig.config, Memory.layer, fake)),
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
        ExecServer.layerConfig(
          Config.map(Config.integer("PROCESSES"), (maxProcessesPerSession) => ({ ...quick, maxProcessesPerSession })),
          Memory.layer,
          fake
        )
      ),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["PROCESSES", "1"]])))
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
      const { address } = yield* Transport
      const client = yield* connectTo(address)
      yield* client.handshake()
      client.post("environment/status", { padding: "x".repeat(2000) })
      assert.strictEqual((yield* client.ended()).code, 1009)
    }).pipe(
      Effect.provide(
        ExecServer.layerOf({ maxMessageBytes: 1000 }, WebSocket.layer({ host: "127.0.0.1", port: 0 }), fake)
      )
    )
  )

  const files = Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "layers-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  )
  const readOnly = sandbox([readRoot])
  const write = (path: string) => ({ path, dataBase64: "aGk=", sandbox: readOnly })

  for (const contain of ["none", "namespace"] as const) {
    it.scopedLive.runIf(hasBubblewrap)(`enforces sandboxes as the command does; contained: ${contain}`, () =>
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
      }).pipe(Effect.provide(ExecServer.layerOf({ ...quick, contain }, Memory.layer)))
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
    }).pipe(Effect.provide(ExecServer.layerOf(quick, Memory.layer)))
  )

  it.scoped("refuses sandboxes that a spawner, or files, of the application's own may not keep", () =>
    Effect.gen(function* () {
      const start = Effect.gen(function* () {
        const client = yield* memoryClient
        yield* client.handshake()
        return yield* client.call("process/start", startParams("p", ["program"], { sandbox: readOnly }))
      })
      const writes = Effect.gen(function* () {
        const client = yield* memoryClient
        yield* client.handshake()
        return yield* client.call("fs/writeFile", write("/f"))
      })
      const server = (replacements: ExecServer.Replacements) => ExecServer.layerOf(quick, Memory.layer, replacements)
      const refused = yield* Effect.provide(start, server(fake))
      assert.match(refused.error.message, /cannot enforce a restricted sandbox/)
      const fileSystem = MemoryFileSystem.layer({})
      const confiner = Layer.succeed(Confiner, {
        confine: () => Effect.succeed({ mounts: undefined, placeholders: [], isolated: true })
      })
      const unseen = yield* Effect.provide(writes, server({ fileSystem, confiner }))
      assert.match(unseen.error.message, /no sandboxed view of files/)
      // Whoever says who enforces them is believed.
      const kept = yield* Effect.provide(start, server({ ...fake, confiner }))
      assert.strictEqual(kept.result.sandboxType, "linuxSeccomp")
    })
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
      const running = yield* Effect.fork(ExecServer.launch(ExecServer.layerOf(quick, transport, { spawner })))
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
      const [failure, lines] = yield* logged(Effect.flip(ExecServer.launch(ExecServer.layerOf(quick, failing, fake))))
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
        }).pipe(Effect.provide(ExecServer.layerOf(quick, failing, fake)))
      )
      assert.strictEqual(failure.message, "nobody can come any more")
      assert.deepStrictEqual(lines, ["no peer can connect any more,nobody can come any more"])
    })
  )

  it.scoped("has ended in good order when its scope has closed, and ends when whoever runs it is interrupted", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = yield* Scope.extend(Layer.build(ExecServer.layerOf(quick, Memory.layer, fake)), scope)
      const { ended } = Context.get(server, ExecServer.Running)
      const waiting = yield* Effect.fork(ended)
      yield* settle
      assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)))
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(waiting)
      const launched = yield* Effect.fork(ExecServer.launch(ExecServer.layerOf(quick, Memory.layer, fake)))
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
        Layer.merge(
          ExecServer.layerOf(quick, Memory.layer, {
            spawner: FakeSpawner.layer,
            fileSystem: MemoryFileSystem.layer({ "/a": "hi" }),
            httpRunner: ScriptedHttp.layer(() => ({ status: 418 }))
          }),
          FakeSpawner.layer
        )
      )
    )
  )
})
