/** A client that does not take a body stops its download, and harms nobody. */
import { once } from "node:events"
import type { ServerResponse } from "node:http"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WebSocket } from "ws"
import { eventually, residentMb, webSocketCarrier, webSocketServer } from "../support/servers.js"
import { TestClient } from "../support/TestClient.js"
import { deltas, fetched, httpParams, opened, rawUpstream, streamed, upstream } from "../support/upstream.js"

const mb = 1_000_000

/** Answers with that many bytes, as fast as they are taken; gives how many all answers have taken so far. */
const pour = (total: number) => {
  const piece = Buffer.alloc(65536, "x")
  let written = 0
  const respond = (response: ServerResponse) => {
    let left = total
    response.writeHead(200, { "content-length": total })
    const more = () => {
      while (left > 0 && !response.destroyed) {
        const chunk = piece.subarray(0, Math.min(piece.length, left))
        left -= chunk.length
        written += chunk.length
        if (!response.write(chunk)) return void response.once("drain", more)
      }
      response.end()
    }
    more()
  }
  return { respond, written: () => written }
}

/** Waits until a number has not changed for a while. */
const stands = (what: string, read: () => number, forMs = 1000) => {
  let last = read()
  let since = Date.now()
  return eventually(
    `${what} stands still`,
    () => {
      if (read() !== last) {
        last = read()
        since = Date.now()
      }
      return last > 0 && Date.now() - since > forMs
    },
    30_000
  )
}

describe("a client that does not read", () => {
  it.scopedLive("stops a download of 1 GB after a few MB, keeps the server small, and ends it by leaving", () =>
    Effect.gen(function* () {
      const source = pour(1000 * mb)
      const { url, open } = yield* upstream(source.respond)
      const server = yield* webSocketServer()
      const ws = new WebSocket(server.url, { perMessageDeflate: false })
      const client = new TestClient(webSocketCarrier(ws))
      yield* Effect.promise(() => once(ws, "open"))
      const other = yield* server.connect
      yield* client.handshake()
      yield* other.handshake()
      yield* fetched(other, (yield* upstream((response) => response.end("ok"))).url)
      const before = residentMb(server.pid)
      client.carrier.pause()
      client.post("http/request", httpParams(url, { streamResponse: true }))
      yield* stands("the download", source.written)
      assert.isBelow(source.written(), 40 * mb)
      assert.isBelow(residentMb(server.pid) - before, 60)
      // Nothing that was asked for after it is read either, until the client listens again.
      const small = yield* upstream((response) => response.end("ok"))
      client.post("http/request", httpParams(small.url))
      assert.strictEqual((yield* fetched(other, small.url)).body, "ok")
      assert.lengthOf(small.arrived, 1)
      ws.terminate()
      yield* eventually("the download is aborted", () => open() === 0)
      assert.isBelow(source.written(), 40 * mb)
    })
  )

  it.scopedLive("and then reads gets every byte, at its own pace, and the server stays small", () =>
    Effect.gen(function* () {
      const total = 200 * mb
      const source = pour(total)
      const { url } = yield* upstream(source.respond)
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      yield* opened(client, url)
      const before = residentMb(server.pid)
      let received = 0
      let seq = 0
      let most = 0
      for (let round = 1; seq >= 0; round++) {
        const all = deltas(client)
        for (const delta of all) {
          assert.strictEqual(delta.seq, ++seq)
          received += Buffer.byteLength(delta.deltaBase64, "base64")
        }
        client.messages.length = 0
        most = Math.max(most, residentMb(server.pid))
        assert.isBelow(source.written() - received, 40 * mb)
        if (all.some(({ done }) => done)) break
        // Twenty breaks.
        if (received > (total / 20) * round) {
          client.carrier.pause()
          yield* stands("the download", source.written, 50)
          client.carrier.resume()
        } else yield* client.notified("http/request/bodyDelta")
      }
      assert.strictEqual(received, total)
      assert.isBelow(most - before, 80)
    })
  )

  it.scopedLive("does not make bodies pile up that are not streamed", () =>
    Effect.gen(function* () {
      const big = pour(30 * mb)
      const server = yield* webSocketServer()
      const { url } = yield* upstream(big.respond)
      const later = pour(20 * mb)
      const { url: held, arrived } = yield* upstream((response) => setTimeout(() => later.respond(response), 500))
      const client = yield* server.connect
      yield* client.handshake()
      const before = residentMb(server.pid)
      client.carrier.pause()
      const first = client.post("http/request", httpParams(url))
      const rest = Array.from({ length: 20 }, () => client.post("http/request", httpParams(held)))
      yield* stands("the first body", big.written)
      yield* eventually("the others are asked for", () => arrived.length === 20)
      yield* stands("what the others send", later.written)
      // The first answer, in base64, waits in the socket: the others' bodies wait with their servers.
      assert.isBelow(residentMb(server.pid) - before, 400)
      client.carrier.resume()
      for (const id of [first, ...rest]) {
        const { result, error } = yield* client.reply(id)
        if (error === undefined) assert.isAbove(result.bodyBase64.length, 20 * mb)
        else assert.match(error.message, /httpBufferBytesPerConnection/)
      }
    })
  )

  for (const ending of ["end", "reset"] as const) {
    it.scopedLive(`whose body's server meanwhile goes away (${ending}): the server lives on`, () =>
      Effect.gen(function* () {
        const source = pour(20 * mb)
        const { url } = yield* upstream(source.respond)
        // Without a length, the end of the connection is the end of the body.
        const { url: closing, open } = yield* rawUpstream((socket) => {
          socket.write("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nbegin")
          setTimeout(() => {
            if (ending === "reset") socket.resetAndDestroy()
            else socket.end(Buffer.alloc(300_000, "y"))
          }, 200)
        })
        const server = yield* webSocketServer()
        const client = yield* server.connect
        yield* client.handshake()
        yield* opened(client, closing, { requestId: "closing" })
        client.carrier.pause()
        client.post("http/request", httpParams(url, { requestId: "big", streamResponse: true }))
        yield* stands("the download", source.written)
        yield* eventually("the other server is gone", () => ending === "end" || open() === 0)
        client.carrier.resume()
        assert.lengthOf((yield* streamed(client, "big")).body, 20 * mb)
        const { body, error } = yield* streamed(client, "closing")
        if (ending === "end") {
          assert.isNull(error)
          assert.lengthOf(body, 300_005)
        } else assert.strictEqual(error, "error decoding response body")
      })
    )
  }
})
