import { existsSync, readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as ClientApi from "../../src/client/Api.js"
import * as Client from "../../src/client/index.js"
import * as Cli from "../../src/command/Cli.js"
import * as Grammar from "../../src/command/Grammar.js"
import * as Environment from "../../src/environment/index.js"
import * as Root from "../../src/index.js"
import { ExecApi, type Method } from "../../src/protocol/ExecApi.js"
import * as Protocol from "../../src/protocol/index.js"
import * as Server from "../../src/server/index.js"
import * as Testing from "../../src/testing/index.js"
import * as Messages from "../fuzz/Grammar.js"
import { mix, Random } from "../fuzz/Random.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const read = (path: string) => readFileSync(`${root}${path}`, "utf8")

const methods = Array.from(ExecApi.requests.keys()) as ReadonlyArray<Method>

/** All tests but this one, as one text. */
const tests = readdirSync(`${root}test`, { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".test.ts") && !path.endsWith("documented.test.ts"))
  .map((path) => read(`test/${path}`))
  .join("\n")

/** The sources that define requests, with the comments above them. */
const definitions = [
  "ExecApi",
  "WatchApi",
  "FileSystemApi",
  "HttpApi",
  "DiscoveryApi",
  "UsageApi",
  "RecordingApi",
  "ShareApi"
]
  .map((name) => read(`src/protocol/${name}.ts`))
  .join("\n")

/** What the fuzzer's messages ask for. */
const grammar = new Set(
  Array.from(
    { length: 3000 },
    (_, i) => Messages.request(new Random(mix(1, i, 0)), { folder: "/x", origin: "http://x" }).method
  )
)

describe("a request", () => {
  for (const method of methods) {
    it(method, () => {
      assert.match(definitions, new RegExp(`\\*/\\n\\s*request\\("${method}"`), "its definition has no comment")
      // In quotes, as a test asks for it; `initialize` is in every handshake.
      assert.isTrue(tests.includes(`"${method}"`), "no test asks for it")
      assert.isTrue(grammar.has(method), "no fuzzed message asks for it")
      const prepared = ClientApi.prepareText(method, undefined)
      assert.isTrue(
        Either.isLeft(prepared) && !prepared.left.message.includes("no such method"),
        "no client can call it"
      )
      const answer = ClientApi.decodeResult(method, undefined)
      assert.isTrue(Either.isLeft(answer) && !answer.left.includes("no such method"), "no client can read its answer")
    })
  }

  it("that nobody knows is told from those", () => {
    const prepared = ClientApi.prepareText("process/none" as Method, undefined)
    assert.isTrue(Either.isLeft(prepared) && prepared.left.message.includes("no such method"))
  })
})

describe("docs/cli.md", () => {
  it("names every command", () => {
    const cli = read("docs/cli.md")
    for (const command of Grammar.all(Cli.root).filter(({ run, path }) => run !== undefined && path.length > 0)) {
      assert.match(cli, new RegExp(`^\\| \`exec-server ${command.path.join(" ")}\\b`, "m"))
    }
  })
})

describe("CONTRIBUTING.md", () => {
  const places = ["src/protocol/ExecApi.ts", "src/session/Handlers.ts", "src/client/RemoteProcess.ts"]
  const flush = (text: string) => text.replaceAll(/^ +/gm, "")

  it("shows a new method as the sources have it", () => {
    const blocks = Array.from(
      read("CONTRIBUTING.md").matchAll(/^ {3}```ts\n([\s\S]*?)\n {3}```$/gm),
      ([, code = ""]) => code
    )
    assert.lengthOf(blocks, places.length)
    for (const [index, place] of places.entries()) assert.include(flush(read(place)), flush(blocks[index] ?? ""), place)
  })

  it("names files that are there", () => {
    const paths = Array.from(
      read("CONTRIBUTING.md").matchAll(/`((?:src|test|scratch)\/[\w./-]+)`/g),
      ([, path = ""]) => path
    )
    assert.isNotEmpty(paths)
    for (const path of paths) assert.isTrue(existsSync(`${root}${path}`), path)
  })
})

/** Layers that need what is not public: they are for the package itself. */
const ownLayers = new Set([
  "Confiner.layer",
  "FileViews.layer",
  "SessionRegistry.layer",
  "Spawner.layerDispatch",
  "Spawner.layerReal"
])

describe("the public API", () => {
  it("is the same through every door", () => {
    const doors: Record<string, unknown> = { ...Client, ...Environment, ...Protocol, ...Server }
    assert.sameMembers(Object.keys(Root), Object.keys(doors))
    for (const [name, module] of Object.entries(Root)) assert.strictEqual(module, doors[name], name)
  })

  it("has the layers of a service in its module: FakeSpawner.layer, not FakeSpawner.FakeSpawner.layer", () => {
    const doors: Record<string, Record<string, unknown>> = { ...Environment, ...Server, ...Testing }
    for (const [name, module] of Object.entries(doors)) {
      const tag = module[name]
      if (typeof tag !== "function") continue
      for (const [key, value] of Object.entries(tag)) {
        if (!key.startsWith("layer") || ownLayers.has(`${name}.${key}`)) continue
        assert.strictEqual(module[key], value, `${name}.${key}`)
      }
    }
  })

  it("opens no other door than those", () => {
    const { exports } = JSON.parse(read("package.json"))
    assert.sameMembers(Object.keys(exports), [
      ".",
      "./client",
      "./server",
      "./environment",
      "./protocol",
      "./mcp",
      "./testing",
      "./internal/*",
      "./package.json"
    ])
    assert.isNull(exports["./internal/*"])
    for (const door of Object.values<{ readonly types?: string } | string | null>(exports)) {
      if (door === null || typeof door === "string") continue
      assert.deepStrictEqual(Object.keys(door), ["types", "default"])
    }
  })
})
