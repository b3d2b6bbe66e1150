/** What a model reads of each tool, by the official client in both eras of the protocol. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { directory } from "../support/files.js"
import { connect, eras, idIn } from "../support/mcp.js"
import { eventually, residentMb } from "../support/servers.js"

/** The most resident memory that a process has had, in MB. */
const peakMb = (pid: number): number =>
  Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024

const names = [
  "exec_command",
  "write_stdin",
  "read_output",
  "read_screen",
  "kill_session",
  "list_sessions",
  "read_file",
  "write_file",
  "edit_file"
]

describe.each(eras)("in the era of %s", (_, mode) => {
  it.scopedLive("the tools are always the same, in the same order", () =>
    Effect.gen(function* () {
      const { client } = yield* connect([], mode)
      const { tools } = yield* Effect.promise(() => client.listTools())
      assert.deepStrictEqual(
        tools.map(({ name }) => name),
        names
      )
      for (const { inputSchema, annotations, description = "", outputSchema } of tools) {
        assert.strictEqual(inputSchema["additionalProperties"], false)
        assert.isBoolean(annotations?.readOnlyHint)
        assert.isAbove(description.length, 20)
        // With it, clients show a model the structure in place of the text.
        assert.isUndefined(outputSchema)
      }
      // Whatever changes here changes for every model.
      assert.deepStrictEqual(tools, JSON.parse(readFileSync("test/fixtures/mcp-tools.json", "utf8")))
      assert.match(client.getInstructions() ?? "", /^Runs commands on .*session_id/s)
      assert.isBelow(client.getInstructions()?.length ?? 0, 300)
    })
  )

  it.scopedLive("a command that ends is its exit code and its output, errors included", () =>
    Effect.gen(function* () {
      const { call } = yield* connect([], mode)
      const said = yield* call("exec_command", { cmd: "echo hi; echo err >&2; exit 3" })
      assert.match(said.text, /^\[exit code 3, after \d\.\d s\]\nhi\nerr$/)
      assert.isFalse(said.isError)
      assert.match(
        (yield* call("exec_command", { cmd: "true" })).text,
        /^\[exit code 0, after \d\.\d s\]\n\(no output\)$/
      )
    })
  )

  it.scopedLive("a command that still runs is typed into", () =>
    Effect.gen(function* () {
      const { call } = yield* connect([], mode)
      const started = yield* call("exec_command", {
        cmd: "printf 'name? '; read n; echo hello $n",
        yield_time_ms: 1500
      })
      const id = idIn(started.text)
      assert.match(started.text, /^\[still running after \d\.\d s, session_id \d+\]\nname\? $/)
      const typed = yield* call("write_stdin", { session_id: id, chars: "Bob\n" })
      assert.match(typed.text, new RegExp(`^\\[exit code 0, after \\d\\.\\d s, session_id ${id}\\]\\nhello Bob$`))
      const late = yield* call("write_stdin", { session_id: id, chars: "more\n" })
      assert.match(
        late.text,
        /^\[nothing was written: the command has ended\]\n\[exit code 0, .*session_id \d+\]\n\(no new output\)$/
      )
      assert.isFalse(late.isError)
    })
  )

  it.scopedLive("files are written, edited and read", () =>
    Effect.gen(function* () {
      const { call } = yield* connect([], mode)
      const path = join(yield* directory, "new", "deep", "notes.txt")
      const wrote = yield* call("write_file", { path, content: "one\ntwo\nthree\n" })
      assert.strictEqual(wrote.text, `[wrote 14 bytes to ${path}]`)
      const edited = yield* call("edit_file", { path, old_text: "two", new_text: "2" })
      assert.strictEqual(edited.text, `[replaced 1 occurrence in ${path}, line 2]`)
      assert.strictEqual(readFileSync(path, "utf8"), "one\n2\nthree\n")
      assert.strictEqual((yield* call("read_file", { path })).text, "[3 lines]\n     1\tone\n     2\t2\n     3\tthree")
      assert.strictEqual(
        (yield* call("read_file", { path, offset: 2, limit: 1 })).text,
        "[lines 2 to 2 of 3; next offset 3]\n     2\t2"
      )
    })
  )

  it.scopedLive("cancelling a command ends it", () =>
    Effect.gen(function* () {
      const { call, client } = yield* connect([], mode)
      const folder = yield* directory
      const abort = new AbortController()
      const cmd = `echo $$ > ${folder}/pid; sleep 600`
      const cancelled = client.callTool(
        { name: "exec_command", arguments: { cmd, yield_time_ms: 50_000 } },
        { signal: abort.signal }
      )
      yield* eventually("it runs", () => existsSync(`${folder}/pid`))
      abort.abort()
      yield* Effect.promise(() =>
        cancelled.then(
          () => assert.fail("it was answered"),
          () => {}
        )
      )
      const { text } = yield* call("exec_command", {
        cmd: `for i in $(seq 100); do kill -0 $(cat ${folder}/pid) 2>/dev/null || { echo gone; exit; }; sleep 0.1; done`,
        yield_time_ms: 20_000
      })
      assert.match(text, /\ngone$/)
      assert.notInclude((yield* call("list_sessions")).text, "sleep 600")
    })
  )

  it.scopedLive("progress is told to those who ask for it", () =>
    Effect.gen(function* () {
      const { call } = yield* connect([], mode)
      const told: Array<{ readonly progress: number; readonly message?: string | undefined }> = []
      yield* call(
        "exec_command",
        { cmd: "echo first line; sleep 2.5" },
        { onprogress: (progress) => told.push(progress) }
      )
      assert.isAtLeast(told.length, 2)
      assert.include(told.at(-1), { message: "first line" })
      assert.isAtLeast(told[0]?.progress ?? 0, 1)
    })
  )
})

