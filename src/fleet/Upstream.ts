/**
 * A connection to a host on which the gateway speaks as a WebSocket client: until the first answer has come, and the
 * client's own frames follow.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { createHash, randomBytes } from "node:crypto"
import type { Duplex } from "node:stream"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { MessageReader } from "./MessageReader.js"
import type { SplicedSocket } from "./SplicedSocket.js"

/** No connection to the host could be made. */
export class UpstreamError extends Data.TaggedError("UpstreamError")<{ readonly message: string }> {}

/** The longest response to the upgrade, in bytes. */
const maxHeadBytes = 16_384

/** How long the host may take to answer the upgrade, in milliseconds. */
const upgradeMs = 5000

const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

/** The answer to a key of an upgrade request: RFC 6455, section 4.2.2. */
export const acceptOf = (key: string): string =>
  createHash("sha1")
    .update(key + guid)
    .digest("base64")

/** Reads up to the end of an HTTP head. Returns it, and what came after it. */
const readHead = (socket: Duplex): Effect.Effect<readonly [head: string, rest: Buffer], UpstreamError> =>
  Effect.async((resume) => {
    let bytes = Buffer.alloc(0)
    const stop = () => {
      socket.pause()
      socket.off("data", onData)
      socket.off("close", onClose)
    }
    const finish = (result: Effect.Effect<readonly [string, Buffer], UpstreamError>) => {
      stop()
      resume(result)
    }
    const onClose = () => finish(new UpstreamError({ message: "the host has closed the connection" }))
    const onData = (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk])
      const end = bytes.indexOf("\r\n\r\n")
      if (end >= 0) finish(Effect.succeed([bytes.subarray(0, end).toString("latin1"), bytes.subarray(end + 4)]))
      else if (bytes.length > maxHeadBytes) {
        finish(new UpstreamError({ message: "the answer of the host is too long" }))
      }
    }
    socket.on("data", onData)
    socket.once("close", onClose)
    socket.resume()
    return Effect.sync(stop)
  })

/** Opens a WebSocket on a connection to a host; the reader reads what the host sends. */
export const open = (socket: Duplex, maxBytes: number): Effect.Effect<MessageReader, UpstreamError> =>
  Effect.gen(function* () {
    const key = randomBytes(16).toString("base64")
    socket.write(
      "GET / HTTP/1.1\r\nHost: fleet\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`
    )
    const [head, rest] = yield* readHead(socket)
    const isAccepted =
      /^HTTP\/1\.1 101 /.test(head) && /^sec-websocket-accept: *(\S+)/im.exec(head)?.[1] === acceptOf(key)
    if (!isAccepted) {
      return yield* new UpstreamError({ message: `the host has refused: ${head.split("\r\n", 1)[0] ?? ""}` })
    }
    return new MessageReader(socket, { masked: false, maxBytes, head: rest })
  }).pipe(
    Effect.timeoutFail({
      duration: upgradeMs,
      onTimeout: () => new UpstreamError({ message: "the host does not answer" })
    })
  )

/** How long what was written may take to leave after the other side has gone, in milliseconds. */
const drainMs = 2000

/** Connects two sockets, unread, until one of them ends; `first` is sent before, each way. */
export const splice = (
  [{ socket: one, forwardTo: forwardOne }, { socket: other, forwardTo: forwardOther }]: readonly [
    SplicedSocket,
    SplicedSocket
  ],
  first: { readonly toOne: Buffer; readonly toOther: Buffer }
): Effect.Effect<void> =>
  Effect.async((resume) => {
    let isOver = false
    const end = (from: Duplex, to: Duplex) => {
      from.once("close", () => {
        if (isOver) return
        isOver = true
        if (to.destroyed) return resume(Effect.void)
        to.end()
        const late = setTimeout(() => to.destroy(), drainMs)
        to.once("close", () => {
          clearTimeout(late)
          resume(Effect.void)
        })
      })
      from.on("error", () => from.destroy())
    }
    end(one, other)
    end(other, one)
    if (first.toOne.length > 0) one.write(first.toOne)
    if (first.toOther.length > 0) other.write(first.toOther)
    forwardOne(other)
    forwardOther(one)
    if (one.destroyed) other.destroy()
    if (other.destroyed) one.destroy()
    if (one.destroyed && other.destroyed) resume(Effect.void)
    return Effect.sync(() => {
      one.destroy()
      other.destroy()
    })
  })
