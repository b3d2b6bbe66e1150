/** Command lines: how they are read, what is said of mistakes, and that the server needs no more than its settings. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Cli from "../../src/command/Cli.js"
import * as Grammar from "../../src/command/Grammar.js"
import * as ServerFlags from "../../src/command/ServerFlags.js"
import * as ConfigPrint from "../../src/server/ConfigPrint.js"
import * as ServerConfig from "../../src/server/ServerConfig.js"
import { atTerminal, command, commandLine, isOneLine } from "../support/command.js"

const sample = (key: ServerConfig.Key): string => {
  const { kind, choices, item } = ServerConfig.settings[key]
  const text = `a ${key}, with = and "quotes"`
  switch (kind) {
    case "count":
      return "7"
    case "flag":
      return "true"
    case "choice":
      return choices[0] ?? ""
    case "list":
      return [text, "NAME,OTHER", "memory=2g,pids=7"].find((list) => list.split(",").every(item.is)) ?? ""
    case "text":
      return text
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
    const { texts, config } = Option.getOrThrow(ServerFlags.readAlone(ServerConfig.keys.flatMap(argsOf)))
    assert.deepStrictEqual(texts, Object.fromEntries(ServerConfig.keys.map((key) => [key, sample(key)])))
    assert.isUndefined(config)
    assert.deepStrictEqual(Option.getOrThrow(ServerFlags.readAlone([])), { texts: {}, config: undefined })
  })

  it.scopedLive("mean what they mean to `config print`", () =>
    Effect.gen(function* () {
      const lines = [
        ServerConfig.keys.flatMap(argsOf),
        ["--listen=ws://127.0.0.1:0", "--log-level=debug", "--max-sessions", "0"],
        ["--listen", "unix:///a=b", "--insecure", "--allow-direct-exec", "false"],
        ["--insecure=true", "--exit-on-stdin-close=false", "--name=--insecure"],
        ["--name", "", "--environment-id", "-x"]
      ]
      for (const args of lines) {
        const { texts, config } = Option.getOrThrow(ServerFlags.readAlone(args))
        const { PATH, HOME } = process.env
        // As for every program that the tests start.
        const variables = { PATH, HOME, EXEC_SERVER_CONTROL_SOCKET: "none" }
        const resolved = yield* ServerConfig.resolve(texts, variables, config)
        assert.strictEqual(yield* printed(args), ConfigPrint.format(resolved))
      }
    })
  )

  it("are left to the rest of the command line where there is anything else", () => {
    const others = [
      ["--help"],
      ["--version"],
      ["run", "--", "ls"],
      ["config", "print"],
      ["--listen", "stdio", "ps"],
      ["--listen"],
      ["--listen="],
      ["--listen", "--insecure"],
      ["--listen", "stdio", "--listen", "stdio"],
      ["--insecure", "--insecure"],
      ["--insecure=yes"],
      ["--no-insecure"],
      ["--LISTEN", "stdio"],
      ["--no-such-flag", "1"],
      ["--"],
      ["-h"],
      ["constructor"],
      ["--constructor", "1"],
      ["--__proto__", "1"]
    ]
    for (const args of others) assert.isTrue(Option.isNone(ServerFlags.readAlone(args)), args.join(" "))
  })
})

/** What a command line was understood as, in short. */
const understood = (...args: ReadonlyArray<string>) => {
  const call = Grammar.parse(Cli.root, args)
  switch (call._tag) {
    case "Run": {
      const { values, words, rest } = call.given
      return { command: call.command.path.join(" "), values: Object.fromEntries(values), words, rest }
    }
    case "Help":
      return `help of ${call.command.path.join(" ")}`
    case "Version":
      return "version"
    case "Mistake":
      return call.message
  }
}

