/**
 * The commands beside the server: their flags and words. What they do is loaded when one of them is called.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as RendezvousConfig from "../remote/RendezvousConfig.js"
import * as Logging from "../server/Logging.js"
import * as ServerConfig from "../server/ServerConfig.js"
import * as Flag from "./Flag.js"
import { type Command, typed } from "./Grammar.js"
import type { LocalSignals } from "./LocalSignals.js"
import * as Memory from "./Memory.js"
import { announce } from "./Serve.js"
import type { Target } from "./Target.js"

/** Headings of flags. */
const where = "Which server"
const how = "How it runs"
const what = "What it does"
const output = "Output"

const json = Flag.toggle("json", output, "print JSON, a line for each item, instead of text for people")

const place = {
  url: Flag.text("url", "URL", where, "the server: ws://, wss://, unix:///PATH, or relay://HOST:PORT/ENVIRONMENT", {
    shown: "this machine",
    variable: "EXEC_SERVER_URL"
  }),
  env: Flag.text("env", "ID", where, "an environment of environments.toml, instead of --url"),
  environments: Flag.text("environments", "FILE", where, "another file to take environments from", {
    shown: "environments.toml in CODEX_HOME, ~/.codex"
  }),
  tokenFile: Flag.text("token-file", "FILE", where, "a file with the bearer token to show to the server", {
    shown: "the token in EXEC_SERVER_TOKEN, if there is one"
  }),
  insecure: Flag.toggle("insecure", where, "show the token also to another machine over ws://, where it can be read")
}

const session = Flag.text("session", "ID", where, "the session to take up again, as `run --detach` printed it")

/** The flags of a command that say where. */
type Place = { readonly [K in keyof Target]?: Target[K] }

const targetOf = ({ url, env, environments, tokenFile, insecure = false, session }: Place): Target => ({
  url,
  env,
  environments,
  tokenFile,
  insecure,
  session
})

const processId = { name: "ID", help: "the id of a process of the session" }

/** Runs what a module exports, with the signals of this process. */
const lazily = <A, E>(load: () => Promise<Effect.Effect<A, E, LocalSignals>>) =>
  Effect.gen(function* () {
    const [{ provide }, command] = yield* Effect.promise(() => Promise.all([import("./LocalSignals.js"), load()]))
    yield* provide(command)
  })

const run = typed(
  ["run"],
  {
    summary: "Runs a command as if it were here, on this machine or on a server.",
    note: "Ends with the status of the command, 128+n if signal n ended it, 127 if it is not found, 126 if it cannot be executed, and 124 after --timeout.",
    rest: "COMMAND [ARGUMENTS]",
    flags: {
      ...place,
      session,
      tty: Flag.toggle("tty", how, "give it a terminal, and this one's keys, size and signals", { short: "t" }),
      cwd: Flag.text("cwd", "DIR", how, "the directory to run in", { shown: "this one, or the server's own" }),
      timeout: Flag.duration("timeout", how, "end it after this time: 90, 90s, 1.5m, 200ms"),
      set: Flag.texts("set", "NAME=VALUE", how, "a variable to set, on top of those of the server"),
      detach: Flag.toggle("detach", how, "leave it running, and print the id of the session to come back to", {
        short: "d"
      }),
      id: Flag.text("id", "ID", how, "its id in the session", { shown: "p1, p2, ..." }),
      json
    },
    examples: [
      ["exec-server run -- make test", "on this machine"],
      ["exec-server run --tty --url ws://127.0.0.1:8080 -- bash", "a shell on a server"],
      ["exec-server run --detach --url ws://127.0.0.1:8080 -- make all", "left running there"]
    ]
  },
  ({ timeout, ...flags }, { rest }) =>
    lazily(async () => {
      const { run } = await import("./Run.js")
      return run({ ...flags, timeoutMs: timeout, target: targetOf(flags), argv: rest })
    })
)

const ps = typed(
  ["ps"],
  {
    summary: "Lists the processes of a session.",
    flags: { ...place, session, json },
    examples: [["exec-server ps --url ws://127.0.0.1:8080 --session ID", "those that were left running"]]
  },
  (flags) =>
    lazily(async () => {
      const { ps } = await import("./Ps.js")
      return ps({ target: targetOf(flags), json: flags.json })
    })
)

const attach = typed(
  ["attach"],
  {
    summary: "Takes up a process that was left running; ^] leaves it again where it has a terminal.",
    words: [processId],
    flags: { ...place, session },
    examples: [["exec-server attach p1 --url ws://127.0.0.1:8080 --session ID", "back to the first one"]]
  },
  (flags, { words: [id = ""] }) =>
    lazily(async () => {
      const { attach } = await import("./Attach.js")
      return attach({ target: targetOf(flags), id })
    })
)

