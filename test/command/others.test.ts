/** Commands about the sessions of others: lists, and ends. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as ExecClient from "../../src/client/ExecClient.js"
import { atTerminal, command, commandLine, start } from "../support/command.js"
import { directory } from "../support/files.js"
import { eventually, isAlive, webSocketServer } from "../support/servers.js"

/** A server with an operator and a viewer, and how commands reach it as each of them. */
const served = Effect.gen(function* () {
  const folder = yield* directory
  const file = (name: string) => {
    const path = join(folder, name)
    writeFileSync(path, `token-of-the-${name}`, { mode: 0o600 })
    return path
  }
  const [operator, viewer] = [file("operator"), file("viewer")]
  const { url } = yield* webSocketServer({
    args: ["--console-token-file", operator, "--console-viewer-token-file", viewer]
  })
  const at = ["--url", url]
  return {
    url,
    asClient: at,
    asOperator: [...at, "--token-file", operator],
    asViewer: [...at, "--token-file", viewer]
  }
})

/** Leaves a process running. */
const left = (at: ReadonlyArray<string>, flags: ReadonlyArray<string>, ...argv: ReadonlyArray<string>) =>
  Effect.map(command(["run", "--detach", "--json", ...flags, ...at, "--", ...argv]), ({ code, stdout, stderr }) => {
    assert.strictEqual(code, 0, stderr)
    return { ...(JSON.parse(stdout) as { sessionId: string; processId: string; pid: number }), stderr }
  })

/** Waits in a shell until a file is there. */
const until = (file: string) => `until [ -e ${file} ]; do sleep 0.05; done`

describe("run --detach --name --keep", () => {
  it.scopedLive("leaves a session that is kept, under its name, until it is ended", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer({ args: ["--detached-session-ttl-ms", "200"] })
      const at = ["--url", url]
      const { pid, sessionId, stderr } = yield* left(at, ["--name", "build", "--keep"], "sleep", "1000")
      assert.include(stderr, `the server keeps it until it is ended: exec-server kill ${sessionId} --url ${url}\n`)
      yield* Effect.sleep("1 second")
      assert.isTrue(isAlive(pid))
      const again = yield* command(["run", "--detach", "--name", "build", ...at, "--", "true"])
      assert.strictEqual(again.code, 1)
      assert.include(again.stderr, "another session has the name build")
      assert.strictEqual((yield* command(["kill", sessionId, ...at])).code, 0)
      yield* eventually("it has ended", () => !isAlive(pid))
      const gone = yield* command(["ps", "--session", sessionId, ...at])
      assert.include(gone.stderr, `unknown session id ${sessionId}`)
    })
  )

  it.scopedLive("without --detach, or beyond what the server keeps, is refused", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer({ args: ["--max-session-ttl-ms", "60000"] })
      for (const flags of [["--keep"], ["--name", "x"]]) {
        const { code, stderr } = yield* command(["run", ...flags, "--url", url, "--", "true"])
        assert.strictEqual(code, 2)
        assert.include(stderr, `${flags[0]} needs --detach`)
      }
      const { code, stderr } = yield* command(["run", "--detach", "--keep", "--url", url, "--", "true"])
      assert.strictEqual(code, 1)
      assert.include(stderr, "sessionTtlMs may be at most 60000 (maxSessionTtlMs)")
    })
  )
})