describe("exec_command", () => {
  it.scopedLive("leaves out the middle of much output, and says what is missing in the first line", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const { text } = yield* call("exec_command", { cmd: "seq 30000", max_output_tokens: 100 })
      const id = idIn(text)
      const lines = text.split("\n")
      assert.match(
        lines[0] ?? "",
        new RegExp(
          `^\\[exit code 0, after \\d\\.\\d s, session_id ${id}; 30,000 lines, 168,894 bytes of output, the middle is left out: read_output \\{"session_id": ${id}, "offset": BYTE\\} shows any part\\]$`
        )
      )
      assert.strictEqual(lines[1], "1")
      assert.strictEqual(
        lines[71],
        `[... 29,897 lines, 168,495 bytes left out; to see them: read_output {"session_id": ${id}, "offset": 201} ...]`
      )
      assert.strictEqual(lines.at(-1), "30000")
      const part = yield* call("read_output", { session_id: id, offset: 201, max_output_tokens: 100 })
      assert.match(part.text, /^\[bytes 201 to 600 of 168894; next offset 600\]\n71\n72\n/)
    })
  )

  it.scopedLive("says how a command was ended", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const killed = yield* call("exec_command", { cmd: "kill -9 $$" })
      assert.match(killed.text, /^\[was ended by SIGKILL \(exit code 137\), after \d\.\d s\]\n/)
      const late = yield* call("exec_command", { cmd: "sleep 60", timeout_ms: 300 })
      assert.match(late.text, /^\[timed out and was killed, after \d\.\d s\]\n/)
    })
  )

  it.scopedLive("returns after the exit, though something else holds the output", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const { text } = yield* call("exec_command", { cmd: "(sleep 4; echo late) & echo now", yield_time_ms: 50_000 })
      const id = idIn(text)
      assert.match(
        text,
        /^\[exit code 0, after \d\.\d s; something it started still holds its output; session_id \d+\]\nnow$/
      )
      const rest = yield* call("read_output", { session_id: id, wait_for: ["nothing of it", "late"] })
      assert.match(rest.text, /; found "late"\]\nlate$/)
    })
  )

  it.scopedLive("has no pagers, no colours and no questions; and never a token", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const { text } = yield* call("exec_command", { cmd: "env" })
      for (const line of [
        "PAGER=cat",
        "GIT_PAGER=cat",
        "NO_COLOR=1",
        "TERM=dumb",
        "GIT_TERMINAL_PROMPT=0",
        "LC_ALL=C.UTF-8"
      ]) {
        assert.include(text.split("\n"), line)
      }
      assert.notMatch(text, /EXEC_SERVER_\w*TOKEN/)
      const terminal = yield* call("exec_command", { cmd: "echo $TERM $PAGER; tty >/dev/null && echo tty", tty: true })
      assert.match(terminal.text, /\nxterm-256color cat\ntty$/)
    })
  )

  it.scopedLive("shows lines as they stand in the end, without control sequences", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const cmd =
        "printf ' 10%%\\r 20%%\\r100%%\\n'; printf '\\033[31mred\\033[0m\\n'; printf 'long line\\r\\033[Kend\\n'"
      assert.match((yield* call("exec_command", { cmd })).text, /\]\n100%\nred\nend$/)
    })
  )

  it.scopedLive("fails, naming the value, if it cannot be carried out", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const cases: ReadonlyArray<readonly [string, Readonly<Record<string, unknown>>, string]> = [
        [
          "exec_command",
          { command: "x" },
          "exec_command has no parameter command; it has cmd, workdir, tty, yield_time_ms, timeout_ms, max_output_tokens"
        ],
        ["exec_command", {}, "exec_command needs cmd (a text)"],
        ["exec_command", { cmd: 1 }, "cmd of exec_command must be a text, not 1"],
        [
          "exec_command",
          { cmd: "x", yield_time_ms: 60_000 },
          "yield_time_ms of exec_command must be an integer from 0 to 50000, not 60000"
        ],
        ["exec_command", { cmd: "pwd", workdir: "src" }, 'workdir must be an absolute path, not "src"'],
        ["exec_command", { cmd: "echo \0" }, "cmd contains a NUL character, which no command can"],
        [
          "exec_command",
          { cmd: `: ${"x".repeat(300_000)}` },
          "cmd has 300002 bytes, more than the system takes: write it to a file, and run that"
        ],
        [
          "read_output",
          { session_id: 1, wait_for: [""] },
          'wait_for of read_output must be a list of texts that are not empty, not [""]'
        ],
        [
          "exec_command",
          { cmd: "pwd", workdir: "/nope" },
          "cannot use /nope as the working directory: No such file or directory (os error 2)"
        ],
        [
          "exec_command",
          { cmd: "pwd", workdir: "/etc/passwd" },
          "cannot use /etc/passwd as the working directory: it is not a directory"
        ],
        ["write_stdin", { session_id: 99_999 }, "there is no session 99999; running: none"],
        [
          "kill_session",
          { session_id: 99_999, signal: "SIGFOO" },
          'signal of kill_session must be one of SIGINT, SIGTERM, SIGKILL, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGSTOP, SIGCONT, not "SIGFOO"'
        ],
        ["list_sessions", { all: true }, "list_sessions has no parameter all; it has none"],
        ["read_file", { path: "/nope/x" }, "/nope/x: No such file or directory (os error 2)"],
        ["read_file", { path: "x" }, 'path must be absolute, not "x"'],
        ["read_file", { path: "/etc" }, "/etc is a directory; exec_command with ls lists it"]
      ]
      for (const [name, given, message] of cases) {
        const said = yield* call(name, given)
        assert.strictEqual(said.text, `[failed: ${message}]`)
        assert.isTrue(said.isError)
      }
    })
  )

  it.scopedLive("keeps the beginning and the end of a flood, in bounded memory", () =>
    Effect.gen(function* () {
      const { call, pid } = yield* connect()
      yield* call("exec_command", { cmd: "true" })
      const before = residentMb(pid)
      const cmd = "seq -f %099.0f 1000000"
      const { text } = yield* call("exec_command", { cmd, yield_time_ms: 50_000 })
      assert.match(text, /^\[exit code 0, .*; 1,000,000 lines, 100,000,000 bytes of output, the middle is left out/)
      assert.match(text, /\n0+1000000$/)
      const part = yield* call("read_output", { session_id: idIn(text), offset: 50_000_000, max_output_tokens: 100 })
      assert.match(
        part.text,
        /^\[bytes (\d+) to \d+ of 100000000; bytes 50000000 to \1 are no longer kept; next offset/
      )
      // 16 MiB of it are kept; the rest is what is on its way, or garbage.
      assert.isBelow(peakMb(pid) - before, 250)
    })
  )

  it.scopedLive("ends what floods without an end", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      for (const tty of [false, true]) {
        const { text } = yield* call("exec_command", { cmd: "yes", tty, yield_time_ms: 500 })
        assert.match(text, /^\[still running after .* the middle is left out/)
        assert.isBelow(text.length, 33_000)
        const ended = yield* call("kill_session", { session_id: idIn(text) })
        assert.match(ended.text, /^\[was ended by SIGTERM \(exit code 143\)/)
      }
    })
  )
})

