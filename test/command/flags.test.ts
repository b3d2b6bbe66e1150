/** Command lines of a server: which ones need no parser, and that they mean the same to the one for everything else. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Cli from "../../src/command/Cli.js"
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

const { form } = Cli.make(undefined, [])

describe("--help", () => {
  /** What the help of each command has, and of no other one. */
  const own = {
    "": "Starts and controls processes for the clients that connect to it.",
    run: "Runs a command as if it were here",
    ps: "Lists the processes of a session.",
    attach: "Takes up a process that was left running",
    logs: "Prints the output of a process that the server retains.",
    kill: "Sends a signal to a process of a session.",
    cp: "Copies files to a server, and back",
    doctor: "Says what works here, and what to do about what does not.",
    rendezvous: "Brings clients and executors behind a firewall together.",
    config: "About settings.",
    "config print": "Prints every setting and where it came from; secrets are masked."
  } as const

  /** All before the list of commands, which has the sentences of all of them. */
  const helpOf = (args: ReadonlyArray<string>) =>
    Effect.map(command(args), ({ code, stdout, stderr }) => {
      assert.deepStrictEqual([code, stderr], [0, ""], args.join(" "))
      return stdout.split("COMMANDS", 1)[0] ?? ""
    })

  for (const [name, sentence] of Object.entries(own)) {
    const words = name === "" ? [] : name.split(" ")
    it.scopedLive(`of \`${["exec-server", ...words].join(" ")}\` is its own`, () =>
      Effect.gen(function* () {
        const help = yield* helpOf([...words, "--help"])
        assert.include(help, sentence)
        for (const other of Object.values(own)) {
          if (other !== sentence) assert.notInclude(help, other)
        }
        assert.strictEqual(yield* helpOf([...words, "-h"]), help)
      })
    )
  }

  it.scopedLive("is found behind other flags, and beside mistakes", () =>
    Effect.gen(function* () {
      const lines = [
        [["--max-sessions", "3", "--help"], own[""]],
        [["--listen", "--help"], own[""]],
        [["--name", "ps", "--help"], own[""]],
        [["--listen", "stdio", "ps", "--help"], own.ps],
        [["--help", "cp"], own.cp],
        [["run", "--timeout", "soon", "--nonsense", "--help"], own.run],
        [["attach", "p1", "--session", "s", "-h"], own.attach],
        [["config", "print", "--max-sessions", "3", "--help"], own["config print"]],
        [["rendezvous", "--listen", "ws://127.0.0.1:0", "--help"], own.rendezvous]
      ] as const
      for (const [args, sentence] of lines) assert.include(yield* helpOf(args), sentence, args.join(" "))
      const version = yield* command(["--max-sessions", "3", "--version"])
      assert.match(version.stdout, /^\d+\.\d+\.\d+\n*$/)
    })
  )
})

describe("a mistake on the command line", () => {
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
    [["--insecure=perhaps"], "--insecure is true or false, and not `perhaps`"],
    [["nonsense"], "there is no command `nonsense`; `exec-server --help` shows those that there are"],
    [["config", "prin"], "there is no command `prin`; `exec-server config --help` shows those that there are"],
    [["run", "--nonsense"], "there is no flag --nonsense; `exec-server run --help` shows those that there are"],
    [["--listen", "stdio", "ps", "-x"], "there is no flag -x; `exec-server ps --help` shows those that there are"],
    [["cp", "--foo", "a", ":b"], "there is no flag --foo; `exec-server cp --help` shows those that there are"],
    [
      ["config", "print", "--foo"],
      "there is no flag --foo; `exec-server config print --help` shows those that there are"
    ],
    [["rendezvous", "--public-url"], "--public-url needs a value"],
    [["kill", "p1", "-s"], "-s needs a value"],
    [["run", "--session", "a", "--session", "b"], "--session was given twice; give it once"],
    [["run", "echo", "hi"], "what to run stands behind `--`: exec-server run [FLAGS] -- echo"],
    [["ps", "p1"], "`p1` is a word too many: exec-server ps takes none beside flags"],
    [["cp", "a", "b", ":c"], "`:c` is a word too many: exec-server cp takes SOURCE and DESTINATION beside flags"],
    [["cp", "-r", "a"], "exec-server cp needs DESTINATION; `exec-server cp --help` says what that is"],
    [["attach"], "exec-server attach needs ID; `exec-server attach --help` says what that is"]
  ] as const) {
    it(`is said: ${args.join(" ")}`, () => assert.strictEqual(Mistake.find(form, args), said))
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
      ["run", "--help", "--nonsense"],
      ["run", "-td", "--set", "A=1", "--set", "B=2"],
      ["logs", "--json", "true", "p1", "-f"],
      ["kill", "--signal", "-9", "p1"],
      ["cp", "a", ":b"],
      ["config"],
      ["config", "print", "--listen", "stdio"],
      ["--LISTEN", "stdio"],
      ["--listen", ""],
      ["--insecure=yes"],
      ["--contain", "everything"]
    ]) {
      assert.isUndefined(Mistake.find(form, args), args.join(" "))
    }
  })
})