describe("ls", () => {
  it.scopedLive("shows operators and viewers all sessions with their processes, without the ids that resume them", () =>
    Effect.gen(function* () {
      const { asClient, asOperator, asViewer } = yield* served
      const { sessionId } = yield* left(asClient, ["--name", "build", "--keep"], "sleep", "1000")
      yield* left(asClient, [], "true")
      for (const at of [asOperator, asViewer]) {
        const { code, stdout, stderr } = yield* command(["ls", ...at])
        assert.deepStrictEqual([code, stderr], [0, ""])
        const lines = stdout.trimEnd().split("\n")
        assert.match(lines[0] ?? "", /^SESSION +NAME +CLIENT +STATE +ID +PID +PROCESS +TTY +AGE +COMMAND$/)
        assert.match(
          lines[1] ?? "",
          /^s-[0-9a-f]{8} +build +exec-server-environment +kept +p1 +\d+ +running +no .* sleep 1000$/
        )
        assert.match(
          lines[2] ?? "",
          /^s-[0-9a-f]{8} +- +exec-server-environment +detached, \d+ s +p1 .* exited 0 .* true$/
        )
        assert.lengthOf(lines, 3)
        assert.notInclude(stdout, sessionId)
        const json = (yield* command(["ls", "--json", ...at])).stdout
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line))
        assert.containSubset(json[0], {
          name: "build",
          state: "detached",
          processes: [{ processId: "p1", running: true }]
        })
      }
    })
  )

  it.scopedLive("tells a client that it sees only its own session", () =>
    Effect.gen(function* () {
      const { asClient } = yield* served
      yield* left(asClient, ["--keep"], "sleep", "1000")
      for (const name of ["ls", "ps"]) {
        const { code, stdout, stderr } = yield* command([name, ...asClient])
        assert.strictEqual(code, 0)
        assert.match(stdout, /^SESSION .*\n$/)
        assert.include(stderr, "give --token-file with the token of a viewer or an operator")
      }
      const { code, stderr } = yield* command(["ls"])
      assert.strictEqual(code, 2)
      assert.include(stderr, "give --url or --env")
    })
  )

  it.scopedLive("--watch prints the list again whenever it changes", () =>
    Effect.gen(function* () {
      const { asClient, asViewer } = yield* served
      const watching = yield* start(["ls", "--watch", "--json", ...asViewer])
      yield* left(asClient, ["--name", "first", "--keep"], "sleep", "1000")
      yield* eventually("the first is listed", () => watching.stdout().includes('"name":"first"'))
      yield* left(asClient, ["--name", "second", "--keep"], "sleep", "1000")
      yield* eventually("the second is listed", () => watching.stdout().includes('"name":"second"'))
      watching.child.kill("SIGINT")
      assert.strictEqual(yield* watching.exit, 130)
    })
  )
})

