/** Our client and commands do on the genuine server what it can, and say clearly what it cannot. */
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as ExecClient from "../../src/client/ExecClient.js"
import { bytesOf } from "../../src/client/HeadTail.js"
import type { RemoteProcess } from "../../src/client/RemoteProcess.js"
import { atTerminal, command, commandLine, isOneLine, start } from "../support/command.js"
import { failureOf } from "../support/fake.js"
import { directory } from "../support/files.js"
import { eventually, isAlive } from "../support/servers.js"
import { upstream } from "../support/upstream.js"
import { genuineServer, install } from "./support/codex.js"
import { installTimeoutMs } from "./support/npm.js"
import { proxyTo } from "./support/proxy.js"

interface Generation {
  readonly version: string
  readonly paths: "plain" | "uri"
  readonly signals: "none" | "interrupt"
  /** Whether it confines processes, refuses links and leaves redirects alone. */
  readonly restricts: boolean
  readonly fileBlocks: boolean
  readonly fileBlockWrites: boolean
  readonly canonicalizes: boolean
  /** What it says of its machine. */
  readonly tells: { readonly version: boolean; readonly shell: boolean }
  /** The status of a process that was killed. */
  readonly killed: number
}

const old = { restricts: false, fileBlocks: false, fileBlockWrites: false } as const

const generations: ReadonlyArray<Generation> = [
  {
    ...old,
    version: "0.133.0",
    paths: "plain",
    signals: "none",
    canonicalizes: false,
    tells: { version: false, shell: false },
    killed: -1
  },
  {
    ...old,
    version: "0.141.0",
    paths: "plain",
    signals: "interrupt",
    canonicalizes: true,
    tells: { version: false, shell: true },
    killed: -1
  },
  {
    version: "0.158.0",
    paths: "uri",
    signals: "interrupt",
    restricts: true,
    fileBlocks: true,
    fileBlockWrites: false,
    canonicalizes: true,
    tells: { version: true, shell: true },
    killed: 137
  },
  {
    version: "0.169.0",
    paths: "uri",
    signals: "interrupt",
    restricts: true,
    fileBlocks: true,
    fileBlockWrites: true,
    canonicalizes: true,
    tells: { version: true, shell: true },
    killed: 137
  }
]

const PATH = "/usr/bin:/bin"

const sh = (script: string, more: Partial<ExecClient.StartOptions> = {}): ExecClient.StartOptions => ({
  argv: ["/bin/sh", "-c", script],
  cwd: "/tmp",
  env: { PATH },
  ...more
})

/** Waits until a process has said something. */
const says = (process: RemoteProcess, wanted: string) =>
  process.output.pipe(
    Stream.scan("", (seen, chunk) => seen + chunk.toString()),
    Stream.takeUntil((seen) => seen.includes(wanted)),
    Stream.runDrain
  )

/** A restriction that every generation can read. */
const sandbox = {
  permissions: {
    type: "managed",
    file_system: { type: "restricted", entries: [] },
    network: "restricted"
  },
  windowsSandboxLevel: "disabled"
} as const

