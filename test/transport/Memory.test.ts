import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { Peer } from "../../src/session/Peer.js"
import { Connector, layer } from "../../src/transport/Memory.js"
import { Transport } from "../../src/transport/Transport.js"
import { settle } from "../support/fake.js"

/** One connection whose server end writes down what it is told and does nothing by itself. */
const connected = (listenAtOnce = true) =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const { connect } = yield* Connector
    const heard: Array<string> = []
    const got: Array<string> = []
    const accepted = yield* Deferred.make<Peer>()
    const listen = (peer: Peer) =>
      peer.listen({
        onMessage: (text) => heard.push(text),
        onMalformed: (detail) => heard.push(`malformed: ${detail}`),
        onDrain: () => heard.push("drain"),
        onEnd: () => heard.push("end")
      })
    yield* Effect.forkScoped(
      transport.run((peer) =>
        Effect.gen(function* () {
          if (listenAtOnce) listen(peer)
          yield* Deferred.succeed(accepted, peer)
          return yield* Effect.never
        })
      )
    )
    const link = connect({
      onMessage: (text) => got.push(text),
      onEnd: (ending) => got.push(`end ${ending?.code ?? "by the client"}`)
    })
    const peer = yield* Deferred.await(accepted)
    yield* settle
    return { link, peer, heard, got, listen: () => listen(peer) }
  })

const test = (title: string, body: Effect.Effect<unknown, never, Transport | Connector | Scope.Scope>) =>
  it.scoped(title, () => body.pipe(Effect.provide(layer)))

describe("Memory", () => {
  test(
    "carries messages both ways, in order, and never within the call that sends them",
    Effect.gen(function* () {
      const { link, peer, heard, got } = yield* connected()
      for (const text of ["a", "b", "c"]) link.send(text)
      for (const text of ["x", "y"]) peer.send(text)
      assert.deepStrictEqual([heard, got], [[], []])
      yield* settle
      assert.deepStrictEqual(
        heard.filter((text) => text !== "drain"),
        ["a", "b", "c"]
      )
      assert.deepStrictEqual(got, ["x", "y"])
    })
  )

  test(
    "can be resumed, unlike stdio",
    Effect.gen(function* () {
      assert.isTrue((yield* connected()).peer.resumable)
    })
  )

  test(
    "keeps for a paused client what is sent, counts it, and reports the drain",
    Effect.gen(function* () {
      const { link, peer, heard, got } = yield* connected()
      link.pause()
      peer.send("12345")
      peer.send("678")
      yield* settle
      assert.strictEqual(peer.buffered(), 8)
      assert.deepStrictEqual([heard, got], [[], []])
      link.resume()
      yield* settle
      assert.strictEqual(peer.buffered(), 0)
      assert.deepStrictEqual(got, ["12345", "678"])
      assert.deepStrictEqual(heard, ["drain"])
    })
  )

  test(
    "keeps for a paused server what is sent",
    Effect.gen(function* () {
      const { link, peer, heard } = yield* connected()
      peer.pause()
      link.send("a")
      yield* settle
      link.send("b")
      yield* settle
      assert.deepStrictEqual(heard, [])
      peer.resume()
      yield* settle
      assert.deepStrictEqual(heard, ["a", "b"])
    })
  )

  test(
    "the client's end comes after all it sent, once, on both sides",
    Effect.gen(function* () {
      const { link, heard, got } = yield* connected()
      link.send("a")
      link.close()
      link.close()
      yield* settle
      link.send("b")
      yield* settle
      assert.deepStrictEqual(heard, ["a", "end"])
      assert.deepStrictEqual(got, ["end by the client"])
    })
  )

  test(
    "the client's end reaches a server that was paused, after all that was sent",
    Effect.gen(function* () {
      const { link, peer, heard } = yield* connected()
      peer.pause()
      link.send("a")
      yield* settle
      link.close()
      yield* settle
      assert.deepStrictEqual(heard, ["a", "end"])
    })
  )

  test(
    "the server's end comes after all it sent, and with its reason",
    Effect.gen(function* () {
      const { peer, heard, got } = yield* connected()
      peer.send("last")
      peer.close({ code: 1002, reason: "because" })
      peer.send("too late")
      yield* settle
      assert.strictEqual(got[0], "last")
      assert.strictEqual(got.at(-1), "end 1002")
      assert.strictEqual(heard.at(-1), "end")
    })
  )

  test(
    "what was sent before the server listens is delivered once it does",
    Effect.gen(function* () {
      const { link, heard, listen } = yield* connected(false)
      link.send("a")
      yield* settle
      listen()
      yield* settle
      assert.deepStrictEqual(heard, ["a"])
    })
  )

  test(
    "a client that is gone before the server listens: what it sent is delivered, and then its end",
    Effect.gen(function* () {
      const { link, heard, listen } = yield* connected(false)
      link.send("a")
      link.close()
      yield* settle
      listen()
      yield* settle
      assert.deepStrictEqual(heard, ["a", "end"])
    })
  )

  test(
    "the end is told to the server once, also when it begins to listen in that moment",
    Effect.gen(function* () {
      const { link, heard, listen } = yield* connected(false)
      link.close()
      listen()
      yield* settle
      assert.deepStrictEqual(heard, ["end"])
    })
  )

  test(
    "no message comes to a client after its end",
    Effect.gen(function* () {
      const { link, peer, heard, got } = yield* connected()
      link.close()
      yield* settle
      peer.send("too late")
      yield* settle
      assert.deepStrictEqual([heard, got], [["end"], ["end by the client"]])
    })
  )

  test(
    "no drain is told to a server after its end",
    Effect.gen(function* () {
      const { link, peer, heard } = yield* connected()
      link.pause()
      peer.send("not taken")
      peer.close({ code: 1001, reason: "" })
      yield* settle
      link.resume()
      yield* settle
      assert.deepStrictEqual(heard, ["end"])
    })
  )

  test(
    "a client that connects before the server runs is served when it does",
    Effect.gen(function* () {
      const transport = yield* Transport
      const { connect } = yield* Connector
      const got: Array<string> = []
      connect({ onMessage: (text) => got.push(text), onEnd: () => {} })
      const running = yield* Effect.fork(
        transport.run((peer) =>
          Effect.zipRight(
            Effect.sync(() => peer.send("hello")),
            Effect.never
          )
        )
      )
      yield* settle
      yield* settle
      assert.deepStrictEqual(got, ["hello"])
      yield* Fiber.interrupt(running)
    })
  )

  test(
    "the interruption of the server interrupts those who serve, and waits for them",
    Effect.gen(function* () {
      const transport = yield* Transport
      const { connect } = yield* Connector
      let ended = 0
      const running = yield* Effect.fork(
        transport.run(() =>
          Effect.never.pipe(
            Effect.onInterrupt(() =>
              Effect.zipRight(
                settle,
                Effect.sync(() => ended++)
              )
            )
          )
        )
      )
      yield* settle
      connect({ onMessage: () => {}, onEnd: () => {} })
      connect({ onMessage: () => {}, onEnd: () => {} })
      yield* settle
      yield* Fiber.interrupt(running)
      assert.strictEqual(ended, 2)
    })
  )
})