describe("attach SESSION[/PROCESS]", () => {
  /** A shell of a client that stays connected. */
  const shell = (url: string) =>
    Effect.gen(function* () {
      const client = yield* ExecClient.connect({ url, name: "build" })
      const size = { rows: 24, cols: 80 }
      const env = { PATH: "/usr/bin:/bin", PS1: "in''ner> " }
      const argv = ["bash", "--norc", "--noprofile"]
      const shell = yield* client.start({ argv, cwd: "/", env, tty: true, size, processId: "p1" })
      yield* Stream.runDrain(Stream.take(shell.output, 1))
      return shell
    })

  it.scopedLive("joins the client of a session: an operator sees its screen, types, and detaches", () =>
    Effect.gen(function* () {
      const { url, asOperator } = yield* served
      const owner = yield* shell(url)
      yield* owner.write("echo first''line\n")
      const { type, sees } = yield* atTerminal(["/bin/sh"], { rows: 24, cols: 80 })
      yield* type(`${commandLine("attach", ...asOperator, "bui").join(" ")}; echo code=$?\n`)
      yield* sees("attached; ^] detaches")
      yield* sees("firstline")
      yield* type("echo sec''ond\n")
      yield* sees("second")
      yield* type("\u001d")
      yield* sees("code=0")
      yield* owner.write("echo still''here; exit 7\n")
      assert.deepInclude(yield* owner.closed, { exitCode: 7 })
    })
  )

  it.scopedLive("passes on nothing that this terminal would answer or act on", () =>
    Effect.gen(function* () {
      const { url, asOperator } = yield* served
      const owner = yield* shell(url)
      yield* owner.write("printf '\\033]2;ti''tle\\007before\\n'\n")
      const { type, sees, screen } = yield* atTerminal(["/bin/sh"], { rows: 24, cols: 80 })
      yield* type(`${commandLine("attach", ...asOperator, "build/p1").join(" ")}; echo code=$?\n`)
      yield* sees("attached; ^] detaches")
      yield* owner.write("printf '\\033[6n\\033[c\\033]52;c;aGk=\\007af''ter\\303\\251\\n'\n")
      yield* sees("afteré")
      for (const sequence of ["\u001b[6n", "\u001b[c", "\u001b]"]) assert.notInclude(screen(), sequence)
      yield* type("\u001d")
      yield* sees("code=0")
      yield* owner.write("exit\n")
      yield* owner.closed
    })
  )

  it.scopedLive("leaves the alternate screen that a program is still on", () =>
    Effect.gen(function* () {
      const { url, asOperator } = yield* served
      const owner = yield* shell(url)
      yield* owner.write("printf '\\033[?1049h'; echo fu''ll\n")
      const { type, sees, screen } = yield* atTerminal(["/bin/sh"], { rows: 24, cols: 80 })
      yield* type(`${commandLine("attach", ...asOperator, "build").join(" ")}; echo code=$?\n`)
      yield* sees("full")
      assert.include(screen(), "\u001b[?1049h")
      yield* type("\u001d")
      yield* sees("code=0")
      assert.isAbove(screen().lastIndexOf("\u001b[?1049l"), screen().lastIndexOf("\u001b[?1049h"))
      yield* owner.write("exit\n")
      yield* owner.closed
    })
  )

  it.scopedLive("lets a viewer see, and type nothing; so does --read-only", () =>
    Effect.gen(function* () {
      const { url, asOperator, asViewer } = yield* served
      const owner = yield* shell(url)
      for (const flags of [asViewer, [...asOperator, "--read-only"]]) {
        const { type, sees, screen } = yield* atTerminal(["/bin/sh"], { rows: 24, cols: 80 })
        yield* type(`${commandLine("attach", ...flags, "build/p1").join(" ")}; echo code=$?\n`)
        yield* sees("watching; ^] leaves")
        yield* type("echo ty''ped\n")
        yield* owner.write("echo fr''om the owner\n")
        yield* sees("from the owner")
        assert.notInclude(screen(), "\r\ntyped")
        yield* type("\u0003")
        yield* sees("code=130")
      }
      yield* owner.write("exit 9\n")
      yield* owner.closed
    })
  )

  it.scopedLive("ends with the status of the process; without a terminal its output is as it was", () =>
    Effect.gen(function* () {
      const { asClient, asOperator } = yield* served
      const sign = join(yield* directory, "sign")
      const script = `echo out; echo err >&2; ${until(sign)}; exit 5`
      yield* left(asClient, ["--name", "build", "--keep", "--id", "one"], "sh", "-c", script)
      yield* left(asClient, ["--keep", "--name", "other"], "true")
      const attached = yield* start(["attach", "build", ...asOperator])
      yield* eventually("it is attached", () => attached.stdout() === "out\n" && attached.stderr() === "err\n")
      writeFileSync(sign, "")
      assert.strictEqual(yield* attached.exit, 5)
      const none = yield* command(["attach", "other", ...asOperator])
      assert.include(none.stderr, "the session has no running process")
      const unknown = yield* command(["attach", "build/two", ...asOperator])
      assert.include(unknown.stderr, "unknown process id two")
    })
  )

  it.scopedLive("says that it ended with its session", () =>
    Effect.gen(function* () {
      const { asClient, asOperator } = yield* served
      yield* left(asClient, ["--name", "build", "--keep"], "sh", "-c", "echo up; sleep 1000")
      const attached = yield* start(["attach", "build/p1", ...asOperator])
      yield* eventually("it is attached", () => attached.stdout().includes("up"))
      yield* command(["kill", "build", ...asOperator])
      assert.strictEqual(yield* attached.exit, 137)
    })
  )
})

describe("logs SESSION/PROCESS", () => {
  it.scopedLive("prints what another client's process has printed, and follows it to its end", () =>
    Effect.gen(function* () {
      const { asClient, asViewer } = yield* served
      const sign = join(yield* directory, "sign")
      const script = `echo one; ${until(sign)}; echo two; exit 3`
      yield* left(asClient, ["--name", "build", "--keep"], "sh", "-c", script)
      assert.strictEqual((yield* command(["logs", "build/p1", ...asViewer])).stdout, "one\n")
      const following = yield* start(["logs", "-f", "build/p1", ...asViewer])
      yield* eventually("it follows", () => following.stdout() === "one\n")
      writeFileSync(sign, "")
      assert.strictEqual(yield* following.exit, 0)
      assert.strictEqual(following.stdout(), "one\ntwo\n")
      const json = yield* command(["logs", "-f", "--json", "build/p1", ...asViewer])
      assert.deepStrictEqual(
        json.stdout
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line).chunk),
        ["b25lCg==", "dHdvCg=="]
      )
    })
  )
})