const logs = typed(
  ["logs"],
  {
    summary: "Prints the output of a process that the server retains.",
    words: [processId],
    flags: {
      ...place,
      session,
      follow: Flag.toggle("follow", output, "go on until the process ends", { short: "f" }),
      json
    },
    examples: [["exec-server logs -f p1 --url ws://127.0.0.1:8080 --session ID", "until it ends"]]
  },
  (flags, { words: [id = ""] }) =>
    lazily(async () => {
      const { logs } = await import("./Logs.js")
      return logs({ target: targetOf(flags), id, follow: flags.follow, json: flags.json })
    })
)

const kill = typed(
  ["kill"],
  {
    summary: "Sends a signal to a process of a session.",
    words: [processId],
    flags: {
      ...place,
      session,
      signal: Flag.withDefault(
        Flag.text("signal", "NAME", what, "what to send to the process and all its descendants", { short: "s" }),
        "SIGTERM"
      )
    },
    examples: [["exec-server kill -s INT p1 --url ws://127.0.0.1:8080 --session ID", "as ^C does"]]
  },
  (flags, { words: [id = ""] }) =>
    lazily(async () => {
      const { kill } = await import("./Kill.js")
      return kill({ target: targetOf(flags), id, signal: flags.signal })
    })
)

const cp = typed(
  ["cp"],
  {
    summary: "Copies files to a server, and back.",
    words: [
      { name: "SOURCE", help: "what to copy; :PATH is on the server", isPath: true },
      { name: "DESTINATION", help: "where to; :PATH is on the server", isPath: true }
    ],
    flags: {
      ...place,
      recursive: Flag.toggle("recursive", what, "copy a directory with all that is in it", { short: "r" }),
      json
    },
    examples: [
      ["exec-server cp --url ws://127.0.0.1:8080 notes.txt :/tmp", "to the server"],
      ["exec-server cp -r --url ws://127.0.0.1:8080 :/var/log logs", "from it, a directory"]
    ]
  },
  (flags, { words: [source = "", destination = ""] }) =>
    lazily(async () => {
      const { copy } = await import("./Cp.js")
      return copy({ target: targetOf(flags), source, destination, recursive: flags.recursive, json: flags.json })
    })
)

const doctor = typed(
  ["doctor"],
  {
    summary: "Says what works here, and what to do about what does not.",
    flags: { ...place, json },
    examples: [["exec-server doctor --url ws://127.0.0.1:8080", "on this machine, and on a server"]]
  },
  (flags) =>
    lazily(async () => {
      const { doctor } = await import("./Doctor.js")
      return doctor({ target: targetOf(flags), json: flags.json })
    })
)

const listening = "Where it listens"
const access = "Who may connect"
const logging = "Logs"

const rendezvous = typed(
  ["rendezvous"],
  {
    summary: "Brings clients and executors behind a firewall together.",
    flags: {
      listen: Flag.withDefault(
        Flag.text("listen", "URL", listening, "where to listen: ws://IP:PORT"),
        "ws://127.0.0.1:0"
      ),
      publicUrl: Flag.text(
        "public-url",
        "URL",
        listening,
        "where executors find it, if something stands in front of it: wss://HOST"
      ),
      tlsCert: Flag.text("tls-cert", "FILE", listening, "a certificate in PEM, to serve wss:// with"),
      tlsKey: Flag.text("tls-key", "FILE", listening, "the certificate's key in PEM"),
      executorTokenFile: Flag.text(
        "executor-token-file",
        "FILE",
        access,
        "a file with the token that executors register with, instead of EXEC_SERVER_EXECUTOR_TOKEN",
        { shown: "anybody may" }
      ),
      clientTokenFile: Flag.text(
        "client-token-file",
        "FILE",
        access,
        "a file with the token that clients connect with, instead of EXEC_SERVER_CLIENT_TOKEN",
        { shown: "anybody may" }
      ),
      insecure: Flag.toggle("insecure", access, "listen on a public address although somebody need not authenticate"),
      logFormat: Flag.withDefault(
        Flag.choice("log-format", "FORMAT", ServerConfig.logFormats, logging, "how it logs: text or json"),
        "text"
      ),
      logLevel: Flag.withDefault(
        Flag.choice(
          "log-level",
          "LEVEL",
          ServerConfig.logLevels,
          logging,
          `how much to log on stderr: ${ServerConfig.logLevels.join(", ")}`
        ),
        "info"
      )
    },
    examples: [["exec-server rendezvous --listen ws://127.0.0.1:9000", "without tokens, on this machine alone"]]
  },
  ({ logFormat, logLevel, ...flags }) =>
    Effect.gen(function* () {
      // Servers need not load it.
      const { Rendezvous } = yield* Effect.promise(() => import("../remote/Rendezvous.js"))
      const config = yield* RendezvousConfig.load(flags, process.env)
      yield* Effect.flatMap(Rendezvous, ({ address }) => announce("exec-server rendezvous", address)).pipe(
        Effect.zipRight(Memory.limit),
        Effect.zipRight(Effect.never),
        Effect.provide(Rendezvous.layer(config)),
        Effect.provide(Logging.layer({ logFormat, logLevel }))
      )
    })
)

/** All of them. */
export const all: ReadonlyArray<Command> = [run, ps, attach, logs, kill, cp, doctor, rendezvous]
