import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Failure from "../../src/protocol/Failure.js"
import { id } from "../support/fake.js"

const processId = id("p")

describe("Failure", () => {
  const cases: ReadonlyArray<readonly [failure: Failure.Failure, code: number, message: string]> = [
    [new Failure.HandshakeOrder({ message: "m" }), -32600, "m"],
    [new Failure.InvalidParams({ message: "argv must not be empty" }), -32602, "argv must not be empty"],
    [new Failure.UnknownProcess({ processId }), -32600, "unknown process id p"],
    [new Failure.ProcessStarting({ processId }), -32600, "process id p is starting"],
    [new Failure.ProcessExists({ processId }), -32600, "process p already exists"],
    [
      new Failure.SpawnFailed({ message: "Permission denied (os error 13)" }),
      -32603,
      "Permission denied (os error 13)"
    ],
    [new Failure.StdinClosed({ processId }), -32600, "stdin is closed for process p"],
    [new Failure.NotAllowed({ message: "m" }), -32600, "m"],
    [new Failure.HttpFailed({ message: "m" }), -32603, "m"],
    [new Failure.UnknownSession({ sessionId: "s" }), -32600, "unknown session id s"],
    [new Failure.SessionAttached({ sessionId: "s" }), -32010, "session s is already attached to another connection"],
    [new Failure.FileNotFound({ message: "m" }), -32004, "m"],
    [new Failure.FileRefused({ message: "m" }), -32600, "m"],
    [new Failure.FileFailed({ message: "m" }), -32603, "m"],
    [new Failure.UnknownFileHandle({ handleId: "h1" }), -32004, "unknown file handle `h1`"],
    [new Failure.UnknownAttachment({ attachmentId: 7 }), -32004, "unknown attachment id 7"],
    [new Failure.ScreenFailed({ message: "no screen" }), -32603, "no screen"]
  ]
  for (const [failure, code, message] of cases) {
    it(`${failure._tag}: ${code} ${message}`, () => {
      assert.strictEqual(Failure.codeOf(failure), code)
      assert.strictEqual(failure.message, message)
    })
  }

  it("all go through their schema, as for a client and a server of @effect/rpc, and come back the same", () => {
    const all = [...cases.map(([failure]) => failure), new Failure.LimitReached({ limit: "a", value: 1, advice: "b" })]
    for (const failure of all) {
      const json: unknown = JSON.parse(JSON.stringify(Schema.encodeSync(Failure.Failure)(failure)))
      assert.strictEqual((json as { readonly _tag: string })._tag, failure._tag)
      const decoded = Schema.decodeUnknownSync(Failure.Failure)(json)
      assert.strictEqual(decoded.constructor, failure.constructor)
      assert.strictEqual(decoded.message, failure.message)
      assert.strictEqual(Failure.codeOf(decoded), Failure.codeOf(failure))
    }
    assert.throws(() => Schema.decodeUnknownSync(Failure.Failure)({ _tag: "SpawnFailed" }))
  })

  it("a limit is named with its value, and what to do about it", () => {
    const failure = new Failure.LimitReached({ limit: "maxSessions", value: 3, advice: "end some" })
    assert.strictEqual(Failure.codeOf(failure), -32600)
    for (const part of ["maxSessions", "3", "end some"]) assert.include(failure.message, part)
  })

  it("a process without a terminal is named, and what would help", () => {
    const failure = new Failure.NotATerminal({ processId })
    assert.strictEqual(Failure.codeOf(failure), -32600)
    assert.match(failure.message, /process p .*tty/)
  })
})