describe("ps without --session", () => {
  it.scopedLive("shows the processes of all visible sessions", () =>
    Effect.gen(function* () {
      const { asClient, asViewer } = yield* served
      yield* left(asClient, ["--keep", "--id", "one"], "sleep", "1000")
      yield* left(asClient, ["--keep", "--id", "two"], "sleep", "1000")
      const { stdout } = yield* command(["ps", ...asViewer])
      assert.match(stdout, /^SESSION +ID +PID +STATE +TTY +AGE +COMMAND\ns-\w+ +one .*\ns-\w+ +two .*\n$/)
    })
  )
})

describe("kill SESSION[/PROCESS]", () => {
  it.scopedLive(
    "signals a process, or ends a session, of another client: by name, handle, or the beginning of one",
    () =>
      Effect.gen(function* () {
        const { asClient, asOperator, asViewer } = yield* served
        const { pid } = yield* left(asClient, ["--name", "build-all", "--keep"], "sleep", "1000")
        const refused = yield* command(["kill", "build/p1", ...asViewer])
        assert.strictEqual(refused.code, 1)
        assert.include(refused.stderr, "this token may only view (process/signal needs operator)")
        const missing = yield* command(["kill", "build/p2", ...asOperator])
        assert.include(missing.stderr, "unknown process id p2")
        assert.isTrue(isAlive(pid))
        assert.strictEqual((yield* command(["kill", "build/p1", ...asOperator])).code, 0)
        yield* eventually("it is gone", () => !isAlive(pid))
        const second = yield* left(asClient, ["--name", "build-two", "--keep"], "sleep", "1000")
        const several = yield* command(["kill", "build", ...asOperator])
        assert.strictEqual(several.code, 1)
        assert.match(
          several.stderr,
          /build may be one of several sessions: build-all \(s-\w+\), build-two \(s-\w+\)\n$/
        )
        const signalled = yield* command(["kill", "-s", "INT", "build-two", ...asOperator])
        assert.strictEqual(signalled.code, 2)
        assert.strictEqual((yield* command(["kill", "build-two", ...asOperator])).code, 0)
        yield* eventually("the second is gone", () => !isAlive(second.pid))
        const unknown = yield* command(["kill", "build-two", ...asOperator])
        assert.match(unknown.stderr, /no session build-two; there are build-all \(s-\w+\)\n$/)
      })
  )

  it.scopedLive("tells a client how to name its own", () =>
    Effect.gen(function* () {
      const { asClient } = yield* served
      const { sessionId, pid } = yield* left(asClient, ["--name", "build", "--keep"], "sleep", "1000")
      const refused = yield* command(["kill", "build", ...asClient])
      assert.strictEqual(refused.code, 1)
      assert.include(refused.stderr, "no session build is visible; a client sees only its own: give the session id")
      assert.strictEqual((yield* command(["kill", `${sessionId}/p1`, ...asClient])).code, 0)
      yield* eventually("it is gone", () => !isAlive(pid))
    })
  )
})

