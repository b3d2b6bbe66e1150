/** `schema`: the OpenRPC document and the JSON Schema are valid, and true of what a server sends and accepts. */

import { assert, describe, it } from "@effect/vitest"
import openRpc from "@open-rpc/meta-schema"
import { Ajv, type ValidateFunction } from "ajv"
import * as Effect from "effect/Effect"
import { ExecApi } from "../../src/protocol/ExecApi.js"
import { ExecNotifications } from "../../src/protocol/ExecNotifications.js"
import { Code } from "../../src/protocol/Failure.js"
import { command, isOneLine, nowhere } from "../support/command.js"
import { directory } from "../support/files.js"
import { page } from "../support/pages.js"
import { webSocketServer } from "../support/servers.js"
import type { Json, TestClient } from "../support/TestClient.js"
import { makeContext, play } from "../support/transcript.js"

const printed = (...args: ReadonlyArray<string>) =>
  Effect.map(command(["schema", ...args]), ({ code, stdout, stderr }) => {
    assert.deepStrictEqual([code, stderr], [0, ""])
    return stdout
  })

const document: Effect.Effect<Json> = Effect.map(printed(), (text) => JSON.parse(text))

/** Throws unless the value is as the schema says. */
const holds = (what: string, is: ValidateFunction | undefined, value: Json): void => {
  assert.isDefined(is, `${what} is not described`)
  const found = is?.(value)
  assert.isTrue(found, `${what}: ${JSON.stringify(is?.errors)} of ${JSON.stringify(value).slice(0, 1000)}`)
}

/** What is sent, by the name of the method. */
interface Described {
  readonly params: ReadonlyMap<string, ValidateFunction>
  readonly results: ReadonlyMap<string, ValidateFunction>
  /** The parameters of notifications. */
  readonly notifications: ReadonlyMap<string, ValidateFunction>
}

/** The schemas of the document, closed: a member that it does not have is a fault of its. */
const describedBy = (document: Json): Described => {
  const ajv = new Ajv({ strict: false, validateFormats: false })
  const closed = JSON.parse(
    JSON.stringify(document).replaceAll('"additionalProperties":true', '"additionalProperties":false')
  )
  ajv.addSchema({ $id: "openrpc", ...closed })
  const compiled = ({ $ref }: Json) => ajv.compile({ $ref: `openrpc${$ref}` })
  const requests = document.methods.filter(({ result }: Json) => result !== undefined)
  const notifications = document.methods.filter(({ result }: Json) => result === undefined)
  return {
    params: new Map(requests.map((method: Json) => [method.name, compiled(method["x-params"])])),
    results: new Map(requests.map((method: Json) => [method.name, compiled(method.result.schema)])),
    notifications: new Map(
      notifications.map((method: Json) => [method["x-method"] ?? method.name, compiled(method["x-params"])])
    )
  }
}

/** What no exchange of the page shows: a viewer that gets a screen, because it has not read. */
const fallBehind = (client: TestClient) =>
  Effect.gen(function* () {
    yield* client.handshake()
    yield* client.sh("p", "read line; head -c 2000000 /dev/zero | tr '\\0' x", { tty: true })
    const { attachmentId } = yield* client.ask("process/attach", {
      processId: "p",
      from: { type: "live" },
      window: 16_384
    })
    client.raw(JSON.stringify({ method: "attachment/ack", params: { attachmentId, seq: 0 } }))
    yield* client.write("p", "\n")
    yield* client.closed("p")
    const ofViewer = /^attachment\/(output|screen)$/
    let seq = 0
    while (client.messages.every(({ method }) => method !== "attachment/screen")) {
      const next = yield* client.message("more", ({ method, params }) => ofViewer.test(method) && params.seq > seq)
      seq = next.params.seq
      client.raw(JSON.stringify({ method: "attachment/ack", params: { attachmentId, seq } }))
    }
  })

