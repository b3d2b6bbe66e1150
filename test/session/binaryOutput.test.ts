/** Output in binary frames: who gets them, and what they hold. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import * as BinaryFrame from "../../src/protocol/BinaryFrame.js"
import { ProcessId } from "../../src/protocol/Ids.js"
import { relayPair } from "../support/relay.js"
import { stdioClient, webSocketServer } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"

describe("the frame", () => {
  it("has its members where the protocol says", () => {
    const id = BinaryFrame.encodeId(ProcessId.make("é")) ?? Buffer.alloc(0)
    const frame = BinaryFrame.encode(id, 2 ** 32 + 7, "stderr", Buffer.from([0, 255]))
    assert.strictEqual(frame.toString("hex"), "01020002c3a9000000010000000700ff")
    assert.deepStrictEqual(
      BinaryFrame.decode(frame),
      Either.right({
        processId: ProcessId.make("é"),
        seq: 2 ** 32 + 7,
        stream: "stderr" as const,
        chunk: Buffer.from([0, 255])
      })
    )
  })

  it("an empty id and an empty chunk are as good as any", () => {
    for (const stream of ["stdout", "stderr", "pty"] as const) {
      const decoded = BinaryFrame.decode(BinaryFrame.encode(Buffer.alloc(0), 1, stream, Buffer.alloc(0)))
      assert.deepStrictEqual(Either.getOrThrow(decoded), {
        processId: ProcessId.make(""),
        seq: 1,
        stream,
        chunk: Buffer.alloc(0)
      })
    }
  })

  it("an id that is too long has none", () => {
    assert.strictEqual(BinaryFrame.encodeId(ProcessId.make("x".repeat(65_535)))?.length, 65_535)
    assert.isUndefined(BinaryFrame.encodeId(ProcessId.make("é".repeat(32_768))))
  })

  for (const [what, hex] of [
    ["nothing", ""],
    ["another kind", "02010001610000000000000001"],
    ["no stream", "01000001610000000000000001"],
    ["another stream", "01040001610000000000000001"],
    ["an id that is cut off", "0101000361"],
    ["a seq that is cut off", "010100016100000000000000"],
    ["an id that is not UTF-8", "01010001ff0000000000000001"],
    ["a seq that no number holds", "010100016100200000000000000001"]
  ] as const) {
    it(`refuses ${what}`, () => assert.isTrue(Either.isLeft(BinaryFrame.decode(Buffer.from(hex, "hex")))))
  }
})

describe("binaryOutput", () => {
  const places: ReadonlyArray<readonly [string, Effect.Effect<TestClient, never, Scope.Scope>]> = [
    ["on WebSocket", Effect.flatMap(webSocketServer(), ({ connect }) => connect)],
    ["over a relay", relayPair]
  ]
  it.scopedLive.each(places)("is granted %s to who asks, and output alone comes in frames", ([, connected]) =>
    Effect.gen(function* () {
      const client = yield* connected
      const { capabilities } = yield* client.handshake({ resumeSessionId: null, capabilities: { binaryOutput: true } })
      assert.deepStrictEqual(capabilities, { binaryOutput: true })
      yield* client.sh("p", "printf out; printf err >&2")
      yield* client.closed("p")
      assert.strictEqual(client.output("p").toString(), "out")
      assert.strictEqual(client.output("p", "stderr").toString(), "err")
      for (const message of client.messages) {
        assert.strictEqual(message.binary === true, message.method === "process/output", message.method)
      }
      const id = "x".repeat(1024)
      yield* client.sh(id, "echo long")
      yield* client.closed(id)
      assert.strictEqual(client.output(id).toString(), "long\n")
    })
  )

  it.scopedLive("is not granted to who does not ask, nor on stdio", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const plain = yield* server.connect
      assert.deepStrictEqual((yield* plain.handshake()).capabilities, {})
      const { client } = yield* stdioClient()
      const { capabilities } = yield* client.handshake({ capabilities: { binaryOutput: true } })
      assert.deepStrictEqual(capabilities, {})
      for (const each of [plain, client]) {
        yield* each.sh("p", "echo text")
        yield* each.closed("p")
        assert.isTrue(each.messages.every(({ binary }) => binary === undefined))
      }
    })
  )
})
