/**
 * Where control sockets are: in a folder that only this user can enter, one for each server, with the pid as its name.
 *
 * @since 0.1.0
 */
import { lstatSync, mkdirSync, readdirSync } from "node:fs"
import { isAbsolute, join } from "node:path"

/** The permission bits of group and others. */
const others = 0o077

/** The user of this process; 0 where there are none. */
const ownUid = (): number => process.geteuid?.() ?? 0

/** The folder: in `XDG_RUNTIME_DIR`, or else in /tmp. */
export const folder = (variables: NodeJS.ProcessEnv): string => {
  const { XDG_RUNTIME_DIR: runtime = "" } = variables
  return isAbsolute(runtime) ? join(runtime, "exec-server") : `/tmp/exec-server-${ownUid()}`
}

/** The socket of a server in the folder. */
export const socketOf = (folder: string, pid: number): string => join(folder, `${pid}.sock`)

/** Why the folder cannot be trusted; undefined if it can. In /tmp, somebody else may have made it. */
export const faultOf = (path: string): string | undefined => {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return undefined
  if (!found.isDirectory()) return `${path} is not a folder`
  if (found.uid !== ownUid()) return `${path} belongs to another user`
  return (found.mode & others) === 0 ? undefined : `others may enter ${path}: run chmod 700 ${path}`
}

/** Makes the folder. Throws like node:fs; or an error with a sentence, if it cannot be trusted. */
export const make = (path: string): void => {
  mkdirSync(path, { recursive: true, mode: 0o700 })
  const fault = faultOf(path)
  if (fault !== undefined) throw new Error(fault)
}

/** The pids of the sockets in the folder, dead ones included. */
export const pidsIn = (path: string): ReadonlyArray<number> => {
  if (faultOf(path) !== undefined) return []
  try {
    return readdirSync(path)
      .flatMap((name) => /^([1-9]\d*)\.sock$/.exec(name)?.[1] ?? [])
      .map(Number)
  } catch {
    return []
  }
}
