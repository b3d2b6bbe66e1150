/**
 * Messages that may take a server long to read: every text, list and map of every request, blown up with what parsers
 * trip over. What is measured is the reading alone, in this process: nothing of it is carried out.
 */
import { setImmediate as turn } from "node:timers/promises"
import type * as Rpc from "@effect/rpc/Rpc"
import * as Either from "effect/Either"
import type * as AST from "effect/SchemaAST"
import * as Wire from "../../src/protocol/Wire.js"
import { decode, requests, routeOf } from "../../src/session/MethodCodecs.js"
import { cpuMs } from "../support/growth.js"
import { withMember } from "../support/members.js"
import { type Batch, Fault } from "./Batch.js"
import * as Grammar from "./Grammar.js"
import { mix, Random } from "./Random.js"

const world: Grammar.World = { folder: "/tmp/fuzz-folder", origin: "http://127.0.0.1:5" }

/** What texts are made of. */
const units = [
  ..."=%/*?[]{}\\., :;@#&+-_~^$|!()<>'\"`0a",
  ..."A\n\t\r\0",
  "%41",
  "%",
  "*a",
  "../",
  "./",
  "=a",
  "é",
  "€",
  "\ud83d\ude00",
  "\ud800",
  '<\\"',
  "x=",
  "AAAA"
]

/** What texts begin with, so that they are read to their end. */
const prefixes = ["", "/", "file:///", "http://", "http://a/", "file://"]

const elements: ReadonlyArray<unknown> = [null, 0, "", "a", [], {}, true, [[]], { a: {} }, { path: { type: "path" } }]

/** The members of a schema: the way to each of them, lists left out. */
const pathsOf = (ast: AST.AST): ReadonlyArray<string> => {
  switch (ast._tag) {
    case "Transformation":
    case "Refinement":
      return pathsOf(ast.from)
    case "Union":
      return ast.types.flatMap(pathsOf)
    case "TypeLiteral":
      return ast.propertySignatures.flatMap(({ name, type }) => [
        String(name),
        ...pathsOf(type).map((rest) => `${String(name)}.${rest}`)
      ])
    default:
      return []
  }
}

/** A message of any length. */
export interface Slow {
  /** The method, or `envelope`. */
  readonly of: string
  readonly name: string
  readonly make: (length: number) => string
}

/** Params in which as much as possible is right. */
const paramsOf = (method: string, ast: AST.AST): unknown => {
  const route = routeOf(method)
  for (let seed = 1; seed < 500; seed++) {
    const params = Grammar.fromAst(ast, new Random(seed), world)
    if (route !== undefined && Either.isRight(decode(route, params))) return params
  }
  return {}
}

const repeat = (unit: string, length: number) => unit.repeat(Math.floor(length / unit.length))

/** Large values of any kind. */
const values: ReadonlyArray<readonly [name: string, make: (length: number) => unknown]> = [
  ...units.flatMap((unit) =>
    prefixes.map(
      (prefix) => [`text ${prefix}${JSON.stringify(unit)}`, (length: number) => prefix + repeat(unit, length)] as const
    )
  ),
  ...elements.map((element) => {
    const json = JSON.stringify(element)
    return [`list of ${json}`, (length: number) => Array(Math.floor(length / (json.length + 1))).fill(element)] as const
  }),
  ...["", {}, 0].map(
    (value) =>
      [
        `map of ${JSON.stringify(value)}`,
        (length: number) =>
          Object.fromEntries(Array.from({ length: Math.floor(length / 12) }, (_, i) => [`n${i}`, value]))
      ] as const
  )
]

const ofMethod = ([method, { payloadSchema }]: readonly [string, Rpc.AnyWithProps]): ReadonlyArray<Slow> => {
  const base = paramsOf(method, payloadSchema.ast)
  return ["", ...new Set(pathsOf(payloadSchema.ast))].flatMap((path) =>
    values.map(([name, value]) => ({
      of: method,
      name: `${method} ${path} ${name}`,
      make: (length) => JSON.stringify({ id: 1, method, params: withMember(base, path, value(length)) })
    }))
  )
}

