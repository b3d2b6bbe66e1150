/** Raw bytes on sockets: input that no WebSocket library sends, and HTTP responses. */
import { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"
import { request } from "node:http"
import type { Socket } from "node:net"
import * as Effect from "effect/Effect"

/** The head of an upgrade request. Each further header includes its line end. */
export const upgrade = (path = "/", headers = "") =>
  `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
  `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\nSec-WebSocket-Version: 13\r\n${headers}\r\n`

/** Waits until a socket has received the expected bytes or has ended; returns all of them. */
export const receives = (socket: Socket, done: (bytes: Buffer) => boolean) =>
  Effect.async<Buffer>((resume) => {
    let all = Buffer.alloc(0)
    socket.on("data", (chunk) => {
      all = Buffer.concat([all, chunk])
      if (done(all)) resume(Effect.succeed(all))
    })
    socket.once("close", () => resume(Effect.succeed(all)))
    if (socket.destroyed) resume(Effect.succeed(all))
  }).pipe(Effect.timeout("20 seconds"), Effect.orDie)

/** Waits for the end of a connection. */
export const ends = (socket: Socket) => receives(socket, () => false)

/** Sends a head; returns the status and the text of the response. */
export const asks = (socket: Socket, head: string) =>
  Effect.suspend(() => {
    socket.write(head)
    return Effect.map(
      receives(socket, (bytes) => bytes.includes("\r\n\r\n")),
      (bytes) => ({ status: Number(/^HTTP\/1\.1 (\d{3}) /.exec(bytes.toString())?.[1]), text: bytes.toString() })
    )
  })

/** The server's response to a plain request. */
export const answer = (url: string, method = "GET", headers: Record<string, string> = {}) =>
  Effect.async<{ readonly status: number | undefined; readonly body: string }>((resume) => {
    const call = request(url.replace("ws:", "http:"), { method, headers, agent: false }, (response) => {
      let body = ""
      response.on("data", (chunk) => {
        body += chunk
      })
      response.on("end", () => resume(Effect.succeed({ status: response.statusCode, body })))
    })
    call.once("error", (error) => resume(Effect.die(error)))
    call.end()
  })

/** A masked client frame of up to 125 bytes. */
export const frame = (opcode: number, payload: string | Buffer, fin = true) => {
  const bytes = Buffer.from(payload)
  return Buffer.concat([Buffer.from([(fin ? 0x80 : 0) | opcode, 0x80 | bytes.length, 0, 0, 0, 0]), bytes])
}
