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

const uri = (path: string) => pathToFileURL(path).href

/** The original's capabilities are listed only if supported. */
const read = (): EnvironmentInfo => {
  const shell = readShell()
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

let known: EnvironmentInfo | undefined

/** Read once: reading it is a fifth of the work of `initialize`. */
const describe = (): EnvironmentInfo => {
  known ??= read()
  return known
}

/**
 * Describes this machine. Provide another value to describe another one.
 *
 * @category tags
 */
export class HostInfo extends Context.Reference<HostInfo>()("exec-server/HostInfo", {
  defaultValue: () => ({ describe })
}) {}