describe("a terminal", () => {
  it.scopedLive("shows new lines as they stand: progress bars, an interpreter, a password prompt", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const cmd =
        "for i in 1 2 3; do printf \"\\rstep $i\"; sleep 0.05; done; echo; read -s -p 'Password: ' p; echo; echo got $p"
      const asked = yield* call("exec_command", {
        cmd: `bash -c '${cmd.replaceAll("'", "'\\''")}'`,
        tty: true,
        yield_time_ms: 1500
      })
      assert.match(asked.text, /\]\nstep 3\nPassword:$/)
      const typed = yield* call("write_stdin", { session_id: idIn(asked.text), chars: "secret\n" })
      assert.match(typed.text, /^\[exit code 0.*\]\nPassword: ?\ngot secret$/)

      const python = yield* call("exec_command", { cmd: "python3 -q", tty: true, yield_time_ms: 3000 })
      const session_id = idIn(python.text)
      assert.match((yield* call("write_stdin", { session_id, chars: "6*7\n" })).text, /\n>>> 6\*7\n42\n>>>/)
      assert.match((yield* call("write_stdin", { session_id, keys: ["ctrl-d"] })).text, /^\[exit code 0/)
    })
  )

  it.scopedLive("is a screen for a program that draws one", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const path = join(yield* directory, "vim.txt")
      const started = yield* call("exec_command", { cmd: `vim -u NONE ${path}`, tty: true, yield_time_ms: 2000 })
      const session_id = idIn(started.text)
      assert.match(started.text, /\]\n\[the program draws a screen; as it stands:\]\n/)
      yield* call("write_stdin", { session_id, chars: "ihello there", keys: ["esc"] })
      const screen = yield* call("read_screen", { session_id })
      assert.match(
        screen.text,
        /^\[80x24 screen of session \d+, running; cursor at row 1, column 1[12]; full-screen program\]\nhello there\n~\n/
      )
      const larger = yield* call("read_screen", { session_id, rows: 30, cols: 100 })
      assert.match(larger.text, /^\[100x30 screen/)
      const saved = yield* call("write_stdin", { session_id, chars: ":wq\n" })
      assert.match(saved.text, /^\[exit code 0/)
      assert.strictEqual(readFileSync(path, "utf8"), "hello there\n")

      const less = yield* call("exec_command", {
        cmd: `seq 100 > ${path}; less ${path}`,
        tty: true,
        yield_time_ms: 1500
      })
      const down = yield* call("write_stdin", { session_id: idIn(less.text), keys: ["space"] })
      assert.match(down.text, /\n24\n/)
      assert.match((yield* call("write_stdin", { session_id: idIn(less.text), chars: "q" })).text, /^\[exit code 0/)
    })
  )

  it.scopedLive("gets enter as the key, which programs in raw mode wait for", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const cmd = "stty -icrnl; echo ready; head -c 1 | od -An -tx1"
      const { text } = yield* call("exec_command", { cmd: `${cmd}; true`, tty: true, yield_time_ms: 1500 })
      const typed = yield* call("write_stdin", { session_id: idIn(text), chars: "\n", keys: ["ctrl-d"] })
      assert.match(typed.text, /0d/)
      const none = yield* call("write_stdin", { session_id: idIn(text), keys: ["no-key"] })
      assert.match(none.text, /^\[failed: there is no key "no-key"; keys are enter, tab/)
    })
  )
})

