/** `run --tty`, called by somebody at a terminal: it feels like a shell here, and leaves the terminal as it was. */
import { spawnSync } from "node:child_process"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { atTerminal, commandLine, nowhere } from "../support/command.js"
import { directory } from "../support/files.js"
import { eventually, isAlive, webSocketServer } from "../support/servers.js"

/** What is echoed of a command must not be taken for its output: the output has no quotes in it. */
const shell = "env PS1='in''ner> ' bash --norc --noprofile"

/** Settings of a terminal, but for its size. */
const settings = "stty -a | sed 's/rows [0-9]*; columns [0-9]*//' | cksum | sed 's/^/set''tings=/'"

const outer = (flags: ReadonlyArray<string>, inner: string) =>
  Effect.gen(function* () {
    const typist = yield* atTerminal(["/bin/sh"])
    const { type, sees, screen } = typist
    const settingsNow = Effect.gen(function* () {
      yield* type(`${settings}\n`)
      yield* sees(/settings=[^\n]*\n/)
      return /settings=[^\n]*\n(?![\s\S]*settings=)/.exec(screen())?.[0]
    })
    const before = yield* settingsNow
    yield* type(`${commandLine("run", "--tty", ...flags).join(" ")} -- ${inner}; echo co''de=$?\n`)
    return { ...typist, before, settingsNow }
  })

describe("run --tty", () => {
  it.scopedLive("what the program's terminal gives is what this one gets: no newline is translated twice", () =>
    Effect.gen(function* () {
      const script = "stty -opost; printf 'one\\ntwo\\n'; stty opost; echo done"
      const { sees, screen } = yield* atTerminal(commandLine("run", "--tty", "--", "sh", "-c", script))
      yield* sees("done\r\n")
      assert.strictEqual(screen(), "one\ntwo\ndone\r\n")
    })
  )

  it.scopedLive("keys, size, ^C, ^Z and ^D are the inner shell's; the terminal is restored", () =>
    Effect.gen(function* () {
      const { type, sees, resize, before, settingsNow } = yield* outer([], shell)
      yield* sees("inner> ")
      yield* type("stty size; echo $TERM\n")
      yield* sees("24 80")
      yield* sees("xterm")
      yield* resize(31, 97)
      yield* type("until [ \"$(stty size)\" = '31 97' ]; do sleep 0.05; done; echo re''sized\n")
      yield* sees("resized")
      // Said by what is in the foreground by then: a key between two commands of the shell's would be lost on it.
      yield* type("sh -c 'echo re\"\"ady; exec sleep 1000'\n")
      yield* sees("ready")
      yield* type("\u0003")
      yield* sees("inner> ")
      yield* type("echo rc''=$?\n")
      yield* sees("rc=130")
      yield* type("sh -c 'echo ag\"\"ain; exec sleep 1000'\n")
      yield* sees("again")
      yield* type("\u001a")
      yield* sees("Stopped")
      yield* type("kill -KILL %1; wait; echo go''ne\n")
      yield* sees("gone")
      yield* type("PS1='la''st> '; (exit 9)\n")
      yield* sees("last> ")
      yield* type("\u0004")
      yield* sees("code=9")
      assert.strictEqual(yield* settingsNow, before)
    })
  )

  it.scopedLive("is restored after a signal to what runs, and to the command itself", () =>
    Effect.gen(function* () {
      const killed = yield* outer([], "sh -c 'echo up; kill -KILL $$'")
      yield* killed.sees("code=137")
      assert.strictEqual(yield* killed.settingsNow, killed.before)
      const ended = yield* outer([], "sh -c 'echo pid=$PPID=$$=; exec sleep 1000'")
      yield* ended.sees(/pid=\d+=\d+=/)
      const [, parent, child] = /pid=(\d+)=(\d+)=/.exec(ended.screen()) ?? []
      assert.isTrue(isAlive(Number(child)))
      // On this machine the command itself is the parent of what it runs.
      process.kill(Number(parent), "SIGTERM")
      yield* ended.sees("code=143")
      assert.strictEqual(yield* ended.settingsNow, ended.before)
      yield* eventually("what ran is gone", () => !isAlive(Number(child)))
    })
  )

  it.scopedLive("a server that dies: ^C gives up, and the terminal is restored", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const lost = yield* outer(["--url", server.url], "sh -c 'echo u''p; exec sleep 1000'")
      yield* lost.sees("up")
      server.child.kill("SIGKILL")
      yield* lost.sees("the connection is lost")
      yield* lost.type("\u0003")
      yield* lost.sees("code=130")
      assert.strictEqual(yield* lost.settingsNow, lost.before)
    })
  )

  it.scopedLive("nobody there: one line, and the terminal as it was", () =>
    Effect.gen(function* () {
      const { sees, before, settingsNow } = yield* outer(["--url", "ws://127.0.0.1:1"], "true")
      yield* sees("Error: failed to connect")
      yield* sees("code=1")
      assert.strictEqual(yield* settingsNow, before)
    })
  )
})

describe("a server at a terminal", () => {
  it.scopedLive("says what to paste next", () =>
    Effect.gen(function* () {
      const { sees, screen } = yield* atTerminal(commandLine("--listen", "ws://127.0.0.1:0"), { rows: 24, cols: 200 })
      yield* sees(/try: npx exec-server run --url ws:\/\/127.0.0.1:\d+ -- echo hello/)
      assert.notInclude(screen(), "Error")
    })
  )
})

const hasTmux = spawnSync("tmux", ["-V"]).status === 0

describe.skipIf(!hasTmux)("in tmux", () => {
  it.scopedLive("a shell within a shell: its screen, its size, and its end", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const tmux = (...args: ReadonlyArray<string>) =>
        spawnSync("tmux", ["-S", `${folder}/socket`, "-f", "/dev/null", ...args], {
          env: { ...process.env, ...nowhere, PS1: "outer> " },
          encoding: "utf8"
        }).stdout
      yield* Effect.acquireRelease(
        Effect.sync(() => tmux("new-session", "-d", "-s", "t", "-x", "90", "-y", "30", "sh")),
        () => Effect.sync(() => tmux("kill-server"))
      )
      const keys = (...sent: ReadonlyArray<string>) => Effect.sync(() => tmux("send-keys", "-t", "t", ...sent))
      const shows = (text: RegExp) =>
        Effect.catchAllDefect(
          eventually(`${text} is shown`, () => text.test(tmux("capture-pane", "-p", "-t", "t"))),
          (defect) => Effect.dieMessage(`${defect}; there is: ${tmux("capture-pane", "-p", "-t", "t")}`)
        )
      // Whichever prompt: what is typed before it would stand in the way of the inner one.
      yield* shows(/^(outer>|[#$])/m)
      yield* keys(`${commandLine("run", "--tty").join(" ")} -- ${shell}; echo co''de=$?`, "Enter")
      yield* shows(/^inner>/m)
      yield* keys("stty size", "Enter")
      yield* shows(/^30 90$/m)
      yield* Effect.sync(() => tmux("resize-window", "-t", "t", "-x", "70", "-y", "20"))
      yield* keys("until [ \"$(stty size)\" = '20 70' ]; do sleep 0.05; done; clear; echo re''sized", "Enter")
      yield* shows(/^resized$/m)
      yield* keys("sh -c 'echo ag\"\"ain; exec sleep 1000'", "Enter")
      yield* shows(/^again$/m)
      yield* keys("C-c")
      yield* keys("exit 4", "Enter")
      yield* shows(/^code=4$/m)
    })
  )
})
