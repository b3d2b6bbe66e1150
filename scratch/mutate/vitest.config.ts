import { defineConfig } from "vitest/config"
import { type PoolOptions, type PoolWorker, ThreadsPoolWorker, type Vite } from "vitest/node"

type Listener = Parameters<PoolWorker["on"]>[1]

/** The thread shared by all runs. */
let thread: ThreadsPoolWorker | undefined

/**
 * A worker whose thread is reused by all runs: importing the modules again for each mutant would take longer than most
 * tests. Vitest imports the test files again and keeps all other modules.
 */
const createPoolWorker = (options: PoolOptions): PoolWorker => {
  const listeners: Array<readonly [event: string, listener: Listener]> = []
  const current = () => {
    thread ??= new ThreadsPoolWorker(options)
    return thread
  }
  return {
    name: "lasting",
    on: (event, listener) => {
      listeners.push([event, listener])
      current().on(event, listener)
    },
    off: (event, listener) => current().off(event, listener),
    send: (message) => {
      if (message.type !== "stop") return current().send(message)
      // A stopped thread no longer answers.
      const stopped = { __vitest_worker_response__: true, type: "stopped" }
      for (const [event, listener] of [...listeners]) if (event === "message") listener(stopped)
    },
    deserialize: (data) => data,
    start: () => current().start(),
    stop: async () => {
      for (const [event, listener] of listeners) current().off(event, listener)
    }
  }
}

/** Stryker selects the thread pool on its command line, which overrides the configuration. */
const lasting: Vite.Plugin = {
  name: "lasting",
  configureVitest: ({ project }) => {
    project.config.pool = "lasting"
    project.config.poolRunner = { name: "lasting", createPoolWorker }
  }
}

export default defineConfig({
  plugins: [lasting],
  test: {
    include: JSON.parse(process.env.MUTATE_TESTS ?? "[]"),
    isolate: false,
    testTimeout: Number(process.env.MUTATE_TIMEOUT),
    hookTimeout: 5000,
    env: { MUTATE: "1" }
  }
})
