/** Settings that turn groups of methods off: what is refused, what clients are told, and what goes on. */
import { writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as ExecClient from "../../src/client/ExecClient.js"
import { bytesOf } from "../../src/client/HeadTail.js"
import { FileSystemApi } from "../../src/protocol/FileSystemApi.js"
import * as ExecServer from "../../src/server/ExecServer.js"
import * as Limits from "../../src/server/Limits.js"
import * as NodeServices from "../../src/server/NodeServices.js"
import { command } from "../support/command.js"
import { memoryServer } from "../support/composed.js"
import { failureOf } from "../support/fake.js"
import { directory, refuses } from "../support/files.js"
import { connected, memoryClient, webSocketServer } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"
import { fetched, httpParams, refused, upstream } from "../support/upstream.js"

const noFiles = "allowFiles is false: this server serves no requests on files"
const noHttp = "allowHttp is false: this server makes no HTTP requests for clients"

/** Valid parameters of each method on files. */
const onFiles = (dir: string): { readonly [method: string]: object } => ({
  "fs/readFile": { path: `${dir}/a` },
  "fs/writeFile": { path: `${dir}/b`, dataBase64: "" },
  "fs/createDirectory": { path: `${dir}/c` },
  "fs/getMetadata": { path: dir },
  "fs/canonicalize": { path: dir },
  "fs/readDirectory": { path: dir },
  "fs/walk": {
    path: dir,
    options: {
      maxDepth: 1,
      maxDirectories: 1,
      maxEntries: 1,
      followDirectorySymlinks: false,
      pruneHiddenDirectories: false
    }
  },
  "fs/remove": { path: `${dir}/a` },
  "fs/copy": { sourcePath: `${dir}/a`, destinationPath: `${dir}/d`, recursive: false },
  "fs/open": { handleId: "h", path: `${dir}/a` },
  "fs/readBlock": { handleId: "h", offset: 0, len: 1 },
  "fs/writeBlock": { handleId: "h", offset: 0, chunk: "eA==" },
  "fs/watchMissing": { watchId: 1, missing: [`${dir}/e`] },
  "fs/close": { handleId: "h" }
})

const configuration = {
  method: "environmentConfig/read",
  params: { cwd: "/tmp", configPaths: [["model"]], requirementsPaths: [] }
}

/** What a server of real services and these limits tells of its machine, and then does. */
const on = <A, E, R>(
  limits: Limits.Options,
  use: (client: TestClient, capabilities: object) => Effect.Effect<A, E, R>
) =>
  Effect.gen(function* () {
    const client = yield* memoryClient
    const { environmentInfo } = yield* client.handshake()
    assert.deepStrictEqual((yield* client.ask("environment/info")).capabilities, environmentInfo.capabilities)
    return yield* use(client, environmentInfo.capabilities)
  }).pipe(Effect.provide(memoryServer(Layer.empty, limits)))

/** A client in the process of a server of real services and these limits. */
const inProcess = (limits: Limits.Options) =>
  ExecClient.layerInProcess().pipe(
    Layer.provide(ExecServer.layerSessions),
    Layer.provide(NodeServices.layer),
    Layer.provide(Limits.layer({ shutdownGracePeriod: 0, ...limits }))
  )

const runs = (client: TestClient) =>
  Effect.gen(function* () {
    yield* client.sh("p", "echo works")
    yield* client.sees("p", "works\n")
  })

describe("allowFiles", () => {
  it.scopedLive("false refuses every method on files by name, also that of configuration; all else goes on", () =>
    Effect.gen(function* () {
      const dir = yield* directory
      writeFileSync(`${dir}/a`, "content")
      const requests = onFiles(dir)
      assert.sameMembers(Object.keys(requests), Array.from(FileSystemApi.requests.keys()))
      const { url } = yield* upstream((response) => response.end("hello"))
      yield* on({ allowFiles: false }, (client, capabilities) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(capabilities, { httpHeaderEnvVars: true, fsWatchMissing: false, files: false })
          for (const [method, params] of Object.entries(requests))
            yield* refuses(client, method, params, -32600, noFiles)
          yield* refuses(client, configuration.method, configuration.params, -32600, noFiles)
          const { roots } = yield* client.ask("capabilityRoots/discoverV1", { roots: [{ id: "a", path: dir }] })
          assert.strictEqual(roots[0].error, "this server does not look into capability roots")
          yield* client.ask("capabilities/discoverV2", { cwd: dir })
          assert.strictEqual((yield* fetched(client, url)).body, "hello")
          yield* runs(client)
        })
      )
    })
  )

  it.scopedLive("false is told only after the handshake", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      const before = "client must call initialize before using filesystem methods"
      yield* refuses(client, "fs/getMetadata", { path: "/" }, -32600, before)
    }).pipe(Effect.provide(memoryServer(Layer.empty, { allowFiles: false })))
  )

  it.scopedLive("false is a typed error of the client, in the process of the server and over a transport", () =>
    Effect.gen(function* () {
      const check = (client: ExecClient.Shape) =>
        Effect.gen(function* () {
          assert.deepInclude(client.features, { files: false, http: true })
          const { files } = client
          const message = `this server cannot serve requests on files; it was started with allowFiles = false`
          for (const refused of [
            files.getMetadata("/"),
            files.readFile("/etc/hostname"),
            files.writeFile("/tmp/none", "x"),
            files.canonicalize("/"),
            files.copy("/a", "/b"),
            files.walk("/tmp"),
            Stream.runDrain(files.read("/etc/hostname")),
            files.write("/tmp/none", Stream.make(Buffer.from("x")))
          ]) {
            assert.deepInclude(yield* failureOf(refused), { _tag: "Unsupported", message })
          }
          const raw = yield* failureOf(client.call("fs/close", { handleId: "h" }))
          assert.deepInclude(raw, { _tag: "ServerError", code: -32600, reason: noFiles })
          const process = yield* client.startScoped({ argv: ["/bin/echo", "works"], cwd: "/" })
          assert.strictEqual(bytesOf((yield* process.communicate()).stdout).toString(), "works\n")
        })
      yield* Effect.provide(Effect.flatMap(ExecClient.ExecClient, check), inProcess({ allowFiles: false }))
      const { url } = yield* webSocketServer({ args: ["--allow-files", "false"] })
      yield* check(yield* ExecClient.connectWebSocket({ url }))
    })
  )
})