describe("a command line", () => {
  it("has values in the next word or behind `=`, and switches without any", () => {
    const expected = { command: "kill", values: { url: ["u"], signal: ["-9"] }, words: ["p1"], rest: [] }
    assert.deepStrictEqual(understood("kill", "--url", "u", "--signal", "-9", "p1"), expected)
    assert.deepStrictEqual(understood("kill", "p1", "--signal=-9", "--url=u"), expected)
    assert.deepStrictEqual(understood("kill", "-s", "-9", "p1", "--url", "u"), expected)
    assert.deepStrictEqual(understood("logs", "--json", "p1", "-f"), {
      command: "logs",
      values: { json: ["true"], follow: ["true"] },
      words: ["p1"],
      rest: []
    })
    assert.deepStrictEqual(understood("ps", "--json=false"), {
      command: "ps",
      values: { json: ["false"] },
      words: [],
      rest: []
    })
  })

  it("has short flags together, and repeats what may be repeated", () => {
    assert.deepStrictEqual(understood("run", "-td", "--set", "A=1", "--set=B=2", "--", "env"), {
      command: "run",
      values: { tty: ["true"], detach: ["true"], set: ["A=1", "B=2"] },
      words: [],
      rest: ["env"]
    })
  })

  it("behind `--` has what `run` runs, and words that may begin with a dash", () => {
    assert.deepStrictEqual(understood("run", "--", "ls", "--help", "--", "-x"), {
      command: "run",
      values: {},
      words: [],
      rest: ["ls", "--help", "--", "-x"]
    })
    assert.deepInclude(understood("cp", "--", "-a", ":b"), { words: ["-a", ":b"] })
    assert.deepInclude(understood("attach", "--", "--help"), { words: ["--help"] })
  })

  it("may have a command's flags in front of it", () => {
    assert.deepStrictEqual(understood("--url", "ps", "--json", "ps", "--session", "s"), {
      command: "ps",
      values: { url: ["ps"], json: ["true"], session: ["s"] },
      words: [],
      rest: []
    })
    assert.deepInclude(understood("--max-sessions", "3", "config", "print", "--name", "x"), {
      command: "config print",
      values: { "max-sessions": ["3"], name: ["x"] }
    })
    assert.deepInclude(understood("--log-level", "debug", "rendezvous"), { values: { "log-level": ["debug"] } })
  })
})

