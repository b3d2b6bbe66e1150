// The servers under measurement: starts them, reads their figures from /proc, and always ends them.
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import { within } from "./client.mjs"

const live = new Set()
const killGroup = ({ pid }, signal) => {
  try {
    process.kill(-pid, signal)
  } catch {
    // It is gone already.
  }
}

process.on("exit", () => {
  for (const child of live) killGroup(child, "SIGKILL")
})
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(130))

const address = (child) =>
  new Promise((resolve, reject) => {
    let text = ""
    child.stdout.on("data", (bytes) => {
      text = (text + bytes).slice(-4096)
      const [, url] = /^(ws:\/\/\S+)\r?\n/m.exec(text) ?? []
      if (url !== undefined) resolve(url)
    })
    child.once("error", reject)
    child.once("exit", (code) => reject(new Error(`the server ended (${code}) before it said where it listens`)))
  })

/** Starts a server. A server given by URL is already running, and its pid is unknown. */
export const start = async (spec) => {
  if (spec.url !== undefined) return { url: spec.url }
  const [file, ...args] = spec.command
  const startedAt = performance.now()
  // Its own process group: the command line may be a script that starts the server as a child.
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "inherit"], detached: true })
  live.add(child)
  child.once("exit", () => live.delete(child))
  const url = await within(address(child), 30_000, "starting the server")
  return { url, pid: child.pid, child, startupMs: performance.now() - startedAt }
}

/** Ends a server. Fails and kills it if it does not end within fifteen seconds. */
export const stop = async ({ child }) => {
  if (!live.has(child)) return
  const gone = new Promise((resolve) => child.once("exit", resolve))
  killGroup(child, "SIGTERM")
  await within(gone, 15_000, "ending on SIGTERM").finally(() => killGroup(child, "SIGKILL"))
}

/** The processor time of a server without its children, in seconds. */
export const cpuSeconds = ({ pid }) => {
  if (pid === undefined) return undefined
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
  // Fields count from the name, which may contain spaces. Linux counts hundredths of a second.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return (Number(fields[11]) + Number(fields[12])) / 100
}

/** Resident memory in kB, after a pause. */
export const residentKb = async ({ pid }) => {
  await sleep(500)
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1])
}
