/** Genuine programs and libraries, installed from npm once. */
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

/** Some are hundreds of megabytes: what a download may take, in milliseconds. */
export const installTimeoutMs = 900_000

const cache =
  process.env["XDG_CACHE_HOME"] === undefined
    ? fileURLToPath(new URL("../../../node_modules/.cache/", import.meta.url))
    : join(process.env["XDG_CACHE_HOME"], "exec-server")

/** The folder of what a version of a package needs, itself included. */
export const folderOf = (name: string, version: string): string =>
  join(cache, name.split("/").at(-1) ?? name, version, "node_modules")

/** Installs a version of a package, unless that has been done. */
export const install = async (name: string, version: string): Promise<void> => {
  const folder = folderOf(name, version)
  if (existsSync(join(folder, name))) return
  const destination = dirname(folder)
  mkdirSync(dirname(destination), { recursive: true })
  const draft = mkdtempSync(`${destination}-`)
  const args = ["install", "--prefix", draft, "--no-save", "--no-audit", "--no-fund", `${name}@${version}`]
  try {
    await promisify(execFile)("npm", args, { cwd: draft, timeout: installTimeoutMs })
    // At once, so that what an interrupted installation leaves is never taken for a whole one.
    renameSync(draft, destination)
  } finally {
    rmSync(draft, { recursive: true, force: true })
  }
}