describe("allowHttp", () => {
  it.scopedLive("false refuses HTTP requests alone, and none is made", () =>
    Effect.gen(function* () {
      const dir = yield* directory
      const { url, connections } = yield* upstream((response) => response.end("hello"))
      yield* on({ allowHttp: false }, (client, capabilities) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(capabilities, { fsWatchMissing: true, httpHeaderEnvVars: false, http: false })
          for (const streamResponse of [false, true]) {
            assert.deepStrictEqual(yield* refused(client, url, { streamResponse }), { code: -32600, message: noHttp })
          }
          yield* client.ask("fs/getMetadata", { path: dir })
          yield* runs(client)
        })
      )
      assert.strictEqual(connections(), 0)
    })
  )

  it.scopedLive("false is a typed error of the client", () =>
    Effect.gen(function* () {
      const client = yield* ExecClient.ExecClient
      assert.deepInclude(client.features, { files: true, http: false, headerVariables: false })
      const message = "this server cannot make HTTP requests; it was started with allowHttp = false"
      for (const refused of [
        Effect.asVoid(client.http.request({ url: "http://127.0.0.1:1" })),
        Effect.scoped(Effect.asVoid(client.http.stream({ url: "http://127.0.0.1:1" })))
      ]) {
        assert.deepInclude(yield* failureOf(refused), { _tag: "Unsupported", message })
      }
    }).pipe(Effect.provide(inProcess({ allowHttp: false })))
  )
})

describe("httpEnvAllow", () => {
  it.scopedLive("narrows which variables a request may name, of a server that is started with it", () =>
    Effect.gen(function* () {
      const env = { TEST_ALLOWED: "one", TEST_OTHER: "two" }
      const { client } = yield* connected({ args: ["--http-env-allow", "TEST_ALLOWED,TEST_UNSET"], env })
      const { url, arrived } = yield* upstream((response) => response.end("hello"))
      const naming = (valueEnvVar: string) =>
        client.call("http/request", httpParams(url, { headers: [{ name: "x", value: "", valueEnvVar }] }))
      assert.strictEqual((yield* naming("TEST_ALLOWED")).result.status, 200)
      assert.include(arrived[0]?.headers ?? [], "one")
      const { error } = yield* naming("TEST_OTHER")
      assert.strictEqual(error.code, -32602)
      assert.match(error.message, /^http\/request header x names the variable TEST_OTHER, which httpEnvAllow/)
      assert.strictEqual(
        (yield* naming("TEST_UNSET")).error.message,
        "http/request header x requires executor environment variable TEST_UNSET"
      )
      assert.lengthOf(arrived, 1)
    })
  )

  it.scopedLive("empty lets a request name none, which clients are told", () =>
    on({ httpEnvAllow: [] }, (client, capabilities) =>
      Effect.gen(function* () {
        assert.deepStrictEqual(capabilities, { fsWatchMissing: true, httpHeaderEnvVars: false })
        const headers = [{ name: "x", value: "", valueEnvVar: "PATH" }]
        const { code, message } = yield* refused(client, "http://127.0.0.1:1", { headers })
        assert.strictEqual(code, -32602)
        assert.match(message, /names the variable PATH, which httpEnvAllow does not allow/)
      })
    )
  )
})

describe("the commands", () => {
  it.scopedLive("cp and doctor say what is turned off; run does not need it", () =>
    Effect.gen(function* () {
      const dir = yield* directory
      const { url } = yield* webSocketServer({ args: ["--allow-files", "false", "--allow-http", "false"] })
      const copied = yield* command(["cp", "--url", url, ":/etc/hostname", `${dir}/copy`])
      assert.deepStrictEqual(copied, {
        code: 1,
        stdout: "",
        stderr: "Error: this server cannot serve requests on files; it was started with allowFiles = false\n"
      })
      const { code, stdout } = yield* command(["doctor", "--url", url])
      assert.strictEqual(code, 1)
      assert.match(stdout, /^XX files +this server cannot serve requests on files; .*allowFiles = false$/m)
      assert.match(stdout, /^XX large files +.*allowFiles = false$/m)
      assert.match(stdout, /^XX http +.*allowHttp = false$/m)
      assert.match(stdout, /^ok commands/m)
      const missing = yield* command(["run", "--url", url, "--", "no-such-program"])
      // Whether the program or the directory is missing cannot be looked up.
      assert.strictEqual(missing.code, 1)
      assert.match(missing.stderr, /^Error: exec-server rejected request .*No such file or directory/)
      const ran = yield* command(["run", "--url", url, "--", "echo", "works"])
      assert.deepStrictEqual([ran.code, ran.stdout], [0, "works\n"])
    })
  )
})
