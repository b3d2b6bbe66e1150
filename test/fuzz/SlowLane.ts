/**
 * Messages that may take a server long to read: every text, list and map of every request, blown up with what parsers
 * trip over. What is measured is the reading alone, in this process: nothing of it is carried out.
 */
import type * as Rpc from "@effect/rpc/Rpc"
import * as Either from "effect/Either"
import type * as AST from "effect/SchemaAST"
import * as Wire from "../../src/protocol/Wire.js"
import { decode, requests, routeOf } from "../../src/session/MethodCodecs.js"
import { withMember } from "../support/members.js"
import * as Grammar from "./Grammar.js"
import { Random } from "./Random.js"

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

/** A message, by what is in it. */
export interface Slow {
  readonly name: string
  readonly text: string
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

/** All of them, of about this length in characters; or those of one method, or of the `envelope` alone. */
export const messages = function* (length: number, only?: string): Generator<Slow> {
  const repeat = (unit: string) => unit.repeat(Math.floor(length / unit.length))
  for (const [method, { payloadSchema }] of requests as ReadonlyMap<string, Rpc.AnyWithProps>) {
    if (only !== undefined && method !== only) continue
    const base = paramsOf(method, payloadSchema.ast)
    const make = (name: string, path: string, value: unknown): Slow => ({
      name: `${method} ${path} ${name}`,
      text: JSON.stringify({ id: 1, method, params: withMember(base, path, value) })
    })
    for (const path of ["", ...new Set(pathsOf(payloadSchema.ast))]) {
      for (const unit of units) {
        for (const prefix of prefixes) {
          if (length > 100_000 && prefix !== "" && !/path|cwd|url|missing|present/i.test(path)) continue
          yield make(`text ${prefix}${JSON.stringify(unit)}`, path, prefix + repeat(unit))
        }
      }
      for (const element of elements) {
        const count = Math.floor(length / (JSON.stringify(element).length + 1))
        yield make(`list of ${JSON.stringify(element)}`, path, Array(count).fill(element))
      }
      for (const value of ["", {}, 0]) {
        const names = Array.from({ length: Math.floor(length / 12) }, (_, i) => [`n${i}`, value])
        yield make(`map of ${JSON.stringify(value)}`, path, Object.fromEntries(names))
      }
    }
  }
  if (only !== undefined && only !== "envelope") return
  const whole = (name: string, text: string): Slow => ({ name: `envelope ${name}`, text })
  for (const unit of ["[", "{", '{"a":', "[[],", '"', "\\", '"\\', " ", "1", "-", "\ud800", ",", '{"id":1,']) {
    yield whole(JSON.stringify(unit), repeat(unit))
    yield whole(`id ${JSON.stringify(unit)}`, `{"id":${repeat(unit)}}`)
    yield whole(`text id ${JSON.stringify(unit)}`, JSON.stringify({ id: repeat(unit), method: "environment/status" }))
    yield whole(`method ${JSON.stringify(unit)}`, JSON.stringify({ id: 1, method: repeat(unit) }))
    yield whole(
      `trace ${JSON.stringify(unit)}`,
      JSON.stringify({ id: 1, method: "x", trace: { traceparent: repeat(unit) } })
    )
  }
  yield whole("many ids", `{${'"id":1,'.repeat(length / 7)}"method":"x"}`)
  yield whole("ids as values", `{"a":[${'"id",'.repeat(length / 5)}1],"id":9007199254740993,"method":"x"}`)
}

/** Reads a message as a server does, and writes the refusal. */
export const read = (text: string): void => {
  const message = Wire.parse(text)
  if (message._tag === "Request") {
    const route = routeOf(message.method)
    const payload = route === undefined ? Either.left("unknown") : decode(route, message.params)
    if (Either.isLeft(payload)) Wire.failure(message.id, -32602, payload.left)
  } else if (message._tag === "Malformed") Wire.failure(Wire.malformedId, -32600, message.detail)
}
