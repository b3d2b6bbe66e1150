import { assert, describe, it } from "@effect/vitest"
import { resolve } from "../../src/process/EnvPolicy.js"
import type { EnvPolicy } from "../../src/protocol/ExecApi.js"

const server = {
  PATH: "/bin",
  HOME: "/root",
  LANG: "C",
  LC_ALL: "C",
  Path: "other",
  A: "a",
  AB: "ab",
  API_KEY: "k",
  my_secret_x: "s",
  Token: "t",
  "we.ird": "w",
  GONE: undefined
}

const policy = (changed: Partial<EnvPolicy>): EnvPolicy => ({
  inherit: "all",
  ignoreDefaultExcludes: true,
  exclude: [],
  set: {},
  includeOnly: [],
  ...changed
})

const names = (changed: Partial<EnvPolicy>, env = {}) => Object.keys(resolve(env, policy(changed), server)).sort()

const all = Object.keys(server)
  .filter((name) => name !== "GONE")
  .sort()

describe("EnvPolicy", () => {
  it("without a policy the environment is exactly what was given", () => {
    assert.deepStrictEqual(resolve({ A: "1" }, undefined, server), { A: "1" })
    assert.deepStrictEqual(resolve({}, undefined, server), {})
  })

  it("inherits all, nothing, or the core", () => {
    assert.deepStrictEqual(names({}), all)
    assert.deepStrictEqual(names({ inherit: "none" }), [])
    assert.deepStrictEqual(names({ inherit: "core" }), ["HOME", "LANG", "LC_ALL", "PATH"])
  })

  it("never inherits what may be a secret of the server", () => {
    const own = ["CODEX_API_KEY", "EXEC_SERVER_REMOTE_TOKEN", "EXEC_SERVER_TOKEN", "CODEX_EXEC_SERVER_AUTH_TOKEN"]
    const variables = Object.fromEntries([...own, "API_TOKEN"].map((name) => [name, "x"]))
    assert.deepStrictEqual(resolve({}, policy({}), variables), { API_TOKEN: "x" })
    // The client's own values are its own.
    assert.deepStrictEqual(resolve({ CODEX_API_KEY: "mine" }, policy({}), variables), {
      API_TOKEN: "x",
      CODEX_API_KEY: "mine"
    })
  })

  it("the core is what the original takes over", () => {
    const core = "PATH SHELL TMPDIR TEMP TMP HOME LANG LC_ALL LC_CTYPE LOGNAME USER".split(" ")
    const everything = Object.fromEntries([...core, "TERM", "PWD", "EDITOR"].map((name) => [name, "x"]))
    const found = resolve({}, policy({ inherit: "core" }), everything)
    assert.sameMembers(Object.keys(found), core)
  })

  it("drops what smells of secrets, in any case, unless told not to", () => {
    const dropped = ["API_KEY", "my_secret_x", "Token"]
    assert.deepStrictEqual(
      names({ ignoreDefaultExcludes: false }),
      all.filter((name) => !dropped.includes(name))
    )
  })

  it("exclude drops by whole names, in any case; * is any run, ? one character, nothing else is special", () => {
    const without = (...dropped: ReadonlyArray<string>) => all.filter((name) => !dropped.includes(name))
    assert.deepStrictEqual(names({ exclude: ["a"] }), without("A"))
    assert.deepStrictEqual(names({ exclude: ["a?"] }), without("AB"))
    assert.deepStrictEqual(names({ exclude: ["A*"] }), without("A", "AB", "API_KEY"))
    assert.deepStrictEqual(names({ exclude: ["*_*"] }), without("API_KEY", "LC_ALL", "my_secret_x"))
    assert.deepStrictEqual(names({ exclude: ["we.ird"] }), without("we.ird"))
    assert.deepStrictEqual(names({ exclude: ["we?ird"] }), without("we.ird"))
    for (const pattern of ["P.TH", "[A]", "(A|AB)", "A+", "^A$", "\\w", "", "A{1}"]) {
      assert.deepStrictEqual(names({ exclude: [pattern] }), all, pattern)
    }
    assert.deepStrictEqual(names({ exclude: ["*"] }), [])
  })

  it("set comes after the excludes, and is not subject to them", () => {
    const found = resolve({}, policy({ inherit: "none", exclude: ["A"], set: { A: "1", MY_TOKEN: "2" } }), server)
    assert.deepStrictEqual({ ...found }, { A: "1", MY_TOKEN: "2" })
    const over = resolve({}, policy({ set: { A: "1" } }), server)
    assert.strictEqual(over["A"], "1")
  })

  it("includeOnly filters what was inherited and what was set", () => {
    assert.deepStrictEqual(names({ set: { B: "1", AC: "2" }, includeOnly: ["a*", "path"] }), [
      "A",
      "AB",
      "AC",
      "API_KEY",
      "PATH",
      "Path"
    ])
  })

  it("the request's own variables are laid over it, unfiltered", () => {
    const found = resolve(
      { A: "over", NEW_KEY: "k" },
      policy({ includeOnly: ["B"], exclude: ["A"], ignoreDefaultExcludes: false }),
      server
    )
    assert.deepStrictEqual({ ...found }, { A: "over", NEW_KEY: "k" })
  })

  it("names that objects have of themselves are names like others", () => {
    const odd = JSON.parse('{"__proto__":"x","constructor":"y"}')
    const found = resolve(odd, policy({ inherit: "none" }), server)
    assert.deepStrictEqual(Object.entries(found).sort(), [
      ["__proto__", "x"],
      ["constructor", "y"]
    ])
  })
})
