/** `run`, called by programs: streams, status, signals, and every way in which there is nowhere to run. */
import { execFile } from "node:child_process"
import { chmodSync, copyFileSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs"
import { createServer, type Socket } from "node:net"
import { dirname } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { command, isOneLine, start } from "../support/command.js"
import { directory } from "../support/files.js"
import { binary, eventually, isAlive, webSocketServer } from "../support/servers.js"

/** Runs a line of the shell with these arguments. */
const shell = (line: string, args: ReadonlyArray<string>) =>
  Effect.async<{ readonly code: number; readonly stderr: string }>((resume) => {
    const child = execFile("/bin/sh", ["-c", line, "sh", ...args], { timeout: 20_000 }, (error, _, stderr) =>
      resume(Effect.succeed({ code: error === null ? 0 : Number(error.code), stderr }))
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  })

type Flags = Effect.Effect<ReadonlyArray<string>, never, Scope.Scope>

const suite = (name: string, flags: Flags) =>
  describe(name, () => {
    const test = (
      title: string,
      body: (
        run: (...rest: ReadonlyArray<string>) => ReadonlyArray<string>
      ) => Effect.Effect<unknown, unknown, Scope.Scope>
    ) => it.scopedLive(title, () => Effect.flatMap(flags, (given) => body((...rest) => ["run", ...given, ...rest])))

    test("forwards stdin, stdout, stderr and the status", (run) =>
      Effect.gen(function* () {
        const input = `${"line\n".repeat(100000)}end`
        const script = "cat; echo error >&2; exit 7"
        const { code, stdout, stderr } = yield* command(run("--", "sh", "-c", script), { input })
        assert.strictEqual(code, 7)
        assert.isTrue(stdout === input)
        assert.strictEqual(stderr, "error\n")
      }))

    test("what cannot be read or written is said, with status 1", (run) =>
      Effect.gen(function* () {
        const sh = (redirect: string) => {
          const line = `exec "$@" ${redirect}`
          return shell(line, [process.execPath, binary, ...run("--", "sh", "-c", "cat; echo x")])
        }
        const unread = yield* sh("< /tmp")
        assert.deepStrictEqual(
          [unread.code, unread.stderr],
          [1, "Error: cannot read stdin: Is a directory (os error 21)\n"]
        )
        const unwritten = yield* sh("< /dev/null > /dev/full")
        assert.deepStrictEqual(
          [unwritten.code, unwritten.stderr],
          [1, "Error: cannot write to stdout: No space left on device (os error 28)\n"]
        )
      }))

    test("flags behind -- are the command's; --cwd, --set and --timeout", (run) =>
      Effect.gen(function* () {
        const { stdout } = yield* command(
          run("--cwd", "/", "--set", "A=b=c", "--", "sh", "-c", 'pwd; echo "$A" "$1"', "x", "--help")
        )
        assert.strictEqual(stdout, "/\nb=c --help\n")
        const late = yield* command(run("--timeout", "200ms", "--", "sleep", "1000"))
        assert.deepStrictEqual(late, { code: 124, stdout: "", stderr: "exec-server: the process timed out\n" })
      }))

    test("a signal to the command is one to what it runs; 128 + n", (run) =>
      Effect.gen(function* () {
        const polite = yield* start(
          run("--", "sh", "-c", "trap 'echo caught; exit 3' INT; echo up; while :; do sleep 0.05; done")
        )
        yield* eventually("it is up", () => polite.stdout() === "up\n")
        polite.child.kill("SIGINT")
        assert.strictEqual(yield* polite.exit, 3)
        assert.strictEqual(polite.stdout(), "up\ncaught\n")
        const other = yield* start(run("--", "sh", "-c", "echo up; exec sleep 1000"))
        yield* eventually("it is up", () => other.stdout() === "up\n")
        other.child.kill("SIGTERM")
        assert.strictEqual(yield* other.exit, 143)
      }))

    test("the third signal ends the command, and what it runs, whatever that makes of it", (run) =>
      Effect.gen(function* () {
        const stubborn = yield* start(run("--", "sh", "-c", "trap '' INT TERM; echo $$; while :; do sleep 0.05; done"))
        yield* eventually("it is up", () => stubborn.stdout().endsWith("\n"))
        const pid = Number(stubborn.stdout())
        for (let i = 0; i < 3; i++) stubborn.child.kill("SIGINT")
        // Signals of one kind that are not taken yet become one; those that come while it ends change nothing.
        const again = setInterval(() => stubborn.child.kill("SIGINT"), 5)
        const code = yield* Effect.ensuring(
          stubborn.exit,
          Effect.sync(() => clearInterval(again))
        )
        assert.strictEqual(code, 130)
        yield* eventually("the process is gone", () => !isAlive(pid))
      }))

    test("a reader that stops holds the command up and loses nothing; one that goes away ends it", (run) =>
      Effect.gen(function* () {
        const total = 30_000_000
        const slow = yield* start(run("--", "head", "-c", String(total), "/dev/zero"))
        const { stdout } = slow.child
        stdout?.pause()
        let bytes = 0
        stdout?.on("data", (chunk) => {
          bytes += chunk.length
        })
        stdout?.pause()
        // Meanwhile another one lives its whole life: if nothing held this one up, it would be past its end.
        yield* command(["run", "--", "true"])
        stdout?.resume()
        assert.strictEqual(yield* slow.exit, 0)
        yield* eventually("all of it has come", () => bytes === total)
        const gone = yield* start(run("--", "yes"))
        yield* eventually("something came", () => gone.stdout() !== "")
        gone.child.stdout?.destroy()
        assert.strictEqual(yield* gone.exit, 141)
      }))

    test("what cannot be started is one line, and a status as shells have it", (run) =>
      Effect.gen(function* () {
        const folder = yield* directory
        writeFileSync(`${folder}/plain`, "no program")
        writeFileSync(`${folder}/script`, "#!/no/such/interpreter\n", { mode: 0o755 })
        writeFileSync(`${folder}/a b`, "")
        const cases: ReadonlyArray<readonly [ReadonlyArray<string>, number, string]> = [
          [["--", "no-such-program"], 127, "exec-server: no-such-program: command not found\n"],
          [["--", "/no/such/program"], 127, "exec-server: /no/such/program: No such file or directory\n"],
          [["--cwd", folder, "--", "./none"], 127, "exec-server: ./none: No such file or directory\n"],
          [["--cwd", folder, "--", "./plain"], 126, "exec-server: ./plain: Permission denied\n"],
          [["--cwd", "/", "--", folder], 126, `exec-server: ${folder}: Permission denied\n`],
          [["--cwd", folder, "--", "./a b/x"], 126, "exec-server: ./a b/x: Not a directory\n"],
          [
            ["--cwd", folder, "--", "./script"],
            126,
            "exec-server: ./script: bad interpreter: No such file or directory\n"
          ],
          [["--tty", "--", "no-such-program"], 127, "exec-server: no-such-program: command not found\n"]
        ]
        for (const [args, code, stderr] of cases) {
          assert.deepStrictEqual(yield* command(run(...args)), { code, stdout: "", stderr }, args.join(" "))
        }
        // The directory is not there, and the program is: that is no fault of the program.
        for (const [cwd, why] of [
          ["/no/such/folder", "No such file or directory (os error 2)"],
          [`${folder}/plain`, "Not a directory (os error 20)"]
        ]) {
          for (const tty of [[], ["--tty"]]) {
            const { code, stderr } = yield* command(run(...tty, "--cwd", `${cwd}`, "--", "true"))
            assert.deepStrictEqual([code, stderr], [1, `Error: cannot use ${cwd} as the working directory: ${why}\n`])
          }
        }
      }))
  })

suite("run on this machine", Effect.succeed([]))

suite(
  "run on a server",
  Effect.map(webSocketServer(), ({ url }) => ["--url", url])
)

/** Something else than a server, on a port. */
const listener = (onSocket: (socket: Socket) => void): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<{ readonly url: string; readonly close: () => void }>((resume) => {
      const sockets = new Set<Socket>()
      const server = createServer((socket) => {
        sockets.add(socket)
        socket.on("error", () => {})
        onSocket(socket)
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const close = () => {
          server.close()
          for (const socket of sockets) socket.destroy()
        }
        resume(Effect.succeed({ url: `ws://127.0.0.1:${typeof address === "object" ? address?.port : 0}`, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  ).pipe(Effect.map(({ url }) => url))

describe("where there is nowhere to run", () => {
  const fails = (args: ReadonlyArray<string>, code: number, message: RegExp, env: Record<string, string> = {}) =>
    Effect.map(command(["run", ...args, "--", "true"], { env }), (ended) => {
      assert.match(ended.stderr, message, args.join(" "))
      isOneLine(ended.stderr, args.join(" "))
      assert.strictEqual(ended.code, code, args.join(" "))
      assert.strictEqual(ended.stdout, "")
    })

  it.scopedLive("servers that are none: one line each", () =>
    Effect.gen(function* () {
      const http = yield* listener((socket) => void socket.end("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"))
      const garbage = yield* listener((socket) => void socket.end("\u0000\u0001 no protocol at all\r\n\r\n"))
      const silent = yield* listener(() => {})
      yield* fails(["--url", "ws://127.0.0.1:1"], 1, /failed to connect .*ECONNREFUSED/)
      yield* fails(["--url", "ws://no-such-host.invalid:1"], 1, /failed to connect .*no-such-host.invalid/)
      yield* fails(["--url", http], 1, /the server answered 200 instead of an upgrade/)
      yield* fails(["--url", garbage], 1, /failed to connect .*Parse Error/)
      yield* fails(["--url", "unix:///no/such/socket"], 1, /failed to connect .*ENOENT/)
      yield* fails(["--url", `${http.replace("ws:", "relay:")}/x`], 1, /failed to connect .*200/)
      const folder = yield* directory
      const file = `${folder}/environments.toml`
      const entry = (id: string, url: string) =>
        `[[environments]]\nid = "${id}"\nurl = "${url}"\nconnect_timeout_sec = 0.3\ninitialize_timeout_sec = 0.3\n`
      writeFileSync(file, entry("silent", silent))
      yield* fails(["--environments", file, "--env", "silent"], 1, /timed out connecting .* after 300 ms/)
      yield* fails(
        ["--environments", file, "--env", "other"],
        2,
        /unknown environment `other`: the known ones are local, silent/
      )
    })
  )

  it.scopedLive("servers that speak otherwise once they are connected to", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const file = `${folder}/environments.toml`
      const program = (script: string) =>
        writeFileSync(
          file,
          `[[environments]]\nid = "x"\nprogram = "/bin/sh"\nargs = ["-c", '${script}']\ninitialize_timeout_sec = 0.3\n`
        )
      program("exec sleep 100")
      yield* fails(["--environments", file, "--env", "x"], 1, /timed out waiting for exec-server initialize handshake/)
      program("echo no JSON; exec sleep 100")
      yield* fails(
        ["--environments", file, "--env", "x"],
        1,
        /exec-server protocol error: the server sent an invalid message/
      )
      program("exit 3")
      yield* fails(["--environments", file, "--env", "x"], 1, /the server exited with code 3/)
      writeFileSync(file, '[[environments]]\nid = "x"\nprogram = "/no/such/program"\n')
      yield* fails(["--environments", file, "--env", "x"], 1, /failed to spawn exec-server: .*ENOENT/)
    })
  )

  it.scopedLive("configurations that are none, and calls that make no sense", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const file = `${folder}/environments.toml`
      writeFileSync(file, "this is = = no TOML")
      yield* fails(["--environments", file, "--env", "x"], 2, /failed to parse environment config/)
      yield* fails(["--env", "x"], 2, /failed to parse environment config/, { CODEX_HOME: folder })
      writeFileSync(file, "bogus = 1")
      yield* fails(["--env", "x"], 2, /unknown field `bogus`/, { CODEX_HOME: folder })
      yield* fails(["--environments", `${folder}/none`, "--env", "x"], 1, /failed to read environment config/)
      yield* fails(["--url", "http://h"], 2, /environment url `http:\/\/h` must use ws:\/\/ or wss:\/\//)
      yield* fails([], 2, /must use ws:\/\/ or wss:\/\//, { EXEC_SERVER_URL: "ftp://h" })
      yield* fails(["--url", "ws://h", "--env", "x"], 2, /give --url or --env, not both/)
      yield* fails(["--detach"], 2, /--detach needs --url or --env/)
      yield* fails(["--session", "s"], 2, /--session needs --url/)
      yield* fails(["--set", "novalue"], 2, /--set novalue: write NAME=VALUE/)
      yield* fails(
        ["--url", "ws://127.0.0.1:1", "--token-file", "/no/file"],
        1,
        /cannot read the token file \/no\/file/
      )
      yield* fails(["--url", "relay://h"], 2, /a relay URL is relay:\/\/HOST:PORT\/ENVIRONMENT/)
      yield* fails(["--url", "ws://127.0.0.1:1/#x"], 2, /The URL contains a fragment identifier/)
      yield* fails(["--cwd", "http://x/y"], 2, /unsupported path URI scheme `http`/)
      yield* fails(["--url", "ws://127.0.0.1:1"], 2, /the token in EXEC_SERVER_TOKEN is empty/, {
        EXEC_SERVER_TOKEN: "a b"
      })
      writeFileSync(file, "\n")
      chmodSync(file, 0o600)
      yield* fails(["--url", "ws://127.0.0.1:1", "--token-file", file], 1, /the token in .* is empty/)
      const none = yield* command(["run"])
      assert.strictEqual(none.code, 2)
      isOneLine(none.stderr)
      for (const args of [["--bogus"], ["--timeout", "soon"]]) {
        const { code, stderr } = yield* command(["run", ...args, "--", "true"])
        assert.strictEqual(code, 2)
        assert.notMatch(stderr, /\n\s+at /)
      }
    })
  )

  it.scopedLive("a server that wants a token gets it from a file, or from EXEC_SERVER_TOKEN", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const file = `${folder}/token`
      writeFileSync(file, "secret-token\n", { mode: 0o600 })
      const { url } = yield* webSocketServer({ args: ["--ws-auth", "capability-token", "--ws-token-file", file] })
      yield* fails(["--url", url], 1, /the server answered 401 instead of an upgrade/)
      for (const [args, env] of [
        [["--token-file", file], {}],
        [[], { EXEC_SERVER_TOKEN: "secret-token" }]
      ] as const) {
        const ended = yield* command(["run", "--url", url, ...args, "--", "echo", "in"], { env })
        assert.deepStrictEqual(ended, { code: 0, stdout: "in\n", stderr: "" })
      }
      // The variable is for the server that a flag or a variable names: no configured one is shown it.
      const environments = `${folder}/environments.toml`
      writeFileSync(environments, `[[environments]]\nid = "x"\nurl = "${url}"\n`)
      const env = { EXEC_SERVER_TOKEN: "secret-token" }
      yield* fails(["--environments", environments, "--env", "x"], 1, /the server answered 401/, env)
    })
  )

  it.scopedLive("the process gets the environment, but for the tokens of this command and of the server", () =>
    Effect.gen(function* () {
      const env = {
        EXEC_SERVER_TOKEN: "secret-token",
        EXEC_SERVER_REMOTE_TOKEN: "secret-token",
        CODEX_API_KEY: "secret-token",
        MINE: "mine"
      }
      const { stdout } = yield* command(["run", "--", "env"], { env })
      assert.include(stdout, "MINE=mine\n")
      assert.notInclude(stdout, "secret-token")
      const set = yield* command(["run", "--set", "EXEC_SERVER_TOKEN=given", "--", "env"], { env })
      assert.include(set.stdout, "EXEC_SERVER_TOKEN=given\n")
      const key = yield* command(["run", "--set", "CODEX_API_KEY=given", "--", "env"], { env })
      assert.include(key.stdout, "CODEX_API_KEY=given\n")
    })
  )

  it.scopedLive("without its native part, which was not built, it says in one line what builds it", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const root = dirname(dirname(binary))
      mkdirSync(`${folder}/dist`)
      for (const file of readdirSync(dirname(binary)).filter((name) => /^(bin\.js|run-.*\.cjs)$/.test(name))) {
        copyFileSync(`${dirname(binary)}/${file}`, `${folder}/dist/${file}`)
      }
      copyFileSync(`${root}/package.json`, `${folder}/package.json`)
      symlinkSync(`${root}/node_modules`, `${folder}/node_modules`)
      const { code, stderr } = yield* shell('exec "$@"', [
        process.execPath,
        `${folder}/dist/bin.js`,
        "run",
        "--",
        "true"
      ])
      isOneLine(stderr)
      assert.include(stderr, `run npm rebuild in ${folder}`)
      assert.strictEqual(code, 1)
    })
  )

  it.scopedLive("the server dies while something runs: one line", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const file = `${folder}/environments.toml`
      const server = yield* webSocketServer()
      writeFileSync(file, `[[environments]]\nid = "x"\nurl = "${server.url}"\n`)
      const running = yield* start([
        "run",
        "--environments",
        file,
        "--env",
        "x",
        "--",
        "sh",
        "-c",
        "echo up; exec sleep 100"
      ])
      yield* eventually("it is up", () => running.stdout() === "up\n")
      server.child.kill("SIGKILL")
      yield* eventually("it is said", () => running.stderr().includes("the connection is lost"))
      running.child.kill("SIGINT")
      assert.strictEqual(yield* running.exit, 130)
      assert.notMatch(running.stderr(), /\n\s+at /)
    })
  )
})
