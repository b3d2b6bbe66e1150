/** How large the members of requests may be, and that what is too large costs little to refuse. */
import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Wire from "../../src/protocol/Wire.js"
import { decode, routeOf } from "../../src/session/MethodCodecs.js"
import * as SlowLane from "../fuzz/SlowLane.js"
import { cpuMs, growth, linear } from "../support/growth.js"
import { startParams } from "../support/TestClient.js"

const read = (method: string, params: unknown) => {
  const route = routeOf(method)
  if (route === undefined) throw new Error(`no method ${method}`)
  return decode(route, params)
}

const envPolicy = { inherit: "none", ignoreDefaultExcludes: true, exclude: [], set: {}, includeOnly: [] }
const start = (more: object) => startParams("p", ["true"], more)
const sandbox = (entries: ReadonlyArray<unknown>, more: object = {}) => ({
  permissions: { type: "managed", file_system: { type: "restricted", entries }, network: "enabled" },
  windowsSandboxLevel: "disabled",
  ...more
})
const glob = (pattern: string) => ({ path: { type: "glob_pattern", pattern }, access: "deny" })
const root = "/r"
const header = { name: "a", value: "b" }
const http = (more: object) => ({ method: "GET", url: "http://a/", requestId: "r", ...more })
const x = (length: number) => "x".repeat(length)

/** Params at the limit, params beyond it, and what is said of those. */
const cases: ReadonlyArray<readonly [string, (over: number) => unknown, string]> = [
  ["process/start", (n) => ({ ...start({}), processId: x(1024 + n) }), "`processId` has 1025 bytes; the limit is 1024"],
  [
    "process/write",
    (n) => ({ processId: "p", chunk: "", writeId: x(1024 + n) }),
    "`writeId` has 1025 bytes; the limit is 1024"
  ],
  [
    "process/read",
    (n) => ({ processId: `${"é".repeat(512)}${x(n)}` }),
    "`processId` has 1025 bytes; the limit is 1024"
  ],
  ["process/start", (n) => start({ env: { PATH: x(65536 + n) } }), "`env.PATH` has 65537 bytes; the limit is 65536"],
  [
    "process/start",
    (n) => start({ env: { PATH: ":".repeat(1023 + n) } }),
    "`env.PATH` has 1025 folders; the limit is 1024"
  ],
  [
    "process/start",
    (n) => start({ envPolicy: { ...envPolicy, set: { PATH: x(65536 + n) } } }),
    "`envPolicy.set.PATH` has 65537 bytes; the limit is 65536"
  ],
  [
    "process/start",
    (n) => start({ envPolicy: { ...envPolicy, exclude: Array(256 + n).fill("A") } }),
    "`envPolicy.exclude` has 257 elements; the limit is 256"
  ],
  [
    "process/start",
    (n) => start({ envPolicy: { ...envPolicy, includeOnly: ["A", x(256 + n)] } }),
    "`envPolicy.includeOnly.1` has 257 bytes; the limit is 256"
  ],
  [
    "process/start",
    (n) =>
      start({ env: {}, argv: [x(2097152 - 9 - 7 - n * 7), ...(n === 0 ? [x(7 - 9 + 2)] : [x(16)])].slice(0, 1 + n) }),
    "`argv` and the environment are larger than the limit of 2097152 bytes together"
  ],
  [
    "process/start",
    (n) =>
      start({
        env: Object.fromEntries(Array.from({ length: 100_000 + n * 100_000 }, (_, i) => [`${100_000 + i}`, ""]))
      }),
    "`env` has more than the limit"
  ],
  [
    "process/start",
    (n) => start({ sandbox: sandbox([glob(x(256 + n))]) }),
    "`sandbox.permissions.file_system.entries.0.path.pattern` has 257 bytes; the limit is 256"
  ],
  [
    "fs/getMetadata",
    (n) => ({ path: "/a", sandbox: sandbox(Array(1024 + n).fill(glob("*"))) }),
    "`sandbox.permissions.file_system.entries` has 1025 elements; the limit is 1024"
  ],
  [
    "fs/getMetadata",
    (n) => ({ path: "/a", sandbox: sandbox([], { workspaceRoots: Array(256 + n).fill(root) }) }),
    "`sandbox.workspaceRoots` has 257 elements; the limit is 256"
  ],
  ["fs/remove", (n) => ({ path: `/${x(16383 + n)}` }), "`path` has 16385 bytes; the limit is 16384"],
  [
    "fs/watchMissing",
    (n) => ({ watchId: 1, missing: Array(256 + n).fill(root) }),
    "`missing` has 257 elements; the limit is 256"
  ],
  [
    "http/request",
    (n) => http({ headers: Array(256 + n).fill(header) }),
    "`headers` has 257 elements; the limit is 256"
  ],
  ["http/request", (n) => http({ url: `http://a/${x(65527 + n)}` }), "`url` has 65537 bytes; the limit is 65536"],
  ["http/request", (n) => http({ requestId: x(1024 + n) }), "`requestId` has 1025 bytes; the limit is 1024"],
  ["initialize", (n) => ({ clientName: x(65536 + n) }), "`clientName` has 65537 bytes; the limit is 65536"],
  [
    "initialize",
    (n) => ({ clientName: "c", resumeSessionId: x(1024 + n) }),
    "`resumeSessionId` has 1025 bytes; the limit is 1024"
  ],
  [
    "environmentConfig/read",
    (n) => ({ cwd: "/", configPaths: Array(1024 + n).fill(["a"]), requirementsPaths: [] }),
    "`configPaths` has 1025 elements; the limit is 1024"
  ]
]

