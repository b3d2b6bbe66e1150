/**
 * Messages from the schemas of the protocol: whatever `ExecApi` and `ExecNotifications` define is spoken here, a new
 * method included. Overrides by member name stand where a random value would only ever be refused, or would do harm.
 */
import type * as Rpc from "@effect/rpc/Rpc"
import type * as AST from "effect/SchemaAST"
import { ExecApi } from "../../src/protocol/ExecApi.js"
import { ExecNotifications } from "../../src/protocol/ExecNotifications.js"
import * as Schemas from "../../src/protocol/Schemas.js"
import { SignalName } from "../../src/protocol/Signals.js"
import type { Random } from "./Random.js"

/** What a message may speak of. */
export interface World {
  /** A folder of its own, the only one that paths lead to. */
  readonly folder: string
  /** `http://127.0.0.1:PORT`, where the fuzzer's own HTTP server listens. */
  readonly origin: string
}

/** Programs that do no harm whatever they are given. */
export const programs: ReadonlyArray<string> = ["true", "echo", "cat", "sleep", "/bin/true", "no-such-program"]

/** Where they are looked up. */
export const searchPaths: ReadonlyArray<string> = ["/usr/bin:/bin", ""]

/** Names of files, some of which are there: kept few, so that requests meet. */
const names = ["a", "a/b", "a/b/c", "f", "a/f", "link", "loop", "fifo", "missing", "a/ü", "sp ace", "%41", "a/../f"]

const strings = [
  "",
  "a",
  "p1",
  "é\u0000",
  "\ud800",
  "💥",
  "\u2028",
  "__proto__",
  "constructor",
  "null",
  "-1",
  '"',
  "\\"
]

/** A text of any kind. */
export const text = (random: Random): string =>
  random.weighted<() => string>([
    [6, () => random.pick(strings)],
    [2, () => random.bytes(random.below(40)).toString("latin1")],
    [1, () => "x".repeat(random.pick([32, 33, 81, 4097, 70_000]))]
  ])()

/** A number of any kind. */
export const number = (random: Random): number =>
  random.weighted<() => number>([
    [4, () => random.below(10)],
    [2, () => random.below(100_000)],
    [3, () => random.pick([-1, 0.5, 65535, 65536, 2 ** 31, 2 ** 32, 2 ** 53, 2 ** 53 + 2, 2 ** 63, 2 ** 64, 1e308])]
  ])()

/** A value of any kind. */
export const json = (random: Random, depth = 3): unknown =>
  random.weighted<() => unknown>([
    [2, () => null],
    [2, () => random.percent(50)],
    [4, () => number(random)],
    [4, () => text(random)],
    [depth, () => random.list(3, () => json(random, depth - 1))],
    [
      depth,
      () => Object.fromEntries(random.list(3, () => [text(random).slice(0, 40), json(random, depth - 1)] as const))
    ]
  ])()

type Make = (random: Random, world: World) => unknown

const path: Make = (random, { folder }) => {
  const plain = `${folder}/${random.pick(names)}`
  return random.percent(50) ? plain : `file://${plain.split("/").map(encodeURIComponent).join("/")}`
}

const base64: Make = (random) =>
  random.percent(90)
    ? random.bytes(random.pick([0, 1, 2, 3, 16, 300])).toString("base64")
    : random.pick(["A", "AA", "AB==", "A===", "!!!!", "AAAA\n", "====", "_-8="])

const processId: Make = (random) => (random.percent(95) ? `p${random.below(6)}` : text(random))

/** Short, so that nothing waits for it long; and now and then for ever, which the end of a process must end. */
const wait: Make = (random) => random.pick([0, 0, 1, 5, 20, 50, null, 3_600_000, 2 ** 53])

const argv: Make = (random) => {
  const program = random.pick(programs)
  if (program === "sleep") return [program, random.pick(["0", "0.01", "0.02"])]
  if (program === "cat") return [program]
  return [program, ...random.list(2, () => random.pick(["a", "", "ü", "-n", "x".repeat(5000), "\ud800"]))]
}

const env: Make = (random) => ({
  PATH: random.pick(searchPaths),
  ...(random.percent(20) ? { [random.pick(["A", "a=b", "Ü", "__proto__", "A\0"])]: random.pick(["", "v", "\0"]) } : {})
})

const url: Make = (random, { origin }) =>
  random.weighted<() => string>([
    [8, () => `${origin}/${random.pick(["empty", "small", "large", "cut", "late", "redirect", "loop", "garbage"])}`],
    [1, () => random.pick(["http://", "/x", "ftp://127.0.0.1/", "http:// ", `${origin}/%zz?#`, ""])]
  ])()

/** Refused but for null and false: more of it would leave no request to be carried out. */
const refused: Make = (random) => (random.percent(95) ? random.pick([null, false]) : json(random))

const few: Make = (random) => random.below(3)

