/**
 * The client's side of an encrypted relay: one stream over its own WebSocket to a rendezvous, which cannot read it.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import { randomUUID } from "node:crypto"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import * as BinaryFrame from "../../protocol/BinaryFrame.js"
import type * as Registration from "../Registration.js"
import type { Link, LinkEvents } from "../RelayClient.js"
import { Turns } from "../RelayDriver.js"
import type { EndpointError } from "../RelayEndpoint.js"
import { maxOverheadBytes } from "../RelayFrame.js"
import { RelayLimits } from "../RelayLimits.js"
import * as RelaySocket from "../RelaySocket.js"
import * as Handshake from "./Handshake.js"
import type { Vouched } from "./KeyDesk.js"
import * as KeyPair from "./KeyPair.js"
import * as NoiseFrame from "./NoiseFrame.js"
import * as NoiseRegistry from "./NoiseRegistry.js"
import { NoiseStream, protocolError } from "./NoiseStream.js"

/** The handshake did not succeed. The message says why. */
export class HandshakeFailed extends Data.TaggedError("HandshakeFailed")<{ readonly message: string }> {}

/** The registry does not accept the executor's own credential: the executor can confirm no client. */
export class ExecutorRejected extends Data.TaggedError("ExecutorRejected")<{ readonly message: string }> {}

/** The executor has another key than before. */
export class KeyChanged extends Data.TaggedError("KeyChanged")<{ readonly message: string }> {}

/** Options of a connection. */
export interface Options {
  readonly target: Registration.Target
  /** Headers of the request to the registry, such as a credential. */
  readonly headers: Readonly<Record<string, string>>
  readonly own: KeyPair.KeyPair
  /** The key that the executor must have. */
  readonly expected: KeyPair.PublicKey | undefined
  /** The longest message accepted, in bytes. */
  readonly maxMessageBytes: number
}

/** A connection, and the key of the executor at its other end. */
export interface Connected {
  readonly link: Link
  readonly executor: KeyPair.PublicKey
}

/** How long the last frames may take to be sent, in milliseconds. */
const goodbyeMs = 2000

/** A name for a public key that fits into a message. */
const short = (key: KeyPair.PublicKey) => KeyPair.fingerprint(key).slice(0, 12)

/** Connects to the executor of an environment. The scope closes the connection. The caller sets a deadline. */
export const connect = ({
  target,
  headers,
  own,
  expected,
  maxMessageBytes
}: Options): Effect.Effect<
  Connected,
  EndpointError | RelaySocket.DialError | HandshakeFailed | ExecutorRejected | KeyChanged,
  Scope.Scope
> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const { maxHeldBytes } = yield* RelayLimits
      const reached = yield* restore(NoiseRegistry.connect(target, headers, own.public))
      const { url, registrationId, executor, authorization } = reached
      if (expected !== undefined && !KeyPair.isSame(expected, executor)) {
        return yield* new KeyChanged({
          message: `executor key changed during session recovery: it was ${short(expected)}, now it is ${short(executor)}`
        })
      }
      const initiated = yield* initiate(target.environmentId, own, { registrationId, executor, authorization })
      // An open socket is always owned by the scope.
      const socket = yield* restore(
        RelaySocket.dial(url, { maxMessageBytes: NoiseFrame.maxFrameBytes - maxOverheadBytes })
      )
      const { link, gone, ready } = over(socket, initiated, { maxMessageBytes, maxHeldBytes })
      yield* Effect.addFinalizer(() =>
        Effect.suspend(() => {
          link.close()
          return Effect.asVoid(Effect.timeoutOption(Effect.interruptible(gone), goodbyeMs))
        })
      )
      yield* restore(ready)
      return { link, executor }
    })
  )

/** A handshake that has begun, and the id of its stream. */
export interface Begun {
  readonly streamId: string
  readonly handshake: Handshake.Initiated
}

/** Begins a handshake with an executor that a registry vouches to. */
export const initiate = (
  environmentId: string,
  own: KeyPair.KeyPair,
  { registrationId, executor, authorization }: Vouched
): Effect.Effect<Begun, HandshakeFailed> => {
  const streamId = randomUUID()
  return Effect.try({
    try: () => ({
      streamId,
      handshake: Handshake.initiate({ environmentId, registrationId, streamId }, own, executor, authorization)
    }),
    catch: (error) => new HandshakeFailed({ message: `the executor's key cannot be used: ${String(error)}` })
  })
}

/** The limits of a connection, in bytes. */
export interface Bounds {
  readonly maxMessageBytes: number
  readonly maxHeldBytes: number
}

