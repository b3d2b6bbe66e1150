/** What executors on an encrypted relay do with what is wrong, and with what means nothing: ours and the genuine one. */
import { Buffer } from "node:buffer"
import * as KeyPair from "../../src/remote/noise/KeyPair.js"
import { sealParts } from "../../src/remote/noise/SymmetricState.js"
import { Harness } from "./noise.js"

/** The reason of every reset for a violation. */
export const protocolError = "noise_relay_protocol_error"

/** What a client can do wrong, and that its stream is reset for it. */
export const violations: ReadonlyArray<readonly [name: string, provoke: (harness: Harness) => void]> = [
  ["a record that was changed", ({ socket, streamId }) => socket.data(streamId, 2, Buffer.alloc(40, 1))],
  [
    "a record sealed with another key",
    ({ socket, streamId }) =>
      socket.data(streamId, 2, Buffer.concat(sealParts(Buffer.alloc(32), 2, [Buffer.from("\0\0\0\u0002{}")])))
  ],
  ["a record 65 ahead", ({ socket, streamId }) => socket.data(streamId, 67, Buffer.alloc(40))],
  ["a message of no bytes", (harness) => harness.sendPlaintext(Buffer.alloc(4))],
  ["a message of more than 64 MiB", (harness) => harness.sendPlaintext(Buffer.from("04000001", "hex"))],
  ["a record of 61441 bytes", (harness) => harness.sendPlaintext(Buffer.alloc(61441, 1))],
  [
    "18 of the longest records that wait",
    ({ socket, streamId }) => {
      for (let i = 0; i < 18; i++) socket.data(streamId, 3 + i, Buffer.alloc(61456))
    }
  ],
  ["what is not JSON", (harness) => harness.send("{")],
  ["what is not JSON-RPC", (harness) => harness.send("[]")],
  ["an unknown notification", (harness) => harness.send({ method: "unheard/of", params: {} })]
]

/** What changes nothing on a live stream. */
export const ignored: ReadonlyArray<readonly [name: string, send: (harness: Harness) => void]> = [
  [
    "ack",
    ({ socket, streamId }) => socket.frame({ streamId, ack: 9, ackBits: 3, body: { case: "ackFrame", value: {} } })
  ],
  ["resume", ({ socket, streamId }) => socket.frame({ streamId, body: { case: "resume", value: { nextSeq: 7 } } })],
  ["heartbeat", ({ socket, streamId }) => socket.frame({ streamId, body: { case: "heartbeat", value: {} } })],
  ["a text message", ({ socket }) => socket.bytes("hello")],
  ["bytes that are no frame", ({ socket }) => socket.bytes(Buffer.from([255, 255, 255]))],
  [
    "another version",
    ({ socket, streamId }) => socket.frame({ streamId, version: 2, body: { case: "reset", value: { reason: "x" } } })
  ],
  ["no stream id", ({ socket }) => socket.frame({ streamId: " ", body: { case: "reset", value: { reason: "x" } } })],
  ["no body", ({ socket, streamId }) => socket.frame({ streamId })],
  ["an empty record", ({ socket, streamId }) => socket.data(streamId, 2, "")],
  [
    "an empty handshake",
    ({ socket, streamId }) =>
      socket.frame({ streamId, body: { case: "handshake", value: { payload: new Uint8Array() } } })
  ],
  ["a record in segments", ({ socket, streamId }) => socket.data(streamId, 2, "x", 0, 2)],
  ["a record that came before", ({ socket, streamId }) => socket.data(streamId, 0, Buffer.alloc(40))]
]

/** Handshakes that are reset. */
export const refusedHandshakes: ReadonlyArray<
  readonly [name: string, make: (socket: Harness["socket"], key: KeyPair.PublicKey) => readonly [Harness, Uint8Array?]]
> = [
  ["of garbage", (socket, key) => [new Harness(socket, key), Buffer.alloc(4000, 1)]],
  ["that are too short", (socket, key) => [new Harness(socket, key), Buffer.alloc(10)]],
  ["for another key", (socket) => [new Harness(socket, KeyPair.generate().public)]],
  ["for another registration", (socket, key) => [new Harness(socket, key, { registration: "other" })]],
  [
    "with an authorization that is not UTF-8",
    (socket, key) => [new Harness(socket, key, { authorization: Buffer.from([0xc3, 0x28]) })]
  ],
  [
    "with an authorization of 4097 bytes",
    (socket, key) => [new Harness(socket, key, { authorization: "x".repeat(4097) })]
  ]
]

/** What a registry says to the question about a client that keeps the client out. */
export const refusals: ReadonlyArray<readonly [name: string, status: number, body: string]> = [
  ["a no", 200, '{"valid":false}'],
  ["no answer to the question", 200, "{}"],
  ["what is not JSON", 200, "yes"],
  ["403", 403, ""],
  ["404", 404, ""],
  ["500", 500, ""]
]
