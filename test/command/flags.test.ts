/** Command lines of a server: which ones need no parser, and that they mean the same to the one for everything else. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Mistake from "../../src/command/Mistake.js"
import * as ServerFlags from "../../src/command/ServerFlags.js"
import * as ConfigPrint from "../../src/server/ConfigPrint.js"
import * as ServerConfig from "../../src/server/ServerConfig.js"
import { command } from "../support/command.js"

const sample = (key: ServerConfig.Key): string => {
  const { kind, choices } = ServerConfig.settings[key]
  switch (kind) {
    case "count":
      return "7"
    case "flag":
      return "true"
    case "choice":
      return choices[0] ?? ""
    case "list":
    case "text":
      return `a ${key}, with = and "quotes"`
  }
}

const argsOf = (key: ServerConfig.Key) => {
  const flag = `--${ServerConfig.flagName(key)}`
  return ServerConfig.isSwitch(key) ? [flag] : [flag, sample(key)]
}

/** What the command says that its settings are. */
const printed = (args: ReadonlyArray<string>) =>
  Effect.map(command(["config", "print", ...args]), ({ code, stdout, stderr }) => {
    assert.strictEqual(code, 0, stderr)
    return stdout
  })

describe("a server's flags", () => {
  it("are all read, each with its value", () => {
    const { texts, config } = Option.getOrThrow(ServerFlags.read(ServerConfig.keys.flatMap(argsOf)))
    assert.deepStrictEqual(texts, Object.fromEntries(ServerConfig.keys.map((key) => [key, sample(key)])))
    assert.isUndefined(config)
    assert.deepStrictEqual(Option.getOrThrow(ServerFlags.read([])), { texts: {}, config: undefined })
  })

  it.scopedLive("mean what they mean to `config print`", () =>
    Effect.gen(function* () {
      const lines = [
        ServerConfig.keys.flatMap(argsOf),
        ["--listen=ws://127.0.0.1:0", "--log-level=debug", "--max-sessions", "0"],
        ["--listen", "unix:///a=b", "--insecure", "--allow-direct-exec", "false"]
      ]
      for (const args of lines) {
        const { texts, config } = Option.getOrThrow(ServerFlags.read(args))
        const { PATH, HOME } = process.env
        const resolved = yield* ServerConfig.resolve(texts, { PATH, HOME }, config)
        assert.strictEqual(yield* printed(args), ConfigPrint.format(resolved))
      }
    })
  )

  it("are left to the parser for everything else where there is anything else", () => {
    const others = [
      ["--help"],
      ["--version"],
      ["run", "--", "ls"],
      ["config", "print"],
      ["--listen", "stdio", "ps"],
      ["--listen"],
      ["--listen", ""],
      ["--listen="],
      ["--listen", "--insecure"],
      ["--listen", "stdio", "--listen", "stdio"],
      ["--insecure", "--insecure"],
      ["--insecure=true"],
      ["--no-insecure"],
      ["--LISTEN", "stdio"],
      ["--contain", "everything"],
      ["--log-level", "loud"],
      ["--no-such-flag", "1"],
      ["--config", ""],
      ["--"],
      ["-h"],
      ["constructor"],
      ["--constructor", "1"],
      ["--__proto__", "1"]
    ]
    for (const args of others) assert.isTrue(Option.isNone(ServerFlags.read(args)), args.join(" "))
  })
})

describe("a mistake in a server's flags", () => {
  for (const [args, said] of [
    [["--nonsense"], "there is no flag --nonsense; `exec-server --help` shows those that there are"],
    [["--insecure", "--list", "stdio"], "there is no flag --list; `exec-server --help` shows those that there are"],
    [["-x"], "there is no flag -x; `exec-server --help` shows those that there are"],
    [["--__proto__", "1"], "there is no flag --__proto__; `exec-server --help` shows those that there are"],
    [["--listen"], "--listen needs a value"],
    [["--listen="], "--listen needs a value"],
    [["--insecure", "--config="], "--config needs a value"],
    [["--listen", "stdio", "--listen", "stdio"], "--listen was given twice; give it once"],
    [["--insecure", "--insecure"], "--insecure was given twice; give it once"],
    [["--insecure="], "--insecure is true or false, and not ``"],
    [["--insecure=perhaps"], "--insecure is true or false, and not `perhaps`"]
  ] as const) {
    it(`is said: ${args.join(" ")}`, () => assert.strictEqual(Mistake.find(args), said))
  }

  it.scopedLive("is one line, and status 2", () =>
    Effect.gen(function* () {
      const { code, stdout, stderr } = yield* command(["--listne", "stdio"])
      assert.deepStrictEqual([code, stdout], [2, ""])
      assert.strictEqual(stderr, "there is no flag --listne; `exec-server --help` shows those that there are\n")
    })
  )

  it("is left to the parser where it may be none, or another one's", () => {
    for (const args of [
      [],
      ["--help"],
      ["--version", "--nonsense"],
      ["run", "--nonsense"],
      ["nonsense"],
      ["--listen", "stdio", "ps", "--nonsense"],
      ["--LISTEN", "stdio"],
      ["--listen", ""],
      ["--insecure=yes"],
      ["--contain", "everything"]
    ]) {
      assert.isUndefined(Mistake.find(args), args.join(" "))
    }
  })
})
