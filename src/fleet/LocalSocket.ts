/**
 * Connections within this process, whose two ends know nothing of that: relay sockets, and byte streams.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { Duplex } from "node:stream"
import { highWaterBytes, type RelaySocket, type SocketEvents } from "../remote/RelaySocket.js"

/**
 * Two relay sockets, each of which receives what the other one sends. The first is for a router, which pauses it while
 * the executor is congested; the second one looks congested to its user meanwhile.
 */
export const relayPair = (): readonly [forRouter: RelaySocket, own: RelaySocket] => {
  const events: [SocketEvents | undefined, SocketEvents | undefined] = [undefined, undefined]
  let isPaused = false
  let isOver = false
  const end = (code: number, reason: string) => {
    if (isOver) return
    isOver = true
    // As with a real socket, never within the call that closes it.
    setImmediate(() => {
      for (const listener of events) listener?.onEnd(code, reason)
    })
  }
  const side = (other: 0 | 1): Pick<RelaySocket, "send" | "probe" | "close"> => ({
    send: (bytes) => {
      // `onSent` is never called: the frame is on its way as long as the executor's socket has it.
      if (!isOver) events[other]?.onFrame(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
    },
    probe: (onAnswer) => onAnswer(!isOver),
    close: end
  })
  const forRouter: RelaySocket = {
    ...side(1),
    listen: (given) => {
      events[0] = given
    },
    buffered: () => 0,
    pause: () => {
      isPaused = true
    },
    resume: () => {
      if (!isPaused) return
      isPaused = false
      events[1]?.onDrain()
    }
  }
  const own: RelaySocket = {
    ...side(0),
    listen: (given) => {
      events[1] = given
    },
    buffered: () => (isPaused ? highWaterBytes + 1 : 0),
    pause: () => {},
    resume: () => {}
  }
  return [forRouter, own]
}

/** One end of a stream of bytes: what is written to it can be read from the other one. */
class End extends Duplex {
  other: End | undefined
  private onRead: (() => void) | undefined

  override _read(): void {
    const { onRead } = this
    this.onRead = undefined
    onRead?.()
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    const { other } = this
    if (other === undefined || other.destroyed) done()
    else if (other.push(chunk)) done()
    else other.onRead = done
  }

  override _final(done: () => void): void {
    this.other?.push(null)
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const { other } = this
    if (other !== undefined && !other.destroyed) setImmediate(() => other.destroy())
    done(error)
  }
}

/** The two ends of a stream of bytes. */
export const bytePair = (): readonly [Duplex, Duplex] => {
  const [one, two] = [new End(), new End()]
  one.other = two
  two.other = one
  return [one, two]
}