/** Members whose name says more than their schema. */
const overrides: Readonly<Record<string, Make>> = {
  path,
  sourcePath: path,
  present: path,
  missing: (random, world) => random.list(3, () => path(random, world)),
  enforceManagedNetwork: (random) => random.percent(2),
  managedNetwork: refused,
  networkProxy: refused,
  shellSnapshot: refused,
  sandboxPolicy: refused,
  destinationPath: path,
  cwd: (random, world) => (random.percent(70) ? `file://${world.folder}` : path(random, world)),
  argv,
  arg0: (random) => random.pick(["true", "echo", "cat", "sleep", null]),
  env,
  set: env,
  url,
  processId,
  handleId: (random) => (random.percent(95) ? `h${random.below(4)}` : text(random)),
  requestId: (random) => `r${random.below(4)}`,
  method: (random) => random.pick(["GET", "POST", "HEAD", "get", "B AD", ""]),
  writeId: (random) => random.pick(["w1", "w2", "", null]),
  dataBase64: base64,
  bodyBase64: base64,
  waitMs: wait,
  timeoutMs: (random) => random.pick([0, 1, 10, 50, 3_600_000, null]),
  offset: (random) => random.pick([0, 1, 100, 70_000, 2 ** 53, 2 ** 63, 2 ** 64]),
  len: (random) => random.pick([0, 1, 100, 1_048_576, 1_048_577, 2 ** 63]),
  maxRestarts: few,
  backoffMs: few,
  maxBackoffMs: few,
  resumeSessionId: (random) => random.pick([null, null, "00000000-0000-4000-8000-000000000000", ""]),
  headers: (random) =>
    random.list(2, () => ({ name: random.pick(["x-a", "host", "content-length", "b ad", ""]), value: text(random) }))
}

/** Schemas that say nothing of their values by their structure. */
const byAst: ReadonlyMap<AST.AST, Make> = new Map<AST.AST, Make>([
  [Schemas.Bytes.ast, base64],
  [Schemas.Count.ast, number],
  [Schemas.Integer.ast, number],
  [Schemas.Cells.ast, (random) => random.pick([1, 24, 80, 65535, 0])],
  [Schemas.TextMap.ast, env],
  [Schemas.TextList.ast, (random) => random.list(3, () => text(random))],
  [
    SignalName.ast,
    (random) => random.pick(["interrupt", "SIGTERM", "SIGKILL", "SIGCONT", "SIGSTOP", "SIGWINCH", "SIGNO"])
  ]
])

/** A value that fits a schema in its encoded form, or nearly so. */
export const fromAst = (ast: AST.AST, random: Random, world: World): unknown => {
  const known = byAst.get(ast)
  if (known !== undefined) return known(random, world)
  switch (ast._tag) {
    case "Literal":
      return ast.literal
    case "BooleanKeyword":
      return random.percent(50)
    case "StringKeyword":
      return text(random)
    case "NumberKeyword":
      return number(random)
    case "Union":
      return fromAst(random.pick(ast.types), random, world)
    case "TupleType":
      return random.list(3, () => random.pick(ast.rest.map(({ type }) => fromAst(type, random, world))))
    case "TypeLiteral":
      return Object.fromEntries(
        ast.propertySignatures.flatMap(({ name, type, isOptional }) => {
          if (isOptional && random.percent(60)) return []
          const make = overrides[String(name)] ?? ((random, world) => fromAst(type, random, world))
          return [[String(name), make(random, world)] as const]
        })
      )
    case "Transformation":
    case "Refinement":
      return fromAst(ast.from, random, world)
    default:
      return json(random)
  }
}

const payloadsOf = (group: { readonly requests: ReadonlyMap<string, unknown> }) =>
  // The table of methods with types of their own, of which only the schemas matter here.
  Array.from(group.requests as ReadonlyMap<string, Rpc.AnyWithProps>, ([name, rpc]) => ({
    name,
    ast: rpc.payloadSchema.ast
  }))

/** The methods of all requests. */
export const requests = payloadsOf(ExecApi)

/** The methods of all notifications. */
export const notifications = payloadsOf(ExecNotifications)

/** What costs the server a process or an exchange comes less often than what costs it nothing. */
const weightOf = (name: string): number =>
  name === "process/start" ? 3 : name === "http/request" ? 4 : name === "initialize" ? 2 : 10

const weighted = requests.map((request) => [weightOf(request.name), request] as const)

/** A request, as far as its schema goes right. */
export const request = (random: Random, world: World): { method: string; params: unknown } => {
  const { name, ast } = random.weighted(weighted)
  return { method: name, params: fromAst(ast, random, world) }
}

/** A notification, of which most may only come from the server. */
export const notification = (random: Random, world: World): { method: string; params: unknown } => {
  const { name, ast } = random.pick(notifications)
  return { method: name, params: fromAst(ast, random, world) }
}