describe.each(generations)("a server of codex $version", (generation) => {
  const { version, paths, signals, restricts, fileBlocks, fileBlockWrites, canonicalizes, tells, killed } = generation
  beforeAll(() => install(version), installTimeoutMs)

  const test = (
    title: string,
    body: (client: ExecClient.Shape, url: string) => Effect.Effect<unknown, unknown, Scope.Scope>
  ) =>
    it.scopedLive(title, () =>
      Effect.flatMap(genuineServer(version), (url) =>
        Effect.flatMap(ExecClient.connect({ url }), (client) => body(client, url))
      )
    )

  const withServer = (title: string, body: (url: string) => Effect.Effect<unknown, unknown, Scope.Scope>) =>
    it.scopedLive(title, () => Effect.flatMap(genuineServer(version), body))

  test("is known for what it is", ({ features, environmentInfo }) =>
    Effect.sync(() => {
      assert.deepInclude(features, { paths, signals, fileBlocks, fileBlockWrites, extensions: false })
      assert.deepInclude(features, { noFollow: restricts, redirectPolicy: restricts, processSandbox: restricts })
      assert.match(features.server, tells.version ? new RegExp(`codex ${version}`) : /codex, before/)
      assert.strictEqual(environmentInfo.executorVersion, tells.version ? version : null)
      assert.strictEqual(environmentInfo.shell !== null, tells.shell)
    }))

  test("runs processes with input and output, and ends them", (client) =>
    Effect.gen(function* () {
      const { exit, stdout, stderr } = yield* (yield* client.start(sh("pwd; echo problem >&2; exit 3"))).communicate()
      assert.deepInclude(exit, { exitCode: 3, sandboxDenied: false })
      assert.deepStrictEqual([bytesOf(stdout).toString(), bytesOf(stderr).toString()], ["/tmp\n", "problem\n"])
      const reader = yield* client.start(
        sh("echo ready; read line; echo got $line; exec sleep 1000", { pipeStdin: true })
      )
      yield* reader.write("it\n")
      yield* says(reader, "got it")
      assert.deepStrictEqual(yield* reader.terminate(), { running: true })
      assert.strictEqual((yield* reader.closed).exitCode, killed)
      const missing = yield* failureOf(client.start(sh("", { argv: ["/no/such/program"] })))
      assert.deepInclude(missing, { _tag: "ServerError", code: -32603 })
    }))

  test("says that it ends no input, before anything waits for it", (client) =>
    Effect.gen(function* () {
      const cat = yield* client.startScoped(sh("exec cat", { pipeStdin: true }))
      for (const effect of [cat.closeStdin, cat.communicate({ input: "x" }), cat.communicate()]) {
        const error = yield* failureOf(effect)
        assert.deepInclude(error, { _tag: "Unsupported" })
        assert.match(error.message, /^this server \(codex.*\) cannot end the input of a program without a terminal/)
      }
      const without = yield* client.start(sh("exec cat"))
      assert.strictEqual((yield* without.communicate()).exit.exitCode, 0)
    }))

  test("ends the input of a terminal with its character", (client) =>
    Effect.gen(function* () {
      for (const input of ["line\n", "half a line", ""]) {
        const cat = yield* client.start(sh("stty -echo; exec cat", { tty: true }))
        const { exit, terminal } = yield* cat.communicate({ input })
        assert.strictEqual(exit.exitCode, 0)
        assert.include(bytesOf(terminal).toString(), input.trim())
      }
    }))

  test("sends the signals that it can, and no others", (client) =>
    Effect.gen(function* () {
      const trapping = sh("trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done")
      const process = yield* client.startScoped(trapping)
      yield* says(process, "ready")
      for (const [signal, target] of [["SIGTERM"], ["SIGUSR1"], ["SIGINT", "leader"], ["SIGKILL", "tree"]] as const) {
        const error = yield* failureOf(process.signal(signal, target))
        assert.strictEqual(error._tag, "Unsupported")
        assert.include(error.message, signal)
      }
      if (signals === "interrupt") {
        yield* process.signal("SIGINT")
        assert.strictEqual((yield* process.closed).exitCode, 7)
      } else assert.strictEqual((yield* failureOf(process.signal("SIGINT")))._tag, "Unsupported")
      const sleeper = yield* client.startScoped(sh("echo ready; exec sleep 1000"))
      yield* says(sleeper, "ready")
      yield* sleeper.signal("SIGKILL")
      assert.strictEqual((yield* sleeper.closed).exitCode, killed)
    }))

  test("is not asked for what it would leave out", (client) =>
    Effect.gen(function* () {
      const restart = { policy: "always", maxRestarts: 1, withinMs: 1000, backoffMs: 1, maxBackoffMs: 1 } as const
      for (const more of [{ timeoutMs: 1000 }, { size: { rows: 1, cols: 1 }, tty: true }, { restart }]) {
        const error = yield* failureOf(client.start(sh("true", more)))
        assert.deepInclude(error, { _tag: "Unsupported" })
        assert.include(error.message, Object.keys(more)[0] ?? "")
      }
      const process = yield* client.startScoped(sh("exec sleep 1000", { tty: true }))
      assert.strictEqual((yield* failureOf(process.resize(1, 1)))._tag, "Unsupported")
      const graceful = process.terminate({ type: "graceful", timeoutMs: 1 })
      assert.strictEqual((yield* failureOf(graceful))._tag, "Unsupported")
      if (!restricts) {
        assert.strictEqual((yield* failureOf(client.start(sh("true", { sandbox }))))._tag, "Unsupported")
        const { url } = yield* upstream((response) => void response.end())
        const stopped = client.http.request({ url, redirectPolicy: "stop" })
        assert.strictEqual((yield* failureOf(stopped))._tag, "Unsupported")
      }
    }))

  withServer("a lost connection is replaced: the session goes on, and nothing is lost", (url) =>
    Effect.gen(function* () {
      const root = yield* directory
      const proxy = yield* proxyTo(url)
      const client = yield* ExecClient.connect({ url: proxy.url })
      const script = "seq 1 500; until [ -e go ]; do sleep 0.05; done; seq 501 1000; touch gone; exit 5"
      const process = yield* client.start(sh(script, { cwd: root }))
      yield* says(process, "500\n")
      // The other half comes, with its end, while nobody hears it.
      yield* proxy.cutDuring(
        Effect.suspend(() => {
          writeFileSync(`${root}/go`, "")
          return eventually("the command has ended", () => existsSync(`${root}/gone`))
        })
      )
      assert.strictEqual((yield* process.closed).exitCode, 5)
      const output = Buffer.concat(Array.from(yield* Stream.runCollect(process.output))).toString()
      assert.strictEqual(output, Array.from({ length: 1000 }, (_, i) => `${i + 1}\n`).join(""))
      assert.strictEqual((yield* (yield* client.start(sh("exit 4"))).closed).exitCode, 4)
    })
  )

  test("makes HTTP requests", ({ http }) =>
    Effect.gen(function* () {
      const { url } = yield* upstream((response) => void response.end("body"))
      const { status, body } = yield* http.request({ url })
      assert.deepStrictEqual([status, body.toString()], [200, "body"])
      const streamed = yield* http.stream({ url })
      assert.strictEqual(Buffer.concat(Array.from(yield* Stream.runCollect(streamed.body))).toString(), "body")
    }))

  test("has files, under plain paths and URIs alike", ({ files }) =>
    Effect.gen(function* () {
      const plain = yield* directory
      for (const root of [plain, pathToFileURL(plain).href]) {
        const at = (name: string) => `${root}/${name}`
        yield* files.createDirectory(at("a/b c"))
        yield* files.writeFile(at("a/text"), "hello")
        assert.strictEqual((yield* files.readFile(at("a/text"))).toString(), "hello")
        const content = Buffer.alloc(3_000_000, "0123456789")
        yield* files.write(at("a/b c/large"), Stream.make(content.subarray(0, 1_000_000), content.subarray(1_000_000)))
        const read = Buffer.concat(Array.from(yield* Stream.runCollect(files.read(at("a/b c/large")))))
        assert.isTrue(read.equals(content))
        const { isFile, size } = yield* files.getMetadata(at("a/text"))
        assert.deepStrictEqual([isFile, size], [true, version === "0.133.0" ? null : 5])
        symlinkSync("text", join(plain, "a", "link"))
        const walked = yield* files.walk(root)
        const space = root === plain ? " " : "%20"
        assert.deepStrictEqual(walked, {
          entries: [
            { path: at("a"), kind: "directory" },
            { path: at(`a/b${space}c`), kind: "directory" },
            { path: at("a/text"), kind: "file" },
            { path: at(`a/b${space}c/large`), kind: "file" }
          ],
          errors: [],
          truncated: false
        })
        assert.isTrue((yield* files.walk(root, { maxEntries: 2 })).truncated)
        assert.lengthOf((yield* files.walk(root, { maxDepth: 0 })).entries, 1)
        if (canonicalizes) assert.strictEqual(yield* files.canonicalize(at("a/link")), at("a/text"))
        else assert.strictEqual((yield* failureOf(files.canonicalize(at("a/link"))))._tag, "Unsupported")
        const unfollowed = yield* failureOf(files.readFile(at("a/link"), { followSymlinks: false }))
        assert.strictEqual(unfollowed._tag, restricts ? "ServerError" : "Unsupported")
        yield* files.copy(at("a"), at("copy"))
        assert.strictEqual((yield* files.readFile(at("copy/text"))).toString(), "hello")
        assert.strictEqual((yield* failureOf(files.remove(at("copy"), { recursive: false })))._tag, "ServerError")
        yield* files.remove(at("copy"))
        yield* files.remove(at("a"))
        assert.deepInclude(yield* failureOf(files.remove(at("a"), { force: false })), { code: -32004 })
        assert.deepStrictEqual(yield* files.readDirectory(root), [])
      }
    }))

  test("takes in one message what fits into one, and loses no connection over more", ({ files, state }) =>
    Effect.gen(function* () {
      const root = yield* directory
      const content = Buffer.alloc(12 * 1048576, "x")
      const error = yield* failureOf(files.writeFile(`${root}/file`, content))
      assert.strictEqual(error._tag, "Unsupported")
      const streamed = files.write(`${root}/file`, Stream.make(content))
      if (fileBlockWrites) {
        yield* streamed
        assert.strictEqual((yield* files.readFile(`${root}/file`)).length, content.length)
      } else assert.strictEqual((yield* failureOf(streamed))._tag, "Unsupported")
      yield* files.writeFile(`${root}/file`, content.subarray(0, 11 * 1048576))
      assert.strictEqual((yield* state)._tag, "Connected")
    }))

  withServer("run: output, status, directory, and no input", (url) =>
    Effect.gen(function* () {
      const { code, stdout, stderr } = yield* command(
        ["run", "--url", url, "--cwd", "/usr", "--set", "A=b", "--", "sh", "-c", "pwd; cat; echo $A >&2; exit 3"],
        { input: "" }
      )
      assert.deepStrictEqual({ code, stdout, stderr }, { code: 3, stdout: "/usr\n", stderr: "b\n" })
    })
  )

  withServer("run: input for a program that ends by itself, and an error for one that waits for its end", (url) =>
    Effect.gen(function* () {
      const head = yield* command(["run", "--url", url, "--", "head", "-1"], { input: "one\ntwo\n" })
      assert.deepStrictEqual(head, { code: 0, stdout: "one\n", stderr: "" })
      const cat = yield* command(["run", "--url", url, "--", "cat"], { input: "one\n" })
      assert.deepInclude(cat, { code: 1, stdout: "one\n" })
      isOneLine(cat.stderr)
      assert.include(cat.stderr, "cannot end the input of a program")
      const timed = yield* command(["run", "--url", url, "--timeout", "5", "--", "true"])
      assert.strictEqual(timed.code, 1)
      assert.include(timed.stderr, "--timeout")
    })
  )

  withServer("run --tty: keys, and the end of input", (url) =>
    Effect.gen(function* () {
      const { type, sees, process } = yield* atTerminal(
        commandLine("run", "--tty", "--url", url, "--", "sh", "-c", "echo rea''dy; cat; exit 5")
      )
      yield* sees("ready")
      yield* type("hello\r")
      yield* sees("hello\r\nhello")
      yield* type("\u0004")
      assert.strictEqual((yield* process.closed).exitCode, 5)
    })
  )

  withServer("a signal that it cannot send ends the command, and what it runs", (url) =>
    Effect.gen(function* () {
      const running = yield* start(["run", "--url", url, "--", "sh", "-c", "echo $$; exec sleep 1000"])
      yield* eventually("it runs", () => running.stdout().endsWith("\n"))
      running.child.kill("SIGTERM")
      assert.strictEqual(yield* running.exit, 143)
      yield* eventually("the process is gone", () => !isAlive(Number(running.stdout())))
    })
  )

  withServer("a session that was left: its output is read, and its processes are killed", (url) =>
    Effect.gen(function* () {
      const script = "echo one; sleep 0.5; echo two; exec sleep 1000"
      const { stdout } = yield* command(["run", "-d", "--id", "p", "--url", url, "--", "sh", "-c", script])
      const there = ["--url", url, "--session", stdout.trim()]
      for (const refused of [["ps"], ["attach", "p"]]) {
        const { code, stderr } = yield* command([...refused.slice(0, 1), ...there, ...refused.slice(1)])
        assert.strictEqual(code, 1)
        isOneLine(stderr)
        assert.match(stderr, /this server \(codex.*\) cannot/)
      }
      const following = yield* start(["logs", "-f", ...there, "p"])
      yield* eventually("it has said both", () => following.stdout() === "one\ntwo\n")
      following.child.kill("SIGKILL")
      yield* following.exit
      assert.strictEqual((yield* command(["logs", ...there, "p"])).stdout, "one\ntwo\n")
      const term = yield* command(["kill", ...there, "p"])
      assert.strictEqual(term.code, 1)
      assert.include(term.stderr, "SIGTERM")
      const unknown = yield* command(["kill", "-s", "KILL", ...there, "q"])
      assert.include(unknown.stderr, "unknown process id q")
      assert.deepInclude(yield* command(["kill", "-s", signals === "none" ? "KILL" : "INT", ...there, "p"]), {
        code: 0
      })
    })
  )

  withServer("cp: files and directories, there and back", (url) =>
    Effect.gen(function* () {
      const root = yield* directory
      const content = Buffer.alloc(2_500_000, "abcdefg")
      mkdirSync(`${root}/from/sub dir`, { recursive: true })
      writeFileSync(`${root}/from/sub dir/large`, content)
      writeFileSync(`${root}/from/small`, "small")
      mkdirSync(`${root}/there`)
      const cp = (...args: ReadonlyArray<string>) => command(["cp", "--url", url, ...args])
      assert.deepInclude(yield* cp("-r", `${root}/from`, `:${root}/there`), { code: 0, stderr: "" })
      assert.isTrue(readFileSync(`${root}/there/from/sub dir/large`).equals(content))
      assert.deepInclude(yield* cp("-r", `:${root}/there/from`, `${root}/back`), { code: 0, stderr: "" })
      assert.isTrue(readFileSync(`${root}/back/sub dir/large`).equals(content))
      assert.strictEqual(readFileSync(`${root}/back/small`, "utf8"), "small")
    })
  )

  withServer("doctor says of each thing whether it is served, and fails", (url) =>
    Effect.gen(function* () {
      const { code, stdout } = yield* command(["doctor", "--json", "--url", url])
      const found = new Map(
        stdout
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line))
          .map(({ name, status }) => [name, status])
      )
      const expected = {
        server: "ok",
        commands: "ok",
        "end of input": "failed",
        signals: "failed",
        "window size": "failed",
        "process list": "failed",
        "time limits": "failed",
        sandboxes: restricts ? "ok" : "failed",
        files: "ok",
        "large files": fileBlockWrites ? "ok" : "failed",
        http: "ok"
      }
      assert.deepStrictEqual(Object.fromEntries(Object.keys(expected).map((name) => [name, found.get(name)])), expected)
      assert.strictEqual(code, 1)
    })
  )
})
