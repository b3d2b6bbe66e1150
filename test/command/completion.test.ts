/** Completions: every flag of every command is in the scripts, and a shell that runs them offers what fits. */
import { execFile, spawnSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Cli from "../../src/command/Cli.js"
import * as Completion from "../../src/command/Completion.js"
import * as Grammar from "../../src/command/Grammar.js"
import { command } from "../support/command.js"
import { directory } from "../support/files.js"
import { binary } from "../support/servers.js"

const commands = Grammar.all(Cli.root)

/** What a shell says. */
const says = (program: string, args: ReadonlyArray<string>, cwd: string) =>
  Effect.async<ReadonlyArray<string>>((resume) => {
    const child = execFile(program, args, { cwd, timeout: 10_000 }, (error, stdout, stderr) =>
      resume(
        error === null && stderr === ""
          ? Effect.succeed(stdout.split("\n").filter((line) => line !== ""))
          : Effect.dieMessage(`${error?.message} ${stderr}`)
      )
    )
    child.stdin?.end()
  })

const quoted = (word: string) => `'${word.replaceAll("'", "'\\''")}'`

/** What bash offers behind these words; the last one is what has been typed of the next. */
const offered = (cwd: string, source: string, ...words: ReadonlyArray<string>) => {
  const script = `
    exec-server() { ${quoted(process.execPath)} ${quoted(binary)} "$@"; }
    source ${source}
    COMP_WORDS=(exec-server ${words.map(quoted).join(" ")})
    COMP_CWORD=${words.length}
    $(complete -p exec-server | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    printf '%s\\n' "\${COMPREPLY[@]}"`
  return says("bash", ["--norc", "-c", script], cwd)
}

/** A directory, and what bash offers in it. */
const inBash = Effect.map(directory, (folder) => {
  const file = `${folder}/.script`
  writeFileSync(file, Completion.script("bash", Cli.root))
  return { folder, offers: (...words: ReadonlyArray<string>) => offered(folder, quoted(file), ...words) }
})

const flagsOf = (path: string) =>
  commands
    .find((one) => one.path.join(" ") === path)
    ?.flags.flatMap(({ name, short }) => [`--${name}`, ...(short === undefined ? [] : [`-${short}`])])

describe("completions", () => {
  for (const shell of Completion.shells) {
    it.scopedLive(`for ${shell} are printed, with every command and flag`, () =>
      Effect.gen(function* () {
        const { code, stdout, stderr } = yield* command(["completion", shell])
        assert.deepStrictEqual([code, stderr], [0, ""])
        assert.strictEqual(stdout, Completion.script(shell, Cli.root))
        for (const { path, flags } of commands) {
          assert.include(stdout, path.at(-1) ?? "")
          for (const { name } of flags) assert.include(stdout, shell === "fish" ? `-l ${name} ` : `--${name}`)
        }
      })
    )
  }

  // Bash is everywhere; CI installs the others.
  for (const shell of Completion.shells.filter((name) => spawnSync(name, ["-c", "true"]).status === 0)) {
    it.scopedLive(`for ${shell} are a script that it can read`, () =>
      Effect.gen(function* () {
        const file = `${yield* directory}/script`
        writeFileSync(file, Completion.script(shell, Cli.root))
        assert.deepStrictEqual(yield* says(shell, ["-n", file], "/"), [])
      })
    )
  }

  it.scopedLive("in bash are the flags of the command in front of the cursor", () =>
    Effect.gen(function* () {
      const { folder, offers } = yield* inBash
      assert.deepStrictEqual(yield* offered(folder, "<(exec-server completion bash)", "co"), ["config", "completion"])
      for (const { path } of commands) {
        const expected = flagsOf(path.join(" "))
        assert.isDefined(expected)
        assert.sameMembers([...(yield* offers(...path, "-"))], expected ?? [], path.join(" "))
      }
    })
  )

  it.scopedLive("in bash are commands, values and paths where these belong", () =>
    Effect.gen(function* () {
      const { folder, offers } = yield* inBash
      for (const name of ["token one", "token-two", "other"]) writeFileSync(`${folder}/${name}`, "")
      const cases: ReadonlyArray<readonly [ReadonlyArray<string>, ReadonlyArray<string>]> = [
        [["r"], ["run", "record", "rendezvous"]],
        [["config", ""], ["print"]],
        [["rendezvous", ""], ["token"]],
        [
          ["help", "co"],
          ["config", "completion"]
        ],
        [
          ["completion", ""],
          ["bash", "zsh", "fish"]
        ],
        [["--max-sessions", "3", "ps", "--ur"], ["--url"]],
        [["--name", "ps", "--max-sessions"], ["--max-sessions"]],
        [
          ["--retain", ""],
          ["tail", "head-tail"]
        ],
        // Bash takes "=" for a word of its own.
        [["--retain", "=", "h"], ["head-tail"]],
        [
          ["--retain", "="],
          ["tail", "head-tail"]
        ],
        [["--retain", "=", "tail", "--max-sessions"], ["--max-sessions"]],
        [["--allow-direct-exec", "t"], ["true"]],
        [["rendezvous", "--log-level", "w"], ["warning"]],
        [
          ["--ws-token-file", "to"],
          ["token one", "token-two"]
        ],
        [["cp", "-r", "o"], ["other"]],
        [["run", "--cwd", "o"], []],
        [["run", "--url", "run", "--det"], ["--detach"]],
        [["run", "--", "cat", "o"], ["other"]],
        [["run", "--", "cat", "--ur"], []],
        [["ps", "--", ""], []]
      ]
      for (const [words, expected] of cases) {
        assert.sameMembers([...(yield* offers(...words))], [...expected], words.join(" "))
      }
      assert.include(yield* offers("run", "--url", "ws://h", "--", "bas"), "bash")
    })
  )
})
