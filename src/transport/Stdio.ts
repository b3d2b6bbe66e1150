/**
 * One peer on stdin and stdout, with one message per line. The server ends with it.
 *
 * @since 0.1.0
 */
import type { Readable, Writable } from "node:stream"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Lines from "../protocol/Lines.js"
import type { Peer } from "../session/Peer.js"
import { Transport } from "./Transport.js"
import { TransportLimits } from "./TransportLimits.js"

/** How long a peer that has ended may take to read its last messages, in milliseconds. */
const flushMs = 1000

/**
 * A peer on a pair of byte streams.
 *
 * @category utilities
 */
export const makePeer = (input: Readable, output: Writable, maxMessageBytes: number): Peer => {
  let gone = false
  let end = () => {}
  return {
    name: "stdio",
    grant: { id: "stdio" },
    malformedPrefix: "failed to parse JSON-RPC message from exec-server stdio",
    resumable: false,
    listen: ({ onMessage, onMalformed, onDrain, onEnd }) => {
      end = () => {
        if (gone) return
        gone = true
        onEnd()
      }
      const lines = Lines.make(maxMessageBytes, { onLine: onMessage, onBadLine: onMalformed })
      input.on("data", (chunk) => {
        if (!gone) lines(chunk)
      })
      output.on("drain", onDrain)
      for (const event of ["end", "close", "error"]) input.on(event, end)
      for (const event of ["close", "error"]) output.on(event, end)
    },
    send: (text) => {
      if (!gone) output.write(`${text}\n`)
    },
    sendPart: (part, isLast) => {
      if (gone) return
      output.write(part)
      if (isLast) output.write("\n")
    },
    buffered: () => output.writableLength,
    pause: () => input.pause(),
    resume: () => input.resume(),
    close: () => end()
  }
}

/** Waits, bounded, until everything written was read. */
const flush = (output: Writable) =>
  Effect.async<void>((resume) => {
    if (output.writableLength === 0 || output.destroyed) return resume(Effect.void)
    for (const event of ["drain", "close", "error"]) output.once(event, () => resume(Effect.void))
  }).pipe(Effect.interruptible, Effect.timeoutOption(flushMs), Effect.asVoid)

/**
 * One peer on the given streams.
 *
 * @category layers
 */
export const layerStreams = (input: Readable, output: Writable): Layer.Layer<Transport> =>
  Layer.effect(
    Transport,
    Effect.map(TransportLimits, ({ maxMessageBytes }) => ({
      address: "stdio://",
      run: (serve) =>
        Effect.suspend(() =>
          serve(makePeer(input, output, maxMessageBytes)).pipe(
            Effect.ensuring(flush(output)),
            Effect.ensuring(Effect.sync(() => input.destroy()))
          )
        )
    }))
  )

/**
 * One peer on this process's stdin and stdout.
 *
 * @category layers
 */
export const layer: Layer.Layer<Transport> = Layer.suspend(() => layerStreams(process.stdin, process.stdout))
