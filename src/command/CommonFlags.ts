/**
 * What several commands share: flags that select the server and the session, and how implementations are loaded.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Flag from "./Flag.js"
import type { LocalSignals } from "./LocalSignals.js"
import type { Target } from "./Target.js"
import * as UrlVariable from "./UrlVariable.js"

/** A heading of flags in the help. */
export const where = "Which server"

/** A heading of flags in the help. */
export const how = "How it runs"

/** A heading of flags in the help. */
export const what = "What it does"

/** A heading of flags in the help. */
export const output = "Output"

/** The flag for output that programs read. */
export const json = Flag.toggle("json", output, "print JSON, a line for each item, instead of text for people")

/** The flags that select the server. */
export const serverFlags = {
  url: Flag.text(
    "url",
    "URL",
    where,
    "the server: ws://, wss://, unix:///PATH, or relay:// or noise://HOST:PORT/ENVIRONMENT",
    {
      defaultText: "this machine",
      variable: UrlVariable.name
    }
  ),
  env: Flag.text("env", "ID", where, "an environment of environments.toml, instead of --url"),
  environments: Flag.text("environments", "FILE", where, "the file with the environments", {
    defaultText: "environments.toml in CODEX_HOME, ~/.codex"
  }),
  tokenFile: Flag.text("token-file", "FILE", where, "a file with the bearer token for the server", {
    defaultText: "the token in EXEC_SERVER_TOKEN, if there is one"
  }),
  insecure: Flag.toggle("insecure", where, "send the token over plain ws:// to another machine as well")
}

/** The flag that selects the session. */
export const session = Flag.text("session", "ID", where, "the session to resume, as printed by `run --detach`")

/** The flags of a command that select the server and the session. */
type TargetFlags = { readonly [K in keyof Target]?: Target[K] }

/** What these flags select. */
export const targetOf = ({
  url,
  env,
  environments,
  tokenFile,
  insecure = false,
  session,
  labels
}: TargetFlags): Target => ({
  url,
  env,
  environments,
  tokenFile,
  insecure,
  session,
  labels
})

/** Loads a command's module and runs it, with the signals of this process. */
export const lazily = <A, E>(load: () => Promise<Effect.Effect<A, E, LocalSignals>>) =>
  Effect.gen(function* () {
    const [{ provide }, command] = yield* Effect.promise(() => Promise.all([import("./LocalSignals.js"), load()]))
    yield* provide(command)
  })
