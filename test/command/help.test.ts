/** Help: what the table of flags says, as people read it and as programs do. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Cli from "../../src/command/Cli.js"
import * as Grammar from "../../src/command/Grammar.js"
import * as Help from "../../src/command/Help.js"
import { atTerminal, command, commandLine } from "../support/command.js"

const wide = { width: 1000, isColoured: false }

const commands = Grammar.all(Cli.root)

/** The help of a command, called as a program does. */
const helpOf = (args: ReadonlyArray<string>) =>
  Effect.map(command(args), ({ code, stdout, stderr }) => {
    assert.deepStrictEqual([code, stderr], [0, ""], args.join(" "))
    return stdout
  })

describe("the table", () => {
  for (const one of commands) {
    it(`says of every flag of \`${Grammar.nameOf(one)}\` what it is, and its help and nothing else shows it`, () => {
      const help = Help.format(one, wide)
      const lines = help.replace(/\n {10,}/g, " ").split("\n")
      for (const flag of one.flags) {
        assert.match(flag.help, /^[a-zA-Z0-9`][^\n]{5,}[^.]$/, flag.name)
        assert.match(flag.group, /^[A-Z][^\n:]+$/, flag.name)
        assert.match(flag.name, /^[a-z][a-z0-9-]+$/)
        assert.strictEqual(flag.placeholder === "", flag.isSwitch, flag.name)
        // With room for it, a line for each.
        const line = lines.find((line) => line.trim().startsWith(`${Help.written(flag).trim()} `))
        assert.isDefined(line, flag.name)
        for (const text of [flag.help, flag.variable ?? "", flag.defaultText ?? ""]) assert.include(line ?? "", text)
        const [, below = ""] = help.split(`\n${flag.group}:\n`)
        assert.include(below.split("\n\n", 1)[0] ?? "", Help.written(flag).trim())
      }
      assert.strictEqual(new Set(one.flags.map(({ name }) => name)).size, one.flags.length)
      const written = Array.from(help.matchAll(/^ {2,6}(?:-., )?--([a-z0-9-]+)/gm), ([, name]) => name)
      assert.sameMembers(
        written,
        one.flags.map(({ name }) => name)
      )
      assert.match(help, new RegExp(`^Usage: ${Grammar.nameOf(one)}( |$)[^\\n]*\\n\\n${one.summary.slice(0, 20)}`))
      assert.match(one.summary, /^[A-Z][^\n]*\.$/)
      for (const [line] of one.examples) assert.match(line, /^(source <\()?exec-server/)
    })
  }

  it("reads a flag of one name in one way, whichever command it is given to", () => {
    const seen = new Map<string, object>()
    for (const { name, short, isSwitch, isRepeated, choices, placeholder } of commands.flatMap(({ flags }) => flags)) {
      const form = { short, isSwitch, isRepeated, choices, placeholder }
      assert.deepStrictEqual(seen.get(name) ?? form, form, name)
      seen.set(name, form)
    }
    const letters = Grammar.flagsOf(Cli.root).flatMap(({ short }) => short ?? [])
    assert.strictEqual(new Set(letters).size, letters.length)
  })

  it("has examples that can be called", () => {
    for (const [line] of commands.flatMap(({ examples }) => examples)) {
      const words =
        line
          .replace(/^source <\((.*)\)$/, "$1")
          .split(/ [|>] /, 1)[0]
          ?.split(" ")
          .slice(1) ?? []
      assert.strictEqual(Grammar.parse(Cli.root, words)._tag, "Run", line)
    }
  })
})

describe("--help", () => {
  for (const one of commands) {
    it.scopedLive(`of \`${Grammar.nameOf(one)}\` is its own, in each of the ways to ask`, () =>
      Effect.gen(function* () {
        const help = Help.format(one, { width: 80, isColoured: false })
        assert.strictEqual(yield* helpOf([...one.path, "--help"]), help)
        assert.strictEqual(yield* helpOf([...one.path, "-h"]), help)
        assert.strictEqual(yield* helpOf(["help", ...one.path]), help)
        assert.notInclude(help, "\u001b")
        for (const line of help.split("\n")) assert.isAtMost(line.length, 80, line)
      })
    )
  }

  it("is found behind other flags, and beside mistakes", () => {
    const lines = [
      [["--max-sessions", "3", "--help"], ""],
      [["--listen", "--help"], ""],
      [["--name", "ps", "--help"], ""],
      [["--listen", "stdio", "ps", "--help"], "ps"],
      [["--help", "cp"], "cp"],
      [["run", "--timeout", "soon", "--nonsense", "--help"], "run"],
      [["run", "-th"], "run"],
      [["attach", "p1", "--session", "s", "-h"], "attach"],
      [["config"], "config"],
      [["config", "print", "--max-sessions", "3", "--help"], "config print"],
      [["rendezvous", "--listen", "ws://127.0.0.1:0", "--help"], "rendezvous"]
    ] as const
    for (const [args, path] of lines) {
      const call = Grammar.parse(Cli.root, args)
      assert.strictEqual(call._tag === "Help" && call.command.path.join(" "), path, args.join(" "))
    }
  })

  it.scopedLive("as the version, which is a line", () =>
    Effect.gen(function* () {
      for (const args of [["--version"], ["-V"], ["--max-sessions", "3", "--version"], ["run", "--version"]]) {
        assert.match(yield* helpOf(args), /^\d+\.\d+\.\d+\n$/)
      }
    })
  )

  it.scopedLive("fits the terminal, with bold headings where they are wanted", () =>
    Effect.gen(function* () {
      const { type, sees, screen } = yield* atTerminal(["/bin/sh"], { rows: 24, cols: 60 })
      yield* type(`${commandLine("run", "--help").join(" ")}; echo code=$?\n`)
      yield* sees("\u001b[1mUsage:\u001b[0m exec-server run")
      yield* sees("code=0")
      const lines = screen().slice(screen().indexOf("\u001b[1mUsage")).split("\r\n")
      assert.isAbove(lines.length, 30)
      // Examples are lines to paste, and stay in one piece.
      const text = lines.slice(
        0,
        lines.findIndex((line) => line.includes("Examples"))
      )
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
      for (const line of text) assert.isAtMost(line.replace(/\u001b\[\d+m/g, "").length, 60, line)
      yield* type(`NO_COLOR=1 ${commandLine("ps", "--help").join(" ")}; echo ag""ain\n`)
      yield* sees("again")
      assert.notInclude(screen().slice(screen().lastIndexOf("Usage")), "\u001b")
      // The shell may print its prompt after what was typed.
      assert.match(screen(), /(\n|> )Usage: exec-server ps/)
    })
  )
})