describe("without a terminal", () => {
  it.scopedLive("ctrl-c interrupts, ctrl-d ends the input, and no other key means anything", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const cat = yield* call("exec_command", { cmd: "cat", yield_time_ms: 100 })
      const session_id = idIn(cat.text)
      assert.match(cat.text, /^\[still running after .*\]\n\(no output\)$/)
      assert.match((yield* call("write_stdin", { session_id, chars: "line\n" })).text, /\]\nline$/)
      const refused = yield* call("write_stdin", { session_id, keys: ["up"] })
      assert.isTrue(refused.isError)
      assert.match(refused.text, /has no terminal, where the key "up" means nothing/)
      assert.match((yield* call("read_screen", { session_id })).text, /^\[failed: session \d+ has no terminal/)
      assert.match((yield* call("write_stdin", { session_id, keys: ["ctrl-d"] })).text, /^\[exit code 0/)

      const sleep = yield* call("exec_command", { cmd: "sleep 100", yield_time_ms: 100 })
      const ended = yield* call("write_stdin", { session_id: idIn(sleep.text), keys: ["^C"] })
      assert.match(ended.text, /^\[was ended by SIGINT \(exit code 130\)/)
    })
  )
})

describe("read_output", () => {
  it.scopedLive("waits for a text, for the end, or not at all", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const cmd = "sleep 2; echo listening on 80; sleep 2; echo done"
      const { text } = yield* call("exec_command", { cmd, yield_time_ms: 0 })
      const session_id = idIn(text)
      assert.match(
        (yield* call("read_output", { session_id, yield_time_ms: 0 })).text,
        /^\[still running.*\]\n\(no new output\)$/
      )
      const found = yield* call("read_output", { session_id, wait_for: ["error", "listening on"] })
      assert.match(found.text, /^\[still running after .*; found "listening on"\]\nlistening on 80$/)
      assert.match((yield* call("read_output", { session_id })).text, /^\[exit code 0.*\]\ndone$/)
      assert.match(
        (yield* call("read_output", { session_id, offset: 0 })).text,
        /^\[bytes 0 to 21 of 21\]\nlistening on 80\ndone$/
      )
    })
  )
})

