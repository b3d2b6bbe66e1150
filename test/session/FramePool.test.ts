import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { ManagedProcess } from "../../src/process/ManagedProcess.js"
import * as BinaryFrame from "../../src/protocol/BinaryFrame.js"
import { ProcessId } from "../../src/protocol/Ids.js"
import { FramePool, minBytes } from "../../src/session/FramePool.js"
import * as Notifier from "../../src/session/Notifier.js"
import { maxChunkBytes } from "../../src/spawn/ReadBuffer.js"

const processId = ProcessId.make('é"')
const process = {
  processId,
  idJson: JSON.stringify(processId),
  frameId: BinaryFrame.encodeId(processId)
} as unknown as ManagedProcess

/** A peer that holds what it was sent until it is told to let go. */
const holding = () => {
  const sent: Array<{ readonly bytes: Buffer; readonly isBinary: boolean; readonly onSent: () => void }> = []
  const texts: Array<string> = []
  return {
    sent,
    texts,
    peer: {
      send: (text: string) => void texts.push(text),
      sendUtf8: (bytes: Buffer, onSent: () => void) => void sent.push({ bytes, isBinary: false, onSent }),
      sendBinary: (bytes: Buffer, onSent: () => void) => void sent.push({ bytes, isBinary: true, onSent }),
      buffered: () => 0
    }
  }
}

const chunkOf = (bytes: Buffer): Buffer => {
  const { params } = JSON.parse(bytes.toString())
  assert.strictEqual(params.processId, processId)
  return Buffer.from(params.chunk, "base64")
}

describe("much output", () => {
  for (const binaryOutput of [false, true]) {
    it.effect(`is in a buffer of its own until it has left, ${binaryOutput ? "binary" : "text"}`, () =>
      Effect.sync(() => {
        const { peer, sent, texts } = holding()
        const notifier = new Notifier.PeerNotifier(peer, binaryOutput ? { binaryOutput } : {}, new FramePool())
        const chunks = Array.from({ length: 40 }, (_, i) => Buffer.alloc(i % 2 === 0 ? maxChunkBytes : minBytes, i))
        // As a child's output comes: the bytes are gone when the call returns.
        const shared = Buffer.alloc(maxChunkBytes)
        chunks.forEach((chunk, i) => {
          chunk.copy(shared)
          notifier.onOutput(process, i + 1, "stdout", shared.subarray(0, chunk.length))
          // Some leave soon, and their buffers are used again.
          if (i % 3 === 0) {
            const frame = sent[i]
            assert.isDefined(frame)
            assert.isTrue(read(frame.bytes).equals(chunk))
            frame.onSent()
          }
        })
        function read(bytes: Buffer) {
          if (!binaryOutput) return chunkOf(bytes)
          const frame = BinaryFrame.decode(bytes)
          assert(frame._tag === "Right")
          return frame.right.chunk
        }
        assert.deepStrictEqual(texts, [])
        assert.strictEqual(sent.length, 40)
        sent.forEach(({ bytes, isBinary }, i) => {
          assert.strictEqual(isBinary, binaryOutput)
          if (i % 3 !== 0) assert.isTrue(read(bytes).equals(chunks[i] ?? Buffer.alloc(0)), `chunk ${i}`)
        })
        assert.isBelow(new Set(sent.map(({ bytes }) => bytes.buffer)).size, 40)
      })
    )
  }

  it.effect("that is little is text, or a small frame", () =>
    Effect.sync(() => {
      const { peer, sent, texts } = holding()
      new Notifier.PeerNotifier(peer, {}, new FramePool()).onOutput(process, 1, "stdout", Buffer.from("a"))
      new Notifier.PeerNotifier(peer, { binaryOutput: true }, new FramePool()).onOutput(
        process,
        2,
        "stdout",
        Buffer.from("b")
      )
      assert.strictEqual(texts.length, 1)
      assert.strictEqual(sent.length, 1)
    })
  )

  it("is not in a buffer of another server", () => {
    const [one, other] = [new FramePool(), new FramePool()]
    const buffer = one.take(minBytes)
    one.give(buffer)
    assert.notStrictEqual(other.take(minBytes), buffer)
    assert.strictEqual(one.take(minBytes), buffer)
  })
})
