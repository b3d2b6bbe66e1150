/** docs/protocol.md has every method, every notification and every error code; the exchanges of all pages are true. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as AST from "effect/SchemaAST"
import { ExecApi } from "../../src/protocol/ExecApi.js"
import { ExecNotifications } from "../../src/protocol/ExecNotifications.js"
import { Code } from "../../src/protocol/Failure.js"
import { nowhere } from "../support/command.js"
import { directory } from "../support/files.js"
import { page, pages, section } from "../support/pages.js"
import { hasBubblewrap, webSocketServer } from "../support/servers.js"
import { isSent, makeContext, messagesOf, play, varying } from "../support/transcript.js"

const protocol = page("docs/protocol.md")

const exchanges = protocol.blocks.filter(({ language }) => language === "json")

/** The names of the members of a schema, at its top. */
const membersOf = (schema: Schema.Schema.All): ReadonlyArray<string> => {
  const names = (ast: AST.AST): ReadonlyArray<string> => {
    switch (ast._tag) {
      case "TypeLiteral":
        return ast.propertySignatures.map(({ name }) => String(name))
      case "Transformation":
        return names(ast.from)
      default:
        return []
    }
  }
  return names(schema.ast)
}

/** What has no place among the members of a request: where it is told of once for all of them. */
const toldElsewhere: { readonly [member: string]: string } = {
  followSymlinks: "fs/readFile",
  session: "Other sessions",
  sandbox: "fs/readFile",
  sandboxPolicy: "fs/readFile",
  environmentInfo: "Handshake",
  capabilities: "Handshake"
}

const names = (text: string, member: string) => new RegExp(`["\`{ ]${member}["\`,}:]|\`${member} \\{`).test(text)

describe("docs/protocol.md", () => {
  it("says which members vary", () => {
    assert.includeMembers([...varying], ["pid", "sessionId", "hostname"])
  })

  for (const [method, rpc] of ExecApi.requests) {
    it(`has ${method}`, () => {
      const text = section(protocol, method === "initialize" ? "Handshake" : method)
      const messages = exchanges.flatMap(messagesOf)
      const asked = messages.flatMap((message, index) => (isSent(message) && message.method === method ? [index] : []))
      assert.isNotEmpty(asked, "no exchange asks for it")
      const answered = exchanges.flatMap((block) => {
        const all = messagesOf(block)
        return all.filter(
          (m) => m.method === method && all.some(({ id, result }) => id === m.id && result !== undefined)
        )
      })
      assert.isNotEmpty(answered, "no exchange has its result")
      for (const member of [...membersOf(rpc.payloadSchema), ...membersOf(rpc.successSchema)]) {
        const elsewhere = toldElsewhere[member]
        const told = names(text, member) || (elsewhere !== undefined && names(section(protocol, elsewhere), member))
        assert.isTrue(told, `it does not tell of ${member}`)
      }
    })
  }

  for (const [method, rpc] of ExecNotifications.requests) {
    it(`has ${method}`, () => {
      const messages = exchanges.flatMap(messagesOf)
      assert.isTrue(
        messages.some((message) => message.method === method),
        "no exchange has it"
      )
      if (method === "initialized") return
      // Two that share a sentence have it under the second one.
      const text = section(protocol, method) + (method === "process/started" ? section(protocol, "process/failed") : "")
      for (const member of membersOf(rpc.payloadSchema))
        assert.isTrue(names(text, member), `it does not tell of ${member}`)
    })
  }

  it("has every error code", () => {
    const table = section(protocol, "Errors")
    for (const code of Object.values(Code)) assert.include(table, `| ${code} |`)
  })

  it("names no method that there is not", () => {
    const known = new Set([...ExecApi.requests.keys(), ...ExecNotifications.requests.keys(), "process/none"])
    for (const [, method = ""] of protocol.text.matchAll(
      /`((?:process|attachment|console|fs|http|environment)\/[\w/]+)`/g
    )) {
      assert.isTrue(known.has(method), method)
    }
  })
})

describe("the exchanges of", () => {
  for (const { path, blocks } of pages) {
    const exchanges = blocks.filter(({ language }) => language === "json")
    if (exchanges.length === 0) continue
    it.scopedLive(path, () =>
      Effect.gen(function* () {
        const args = path === "docs/protocol.md" ? ["--recordings-dir", `${yield* directory}/recordings`] : []
        const server = yield* webSocketServer({ args, env: { ...nowhere, TMPDIR: "" } })
        if (path === "docs/sandbox.md" && !hasBubblewrap) {
          const client = yield* server.connect
          yield* client.handshake()
          for (const { params } of exchanges
            .flatMap(messagesOf)
            .filter(({ params }) => params?.sandbox !== undefined)) {
            const method = params.argv === undefined ? "fs/readFile" : "process/start"
            assert.strictEqual((yield* client.call(method, params)).error.code, -32600)
          }
          return
        }
        const context = yield* makeContext
        for (const block of exchanges) yield* play(block, server.connect, context)
      })
    )
  }
})
