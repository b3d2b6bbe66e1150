/**
 * The description of the machine that clients get.
 *
 * @since 0.1.0
 */
import { homedir, tmpdir, userInfo } from "node:os"
import { basename } from "node:path"
import { pathToFileURL } from "node:url"
import * as Context from "effect/Context"
import * as Package from "../internal/Package.js"
import type { EnvironmentInfo } from "../protocol/ExecApi.js"

const loginShell = (): string => {
  try {
    // A user without an entry in the password database makes this throw.
    return userInfo().shell || process.env["SHELL"] || "/bin/sh"
  } catch {
    return process.env["SHELL"] || "/bin/sh"
  }
}

const uri = (path: string) => pathToFileURL(path).href

/** Read anew at each call. Capabilities of the original are named only when they are served. */
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
 * Describes the machine; provide another value to describe another one.
 *
 * @category tags
 */
export class HostInfo extends Context.Reference<HostInfo>()("exec-server/HostInfo", {
  defaultValue: () => ({ describe })
}) {}