describe("the members of a request", () => {
  for (const [method, make, message] of cases) {
    it(`of ${method} have a limit, which is named: ${message}`, () => {
      const accepted = read(method, make(0))
      assert.isTrue(Either.isRight(accepted), JSON.stringify(accepted).slice(0, 300))
      const refused = read(method, make(1))
      assert.isTrue(Either.isLeft(refused))
      if (Either.isLeft(refused)) assert.include(refused.left, message)
    })
  }

  it("of the environment's policy are compared in bounded time", () => {
    const set = (names: number) => Object.fromEntries(Array.from({ length: names }, (_, i) => [`${x(900)}${i}`, ""]))
    const policy = (names: number) => ({
      ...envPolicy,
      set: set(names),
      includeOnly: Array(256).fill("*a".repeat(128))
    })
    const refused = read("process/start", start({ envPolicy: policy(1000) }))
    assert.isTrue(Either.isLeft(refused))
    if (Either.isLeft(refused)) assert.include(refused.left, "pass the variables in `env`, which is not filtered")
  })

  it("may be as large as a message where they hold data", () => {
    const large = "AAAA".repeat(1_000_000)
    assert.isTrue(Either.isRight(read("process/write", { processId: "p", chunk: large })))
    assert.isTrue(Either.isRight(read("fs/writeFile", { path: "/f", dataBase64: large })))
    assert.isTrue(Either.isRight(read("http/request", http({ bodyBase64: large }))))
  })

  it("are quoted in part: no error is longer than what was wrong", () => {
    for (const params of [
      { mode: Array(100_000).fill({}) },
      { mode: x(100_000) },
      { sandbox: Array(100_000).fill([]) },
      { sandbox: x(60_000) },
      { sandbox: { permissions: Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [i, x(10)])) } },
      { path: `${x(16_000)}:/` },
      { path: x(16_000) },
      { path: `file://${x(16_000)}/` }
    ]) {
      const refused = read("fs/open", { path: "/f", handleId: "h", ...params })
      assert.isTrue(Either.isLeft(refused))
      if (Either.isLeft(refused)) assert.isBelow(refused.left.length, 1100)
    }
  })
})

describe("an id", () => {
  it("has at most 1 KiB", () => {
    const parse = (id: string) => Wire.parse(JSON.stringify({ id, method: "environment/status" }))
    assert.strictEqual(parse(x(1024))._tag, "Request")
    assert.deepStrictEqual(parse(x(1025)), { _tag: "Malformed", detail: "`id` has 1025 bytes; the limit is 1024" })
  })
})

describe("what a message costs to read", () => {
  /** The same message at both sizes; every thirtieth one, or the test would take minutes. */
  const pairs = (only: string) => {
    const sample = SlowLane.all.filter((slow) => slow.of === only).filter((_, index) => index % 30 === 0)
    return sample.map(({ name, make }) => ({ name, small: make(8192), large: make(65_536) }))
  }

  for (const only of ["process/start", "process/write", "http/request", "fs/watchMissing", "envelope"]) {
    it(`grows with its length and no faster, whatever is in it: ${only}`, () => {
      for (const { name, small, large } of pairs(only)) {
        // Most take no time that could be measured.
        if (cpuMs(() => SlowLane.read(large)) < 20) continue
        const times = growth((size) => (size === 1 ? small : large), SlowLane.read, 1)
        assert.isBelow(times, linear, name)
      }
    })
  }
})
