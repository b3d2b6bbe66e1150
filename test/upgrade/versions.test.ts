/**
 * States between versions. The fixture is a state of format 1 with every member and every kind of record that there is.
 * It is never changed, except for members that are added: then it has them too.
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"
import * as ExecClient from "../../src/client/ExecClient.js"
import { bytesOf } from "../../src/client/HeadTail.js"
import { schemas } from "../../src/command/UpgradeCheck.js"
import * as State from "../../src/upgrade/State.js"
import { binary } from "../support/servers.js"
import { temporary, upgradable, versionBeside } from "../support/upgrades.js"

const fixture = fileURLToPath(new URL("../fixtures/state-1.json", import.meta.url))

/** The state of a server, and registrations of every kind. */
const { state, remotes } = JSON.parse(readFileSync(fixture, "utf8"))

type AnySchema = Schema.Schema<unknown>

const all: ReadonlyArray<readonly [name: string, schema: AnySchema, values: ReadonlyArray<unknown>]> = [
  ["state", State.State as AnySchema, [{ ...state, parts: {} }]],
  ...Object.entries(schemas()).map(
    ([name, schema]) => [name, schema as AnySchema, name === "remote" ? remotes : [state.parts[name]]] as const
  )
]

const encodedOf = (schema: AnySchema): AST.AST => Schema.encodedSchema(schema).ast

/** The tag of a kind of record, or one of several words. */
const tagOf = (ast: AST.AST): string => {
  if (AST.isLiteral(ast)) return `(${ast.literal})`
  const type = AST.isTypeLiteral(ast) ? ast.propertySignatures.find(({ name }) => name === "_tag")?.type : undefined
  return type !== undefined && AST.isLiteral(type) ? `(${type.literal})` : ""
}

const isOf = (ast: AST.AST, value: unknown): boolean => Schema.is(Schema.make(ast))(value)

/** Every member and every kind of record that a schema has; with values, those that occur in them. */
const membersOf = (ast: AST.AST, path: string, values?: ReadonlyArray<unknown>): ReadonlyArray<string> => {
  if (values?.length === 0) return []
  if (AST.isTypeLiteral(ast))
    return [
      path,
      ...ast.propertySignatures.flatMap(({ name, type }) => {
        const found = values?.filter(isRecord).flatMap((value) => (name in value ? [value[name]] : []))
        return membersOf(type, `${path}.${String(name)}`, found)
      })
    ]
  if (AST.isTupleType(ast) && ast.rest.length > 0)
    return [
      path,
      ...ast.rest.flatMap(({ type }) =>
        membersOf(
          type,
          `${path}[]`,
          values?.flatMap((value) => (Array.isArray(value) ? value : []))
        )
      )
    ]
  if (AST.isUnion(ast))
    return ast.types.flatMap((type) => {
      const found = values?.filter((value) => isOf(type, value))
      // What may be absent is never there as undefined.
      return type._tag === "UndefinedKeyword" ? [] : membersOf(type, path + tagOf(type), found)
    })
  return [path]
}

/** A value with its records changed, which are those of a schema; maps from names to values are none. */
const mapRecords = (
  ast: AST.AST,
  value: unknown,
  change: (record: Readonly<Record<string, unknown>>, type: AST.TypeLiteral) => Readonly<Record<string, unknown>>
): unknown => {
  if (AST.isUnion(ast)) {
    const found = ast.types.find((type) => isOf(type, value))
    return found === undefined ? value : mapRecords(found, value, change)
  }
  const [rest] = AST.isTupleType(ast) ? ast.rest : []
  if (rest !== undefined && Array.isArray(value)) return value.map((item) => mapRecords(rest.type, item, change))
  if (!AST.isTypeLiteral(ast) || ast.indexSignatures.length > 0 || !isRecord(value)) return value
  const members = ast.propertySignatures.flatMap(({ name, type }) =>
    name in value ? [[String(name), mapRecords(type, value[name], change)]] : []
  )
  return change(Object.fromEntries(members), ast)
}

