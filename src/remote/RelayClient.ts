/**
 * The client side of a relay: one stream over its own WebSocket to a rendezvous.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import * as BinaryFrame from "../protocol/BinaryFrame.js"
import { FramePool } from "../session/FramePool.js"
import { RelayDriver, Turns } from "./RelayDriver.js"
import * as RelayFrame from "./RelayFrame.js"
import { type Limits, RelayLimits } from "./RelayLimits.js"
import * as RelaySocket from "./RelaySocket.js"
import { RelayStream } from "./RelayStream.js"

/** The callbacks of a link, called from the event loop. */
export interface LinkEvents {
  /** One whole message. */
  readonly onMessage: (text: string) => void
  /** One binary frame. Servers send them only after granting binary output. */
  readonly onBinary?: (bytes: Buffer) => void
  /** Everything sent has left this process, after some of it had to wait. */
  readonly onDrain: () => void
  /** The link has ended, for this reason. Called once, as the last callback. */
  readonly onEnd: (reason: string) => void
}

/** A connection to an executor. Sending after its end does nothing. */
export interface Link {
  /** Starts the reports. */
  readonly listen: (events: LinkEvents) => void
  /** Sends one message. */
  readonly send: (text: string) => void
  /** The number of sent bytes that have not left this process. */
  readonly buffered: () => number
  /** Pauses and resumes receiving. Meanwhile the executor keeps further messages. */
  readonly pause: () => void
  readonly resume: () => void
  /** Closes the connection once everything was sent. `onEnd` follows. */
  readonly close: (reason?: string) => void
}

/** Options of a connection. */
export interface Options {
  /** Headers of the upgrade request, such as a credential. */
  readonly headers?: Readonly<Record<string, string>>
  /** The longest message accepted, in bytes. */
  readonly maxMessageBytes?: number
}

/** How long the last frames may take to be sent, in milliseconds. */
const goodbyeMs = 2000

/**
 * Connects to the executor behind a rendezvous URL. The scope closes the connection. The error of a refused upgrade has
 * the HTTP status; 409 means that no executor is connected.
 */
export const connect = (
  url: string,
  { headers = {}, maxMessageBytes = 67108864 }: Options = {}
): Effect.Effect<Link, RelaySocket.DialError, Scope.Scope> =>
  // Connecting can be interrupted at any time. An open socket is always owned by the scope.
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const limits = yield* RelayLimits
      const socket = yield* restore(RelaySocket.dial(url, { maxMessageBytes, headers }))
      const { link, gone } = over(socket, randomUUID(), { limits, maxMessageBytes })
      yield* Effect.addFinalizer(() =>
        Effect.suspend(() => {
          link.close()
          return Effect.asVoid(Effect.timeoutOption(Effect.interruptible(gone), goodbyeMs))
        })
      )
      return link
    })
  )

/** A link over an open socket, which carries nothing else, and an effect that completes when the socket is gone. */
export const over = (
  socket: RelaySocket.RelaySocket,
  streamId: string,
  { limits, maxMessageBytes }: { readonly limits: Limits; readonly maxMessageBytes: number }
): { readonly link: Link; readonly gone: Effect.Effect<void> } => {
  const stream = new RelayStream({ limits, maxMessageBytes, budget: { used: 0 }, initiator: true }, performance.now())
  let events: LinkEvents | undefined
  let ending: string | undefined
  let told = false
  let onGone = () => {}
  let isGone = false
  const turns = new Turns(socket)
  const frames = new FramePool()

  const tell = () => {
    if (told || events === undefined || ending === undefined) return
    told = true
    events.onEnd(ending)
  }
  const driver = new RelayDriver(streamId, stream, turns, {
    onMessage: (bytes) => {
      const message = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      if (events?.onBinary !== undefined && BinaryFrame.isFrame(message)) events.onBinary(message)
      else if (isUtf8(message)) events?.onMessage(message.toString())
      else driver.close("a message is not valid UTF-8")
    },
    onDrain: () => events?.onDrain(),
    onEnd: ({ reason }) => {
      ending ??= reason
      socket.close(1000, "")
      tell()
    }
  })
  const fail = (reason: string) => {
    ending ??= reason
    driver.close(reason)
  }
  socket.listen({
    onFrame: (bytes) => {
      const frame = RelayFrame.decode(bytes)
      // Frames that cannot be decoded, and frames of other streams, are ignored.
      if (Either.isRight(frame) && frame.right.streamId === streamId) driver.receive(frame.right)
    },
    onText: () => fail("relay exec-server transport expects binary protobuf frames"),
    onDrain: () => turns.onDrain(),
    onEnd: (code, reason) => {
      driver.stop(reason === "" ? `the relay socket was closed (${code})` : reason)
      isGone = true
      onGone()
    }
  })
  // Announces the stream.
  driver.pump()
  const link: Link = {
    listen: (given) => {
      events = given
      driver.resume()
      tell()
    },
    send: (text) => driver.send(RelayFrame.message(text, frames)),
    buffered: () => driver.queuedBytes,
    pause: () => {
      driver.pause()
      driver.listen(false)
      socket.pause()
    },
    resume: () => {
      driver.listen(true)
      socket.resume()
      driver.resume()
    },
    close: (reason = "closed by the client") => {
      socket.resume()
      driver.close(reason)
    }
  }
  const gone = Effect.async<void>((resume) => {
    if (isGone) return resume(Effect.void)
    onGone = () => resume(Effect.void)
  })
  return { link, gone }
}
