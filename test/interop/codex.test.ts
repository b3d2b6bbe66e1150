/** The genuine client does its work on this server, and its model is told the truth. */
import { Buffer } from "node:buffer"
import { spawn } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { command as ownCommand } from "../support/command.js"
import { binary, childrenOf, eventually, runningWith } from "../support/servers.js"
import { temporary, versionBeside } from "../support/upgrades.js"
import { type Client, type Codex, call, codex, codexOnStdio, command, install, type } from "./support/codex.js"
import { installTimeoutMs } from "./support/npm.js"

let marks = 0

/** Seconds that nothing else sleeps, so that the whole process table can be searched for them. */
const freshMark = () => String(86_000_000 + (process.pid % 10_000) * 100 + marks++)

/** Writes, and polls until the output has what is waited for. */
const until = (client: Client, sessionId: number | undefined, chars: string, wanted: RegExp) =>
  Effect.gen(function* () {
    let text = ""
    let output = yield* client.call(type(sessionId, chars))
    for (let polls = 0; polls < 3; polls++) {
      text += output.text
      if (wanted.test(text)) break
      output = yield* client.call(type(sessionId, ""))
    }
    assert.match(text, wanted)
    return { ...output, text }
  })

/** Runs a command that says `ready`, and leaves it running from then on. */
const leave = (client: Client, cmd: string, more: object = {}) =>
  Effect.gen(function* () {
    const output = yield* client.call(command(cmd, { yield_time_ms: 250, ...more }))
    assert.isDefined(output.sessionId, output.whole)
    if (!output.text.includes("ready")) yield* until(client, output.sessionId, "", /ready/)
    return output
  })

const methods = (client: Codex) => client.proxy.asked.map(({ method }) => method)

/** How often the client has taken its session up again. Fails if one of its connections has begun another session. */
const resumptions = (client: Codex) => {
  const [first, ...others] = client.proxy.asked.filter(({ method }) => method === "initialize")
  const welcome = client.proxy.told.find(({ result }) => result?.sessionId !== undefined)
  assert.isNull(first.params.resumeSessionId)
  for (const { params } of others) assert.strictEqual(params.resumeSessionId, welcome.result.sessionId)
  return others.length
}

/** Bytes of output that the server has sent. */
const outputBytes = (client: Codex) =>
  client.proxy.told
    .filter(({ method }) => method === "process/output")
    .reduce((sum, { params }) => sum + Buffer.from(params.chunk, "base64").length, 0)

const lines = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `${from + i}\n`).join("")

const patch = (...body: ReadonlyArray<string>) =>
  command(["apply_patch <<'PATCH'", "*** Begin Patch", ...body, "*** End Patch", "PATCH"].join("\n"))

const mcpServer = fileURLToPath(new URL("./support/mcp.mjs", import.meta.url))

/** An MCP server on a port; gives its URL. */
const mcpOverHttp = Effect.acquireRelease(
  Effect.sync(() => spawn(process.execPath, [mcpServer, "http"], { stdio: ["ignore", "pipe", "inherit"] })),
  (child) => Effect.sync(() => child.kill("SIGKILL"))
).pipe(
  Effect.flatMap(({ stdout }) =>
    Effect.async<string>((resume) => {
      createInterface({ input: stdout }).once("line", (line) => resume(Effect.succeed(line)))
    })
  ),
  Effect.timeout("20 seconds")
)

interface Generation {
  readonly version: string
  /** Whether its server is a host of a fleet. */
  readonly throughGateway: boolean
  /** Whether it takes its session up again after a lost connection. */
  readonly resumes: boolean
  /** Whether it can interrupt a command that has no terminal. */
  readonly signals: boolean
  /** Whether it can be told to start its server itself. */
  readonly launches: boolean
  /** How its configuration says that an MCP server runs where the commands do. */
  readonly placement: string
  /** How it names the tools of an MCP server called `x`. */
  readonly namespace: (x: string) => string
  /** Whether it takes output from the server's notifications; if not, it asks for what is retained. */
  readonly listens: boolean
}

const today: Generation = {
  version: "0.169.0",
  throughGateway: false,
  resumes: true,
  signals: true,
  listens: true,
  launches: true,
  placement: 'environment_id = "remote"',
  namespace: (x) => `mcp__${x}`
}