describe("top", () => {
  it.scopedLive("prints one table with percentages, or samples as JSON", () =>
    Effect.gen(function* () {
      const { asClient, asOperator } = yield* served
      yield* left(asClient, ["--keep"], "sh", "-c", "while :; do :; done")
      yield* left(asClient, ["--keep"], "sleep", "1000")
      const { code, stdout, stderr } = yield* command(["top", "--interval", "500ms", ...asOperator])
      assert.deepStrictEqual([code, stderr], [0, ""])
      const [server = "", , header = "", busiest = "", idle = "", ...rest] = stdout.split("\n")
      assert.match(server, /^server: CPU \d+\.\d %, memory \d+\.\d MiB, event loop \d+ ms late$/)
      assert.match(header, /^SESSION +ID +CPU% +CPU +RSS +PROCESSES +COMMAND$/)
      assert.match(busiest, /^s-[0-9a-f]{8} +p1 +\d+\.\d +\d+ s +\d+\.\d [KM]iB +1 +sh -c 'while :; do :; done'$/)
      assert.match(idle, /p1 +0\.0 +0 s .* sleep 1000$/)
      assert.deepStrictEqual(rest, [""])
      const sampling = yield* start(["top", "--json", "--interval", "500ms", ...asOperator])
      yield* eventually("two samples", () => sampling.stdout().split("\n").length > 2)
      const [sample = ""] = sampling.stdout().split("\n")
      assert.lengthOf(JSON.parse(sample).processes, 2)
    })
  )

  it.scopedLive(
    "without a viewer's token sees only itself, and says so; an interval that is too short is refused",
    () =>
      Effect.gen(function* () {
        const { asClient } = yield* served
        yield* left(asClient, ["--keep"], "sleep", "1000")
        const { stdout, stderr } = yield* command(["top", "--interval", "500ms", ...asClient])
        assert.include(stderr, "no other session is visible")
        assert.notInclude(stdout, "sleep")
        const { code, stderr: refused } = yield* command(["top", "--interval", "100ms", ...asClient])
        assert.strictEqual(code, 2)
        assert.include(refused, "100 is not an integer from 500 to 86400000")
      })
  )

  it.scopedLive("at a terminal draws over the last table until q, and leaves the terminal as it was", () =>
    Effect.gen(function* () {
      const { asClient, asOperator } = yield* served
      yield* left(asClient, ["--keep"], "sleep", "1000")
      const line = commandLine("top", "--interval", "500ms", ...asOperator).join(" ")
      const { type, sees } = yield* atTerminal(["sh", "-c", `${line}; echo co''de=$?; stty -a`])
      yield* sees("\u001b[?1049h")
      yield* sees("sleep 1000")
      yield* sees("sleep 1000")
      yield* type("q")
      yield* sees("\u001b[?1049l")
      yield* sees("code=0")
      yield* sees(" echo ")
    })
  )
})

/** Commands with the token of a share reach its process, as the command that made it said. */
const usesShare = ({ url, token, session, stderr }: { [name in "url" | "token" | "session" | "stderr"]: string }) =>
  Effect.gen(function* () {
    assert.include(stderr, `exec-server attach ${session}/p1 --url ${url} --token-file FILE`)
    const tokenFile = join(yield* directory, "token")
    writeFileSync(tokenFile, token, { mode: 0o600 })
    const as = ["--url", url, "--token-file", tokenFile]
    assert.deepInclude(yield* command(["logs", `${session}/p1`, ...as]), { code: 0, stdout: "here\n" })
    const { type, sees } = yield* atTerminal(["sh"])
    yield* type(`${commandLine("attach", `${session}/p1`, ...as).join(" ")}\n`)
    yield* sees("here\r\n")
    const other = yield* command(["logs", `${session}/p2`, ...as])
    assert.strictEqual(other.code, 1)
    assert.include(other.stderr, "this token may only view what it was made for")
  })

describe("share", () => {
  it.scopedLive("prints a token that reads one process, until it is revoked", () =>
    Effect.gen(function* () {
      const { url, asClient, asOperator } = yield* served
      yield* left(asClient, ["--name", "b", "--keep"], "sh", "-c", "echo here; exec sleep 1000")
      const { code, stdout, stderr } = yield* command(["share", "b/p1", "--json", "--expires-in", "1h", ...asOperator])
      assert.strictEqual(code, 0, stderr)
      const { token, shareId, session } = JSON.parse(stdout)
      assert.include(stderr, `exec-server share --revoke ${shareId} --url ${url}`)
      const viewer = yield* ExecClient.connect({ url, token })
      assert.deepInclude(yield* viewer.usage.process("p1", session), { processes: 1 })
      yield* Effect.scoped(usesShare({ url, token, session, stderr }))
      assert.strictEqual((yield* command(["share", "--revoke", shareId, ...asOperator])).code, 0)
      assert.include((yield* viewer.ended).message, "revoked")
      const again = yield* command(["share", "--revoke", shareId, ...asOperator])
      assert.include(again.stderr, `unknown share id ${shareId}`)
    })
  )
})
