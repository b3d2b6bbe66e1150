/**
 * Starts the thread of the screens. Nothing of it is loaded before.
 *
 * @since 0.1.0
 */
import { createRequire } from "node:module"
import { join } from "node:path"
import * as Context from "effect/Context"
import * as Package from "../internal/Package.js"
import type { Reply, Request } from "./ScreenMessages.js"

const load = createRequire(import.meta.url)

const program = join(Package.root, "dist/screenWorker.js")

/** The most memory of the thread, in MiB: `maxScreens` of the largest terminals need about half of it. */
const maxHeapMb = 512

/** A running thread. */
export interface Host {
  readonly post: (request: Request) => void
  readonly end: () => void
}

/** What a thread reports. */
export interface HostEvents {
  readonly onReply: (reply: Reply) => void
  /** It has ended by itself. */
  readonly onEnd: (reason: string) => void
}

/** Starts a thread. */
export type StartHost = (events: HostEvents) => Host

const start: StartHost = ({ onReply, onEnd }) => {
  const { Worker } = load("node:worker_threads") as typeof import("node:worker_threads")
  const worker = new Worker(program, {
    env: {},
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: maxHeapMb }
  })
  // It must not keep the server alive.
  worker.unref()
  let over = false
  const end = (reason: string) => {
    if (over) return
    over = true
    onEnd(reason)
  }
  worker.on("message", (reply: Reply) => {
    if (!over) onReply(reply)
  })
  worker.on("error", (error) => end(error instanceof Error ? error.message : String(error)))
  worker.on("exit", (code) => end(`it exited with ${code}`))
  return {
    post: (request) => worker.postMessage(request),
    end: () => {
      over = true
      void worker.terminate()
    }
  }
}

/** How the thread is started. */
export class ScreenHost extends Context.Reference<ScreenHost>()("exec-server/ScreenHost", {
  defaultValue: (): StartHost => start
}) {}