/** A value that comes once. */
const arrival = <A, E>() => {
  let outcome: Effect.Effect<A, E> | undefined
  const waiting = new Set<(effect: Effect.Effect<A, E>) => void>()
  return {
    settle: (effect: Effect.Effect<A, E>) => {
      if (outcome !== undefined) return
      outcome = effect
      for (const resume of waiting) resume(effect)
    },
    wait: Effect.async<A, E>((resume) => {
      if (outcome !== undefined) return resume(outcome)
      waiting.add(resume)
      return Effect.sync(() => void waiting.delete(resume))
    })
  }
}

/** The stream of a handshake on a socket to a rendezvous: usable once it is `ready`, and `gone` with its socket. */
export const over = (
  socket: RelaySocket.RelaySocket,
  { streamId, handshake }: Begun,
  { maxMessageBytes, maxHeldBytes }: Bounds
) => {
  const reading = { maxMessageBytes, maxHeldBytes: Math.max(maxHeldBytes, 2 * maxMessageBytes), budget: { used: 0 } }
  const turns = new Turns(socket)
  const ready = arrival<void, HandshakeFailed | ExecutorRejected>()
  const gone = arrival<void, never>()
  let stream: NoiseStream | undefined
  let events: LinkEvents | undefined
  let ending: string | undefined
  let told = false

  const tell = () => {
    if (told || events === undefined || ending === undefined) return
    told = true
    events.onEnd(ending)
  }
  /** The first reason is the one that is told. */
  const end = (reason: string) => {
    ending ??= reason
    ready.settle(new HandshakeFailed({ message: reason }))
    socket.close(1000, "")
    tell()
  }
  const open = (keys: Handshake.Keys) => {
    stream = new NoiseStream(streamId, keys, reading, turns, {
      onMessage: (message) => {
        if (events?.onBinary !== undefined && BinaryFrame.isFrame(message)) events.onBinary(message)
        else if (isUtf8(message)) events?.onMessage(message.toString())
        else stream?.close(protocolError)
      },
      onDrain: () => events?.onDrain(),
      onEnd: ({ reason, fault }) =>
        end(fault === undefined ? reason : `the encrypted stream was damaged on its way: ${fault}`)
    })
    stream.offerAcks()
    ready.settle(Effect.void)
  }
  const onFrame = ({ body }: NoiseFrame.Frame) => {
    if (body._tag === "Record" && stream !== undefined) stream.receive(body.seq, body.payload)
    else if (body._tag === "Ack") stream?.acknowledge(body.seq, body.maxBytes)
    else if (body._tag === "Reset" && stream !== undefined) stream.stop(body.reason)
    else if (body._tag === "Reset") end(`the executor refused the handshake: ${body.reason}`)
    else if (body._tag === "Handshake" && stream === undefined) {
      const keys = handshake.finish(body.payload)
      if (Either.isRight(keys)) open(keys.right)
      else if (keys.left === Handshake.executorRejected) {
        ready.settle(new ExecutorRejected({ message: keys.left }))
        end(keys.left)
      } else end(`the executor's answer to the handshake is not valid: ${keys.left}`)
    } else if (body._tag !== "Other") end(protocolError)
  }
  socket.listen({
    onFrame: (bytes) => {
      const frame = NoiseFrame.decode(bytes)
      // Frames that cannot be decoded, and frames of other streams, are ignored.
      if (typeof frame !== "string" && frame.streamId === streamId) onFrame(frame)
    },
    onText: () => end("relay exec-server transport expects binary protobuf frames"),
    onDrain: () => turns.onDrain(),
    onEnd: (code, reason) => {
      const why = reason === "" ? `the relay socket was closed (${code})` : reason
      stream?.stop(why)
      end(why)
      gone.settle(Effect.void)
    }
  })
  socket.send(NoiseFrame.resume(streamId))
  socket.send(NoiseFrame.handshake(streamId, handshake.message))
  const link: Link = {
    listen: (given) => {
      events = given
      stream?.resume()
      tell()
    },
    send: (text) => stream?.send({ payload: Buffer.from(text) }),
    buffered: () => stream?.queuedBytes ?? 0,
    pause: () => {
      stream?.pause()
      socket.pause()
    },
    resume: () => {
      socket.resume()
      stream?.resume()
    },
    close: (reason = "closed by the client") => {
      socket.resume()
      if (stream === undefined) end(reason)
      else stream.close(reason)
    }
  }
  return { link, gone: gone.wait, ready: ready.wait }
}
