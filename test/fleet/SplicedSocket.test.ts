/** Two sockets whose bytes go from one to the other: whole, in order, with an end each way, and no faster than they are read. */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { Duplex, PassThrough } from "node:stream"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as SplicedSocket from "../../src/fleet/SplicedSocket.js"
import * as Upstream from "../../src/fleet/Upstream.js"
import { random } from "../support/random.js"
import { eventually } from "../support/servers.js"

/** A connection: the end that a server has accepted, and the other one. */
const connection = Effect.acquireRelease(
  Effect.async<{ readonly accepted: Socket; readonly far: Socket }>((resume) => {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (accepted) => {
      server.close()
      resume(Effect.succeed({ accepted, far }))
    })
    let far: Socket
    server.listen(0, "127.0.0.1", () => {
      far = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", allowHalfOpen: true })
    })
  }),
  ({ accepted, far }) =>
    Effect.sync(() => {
      accepted.destroy()
      far.destroy()
    })
)

const none = { toOne: Buffer.alloc(0), toOther: Buffer.alloc(0) }

/** Writes pieces of any size, and then the end. Gives the hash of all, and of what was sent before. */
const writeAll = (socket: Duplex, seed: number, pieces: number, before = "") =>
  Effect.async<string>((resume) => {
    const next = random(seed)
    const hash = createHash("sha256").update(before)
    const go = (left: number): void => {
      if (left === 0) return void socket.end(() => resume(Effect.succeed(hash.digest("hex"))))
      const piece = Buffer.alloc(1 + Math.floor(next() ** 4 * 600_000), Math.floor(next() * 256))
      hash.update(piece)
      if (socket.write(piece)) return void setImmediate(go, left - 1)
      socket.once("drain", () => go(left - 1))
    }
    go(pieces)
  })

const readAll = (socket: Duplex) =>
  Effect.async<string>((resume) => {
    const hash = createHash("sha256")
    socket.on("data", (bytes) => hash.update(bytes))
    socket.once("end", () => resume(Effect.succeed(hash.digest("hex"))))
  })

describe("spliced sockets", () => {
  for (const seed of [1, 2, 3]) {
    it.scopedLive(`carry what is written, both ways at once, and each end: seed ${seed}`, () =>
      Effect.gen(function* () {
        const [one, two] = [yield* connection, yield* connection]
        const ends = SplicedSocket.ends(one.accepted, two.accepted)
        assert.notStrictEqual(ends[0].socket, one.accepted, "it is not `pipe`")
        const over = yield* Effect.fork(Upstream.splice(ends, { ...none, toOther: Buffer.from("first") }))
        const [sent, received, back, answered] = yield* Effect.all(
          [
            writeAll(one.far, seed, 150, "first"),
            readAll(two.far),
            writeAll(two.far, seed + 10, 150),
            readAll(one.far)
          ],
          { concurrency: "unbounded" }
        )
        assert.strictEqual(received, sent)
        assert.strictEqual(answered, back)
        yield* over.await
        yield* eventually("both have ended", () => one.accepted.destroyed && two.accepted.destroyed)
      })
    )
  }

  it.scopedLive("do not read on while nobody reads at the other end", () =>
    Effect.gen(function* () {
      const [one, two] = [yield* connection, yield* connection]
      const ends = SplicedSocket.ends(one.accepted, two.accepted)
      yield* Effect.forkScoped(Upstream.splice(ends, none))
      two.far.pause()
      const piece = Buffer.alloc(1_000_000)
      // What the system takes for the sockets is bounded too.
      while (one.far.writableLength < 2 * piece.length && one.far.bytesWritten < 200_000_000) {
        one.far.write(piece)
        yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 20)))
      }
      assert.isAtLeast(one.far.writableLength, 2 * piece.length)
      assert.isAtMost(ends[1].socket.writableLength, 1_048_576)
      const written = one.far.bytesWritten
      let read = 0
      two.far.on("data", ({ length }) => {
        read += length
      })
      two.far.resume()
      yield* eventually("all is read", () => read === written, 30_000)
    })
  )

  it.scopedLive("end with the sockets that they were made of, and the other way round", () =>
    Effect.gen(function* () {
      for (const end of ["accepted", "far"] as const) {
        const [one, two] = [yield* connection, yield* connection]
        const over = yield* Effect.fork(Upstream.splice(SplicedSocket.ends(one.accepted, two.accepted), none))
        one[end].destroy()
        two.far.resume().once("end", () => two.far.destroy())
        yield* over.await
        yield* eventually("all have ended", () => one.accepted.destroyed && two.accepted.destroyed)
      }
      const [one, two] = [yield* connection, yield* connection]
      const over = yield* Effect.fork(Upstream.splice(SplicedSocket.ends(one.accepted, two.accepted), none))
      const ended = readAll(one.far)
      one.accepted.end()
      yield* ended
      one.far.destroy()
      two.far.resume().once("end", () => two.far.destroy())
      yield* over.await
    })
  )

  it.scopedLive("are what they were where a connection cannot be taken over", () =>
    Effect.gen(function* () {
      const { accepted, far } = yield* connection
      const [inwards, outwards] = [new PassThrough(), new PassThrough()]
      const stream = Duplex.from({ readable: inwards, writable: outwards })
      const ends = SplicedSocket.ends(accepted, stream)
      assert.deepEqual(
        ends.map(({ socket }) => socket),
        [accepted, stream]
      )
      yield* Effect.forkScoped(Upstream.splice(ends, none))
      const [sent, received] = yield* Effect.all([writeAll(far, 1, 30), readAll(outwards)], { concurrency: 2 })
      assert.strictEqual(received, sent)
    })
  )
})