const generations: ReadonlyArray<Generation> = [
  today,
  { ...today, throughGateway: true, launches: false },
  {
    version: "0.130.0",
    throughGateway: false,
    resumes: false,
    signals: false,
    listens: false,
    launches: false,
    placement: 'experimental_environment = "remote"',
    namespace: (x) => `mcp__${x}__`
  }
]

describe.each(generations)("codex $version, through a gateway: $throughGateway", (generation) => {
  const { version, throughGateway, resumes, signals, listens, launches, placement, namespace } = generation
  beforeAll(() => install(version), installTimeoutMs)

  const test = (
    title: string,
    body: (client: Codex) => Effect.Effect<unknown, unknown, Scope.Scope>,
    prepare: (cwd: string) => void = () => {}
  ) => it.scopedLive(title, () => Effect.flatMap(codex(version, { prepare, throughGateway }), body))

  test("a command's output, errors and exit code", (client) =>
    Effect.gen(function* () {
      const output = yield* client.call(command("pwd; echo problem >&2; exit 3"))
      assert.strictEqual(output.exitCode, 3)
      assert.sameMembers(output.text.trimEnd().split("\n"), [client.cwd, "problem"])
      assert.strictEqual((yield* client.call(command("no-such-program"))).exitCode, 127)
      assert.strictEqual((yield* client.call(command("kill -KILL $$"))).exitCode, 137)
      const silent = yield* client.call(command("true"))
      assert.deepInclude(silent, { exitCode: 0, text: "" })
      yield* client.finish
    }))

  test("output that is not UTF-8 loses only what is not", (client) =>
    Effect.gen(function* () {
      const output = yield* client.call(command("printf 'a\\xff\\xfeok\\x80 w\\xc3\\xb6rld'"))
      assert.deepInclude(output, { exitCode: 0, text: "a\uFFFD\uFFFDok\uFFFD wörld" })
      yield* client.finish
    }))

  test("several megabytes of output, from beginning to end", (client) =>
    Effect.gen(function* () {
      const output = yield* client.call(
        command("echo BEGIN; head -c 6000000 /dev/zero | tr '\\0' x; echo END", { max_output_tokens: 50 })
      )
      assert.strictEqual(output.exitCode, 0)
      assert.match(output.text, /x+END\n$/)
      assert.strictEqual(outputBytes(client), 6_000_010)
      // Four bytes each.
      if (listens) assert.strictEqual(output.tokens, Math.ceil(6_000_010 / 4))
      yield* client.finish
    }))

  test("a session in a terminal, continued with write_stdin", (client) =>
    Effect.gen(function* () {
      const script =
        "test -t 0 || exit 1; echo ready; while read -r line; do echo got $line; [ $line = quit ] && exit 4; done"
      const { sessionId } = yield* leave(client, script, { tty: true })
      assert.include((yield* until(client, sessionId, "one\n", /got one/)).text, "got one\r\n")
      assert.include((yield* until(client, sessionId, "zwölf\n", /got zw/)).text, "got zwölf\r\n")
      assert.strictEqual((yield* until(client, sessionId, "quit\n", /got quit/)).exitCode, 4)
      yield* client.finish
    }))

  test("^C in a terminal", (client) =>
    Effect.gen(function* () {
      const { sessionId } = yield* leave(
        client,
        "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done",
        {
          tty: true
        }
      )
      const output = yield* until(client, sessionId, "\u0003", /caught/)
      assert.strictEqual(output.exitCode, 7)
      yield* client.finish
    }))

  if (signals) {
    test("^C without a terminal", (client) =>
      Effect.gen(function* () {
        const { sessionId } = yield* leave(
          client,
          "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done"
        )
        const output = yield* until(client, sessionId, "\u0003", /caught/)
        assert.strictEqual(output.exitCode, 7)
        assert.include(methods(client), "process/signal")
        yield* client.finish
      }))
  }

  test("several commands at once", (client) =>
    Effect.gen(function* () {
      yield* client.call(command("mkfifo a b"))
      // Each waits for the other one.
      const outputs = yield* client.callAll([
        command("echo ping > a; cat b"),
        command("cat a; echo pong > b"),
        command("echo third")
      ])
      assert.deepStrictEqual(
        outputs.map(({ exitCode, text }) => [exitCode, text]),
        [
          [0, "pong\n"],
          [0, "ping\n"],
          [0, "third\n"]
        ]
      )
      yield* client.finish
    }))

  test(
    "apply_patch adds, changes, moves and removes files",
    (client) =>
      Effect.gen(function* () {
        const { text } = yield* client.call(
          patch(
            "*** Add File: new/deep/added.txt",
            "+hello",
            "+wörld",
            "*** Update File: changed.txt",
            "@@",
            " one",
            "-two",
            "+zwei",
            " three",
            "*** Update File: moved.txt",
            "*** Move to: elsewhere/moved.txt",
            "@@",
            "-old",
            "+new",
            "*** Delete File: removed.txt"
          )
        )
        assert.include(text, "Success. Updated the following files:")
        const left = yield* client.call(command("find . -type f | sort"))
        assert.strictEqual(left.text, "./changed.txt\n./elsewhere/moved.txt\n./new/deep/added.txt\n")
        const content = (name: string) => readFileSync(join(client.cwd, name), "utf8")
        assert.strictEqual(content("new/deep/added.txt"), "hello\nwörld\n")
        assert.strictEqual(content("changed.txt"), "one\nzwei\nthree\n")
        assert.strictEqual(content("elsewhere/moved.txt"), "new\n")
        // By the server, not by the client on a disk that happens to be the same.
        assert.includeMembers(methods(client), ["fs/readFile", "fs/createDirectory", "fs/writeFile", "fs/remove"])
        const missing = yield* client.call(patch("*** Update File: missing.txt", "@@", "-a", "+b"))
        assert.match(missing.whole, /missing\.txt/)
        assert.notInclude(missing.whole, "Success")
        yield* client.finish
      }),
    (cwd) => {
      writeFileSync(join(cwd, "changed.txt"), "one\ntwo\nthree\n")
      writeFileSync(join(cwd, "moved.txt"), "old\n")
      writeFileSync(join(cwd, "removed.txt"), "old\n")
    }
  )

  test(
    "a file of several megabytes is patched",
    (client) =>
      Effect.gen(function* () {
        const { text } = yield* client.call(patch("*** Update File: large.txt", "@@", "-1", "+one", " 2"))
        assert.include(text, "Success. Updated the following files:")
        assert.strictEqual(readFileSync(join(client.cwd, "large.txt"), "utf8"), `one\n${lines(2, 400_000)}`)
        assert.includeMembers(methods(client), ["fs/readFile", "fs/writeFile"])
        yield* client.finish
      }),
    (cwd) => writeFileSync(join(cwd, "large.txt"), lines(1, 400_000))
  )

  test(
    "AGENTS.md is found, from a folder further down",
    (client) =>
      Effect.gen(function* () {
        assert.include(client.heard(), "answer in hexameters")
        assert.include(methods(client), "fs/readFile")
        yield* client.finish
      }),
    (cwd) => {
      mkdirSync(join(cwd, ".git"))
      writeFileSync(join(cwd, "AGENTS.md"), "Please answer in hexameters.\n")
    }
  )

  if (resumes) {
    test("a connection cut in the middle of a command is resumed, and nothing is lost", (client) =>
      Effect.gen(function* () {
        const running = yield* Effect.fork(
          client.call(
            command("seq 1 900; until [ -e go ]; do sleep 0.05; done; seq 901 1800; touch gone; exit 5", {
              yield_time_ms: 30_000
            })
          )
        )
        yield* eventually("the first half has arrived", () => outputBytes(client) === lines(1, 900).length)
        // The other half comes while nobody hears it.
        yield* client.proxy.cutDuring(
          Effect.suspend(() => {
            writeFileSync(join(client.cwd, "go"), "")
            return eventually("the command has ended", () => existsSync(join(client.cwd, "gone")))
          })
        )
        const output = yield* Fiber.join(running)
        assert.deepInclude(output, { exitCode: 5, text: lines(1, 1800) })
        assert.isAbove(resumptions(client), 0)
        assert.strictEqual((yield* client.call(command("echo still there"))).text, "still there\n")
        yield* client.finish
      }))
  }

  // A host is replaced like any other server.
  if (resumes && !throughGateway) {
    it.scopedLive("a server that is replaced in the middle of a command goes unnoticed", () =>
      Effect.gen(function* () {
        const socket = join(yield* temporary, "control.sock")
        const client = yield* codex(version, { server: { env: { EXEC_SERVER_CONTROL_SOCKET: socket } } })
        const versions = [yield* versionBeside("9.9.9"), binary]
        const running = yield* Effect.fork(
          client.call(
            command("for i in $(seq 1 40); do echo $i; sleep 0.1; done; until [ -e go ]; do sleep 0.05; done; exit 5", {
              yield_time_ms: 30_000
            })
          )
        )
        yield* eventually("the command has begun", () => outputBytes(client) > 0)
        for (const entry of versions) {
          const before = resumptions(client)
          const { code, stderr } = yield* ownCommand(["upgrade", "--control-socket", socket, "--command", entry])
          assert.strictEqual(code, 0, stderr)
          yield* eventually("the client has come back", () => resumptions(client) > before)
        }
        writeFileSync(join(client.cwd, "go"), "")
        assert.deepInclude(yield* Fiber.join(running), { exitCode: 5, text: lines(1, 40) })
        assert.strictEqual((yield* client.call(command("echo still there"))).text, "still there\n")
        yield* client.finish
      })
    )
  }

  it.scopedLive("MCP servers are started, and reached over HTTP, where the commands run", () =>
    Effect.gen(function* () {
      const url = yield* mcpOverHttp
      const client = yield* codex(version, {
        throughGateway,
        config: `
          [mcp_servers.piped]
          command = "${process.execPath}"
          args = ["${mcpServer}"]
          cwd = "${tmpdir()}"
          required = true
          ${placement}
          [mcp_servers.web]
          url = "${url}"
          required = true
          ${placement}`
      })
      const repeat = (server: string, text: string) => ({
        ...call("repeat", { text }),
        namespace: namespace(server)
      })
      const [piped, web] = yield* client.callAll([repeat("piped", "wörld"), repeat("web", "wörld")])
      assert.include(piped?.whole, `wörld of ${client.server.pid}`)
      assert.include(web?.whole, `wörld of ${process.pid}`)
      const started = client.proxy.asked.filter(({ method }) => method === "process/start")
      assert.deepStrictEqual(
        started.map(({ params }) => [params.argv[1], params.pipeStdin]),
        [[mcpServer, true]]
      )
      const deltas = client.proxy.told.filter(({ method }) => method === "http/request/bodyDelta")
      assert.isNotEmpty(deltas)
      yield* client.finish
      yield* eventually("the server has no children", () => childrenOf(client.server.pid).length === 0)
    })
  )

  test("no process is left when the client has exited", (client) =>
    Effect.gen(function* () {
      const mark = freshMark()
      yield* leave(client, `echo ready; sleep ${mark}`)
      yield* leave(client, `echo ready; setsid sleep ${mark} & sleep ${mark}`)
      yield* leave(client, `trap '' INT HUP TERM; echo ready; sleep ${mark}; sleep ${mark}`, { tty: true })
      yield* eventually("all of them sleep", () => runningWith(`sleep\0${mark}`).length === 4)
      yield* client.finish
      yield* eventually("all of them are gone", () => runningWith(mark).length === 0)
      yield* eventually("the server has no children", () => childrenOf(client.server.pid).length === 0)
    }))

  if (launches) {
    it.scopedLive("a server on stdio, which ends with its client and leaves nothing", () =>
      Effect.gen(function* () {
        const mark = freshMark()
        // Only a mark: no session is detached on stdio.
        const client = yield* codexOnStdio(version, ["--detached-session-ttl-ms", mark])
        const output = yield* client.call(command("echo $PPID; exit 3"))
        assert.strictEqual(output.exitCode, 3)
        assert.deepStrictEqual(runningWith(`ttl-ms\0${mark}`), [Number(output.text)])
        const { sessionId } = yield* leave(client, "echo ready; read -r line; echo got $line", { tty: true })
        yield* until(client, sessionId, "one\n", /got one/)
        yield* leave(client, `trap '' HUP TERM; echo ready; sleep ${mark}; sleep ${mark}`)
        yield* client.finish
        yield* eventually("all of it is gone", () => runningWith(mark).length === 0)
      })
    )
  }
})
