/** `exec-server config print`, and the help: every setting, its value, and where it comes from. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TOML from "smol-toml"
import * as ServerConfig from "../../src/server/ServerConfig.js"
import { command } from "../support/command.js"
import { folder } from "../support/exposed.js"
import { type LaunchOptions, launch } from "../support/servers.js"

/** What a command prints before it ends well. */
const prints = ({ args = [], env = {} }: LaunchOptions) =>
  Effect.map(command(args, { env }), ({ code, stdout, stderr }) => {
    assert.strictEqual(code, 0, stderr)
    assert.strictEqual(stderr, "")
    return stdout
  })

describe("config print", () => {
  it.scopedLive("has every setting with its value and its source", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "config.toml")
      writeFileSync(path, 'maxSessions = 5\nmaxConnections = 6\nallowOrigin = ["https://a.example"]\n')
      const text = yield* prints({
        args: ["--max-sessions", "3", "config", "print", "--config", path, "--name=n # x", "--log-level", "debug"],
        env: { EXEC_SERVER_MAX_SESSIONS: "4", EXEC_SERVER_MAX_CONNECTIONS: "7", EXEC_SERVER_LOG_LEVEL: "error" }
      })
      for (const line of [
        "maxSessions = 3 # flag --max-sessions",
        "maxConnections = 7 # environment EXEC_SERVER_MAX_CONNECTIONS",
        `allowOrigin = [ "https://a.example" ] # file ${path}`,
        'logLevel = "debug" # flag --log-level',
        'name = "n # x" # flag --name',
        "insecure = false # default",
        "# wsAuth is not set"
      ]) {
        assert.include(text.split("\n"), line)
      }
      for (const key of ServerConfig.keys) assert.match(text, new RegExp(`^(# )?${key} `, "m"))
    })
  )

  it.scopedLive("is itself a configuration file", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "config.toml")
      writeFileSync(path, yield* prints({ args: ["config", "print", "--max-sessions", "3", "--insecure"] }))
      assert.deepInclude(TOML.parse(yield* prints({ args: ["config", "print"], env: { EXEC_SERVER_CONFIG: path } })), {
        maxSessions: 3,
        insecure: true,
        maxConnections: 1024
      })
    })
  )

  it.scopedLive("shows no secrets", () =>
    Effect.gen(function* () {
      const digest = "0123456789abcdef".repeat(4)
      const text = yield* prints({
        args: ["config", "print", "--remote", "https://user:hunter2@h.example/p?token=hunter2"],
        env: { EXEC_SERVER_WS_TOKEN_SHA256: digest, EXEC_SERVER_OTLP_ENDPOINT: "http://hunter2@127.0.0.1:4318" }
      })
      assert.notInclude(text, "hunter2")
      assert.notInclude(text, digest)
      assert.include(text, 'wsTokenSha256 = "********" # environment EXEC_SERVER_WS_TOKEN_SHA256')
      assert.include(text, 'remote = "https://********@h.example/p?token=********" # flag --remote')
    })
  )

  it.scopedLive("refuses what the server would refuse to read", () =>
    Effect.gen(function* () {
      const running = yield* launch({ args: ["config", "print", "--max-sessions", "many"] })
      assert.strictEqual(yield* running.exit, 2)
      assert.match(running.stderr(), /^Error: --max-sessions: "many" is not a whole number/)
    })
  )
})

describe("--help", () => {
  it.scopedLive("has every setting with its default, its variable and its key", () =>
    Effect.gen(function* () {
      const help = (yield* prints({ args: ["--help"] })).replace(/\s+/g, " ")
      for (const key of ServerConfig.keys) {
        const flag = `--${ServerConfig.flagName(key)}`
        assert.include(help, ` ${flag} `)
        const { shown, help: said, choices } = ServerConfig.settings[key]
        // What is off, or not there, until it is given has no default to tell.
        const isNothing = shown === "none" && !choices.includes(shown)
        const value = ServerConfig.isSwitch(key) || isNothing ? "" : `default ${shown}; `
        assert.include(help, `${said} (${value}${ServerConfig.variableName(key)})`)
      }
      assert.include(help, "(EXEC_SERVER_CONFIG)")
      assert.include(help, "in camel case, a key of the configuration file: --max-sessions, EXEC_SERVER_MAX_SESSIONS")
    })
  )
})
