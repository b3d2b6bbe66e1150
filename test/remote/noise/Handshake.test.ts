/** The handshake against recorded ones, and against what a network could make of it. */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Handshake from "../../../src/remote/noise/Handshake.js"
import * as KeyPair from "../../../src/remote/noise/KeyPair.js"
import * as NoiseFrame from "../../../src/remote/noise/NoiseFrame.js"
import {
  bindingOf,
  both,
  executor,
  genuineExecutor,
  genuineHarness,
  harness,
  hex,
  initiatorChance,
  responderChance,
  right
} from "./vectors.js"

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")

const binding = bindingOf(both)

const initiate = () => Handshake.initiate(binding, harness, executor.public, both.authorization, initiatorChance)

const payloadOf = (frame: string): Buffer => {
  const decoded = NoiseFrame.decode(hex(frame))
  if (typeof decoded === "string" || decoded.body._tag !== "Handshake") return assert.fail("not a handshake")
  return decoded.body.payload
}

describe("the handshake", () => {
  it("makes the recorded keys of the recorded secrets", () => {
    for (const [pair, vector] of [
      [harness, both.harness],
      [executor, both.executor]
    ] as const) {
      assert.strictEqual(pair.public.x25519.toString("hex"), vector.x25519_public)
      assert.strictEqual(sha256(pair.public.kem), vector.mlkem_public_sha256)
    }
  })

  it("makes the recorded messages, keys and hash", () => {
    const initiated = initiate()
    assert.strictEqual(initiated.message.toString("base64"), both.message1)
    const accepted = right(Handshake.accept(binding, executor, initiated.message, () => responderChance))
    assert.strictEqual(accepted.authorization, both.authorization)
    assert.isTrue(KeyPair.isSame(accepted.client, harness.public))
    const { message, keys } = right(accepted.answer())
    assert.strictEqual(message.toString("base64"), both.message2)
    const ours = right(initiated.finish(message))
    assert.strictEqual(ours.send.toString("hex"), both.k_harness_to_executor)
    assert.strictEqual(ours.receive.toString("hex"), both.k_executor_to_harness)
    assert.strictEqual(ours.hash.toString("hex"), both.handshake_hash)
    assert.deepStrictEqual(keys, { send: ours.receive, receive: ours.send, hash: ours.hash })
  })

  it("completes with the original as executor", () => {
    const vector = genuineExecutor
    const initiated = Handshake.initiate(
      bindingOf(vector),
      harness,
      right(KeyPair.decode(vector.executor_public_key)),
      vector.authorization,
      initiatorChance
    )
    assert.strictEqual(initiated.message.toString("base64"), vector.message1)
    assert.strictEqual(payloadOf(vector.frames_from_executor[0] ?? "").toString("base64"), vector.message2)
    const { send, receive, hash } = right(initiated.finish(Buffer.from(vector.message2, "base64")))
    assert.strictEqual(send.toString("hex"), vector.k_harness_to_executor)
    assert.strictEqual(receive.toString("hex"), vector.k_executor_to_harness)
    assert.strictEqual(hash.toString("hex"), vector.handshake_hash)
  })

  it("completes with the original as client", () => {
    const vector = genuineHarness
    const message = payloadOf(vector.frames_from_harness[1] ?? "")
    const accepted = right(Handshake.accept(bindingOf(vector), executor, message, () => responderChance))
    assert.strictEqual(accepted.authorization, vector.authorization)
    assert.deepStrictEqual(KeyPair.encode(accepted.client), vector.harness_public_key)
    const { message: answer, keys } = right(accepted.answer())
    assert.strictEqual(answer.toString("base64"), vector.message2)
    assert.strictEqual(keys.receive.toString("hex"), vector.k_harness_to_executor)
    assert.strictEqual(keys.send.toString("hex"), vector.k_executor_to_harness)
    assert.strictEqual(keys.hash.toString("hex"), vector.handshake_hash)
  })

  it("is new each time", () => {
    const once = () => {
      const { message, finish } = Handshake.initiate(binding, harness, executor.public, "")
      const accepted = right(Handshake.accept(binding, executor, message))
      const { message: answer, keys } = right(accepted.answer())
      assert.deepStrictEqual(right(finish(answer)).hash, keys.hash)
      return keys.send.toString("hex")
    }
    assert.notStrictEqual(once(), once())
  })

  it("is refused if it is bound to something else", () => {
    const { message } = initiate()
    for (const other of [{ environmentId: "other" }, { registrationId: "other" }, { streamId: "other" }]) {
      assert.isTrue(Either.isLeft(Handshake.accept({ ...binding, ...other }, executor, message)))
    }
    assert.isTrue(Either.isLeft(Handshake.accept(binding, KeyPair.generate(), message)))
  })

  it("is void if any byte of a message is changed, or any is missing", () => {
    const { message } = initiate()
    const { message: answer } = right(right(Handshake.accept(binding, executor, message)).answer())
    const changed = (bytes: Buffer, at: number) => {
      const copy = Buffer.from(bytes)
      copy[at] = (copy[at] ?? 0) ^ (1 << (at % 8))
      return copy
    }
    // The X25519 keys ignore their highest bit, but the transcript does not.
    const places = (length: number) => [0, 31, 1087, 1088, 1119, 1120, length - 1, ...spread(length, 25)]
    for (const at of places(message.length)) {
      assert.isTrue(Either.isLeft(Handshake.accept(binding, executor, changed(message, at))), `byte ${at}`)
    }
    for (const at of places(answer.length)) {
      assert.isTrue(Either.isLeft(initiate().finish(changed(answer, at))), `byte ${at} of the answer`)
    }
    for (const length of [0, 1, 1088, message.length - 1]) {
      assert.isTrue(Either.isLeft(Handshake.accept(binding, executor, message.subarray(0, length))))
    }
    assert.isTrue(Either.isLeft(Handshake.accept(binding, executor, Buffer.alloc(70000))))
  })

  it("refuses authorizations of more than 4096 bytes, and those that are not text", () => {
    const accepts = (authorization: string) =>
      Either.isRight(
        Handshake.accept(
          binding,
          executor,
          Handshake.initiate(binding, harness, executor.public, authorization).message
        )
      )
    assert.deepStrictEqual(["", "x".repeat(4096), "x".repeat(4097)].map(accepts), [true, true, false])
  })

  it("tells the client that the registry rejected the executor", () => {
    const initiated = initiate()
    const accepted = right(Handshake.accept(binding, executor, initiated.message))
    const { message } = right(accepted.answer(Handshake.registryRejected))
    const finished = initiated.finish(message)
    assert.include(Either.isLeft(finished) ? finished.left : "", "credential")
  })
})

/** Places all over a message. */
const spread = (length: number, count: number) =>
  Array.from({ length: count }, (_, i) => Math.floor((i * length) / count))

describe("public keys", () => {
  it("are read back from their form in requests", () => {
    assert.isTrue(KeyPair.isSame(right(KeyPair.decode(KeyPair.encode(harness.public))), harness.public))
    assert.notStrictEqual(KeyPair.fingerprint(harness.public), KeyPair.fingerprint(executor.public))
  })

  it("are refused with anything else", () => {
    const key = KeyPair.encode(harness.public)
    const refused = [
      null,
      [],
      {},
      { ...key, suite: "Noise_IK" },
      { ...key, more: 1 },
      { ...key, x25519_public_key: key.mlkem768_public_key },
      { ...key, x25519_public_key: key.x25519_public_key.replace("=", "") },
      { ...key, mlkem768_public_key: `${key.mlkem768_public_key} ` },
      { ...key, mlkem768_public_key: undefined }
    ]
    for (const json of refused) assert.isTrue(Either.isLeft(KeyPair.decode(json)), JSON.stringify(json))
  })
})