describe("kill_session", () => {
  it.scopedLive("ends a command that ignores SIGTERM, and sends single signals", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const stubborn = yield* call("exec_command", {
        cmd: "trap '' TERM; while :; do sleep 1; done",
        yield_time_ms: 1000
      })
      const ended = yield* call("kill_session", { session_id: idIn(stubborn.text) })
      assert.match(ended.text, /^\[was ended by SIGKILL \(exit code 137\)/)
      const traps = yield* call("exec_command", {
        cmd: "trap '' USR2; trap 'echo heard' USR1; while :; do read -t 1 line; done",
        yield_time_ms: 1000
      })
      const session_id = idIn(traps.text)
      assert.match(
        (yield* call("kill_session", { session_id, signal: "SIGUSR1" })).text,
        /^\[still running.*\]\nheard$/
      )
      assert.match((yield* call("kill_session", { session_id })).text, /^\[was ended by SIGTERM/)
      const late = yield* call("kill_session", { session_id, signal: "SIGUSR1" })
      assert.match(late.text, /^\[no signal was sent: the command has ended\]\n\[was ended by SIGTERM/)
      assert.match(
        (yield* call("kill_session", { session_id })).text,
        /^\[was ended by SIGTERM.*\]\n\(no new output\)$/
      )
    })
  )
})

describe("list_sessions", () => {
  it.scopedLive("lists the running commands and the last 64 that have ended", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const running = yield* call("exec_command", { cmd: "sleep 100", yield_time_ms: 0 })
      const ends = Array.from({ length: 70 }, (_, i) => call("exec_command", { cmd: `echo ${i}` }))
      yield* Effect.all(ends, { concurrency: 8 })
      const { text } = yield* call("list_sessions")
      const [first, ...lines] = text.split("\n")
      assert.strictEqual(first, "[1 command running, 64 ended]")
      assert.lengthOf(lines, 65)
      assert.match(lines[0] ?? "", /^session_id \d+: running for \d.* s, started .* ago: sleep 100$/)
      const gone = idIn(running.text) + 1
      const forgotten = yield* call("read_output", { session_id: gone })
      assert.strictEqual(forgotten.text, `[failed: there is no session ${gone}; running: ${idIn(running.text)}]`)
    })
  )

  it.scopedLive("answers calls with their output, also when more than 64 are under way", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const calls = Array.from({ length: 200 }, (_, i) =>
        call("exec_command", { cmd: `echo ${i}`, yield_time_ms: 50_000 })
      )
      const answers = yield* Effect.all(calls, { concurrency: "unbounded" })
      for (const [i, { text }] of answers.entries()) assert.include(text, `]\n${i}`)
      const { text } = yield* call("list_sessions")
      assert.match(text, /^\[0 commands running, 64 ended\]/)
    })
  )
})