describe("a mistake on the command line", () => {
  for (const [args, said] of [
    [["--nonsense"], "unknown flag --nonsense; see `exec-server --help`"],
    [["--listne"], "unknown flag --listne; did you mean --listen?"],
    [["--listne=x"], "unknown flag --listne; did you mean --listen?"],
    [["--insecure", "--list", "stdio"], "unknown flag --list; did you mean --listen?"],
    [["--LISTEN", "stdio"], "unknown flag --LISTEN; did you mean --listen?"],
    [["--no-insecure"], "unknown flag --no-insecure; did you mean --insecure?"],
    [["-x"], "unknown flag -x; see `exec-server --help`"],
    [["-listen", "stdio"], "unknown flag -l; see `exec-server --help`"],
    [["--__proto__", "1"], "unknown flag --__proto__; see `exec-server --help`"],
    [["--listen"], "--listen needs a value"],
    [["--listen="], "--listen needs a value"],
    [["run", "--cwd", "--", "ls"], "--cwd needs a value"],
    [
      ["--listen", "--insecure"],
      "--listen needs a value, but --insecure is a flag; if it is the value, write --listen=--insecure"
    ],
    [["--insecure", "--config="], "--config needs a value"],
    [["--listen", "stdio", "--listen", "stdio"], "--listen was given twice; give it once"],
    [["--max-sessions", "1", "config", "print", "--max-sessions=2"], "--max-sessions was given twice; give it once"],
    [["--insecure", "--insecure"], "--insecure was given twice; give it once"],
    [["run", "--json", "-tt"], "-t was given twice; give it once"],
    [["--insecure="], "--insecure must be true or false, not ``"],
    [["--insecure=perhaps"], "--insecure must be true or false, not `perhaps`"],
    [["nonsense"], "unknown command `nonsense`; see `exec-server --help`"],
    [["nonsense", "--foo"], "unknown command `nonsense`; see `exec-server --help`"],
    [["rnu", "--", "ls"], "unknown command `rnu`; did you mean `run`?"],
    [["config", "prin"], "unknown command `prin`; did you mean `print`?"],
    [["config", "show"], "unknown command `show`; see `exec-server config --help`"],
    [["run", "--nonsense"], "unknown flag --nonsense; see `exec-server run --help`"],
    [["run", "--urn", "x"], "unknown flag --urn; did you mean --url?"],
    [["ps", "-x"], "unknown flag -x; see `exec-server ps --help`"],
    [["cp", "--foo", "a", ":b"], "unknown flag --foo; see `exec-server cp --help`"],
    [["config", "print", "--foo"], "unknown flag --foo; see `exec-server config print --help`"],
    [
      ["--max-sessions", "x", "ps"],
      "exec-server ps does not take --max-sessions, which is a flag of `exec-server`, `exec-server service print`, `exec-server config print`"
    ],
    [
      ["--log-level=debug", "ps"],
      "exec-server ps does not take --log-level, which is a flag of `exec-server`, `exec-server rendezvous`, `exec-server forward`, `exec-server gateway`, `exec-server service print`, `exec-server config print`"
    ],
    [["cp", "--follow"], "exec-server cp does not take --follow, which is a flag of `exec-server logs`"],
    [["--detach"], "exec-server does not take --detach, which is a flag of `exec-server run`"],
    [["rendezvous", "--public-url"], "--public-url needs a value"],
    [["kill", "p1", "-s"], "-s needs a value"],
    [["run", "--session", "a", "--session", "b"], "--session was given twice; give it once"],
    [["run", "echo", "hi"], "write the command to run after `--`: exec-server run [FLAGS] -- echo"],
    [["ps", "p1"], "unexpected argument `p1`: exec-server ps takes no arguments"],
    [["ps", "--json", "1"], "unexpected argument `1`: exec-server ps takes no arguments"],
    [["ps", "--", "p1"], "unexpected argument `p1`: exec-server ps takes no arguments"],
    [["--", "ps"], "unexpected argument `ps`: exec-server takes no arguments"],
    [["cp", "a", "b", ":c"], "unexpected argument `:c`: exec-server cp takes SOURCE and DESTINATION"],
    [["cp", "-r", "a"], "exec-server cp needs DESTINATION; see `exec-server cp --help`"],
    [["attach"], "exec-server attach needs SESSION[/PROCESS]; see `exec-server attach --help`"],
    [["completion", "tcsh"], "SHELL must be one of bash, zsh, fish, not `tcsh`"]
  ] as const) {
    it(`is said: ${args.join(" ")}`, () => assert.strictEqual(understood(...args), said))
  }

  it.scopedLive("is one line, and status 2", () =>
    Effect.gen(function* () {
      for (const [args, said] of [
        [["--listne", "stdio"], "unknown flag --listne; did you mean --listen?\n"],
        [["--max-sessions", "x", "config", "prnt"], "unknown command `prnt`; did you mean `print`?\n"],
        [["two\nlines\u001b[31m"], "unknown command `two?lines?[31m`; see `exec-server --help`\n"],
        [["help", "atach"], "unknown command `atach`; did you mean `attach`?\n"]
      ] as const) {
        assert.deepStrictEqual(yield* command(args), { code: 2, stdout: "", stderr: said })
      }
    })
  )

  it.scopedLive("in the value of a flag is as well", () =>
    Effect.gen(function* () {
      for (const [args, said] of [
        [
          ["run", "--timeout", "soon", "--", "true"],
          '--timeout: "soon" is not a time above 0, such as 90, 90s, 1.5m or 200ms'
        ],
        [["run", "--timeout", "0", "--", "true"], '--timeout: "0" is not a time above 0'],
        [["rendezvous", "--log-format", "xml"], '--log-format: "xml" is not one of text, json'],
        [["rendezvous", "--log-level", ""], '--log-level: "" is not one of all, trace'],
        [["--log-level", "loud"], '--log-level: "loud" is not one of all, trace'],
        [["--contain", "everything"], '--contain: "everything" is not one of none, namespace']
      ] as const) {
        const { code, stdout, stderr } = yield* command(args)
        assert.deepStrictEqual([code, stdout], [2, ""], args.join(" "))
        isOneLine(stderr)
        assert.include(stderr, said)
      }
    })
  )
})

describe("without arguments", () => {
  it.scopedLive("somebody at a terminal is shown the help, unless a variable says what to serve", () =>
    Effect.gen(function* () {
      const bare = commandLine().join(" ")
      const { type, sees } = yield* atTerminal(["/bin/sh"])
      yield* type(`${bare}; echo code=$?\n`)
      yield* sees("Usage:")
      yield* sees("exec-server [COMMAND] [FLAGS]")
      yield* sees("code=0")
      yield* type(`EXEC_SERVER_LISTEN=ws://127.0.0.1:0 ${bare}; echo code=$?\n`)
      yield* sees(/listening on ws:\/\/127\.0\.0\.1:\d+/)
      yield* type("\u0003")
      yield* sees("code=0")
      // Without a terminal there is nobody to help: it is a server on stdio.
      const program = yield* command([], { input: '{"id":1,"method":"initialize","params":{"clientName":"x"}}\n' })
      assert.strictEqual(program.code, 0)
      assert.include(program.stdout, '"id":1,"result"')
    })
  )
})