describe("exec-server schema", () => {
  it.live("prints an OpenRPC document", () =>
    Effect.gen(function* () {
      const meta = JSON.stringify(openRpc)
        .replaceAll(
          "https://meta.json-schema.tools/#/definitions/JSONSchemaObject/",
          "http://json-schema.org/draft-07/schema#/"
        )
        .replaceAll(/https:\/\/meta\.json-schema\.tools\/?/g, "http://json-schema.org/draft-07/schema#")
      const ajv = new Ajv({ strict: false, validateFormats: false })
      const found = yield* document
      holds("the document", ajv.compile(JSON.parse(meta)), found)
      assert.strictEqual(found.openrpc, "1.3.2")
      const names = found.methods.map(({ name }: Json) => name)
      assert.strictEqual(new Set(names).size, names.length)
    })
  )

  it.live("has every method with its words, and every error code", () =>
    Effect.gen(function* () {
      const found = yield* document
      const described = describedBy(found)
      assert.sameMembers([...described.params.keys()], [...ExecApi.requests.keys()])
      assert.sameMembers([...described.notifications.keys()], [...ExecNotifications.requests.keys()])
      for (const { name, summary, description, ...method } of found.methods) {
        assert.match(summary, /\.$/, name)
        assert.isTrue(description.length >= summary.length, name)
        assert.strictEqual(method.paramStructure, "by-name", name)
        assert.include(["clientToServer", "serverToClient"], method["x-direction"], name)
      }
      const codes = Object.values(found.components.errors).map(({ code, message }: Json) => {
        assert.isNotEmpty(message)
        return code
      })
      assert.sameMembers(codes, Object.values(Code))
    })
  )

  it.scopedLive("is true of what is sent: every request, its answer and every notification", () =>
    Effect.gen(function* () {
      const { params, results, notifications } = describedBy(yield* document)
      const seen = { params: new Set<string>(), results: new Set<string>(), notifications: new Set<string>() }
      const recordings = `${yield* directory}/recordings`
      const server = yield* webSocketServer({ args: ["--recordings-dir", recordings], env: { ...nowhere, TMPDIR: "" } })
      const connections: Array<Array<{ readonly sender: "client" | "server"; readonly text: string }>> = []
      const connect = Effect.tap(server.connect, (client) =>
        Effect.sync(() => {
          const traffic: (typeof connections)[number] = []
          connections.push(traffic)
          client.onTraffic = (sender, text) => traffic.push({ sender, text })
        })
      )
      const context = yield* makeContext
      const exchanges = page("docs/protocol.md").blocks.filter(({ language }) => language === "json")
      for (const block of exchanges) yield* play(block, connect, context)
      yield* Effect.scoped(Effect.flatMap(connect, fallBehind))

      const errors: Array<number> = []
      for (const traffic of connections) {
        const asked = new Map<unknown, Json>()
        for (const { sender, text } of traffic) {
          const message = JSON.parse(text)
          const { id, method, result, error } = message
          if (method !== undefined && id === undefined) {
            holds(method, notifications.get(method), message.params ?? {})
            seen.notifications.add(method)
          } else if (sender === "client") asked.set(id, message)
          else if (error !== undefined) errors.push(error.code)
          else {
            const request = asked.get(id)
            holds(`the parameters of ${request.method}`, params.get(request.method), request.params ?? {})
            seen.params.add(request.method)
            holds(`the result of ${request.method}`, results.get(request.method), result)
            seen.results.add(request.method)
          }
        }
      }
      assert.sameMembers([...seen.params], [...params.keys()])
      assert.sameMembers([...seen.results], [...results.keys()])
      assert.sameMembers([...seen.notifications], [...notifications.keys()])
      assert.isNotEmpty(errors)
      for (const code of errors) assert.include(Object.values(Code), code)
    })
  )

  it.scopedLive("requires what the server requires", () =>
    Effect.gen(function* () {
      const found = yield* document
      const server = yield* webSocketServer({ env: nowhere })
      const client = yield* server.connect
      yield* client.handshake()
      for (const { name, params, result } of found.methods) {
        if (result === undefined || name === "initialize") continue
        const required = params.filter((param: Json) => param.required).map((param: Json) => param.name)
        const { error } = yield* client.call(name, {})
        assert.strictEqual(error?.code === Code.invalidParams, required.length > 0, `${name}: ${JSON.stringify(error)}`)
        if (required.length > 0)
          assert.include(
            required.map((name: string) => `missing field \`${name}\``),
            error.message
          )
      }
    })
  )

  it.live("prints a JSON Schema of the messages", () =>
    Effect.gen(function* () {
      const schema = JSON.parse(yield* printed("--format", "jsonschema"))
      const ajv = new Ajv({ strict: false, validateFormats: false })
      assert.isTrue(ajv.validateSchema(schema), JSON.stringify(ajv.errors))
      const is = ajv.compile(schema)
      const start = { processId: "p1", argv: ["true"], cwd: "/", env: {}, tty: false }
      const right = [
        { id: 1, method: "process/start", params: start },
        { id: "a", method: "process/list" },
        { method: "process/ack", params: { processId: "p1", seq: 1 } },
        { method: "attachment/screen", params: { attachmentId: 1, seq: 1, size: null, screen: null, skippedBytes: 1 } },
        { id: 1, result: {} },
        { id: 1, error: { code: -32600, message: "no" } }
      ]
      for (const message of right) holds("a message", is, message)
      const wrong = [
        { id: 1, method: "process/start", params: { ...start, argv: "true" } },
        { id: 1, method: "process/start" },
        { id: 1, method: "process/none", params: {} },
        { method: "process/ack", params: { processId: 1, seq: 1 } },
        { id: 1 },
        []
      ]
      for (const message of wrong) assert.isFalse(is(message), JSON.stringify(message))
    })
  )

  it.live("refuses what it does not print", () =>
    Effect.gen(function* () {
      for (const args of [
        ["--format", "yaml"],
        ["--client", "cobol"],
        ["--format", "openrpc", "--client", "python"]
      ]) {
        const { code, stderr, stdout } = yield* command(["schema", ...args])
        assert.deepStrictEqual([code, stdout], [2, ""])
        isOneLine(stderr)
      }
    })
  )
})
