/**
 * How a command line is started: by the user's shell, in an environment in which programs neither page nor ask.
 *
 * @since 0.1.0
 */
import { pathToFileURL } from "node:url"
import * as Either from "effect/Either"
import type { StartOptions } from "../client/ExecClient.js"
import type { EnvironmentInfo } from "../protocol/ExecApi.js"
import * as PathUri from "../protocol/PathUri.js"
import type { TerminalSize } from "../protocol/ProcessSchemas.js"

/** The size of a terminal. */
export const size: TerminalSize = { rows: 24, cols: 80 }

/** Variables that no command must see (patterns). */
const secrets = ["EXEC_SERVER_*TOKEN", "CODEX_API_KEY"]

const noPagers = { PAGER: "cat", GIT_PAGER: "cat", GH_PAGER: "cat" }
const locale = { LANG: "C.UTF-8", LC_ALL: "C.UTF-8" }

const withTerminal = { ...noPagers, ...locale, TERM: "xterm-256color" }

const withoutTerminal = {
  ...noPagers,
  ...locale,
  TERM: "dumb",
  NO_COLOR: "1",
  COLORTERM: "",
  CODEX_CI: "1",
  GIT_TERMINAL_PROMPT: "0",
  DEBIAN_FRONTEND: "noninteractive"
}

/** How a command is to be started. */
export interface Start {
  readonly cmd: string
  /** Its working directory: an absolute path. */
  readonly workdir: string
  readonly tty: boolean
  readonly timeoutMs: number | undefined
  readonly login: boolean
}

/** The directory that commands start in. */
export const workdirOf = (info: EnvironmentInfo): string =>
  Either.match(PathUri.parse(info.cwd ?? info.userHomeDir ?? "/"), { onLeft: () => "/", onRight: ({ path }) => path })

/** The request for a command. Without a terminal, stdout and stderr are one pipe: their order is that of the writes. */
export const startOf = (info: EnvironmentInfo, { cmd, workdir, tty, timeoutMs, login }: Start): StartOptions => {
  const shell = [info.shell?.path ?? "/bin/sh", login ? "-lc" : "-c", cmd]
  return {
    argv: tty ? shell : ["/bin/sh", "-c", 'exec "$0" "$@" 2>&1', ...shell],
    cwd: pathToFileURL(workdir).href,
    env: tty ? withTerminal : withoutTerminal,
    envPolicy: { inherit: "all", ignoreDefaultExcludes: true, exclude: secrets, set: {}, includeOnly: [] },
    tty,
    pipeStdin: !tty,
    ...(timeoutMs === undefined ? {} : { timeoutMs })
  }
}
