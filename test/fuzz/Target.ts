/** The built server under fire, and what can be seen of it from outside. */
import { type ChildProcess, spawn } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { resolve } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"

/** The longest message that servers under fire take, in bytes: small enough to be exceeded often. */
export const maxMessageBytes = 1_048_576

/** What keeps a run small: sessions and processes that have ended are forgotten soon. */
const flags = [
  ...["--max-message-bytes", String(maxMessageBytes)],
  ...["--detached-session-ttl-ms", "200"],
  ...["--closed-process-retention-ms", "100"],
  ...["--handshake-timeout-ms", "60000"]
]

/** No file longer than this many blocks of 512 bytes: what is written at a great offset must not fill the disk. */
const fileBlocks = 20_000

/** One running server. */
export interface Target {
  readonly child: ChildProcess
  readonly pid: number
  readonly stderr: () => string
  /** Exit code or signal. */
  readonly exit: Promise<number | string>
}

/** Waits for something to come true; fails with words that say what did not. */
export const eventually = async (what: string, holds: () => boolean, withinMs = 20_000): Promise<void> => {
  const deadline = Date.now() + withinMs
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`never came true: ${what}`)
    await sleep(10)
  }
}

/** Starts a server, which does not outlive this program. */
export const start = (args: ReadonlyArray<string>, env: Record<string, string> = {}): Target => {
  const command = [process.execPath, resolve("dist/bin.js"), ...args, ...flags]
  const child = spawn("/bin/sh", ["-c", `ulimit -f ${fileBlocks}; exec "$@"`, "sh", ...command], {
    stdio: ["pipe", "pipe", "pipe"],
    env: { PATH: "/usr/bin:/bin", HOME: "/", ...env }
  })
  let stderr = ""
  child.stderr.on("data", (chunk) => {
    stderr = (stderr + chunk).slice(-65536)
  })
  child.stdin.on("error", () => {})
  const kill = () => child.kill("SIGKILL")
  process.once("exit", kill)
  const exit = new Promise<number | string>((resolve) => {
    child.once("exit", (code, signal) => {
      process.off("exit", kill)
      resolve(signal ?? code ?? -1)
    })
  })
  return { child, pid: child.pid ?? -1, stderr: () => stderr, exit }
}

/** Ends a server, which must succeed. */
export const stop = async ({ child, exit, stderr }: Target): Promise<void> => {
  child.kill("SIGTERM")
  const code = await Promise.race([exit, sleep(15_000, "it does not end", { ref: false })])
  if (code === 0) return
  child.kill("SIGKILL")
  throw new Error(`the server ended with ${code}; stderr: ${stderr().slice(-4000)}`)
}

/** The first line that a server prints. */
export const address = ({ child, exit, stderr }: Target): Promise<string> =>
  new Promise((resolve, reject) => {
    child.stdout?.once("data", (chunk: Buffer) => resolve(chunk.toString().trim()))
    void exit.then((code) => reject(new Error(`the server ended (${code}) at its start: ${stderr()}`)))
  })

/** Open descriptors. */
export const descriptors = ({ pid }: Target): number => readdirSync(`/proc/${pid}/fd`).length

/** Resident memory in MB: as it is, or at its peak. */
export const residentMb = ({ pid }: Target, which: "VmRSS" | "VmHWM" = "VmRSS"): number =>
  Number(new RegExp(`${which}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024

/** Processes, zombies included, that a server has started and that are not its guard. */
export const children = ({ pid }: Target): ReadonlyArray<number> =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((other) => {
      try {
        const stat = readFileSync(`/proc/${other}/stat`, "latin1")
        const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1])
        return parent === pid && !readFileSync(`/proc/${other}/cmdline`, "latin1").startsWith("exec-server-guard")
      } catch {
        return false
      }
    })
