/** Servers with a mount whose file system does not answer, on machines that can mount one. */
import { execFileSync, spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { eventually, isAlive } from "./servers.js"

const source = fileURLToPath(new URL("../fixtures/deadMount.c", import.meta.url))

/** Whether requests to the file system are read and never answered (their callers cannot be killed), or left unread. */
export type Mode = "read" | "unread"

/** A mount that is dead for programs started `under` this command line. */
export interface DeadMount {
  /** A folder on a live file system, and the dead mount point in it. */
  readonly folder: string
  readonly mount: string
  /** For `launch`. */
  readonly under: string
  /** Makes the file system fail from now on, which releases its callers. */
  readonly abort: Effect.Effect<void>
}

const end = (pidFile: string) =>
  Effect.suspend(() => {
    if (!existsSync(pidFile)) return Effect.void
    const pid = Number(readFileSync(pidFile, "utf8"))
    try {
      process.kill(pid, "SIGKILL")
    } catch {
      return Effect.void
    }
    return eventually("the dead file system has ended", () => !isAlive(pid))
  })

/** Makes a dead mount in its own mount namespace. It ends with the scope. */
export const deadMount = (mode: Mode): Effect.Effect<DeadMount, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const folder = mkdtempSync(join(tmpdir(), "dead-mount-"))
        execFileSync("cc", ["-o", join(folder, "deadMount"), source])
        mkdirSync(join(folder, "mount"))
        return folder
      }),
      (folder) =>
        Effect.zipRight(
          end(join(folder, "pid")),
          Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
        )
    ),
    (folder) => ({
      folder,
      mount: join(folder, "mount"),
      under: `exec ${folder}/deadMount ${mode} ${folder}/mount ${folder}/pid "$@"`,
      abort: end(join(folder, "pid"))
    })
  )

/** Why no such mount can be made here; undefined if it can. */
export const noDeadMount: string | undefined = (() => {
  if (process.platform !== "linux" || !existsSync("/dev/fuse")) return "there is no /dev/fuse"
  const folder = mkdtempSync(join(tmpdir(), "dead-mount-"))
  try {
    const [program, mount, pid] = ["deadMount", "mount", "pid"].map((name) => join(folder, name)) as [
      string,
      string,
      string
    ]
    if (spawnSync("cc", ["-o", program, source]).status !== 0) return "there is no C compiler"
    mkdirSync(mount)
    const { status, stderr } = spawnSync(program, ["unread", mount, pid, "true"])
    if (status !== 0) return `it cannot be mounted (${stderr.toString().trim()})`
    process.kill(Number(readFileSync(pid, "utf8")), "SIGKILL")
    return undefined
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})()
