/** The secrets in the environment of a server or a rendezvous: no client and no process gets them. */
import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { command, nowhere } from "../support/command.js"
import { rendezvous } from "../support/relay.js"
import { connected, eventually } from "../support/servers.js"

const env = {
  EXEC_SERVER_TOKEN: "own-secret-1",
  EXEC_SERVER_REMOTE_TOKEN: "own-secret-2",
  CODEX_API_KEY: "own-secret-3",
  TEST_VISIBLE: "visible"
}

describe.runIf(process.platform === "linux")("the server's secrets", () => {
  it.scopedLive("are not in the environment of its children, nor in what /proc shows of its own", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connected({ env })
      const envPolicy = { inherit: "all", ignoreDefaultExcludes: true, exclude: [], set: {}, includeOnly: [] }
      const script = `env; tr '\\0' '\\n' < /proc/$PPID/environ; tr '\\0' '\\n' < /proc/${server.child.pid}/environ`
      yield* client.sh("p", script, { envPolicy })
      assert.strictEqual((yield* client.closed("p")).exitCode, 0)
      const output = client.output("p", "stdout").toString()
      assert.include(output, "TEST_VISIBLE=visible")
      assert.include(output, "EXEC_SERVER_TOKEN=\n")
      assert.notInclude(output, "own-secret")
    })
  )
})

describe.runIf(process.platform === "linux")("the secrets of a rendezvous", () => {
  it.scopedLive("are not in what /proc shows of its environment", () =>
    Effect.gen(function* () {
      const variables = {
        EXEC_SERVER_EXECUTOR_TOKEN: "own-secret-1",
        EXEC_SERVER_CLIENT_SECRET: `own-secret-2${"x".repeat(32)}`,
        TEST_VISIBLE: "visible"
      }
      const { pid } = yield* rendezvous({ env: variables })
      const shown = () => readFileSync(`/proc/${pid}/environ`, "latin1")
      yield* eventually("it is shown", () => shown().includes("TEST_VISIBLE=visible"))
      assert.notInclude(shown(), "own-secret")
      assert.include(shown(), "EXEC_SERVER_EXECUTOR_TOKEN=\0")
    })
  )
})

describe.runIf(process.platform === "linux")("the secrets of a command that runs on this machine", () => {
  it.scopedLive("are not in what /proc shows of its environment", () =>
    Effect.gen(function* () {
      const script = "tr '\\0' '\\n' < /proc/$PPID/environ"
      const ended = yield* command(["run", "--", "sh", "-c", script], { env: { ...nowhere, ...env } })
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.include(ended.stdout, "TEST_VISIBLE=visible")
      assert.notInclude(ended.stdout, "own-secret")
    })
  )
})
