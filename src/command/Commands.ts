/**
 * The commands beside the server: their flags. What they do is loaded when one of them is called: the server must not
 * wait for it.
 *
 * @since 0.1.0
 */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { LocalSignals } from "./LocalSignals.js"
import type { Target } from "./Target.js"

const text = (name: string, placeholder: string, description: string) =>
  Options.text(name).pipe(
    Options.withPseudoName(placeholder),
    Options.withDescription(description),
    Options.optional,
    Options.map(Option.getOrUndefined)
  )

const flag = (name: string, description: string) => Options.boolean(name).pipe(Options.withDescription(description))

const json = flag("json", "print JSON, a line for each item, instead of text for people")

const place = {
  url: text(
    "url",
    "URL",
    "the server: ws://, wss://, unix:///PATH, or relay://HOST:PORT/ENVIRONMENT; or EXEC_SERVER_URL; default: this machine"
  ),
  env: text("env", "ID", "an environment of environments.toml, instead of --url"),
  environments: text("environments", "FILE", "another file instead of environments.toml in CODEX_HOME (~/.codex)"),
  tokenFile: text("token-file", "FILE", "a file with the bearer token to show to the server; or EXEC_SERVER_TOKEN")
}

const session = text("session", "ID", "the session to take up again, as `run --detach` printed it")

/** The flags of a command that say where. */
type Place = { readonly [K in keyof Target]?: Target[K] }

const targetOf = ({ url, env, environments, tokenFile, session }: Place): Target => ({
  url,
  env,
  environments,
  tokenFile,
  session
})

const processArg = Args.text({ name: "ID" }).pipe(Args.withDescription("the id of a process of the session"))

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60000, h: 3600000 }

/** `90`, `90s`, `1.5m`, `200ms`: in milliseconds. */
export const parseDuration = (given: string): Option.Option<number> => {
  const [, number, unit = "s"] = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(given) ?? []
  const ms = Math.round(Number(number) * (unitMs[unit] ?? 0))
  return number !== undefined && ms >= 1 && ms <= 2 ** 31 - 1 ? Option.some(ms) : Option.none()
}

/** Runs what a module exports, with the signals of this process. */
const lazily = <A, E>(load: () => Promise<Effect.Effect<A, E, LocalSignals>>) =>
  Effect.gen(function* () {
    const [{ provide }, command] = yield* Effect.promise(() => Promise.all([import("./LocalSignals.js"), load()]))
    return yield* provide(command)
  })

/** All of them; `rest` is what came behind `--` on the command line. */
export const make = (rest: ReadonlyArray<string>) => {
  const run = Command.make(
    "run",
    {
      ...place,
      session,
      tty: flag("tty", "give it a terminal, and this one's keys, size and signals").pipe(Options.withAlias("t")),
      cwd: text("cwd", "DIR", "the directory to run in; default: this one, or the server's own"),
      timeout: Options.text("timeout").pipe(
        Options.withPseudoName("TIME"),
        Options.withDescription("end it after this time: 90, 90s, 1.5m, 200ms"),
        Options.filterMap(parseDuration, "--timeout must be a time above 0, such as 90, 90s, 1.5m or 200ms"),
        Options.optional,
        Options.map(Option.getOrUndefined)
      ),
      set: Options.text("set").pipe(
        Options.withPseudoName("NAME=VALUE"),
        Options.withDescription("a variable to set, on top of those of the server; can be given several times"),
        Options.repeated
      ),
      detach: flag("detach", "leave it running, and print the id of the session to come back to").pipe(
        Options.withAlias("d")
      ),
      id: text("id", "ID", "its id in the session; default: p1, p2, ..."),
      json
    },
    ({ timeout, ...flags }) =>
      lazily(async () => {
        const { run } = await import("./Run.js")
        return run({ ...flags, timeoutMs: timeout, target: targetOf(flags), argv: rest })
      })
  ).pipe(
    Command.withDescription(
      "Runs a command as if it were here: exec-server run [FLAGS] -- COMMAND. Ends with its status; 128+n for a signal."
    )
  )

  const ps = Command.make("ps", { ...place, session, json }, (flags) =>
    lazily(async () => {
      const { ps } = await import("./Ps.js")
      return ps({ target: targetOf(flags), json: flags.json })
    })
  ).pipe(Command.withDescription("Lists the processes of a session."))

  const attach = Command.make("attach", { ...place, session, id: processArg }, (flags) =>
    lazily(async () => {
      const { attach } = await import("./Attach.js")
      return attach({ target: targetOf(flags), id: flags.id })
    })
  ).pipe(
    Command.withDescription("Takes up a process that was left running; ^] leaves it again where it has a terminal.")
  )

  const logs = Command.make(
    "logs",
    {
      ...place,
      session,
      follow: flag("follow", "go on until the process ends").pipe(Options.withAlias("f")),
      json,
      id: processArg
    },
    (flags) =>
      lazily(async () => {
        const { logs } = await import("./Logs.js")
        return logs({ target: targetOf(flags), id: flags.id, follow: flags.follow, json: flags.json })
      })
  ).pipe(Command.withDescription("Prints the output of a process that the server retains."))

  const kill = Command.make(
    "kill",
    {
      ...place,
      session,
      signal: Options.text("signal").pipe(
        Options.withAlias("s"),
        Options.withPseudoName("NAME"),
        Options.withDescription("what to send to the process and all its descendants; default SIGTERM"),
        Options.withDefault("SIGTERM")
      ),
      id: processArg
    },
    (flags) =>
      lazily(async () => {
        const { kill } = await import("./Kill.js")
        return kill({ target: targetOf(flags), id: flags.id, signal: flags.signal })
      })
  ).pipe(Command.withDescription("Sends a signal to a process of a session."))

  const copy = Command.make(
    "cp",
    {
      ...place,
      recursive: flag("recursive", "copy a directory with all that is in it").pipe(Options.withAlias("r")),
      json,
      source: Args.text({ name: "SOURCE" }).pipe(Args.withDescription("what to copy; :PATH is on the server")),
      destination: Args.text({ name: "DESTINATION" }).pipe(Args.withDescription("where to; :PATH is on the server"))
    },
    (flags) =>
      lazily(async () => {
        const { copy } = await import("./Copy.js")
        const { source, destination, recursive, json } = flags
        return copy({ target: targetOf(flags), source, destination, recursive, json })
      })
  ).pipe(Command.withDescription("Copies files to a server, and back: exec-server cp FILE :PATH."))

  const doctor = Command.make("doctor", { ...place, json }, (flags) =>
    lazily(async () => {
      const { doctor } = await import("./Doctor.js")
      return doctor({ target: targetOf(flags), json: flags.json })
    })
  ).pipe(Command.withDescription("Says what works here, and what to do about what does not."))

  return [run, ps, attach, logs, kill, copy, doctor] as const
}
