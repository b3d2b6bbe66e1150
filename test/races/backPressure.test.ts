import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { ExitStatus } from "../../src/spawn/Child.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import type { Connector } from "../../src/transport/Memory.js"
import { fill, serverLayer, settle } from "../support/fake.js"
import { memoryClient } from "../support/servers.js"

type Server = Connector | FakeSpawner | Scope.Scope

const test = (title: string, body: Effect.Effect<unknown, unknown, Server>) =>
  it.scoped(title, () => body.pipe(Effect.provide(serverLayer())))

/** More than a peer may have unsent; less than what is retained. */
const muchBytes = 900_000

/** A client that does not take what it is sent, and whose process is paused for it. */
const congested = Effect.gen(function* () {
  const client = yield* memoryClient
  const { sessionId } = yield* client.handshake()
  yield* client.start("p", ["program"], { pipeStdin: true })
  yield* client.start("quiet", ["program"])
  yield* settle
  client.carrier.pause()
  const fake = yield* FakeSpawner
  const child = yield* fake.child(0)
  child.emit("stdout", fill(muchBytes))
  yield* settle
  assert.isTrue(child.paused)
  return { client, sessionId, child, quiet: yield* fake.child(1) }
})

describe("a process that is paused because its client takes nothing", () => {
  test(
    "is read again once the client has taken everything, and nothing is missing",
    Effect.gen(function* () {
      const { client, child, quiet } = yield* congested
      assert.isFalse(quiet.paused)
      child.emit("stdout", "held")
      client.carrier.resume()
      yield* client.sees("p", "held")
      yield* settle
      assert.isFalse(child.paused)
      assert.lengthOf(client.output("p"), muchBytes + "held".length)
    })
  )

  test(
    "is read again when its connection is lost, so that it does not stand still in the detached session",
    Effect.gen(function* () {
      const { client, sessionId, child } = yield* congested
      client.carrier.close()
      // The client's own end comes only with what it has not taken; the server's comes by itself.
      yield* settle
      yield* settle
      assert.isFalse(child.paused)
      child.emit("stdout", "meanwhile")
      child.finish(0)
      const next = yield* memoryClient
      next.knows("p")
      yield* next.resume(sessionId)
      const read = yield* next.ask("process/read", { processId: "p", afterSeq: 14 })
      assert.deepInclude(read, { exited: true, closed: true, truncated: false })
      const [last] = read.chunks.slice(-1)
      assert.strictEqual(Buffer.from(last.chunk, "base64").toString(), "meanwhile")
    })
  )

  test(
    "whose leader exits while it is paused: the exit is told, and closed after the output that was held up",
    Effect.gen(function* () {
      const { client, child } = yield* congested
      child.emit("stdout", "tail")
      child.exit(ExitStatus.Exited({ code: 0 }))
      child.endOutput()
      yield* settle
      client.carrier.resume()
      yield* client.closed("p")
      const tail = client.output("p").subarray(muchBytes).toString()
      assert.strictEqual(tail, "tail")
    })
  )

  test(
    "can be written to, resized and ended meanwhile",
    Effect.gen(function* () {
      const { client, child } = yield* congested
      // A request of a client that takes no answers is not even read: these come with the client's next breath.
      client.post("process/write", { processId: "p", chunk: Buffer.from("in").toString("base64") })
      client.post("process/terminate", { processId: "p" })
      client.carrier.resume()
      yield* client.closed("p")
      assert.strictEqual(child.written, "in")
      assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
    })
  )

  test(
    "holds up no other client, and no process of one",
    Effect.gen(function* () {
      const { child } = yield* congested
      const other = yield* memoryClient
      yield* other.handshake()
      yield* other.start("p", ["program"])
      yield* settle
      const theirs = yield* (yield* FakeSpawner).child(2)
      theirs.emit("stdout", fill(muchBytes))
      theirs.finish(0)
      yield* other.closed("p")
      assert.lengthOf(other.output("p"), muchBytes)
      assert.isTrue(child.paused)
    })
  )
})