describe("files", () => {
  it.scopedLive("images are images, and what is no text is refused", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const folder = yield* directory
      const png = Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), Buffer.alloc(100, 7)])
      writeFileSync(join(folder, "a.png"), png)
      writeFileSync(join(folder, "a.bin"), Buffer.from([1, 0, 255]))
      const image = yield* call("read_file", { path: join(folder, "a.png") })
      assert.deepStrictEqual(image.content, [{ type: "image", data: png.toString("base64"), mimeType: "image/png" }])
      const binary = yield* call("read_file", { path: join(folder, "a.bin") })
      assert.match(binary.text, /^\[failed: .*a\.bin is not text: 3 bytes of binary data\]$/)
    })
  )

  it.scopedLive("an edit must be unmistakable", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const folder = yield* directory
      const path = join(folder, "a.txt")
      mkdirSync(join(folder, "sub"))
      writeFileSync(path, "a\nb\na\n$& a\n")
      const edit = (old_text: string, new_text: string, more = {}) =>
        Effect.map(call("edit_file", { path, old_text, new_text, ...more }), ({ text }) => text)
      assert.match(yield* edit("x", "y"), /^\[failed: old_text does not occur in /)
      assert.match(
        yield* edit("a", "y"),
        /occurs 3 times in .*, in lines 1, 3, 4: make it longer, or set replace_all\]$/
      )
      assert.match(yield* edit("", "y"), /^\[failed: old_text is empty/)
      assert.match(yield* edit("a", "a"), /are the same\]$/)
      assert.match(yield* edit("a", "$&", { replace_all: true }), /^\[replaced 3 occurrences in .*, lines 1, 3, 4\]$/)
      assert.strictEqual(readFileSync(path, "utf8"), "$&\nb\n$&\n$& $&\n")
    })
  )
})
