/** `environments.toml` and the URL in a variable: what they mean, and every way in which they can be wrong. */
import { writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as EnvironmentConfig from "../../src/environment/EnvironmentConfig.js"
import { failureOf } from "../support/fake.js"
import { directory } from "../support/files.js"

const parse = (content: string, folder: string | undefined = "/config") =>
  EnvironmentConfig.parse(content, "environments.toml", folder)

const entry = (lines: string) => `[[environments]]\n${lines}`

describe("environments.toml", () => {
  it("a file that uses everything", () => {
    const config = Either.getOrThrow(
      parse(`
        default = "box"
        include_local = false
        [[environments]]
        id = "box"
        url = "  wss://box.example:443/path "
        connect_timeout_sec = 1.5
        initialize_timeout_sec = 2
        token_file = "token"
        [[environments]]
        id = "ssh_Box-1"
        program = " ssh "
        args = ["box", "exec-server"]
        cwd = "sub"
        exec_enabled = false
        filesystem_enabled = false
        [environments.env]
        NAME = "value"
      `)
    )
    assert.deepStrictEqual(config, {
      defaultId: "box",
      includeLocal: false,
      initial: "all",
      entries: [
        {
          id: "box",
          execEnabled: true,
          filesystemEnabled: true,
          initializeTimeoutMs: 2000,
          target: EnvironmentConfig.Target.Url({
            url: "wss://box.example:443/path",
            connectTimeoutMs: 1500,
            tokenFile: "/config/token",
            insecure: false
          })
        },
        {
          id: "ssh_Box-1",
          execEnabled: false,
          filesystemEnabled: false,
          initializeTimeoutMs: undefined,
          target: EnvironmentConfig.Target.Program({
            command: "ssh",
            args: ["box", "exec-server"],
            env: { NAME: "value" },
            cwd: "/config/sub"
          })
        }
      ]
    })
  })

  it("an empty file is this machine; the default", () => {
    const defaults = (content: string) => {
      const { includeLocal, defaultId } = Either.getOrThrow(parse(content))
      return [includeLocal, defaultId]
    }
    assert.deepStrictEqual(defaults(""), [true, "local"])
    assert.deepStrictEqual(defaults("include_local = false"), [false, undefined])
    assert.deepStrictEqual(defaults('default = "None"'), [true, undefined])
    assert.deepStrictEqual(defaults('default = "local"'), [true, "local"])
    assert.deepStrictEqual(defaults(`default = " x "\n${entry('id = "x"\nurl = "relay://host:1/e"')}`), [true, "x"])
    assert.deepStrictEqual(defaults(entry('id = "x"\nurl = "unix:///socket"')), [true, "local"])
  })

  const long = "x".repeat(65)
  const url = 'url = "ws://h:1"'
  const cases: ReadonlyArray<readonly [content: string, detail: string | RegExp]> = [
    [entry(`id = ""\n${url}`), "environment id cannot be empty"],
    [entry(`id = " x"\n${url}`), "environment id ` x` must not contain surrounding whitespace"],
    [entry(`id = "local"\n${url}`), "environment id `local` is reserved"],
    [entry(`id = "NONE"\n${url}`), "environment id `NONE` is reserved"],
    [entry(`id = "${long}"\n${url}`), `environment id \`${long}\` cannot be longer than 64 characters`],
    [entry(`id = "a.b"\n${url}`), "environment id `a.b` must contain only ASCII letters, numbers, '-' or '_'"],
    [`${entry(`id = "x"\n${url}`)}\n${entry(`id = "x"\n${url}`)}`, "environment id `x` is duplicated"],
    [entry('id = "x"'), "environment `x` must set exactly one of url or program"],
    [entry(`id = "x"\nprogram = "p"\n${url}`), "environment `x` must set exactly one of url or program"],
    [entry(`id = "x"\nargs = []\n${url}`), "environment `x` args, env, and cwd require program"],
    [entry(`id = "x"\ncwd = "/"\n${url}`), "environment `x` args, env, and cwd require program"],
    [entry(`id = "x"\n${url}\n[environments.env]\nA = "b"`), "environment `x` args, env, and cwd require program"],
    [entry('id = "x"\nprogram = "p"\nconnect_timeout_sec = 1'), "environment `x` connect_timeout_sec requires url"],
    [entry('id = "x"\nprogram = "p"\ntoken_file = "t"'), "environment `x` token_file requires url"],
    [entry('id = "x"\nprogram = "p"\ninsecure = true'), "environment `x` insecure requires url"],
    [entry('id = "x"\nprogram = " "'), "environment `x` program cannot be empty"],
    [entry('id = "x"\nurl = " "'), "environment url cannot be empty"],
    [
      entry('id = "x"\nurl = "http://h"'),
      "environment url `http://h` must use ws:// or wss://, or unix:///, noise://, noises://, relay:// or relays://"
    ],
    [
      entry('id = "x"\nurl = "http://u:p@h/?t=s"'),
      "environment url `http://h/` must use ws:// or wss://, or unix:///, noise://, noises://, relay:// or relays://"
    ],
    [entry('id = "x"\nurl = "ws://"'), /^environment url `ws:\/\/` is invalid: /],
    [entry('id = "x"\nurl = "ws://h:99999"'), /^environment url `ws:\/\/h:99999` is invalid: /],
    ['default = " "', "default environment id cannot be empty"],
    ['default = "x"', "default environment `x` is not configured"],
    ['default = "local"\ninclude_local = false', "default environment `local` is not configured"],
    ["default = ", /^failed to parse environment config `environments.toml`: ./],
    ["default = 1", "failed to parse environment config `environments.toml`: `default` must be a string"],
    [
      "bogus = 1",
      "failed to parse environment config `environments.toml`: unknown field `bogus`, expected one of `default`, " +
        "`include_local`, `environments`"
    ],
    [entry(`id = "x"\n${url}\ntoString = 1`), /: unknown field `toString`, expected one of `id`, `url`, /],
    [entry(url), "failed to parse environment config `environments.toml`: missing field `id`"],
    [entry('id = "x"\nprogram = "p"\nargs = [1]'), /: `args` must be an array of strings$/],
    [entry(`id = "x"\n${url}\nconnect_timeout_sec = 0`), /: `connect_timeout_sec` must be a number of seconds above 0/],
    [entry(`id = "x"\n${url}\nexec_enabled = 1`), /: `exec_enabled` must be a boolean$/],
    ["environments = 1", /: `environments` must be an array of tables$/]
  ]
  for (const [content, detail] of cases) {
    it(`refuses ${JSON.stringify(content).slice(0, 90)}`, () => {
      const parsed = parse(content)
      assert.isTrue(Either.isLeft(parsed))
      if (Either.isRight(parsed)) return
      if (typeof detail === "string") assert.strictEqual(parsed.left.detail, detail)
      else assert.match(parsed.left.detail, detail)
      assert.strictEqual(parsed.left.message, `exec-server protocol error: ${parsed.left.detail}`)
      assert.notInclude(parsed.left.message, "\n")
    })
  }

  it("a relative directory needs somewhere to start from", () => {
    const content = entry('id = "x"\nprogram = "p"\ncwd = "sub"')
    const { detail } = Either.getOrThrow(Either.flip(EnvironmentConfig.parse(content, "environments.toml", undefined)))
    assert.strictEqual(detail, "environment `x` cwd must be absolute")
  })
})

describe("what variables configure", () => {
  const urlOf = (given: string | undefined) =>
    Either.map(EnvironmentConfig.fromUrl(given), ({ entries, includeLocal, defaultId }) => [
      entries.map(({ id, target }) => [id, target._tag === "Url" ? target.url : ""]),
      includeLocal,
      defaultId
    ])

  it("nothing, none, a URL, and what is no URL", () => {
    for (const given of [undefined, "", "  "]) assert.deepStrictEqual(urlOf(given), Either.right([[], true, "local"]))
    for (const given of ["none", " None "]) assert.deepStrictEqual(urlOf(given), Either.right([[], false, undefined]))
    assert.deepStrictEqual(urlOf(" ws://h:1 "), Either.right([[["remote", "ws://h:1"]], false, "remote"]))
    assert.isTrue(Either.isLeft(urlOf("h:1")))
  })

  it.scopedLive("a file before EXEC_SERVER_URL before CODEX_EXEC_SERVER_URL", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const variables = { CODEX_HOME: folder, EXEC_SERVER_URL: "ws://ours:1", CODEX_EXEC_SERVER_URL: "ws://theirs:1" }
      const target = (all: Record<string, string>) =>
        Effect.map(EnvironmentConfig.fromVariables(all), ({ entries }) => entries[0]?.target)
      assert.deepInclude(yield* target(variables), { url: "ws://ours:1" })
      const { EXEC_SERVER_URL: _, ...theirs } = variables
      assert.deepInclude(yield* target(theirs), { url: "ws://theirs:1" })
      const file = `${folder}/environments.toml`
      writeFileSync(file, entry('id = "filed"\nprogram = "p"\ncwd = "here"'))
      assert.deepInclude(yield* target(variables), { command: "p", cwd: `${folder}/here` })
      writeFileSync(file, "bogus")
      const broken = yield* failureOf(EnvironmentConfig.fromVariables(variables))
      assert.include(broken.message, `exec-server protocol error: failed to parse environment config \`${file}\`: `)
      const missing = yield* failureOf(EnvironmentConfig.load(`${folder}/missing`))
      assert.include(
        missing.detail,
        `failed to read environment config \`${folder}/missing\`: No such file or directory`
      )
    })
  )
})
