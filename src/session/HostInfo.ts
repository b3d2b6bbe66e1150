/**
 * The description of this machine for clients.
 *
 * @since 0.1.0
 */
import { homedir, tmpdir, userInfo } from "node:os"
import { basename } from "node:path"
import { pathToFileURL } from "node:url"
import * as Context from "effect/Context"
import * as Package from "../internal/Package.js"
import type { EnvironmentInfo } from "../protocol/ExecApi.js"

const readShell = (): string => {
  try {
    // Throws for a user without an entry in the password database.
    return userInfo().shell || process.env["SHELL"] || "/bin/sh"
  } catch {
    return process.env["SHELL"] || "/bin/sh"
  }
}

let shell: string | undefined

/** The login shell. Read once: looking it up is a sixth of the work of `initialize`. */
const loginShell = (): string => {
  shell ??= readShell()
  return shell
}

const uri = (path: string) => pathToFileURL(path).href

/** Read at each call, except the shell. The original's capabilities are listed only if supported. */
const describe = (): EnvironmentInfo => {
  const shell = loginShell()
  const temporary = process.env["TMPDIR"]
  return {
    shell: { name: basename(shell), path: shell },
    executorVersion: Package.version,
    cwd: uri(process.cwd()),
    userHomeDir: uri(homedir()),
    platformOs: process.platform === "darwin" ? "macos" : process.platform,
    prependPathDirs: [],
    temporaryDirectories: temporary === undefined || temporary === "" ? [] : [uri(temporary)],
    tempDir: uri(tmpdir()),
    capabilities: { fsWatchMissing: true, httpHeaderEnvVars: true }
  }
}

/**
 * Describes this machine. Provide another value to describe another one.
 *
 * @category tags
 */
export class HostInfo extends Context.Reference<HostInfo>()("exec-server/HostInfo", {
  defaultValue: () => ({ describe })
}) {}