describe("the state that a version of format 1 has written", () => {
  it("has all parts", () => {
    assert.sameMembers(
      Object.keys(state.parts),
      [...Object.keys(schemas()), "console"].filter((name) => name !== "remote")
    )
  })

  describe.each(all)("(%s)", (name, schema, values) => {
    const ast = encodedOf(schema)
    const [decode, encode] = [Schema.decodeUnknownSync(schema), Schema.encodeSync(schema)]

    it("has every member, and every kind of record", () => {
      const found = new Set(membersOf(ast, name, values))
      assert.deepStrictEqual(
        membersOf(ast, name).filter((path) => !found.has(path)),
        []
      )
    })

    it("is read, and would be written again as it was", () => {
      for (const value of values) assert.deepStrictEqual(encode(decode(value)), value)
    })

    it("is read without the members that a version before it may not have had", () => {
      for (const value of values) {
        const before = mapRecords(ast, value, (record, { propertySignatures }) => {
          const optional = new Set(propertySignatures.flatMap(({ name, isOptional }) => (isOptional ? [name] : [])))
          return Object.fromEntries(Object.entries(record).filter(([name]) => !optional.has(name)))
        })
        decode(before)
      }
    })

    it("is read as before with members of a later version in each record", () => {
      for (const value of values) {
        const later = mapRecords(ast, value, (record) => ({ ...record, later: { more: [1] } }))
        assert.notDeepEqual(later, value)
        assert.deepStrictEqual(decode(later), decode(value))
      }
    })
  })
})

/** The start of a version that finds a state of the next format, with members that it does not know, everywhere. */
const finds = (folder: string, format: number) => `
  const { openSync, readFileSync, writeFileSync } = await import("node:fs")
  const token = globalThis[Symbol.for("exec-server/handover")]
  const image = readFileSync("/proc/self/fd/" + token.image)
  const [bootBytes, stateBytes] = [image.readUInt32LE(12), image.readUInt32LE(16)]
  const [begin, end] = [20 + bootBytes, 20 + bootBytes + stateBytes]
  const maps = ["env", "labels"]
  const changed = (value, name) =>
    Array.isArray(value) ? value.map((item) => changed(item, name))
    : value === null || typeof value !== "object" || maps.includes(name) ? value
    : { ...Object.fromEntries(Object.entries(value).map(([name, item]) => [name, changed(item, name)])), later: { n: 1 } }
  const state = { ...changed(JSON.parse(image.subarray(begin, end))), format: ${format} }
  const text = Buffer.from(JSON.stringify(state))
  image.writeUInt32LE(text.length, 16)
  const path = ${JSON.stringify(join(folder, "image"))}
  writeFileSync(path, Buffer.concat([image.subarray(0, begin), text, image.subarray(end)]))
  token.image = openSync(path)
  await import("./real.js")`

describe("a server over an upgrade whose state is one of the next format", () => {
  it.live("goes on with all of it", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      const server = yield* upgradable()
      const client = yield* ExecClient.connectWebSocket({ url: server.url })
      const env = { PATH: process.env["PATH"] ?? "" }
      const start = (script: string, more: object = {}) =>
        client.start({ argv: ["sh", "-c", script], cwd: folder, env, ...more })
      const restart = { policy: "onFailure", maxRestarts: 3, withinMs: 600_000, backoffMs: 10, maxBackoffMs: 10 }
      const piped = yield* start("echo before; cat; exit 3", { pipeStdin: true })
      const restarted = yield* start("read line; echo again >> again; [ $(wc -l <again) = 2 ]", {
        pipeStdin: true,
        restart
      })
      const typed = yield* start("stty -echo; echo ready; read line; echo got $line; exit 4", { tty: true })
      const first = yield* server.upgrade(yield* versionBeside("9.9.9", finds(folder, State.format + 1)))
      assert.deepInclude(first.carried, { sessions: 1, processes: 3 })
      yield* server.upgrade(binary)
      const output = yield* piped.communicate({ input: "after\n" })
      assert.strictEqual(bytesOf(output.stdout).toString(), "before\nafter\n")
      assert.strictEqual(output.exit.exitCode, 3)
      const { exit, terminal } = yield* typed.communicate({ input: "it\n" })
      assert.include(bytesOf(terminal).toString(), "got it\r\n")
      assert.strictEqual(exit.exitCode, 4)
      yield* restarted.closeStdin
      assert.strictEqual((yield* restarted.closed).exitCode, 0)
      assert.strictEqual(readFileSync(join(folder, "again"), "utf8"), "again\nagain\n")
    }).pipe(Effect.scoped)
  )
})