/** Objects that no two have a member's name in common: each takes a parser a shape of its own. */
const distinct = (length: number, size: number) =>
  Array.from({ length: Math.floor(length / (size * 12 + 4)) }, (_, i) => {
    const members = Array.from({ length: size }, (_, j) => `"n${i * size + j}":1`)
    return `{${members.join()}},`
  }).join("")

const envelopes: ReadonlyArray<readonly [name: string, make: (length: number) => string]> = [
  ...["[", "{", '{"a":', "[[],", '"', "\\", '"\\', " ", "1", "-", "\ud800", ",", '{"id":1,'].flatMap((unit) => {
    const name = JSON.stringify(unit)
    const some = (length: number) => repeat(unit, length)
    return [
      [name, some],
      [`id ${name}`, (length: number) => `{"id":${some(length)}}`],
      [`text id ${name}`, (length: number) => JSON.stringify({ id: some(length), method: "environment/status" })],
      [`method ${name}`, (length: number) => JSON.stringify({ id: 1, method: some(length) })],
      [
        `trace ${name}`,
        (length: number) => JSON.stringify({ id: 1, method: "x", trace: { traceparent: some(length) } })
      ]
    ] as const
  }),
  ...['""', "{}", "[]", '{"a":1}', '"\\u0041"', "1e-9"].map(
    (value) =>
      [
        `a list of ${value}`,
        (length: number) => `{"id":1,"method":"x","params":[${`${value},`.repeat(length / (value.length + 1) - 9)}1]}`
      ] as const
  ),
  ...[1, 20].map(
    (size) =>
      [
        `objects of ${size} members of other names each`,
        (length: number) => `{"id":1,"method":"x","params":[${distinct(length, size)}{}]}`
      ] as const
  ),
  ["many ids", (length) => `{${'"id":1,'.repeat(length / 7)}"method":"x"}`],
  ["ids as values", (length) => `{"a":[${'"id",'.repeat(length / 5)}1],"id":9007199254740993,"method":"x"}`]
]

/** All of them. */
export const all: ReadonlyArray<Slow> = [
  // The table of methods with types of their own, of which only the schemas matter here.
  ...Array.from(requests as ReadonlyMap<string, Rpc.AnyWithProps>).flatMap(ofMethod),
  ...envelopes.map(([name, make]) => ({ of: "envelope", name: `envelope ${name}`, make }))
]

/** Reads a message as a server does, and writes the refusal. */
export const read = (text: string): void => {
  const message = Wire.parse(text, Wire.maxRequestValues)
  if (message._tag === "Request") {
    const route = routeOf(message.method)
    const payload = route === undefined ? Either.left("unknown") : decode(route, message.params)
    if (Either.isLeft(payload)) Wire.failure(message.id, -32602, payload.left)
  } else if (message._tag === "Malformed") Wire.failure(Wire.malformedId, -32600, message.detail)
}

/** Lengths with the time that no message of them may take, in milliseconds of the processor, and how many are of it. */
const bounds = [
  { length: 65_536, ms: 50, weight: 199 },
  { length: 8_388_608, ms: 1000, weight: 1 }
] as const

/** Reads a batch; fails for a message that takes too long three times over: garbage is collected in one of them. */
export const run = async ({ seed, from, to }: Batch): Promise<void> => {
  for (let at = from; at < to; at++) {
    const random = new Random(mix(seed, 6, at))
    const { name, make } = random.pick(all)
    const { length, ms } = random.weighted(bounds.map((bound) => [bound.weight, bound] as const))
    const text = make(length)
    const times: Array<number> = []
    while (times.length < 3 && times.every((time) => time > ms)) times.push(cpuMs(() => read(text)))
    if (times.every((time) => time > ms)) {
      throw new Fault(at, `${Math.min(...times).toFixed()} ms for ${text.length} characters: ${name.slice(0, 200)}`)
    }
    // Others share the event loop.
    await turn()
  }
}
