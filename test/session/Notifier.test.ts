import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import type { ManagedProcess } from "../../src/process/ManagedProcess.js"
import { ExecNotifications } from "../../src/protocol/ExecNotifications.js"
import { FramePool } from "../../src/session/FramePool.js"
import { toPeer } from "../../src/session/HttpExchanges.js"
import * as Notifier from "../../src/session/Notifier.js"
import { highWaterBytes, type Peer } from "../../src/session/Peer.js"
import { id } from "../support/fake.js"

/** A peer that says how much is unsent as the test wishes. */
const setup = (capabilities = {}) => {
  const sent: Array<string> = []
  let buffered = 0
  const nothing = () => {}
  const peer: Peer = {
    name: "",
    grant: { id: "test" },
    malformedPrefix: "",
    resumable: true,
    listen: nothing,
    send: (text) => sent.push(text),
    buffered: () => buffered,
    pause: nothing,
    resume: nothing,
    close: nothing
  }
  const calls: Array<string> = []
  const process = (name: string) =>
    ({
      processId: id(name),
      idJson: JSON.stringify(name),
      sandboxDenied: false,
      pause: () => calls.push(`pause ${name}`),
      resume: () => calls.push(`resume ${name}`)
    }) as unknown as ManagedProcess
  return {
    notifier: new Notifier.PeerNotifier(peer, capabilities, new FramePool()),
    messages: () => sent.map((text) => JSON.parse(text)),
    calls,
    process,
    setBuffered: (bytes: number) => {
      buffered = bytes
    }
  }
}

const output = Buffer.from([0, 255, 10])
const exit = { exitCode: 137, signal: "SIGKILL" }

describe("Notifier", () => {
  it("writes notifications as they are specified, whatever the id is", () => {
    const { notifier, messages, process } = setup({ lifecycle: true })
    const name = 'a "b"\n\u2028ü'
    const p = process(name)
    notifier.onStarted(p, 77)
    notifier.onOutput(p, 1, "stderr", output)
    notifier.onExited(p, 2, exit, false)
    notifier.onExited(p, 3, { exitCode: null, signal: null }, true)
    notifier.onClosed(p, 4)
    notifier.onFailed(id(name), 'no "such"')
    const exited = { processId: name, sandboxDenied: false }
    assert.deepStrictEqual(messages(), [
      { method: "process/started", params: { processId: name, pid: 77 } },
      { method: "process/output", params: { processId: name, seq: 1, stream: "stderr", chunk: "AP8K" } },
      { method: "process/exited", params: { ...exited, seq: 2, ...exit } },
      { method: "process/exited", params: { ...exited, seq: 3, exitCode: null, signal: null, timedOut: true } },
      { method: "process/closed", params: { processId: name, seq: 4 } },
      { method: "process/failed", params: { processId: name, message: 'no "such"' } }
    ])
  })

  it("what is put together by hand is what the schemas say", () => {
    const { notifier, messages, process } = setup()
    for (const name of ["p", 'a "b"\n\u2028ü']) notifier.onOutput(process(name), 1, "pty", output)
    const sent = messages()
    const deltas = toPeer({ send: (text) => sent.push(JSON.parse(text)), buffered: () => 0 })
    for (const error of [null, 'why "not"\n']) {
      deltas.send({ requestId: 'r"\\', seq: 1, deltaBase64: output, done: error !== null, error })
    }
    assert.lengthOf(sent, 4)
    for (const { method, params } of sent) {
      const schema = ExecNotifications.requests.get(method)?.payloadSchema as Schema.Schema<unknown, unknown>
      const decoded = Schema.decodeUnknownSync(schema, { onExcessProperty: "error" })(params)
      assert.deepStrictEqual(Schema.encodeSync(schema)(decoded), params)
    }
  })

  it("started and failed go only to those who asked", () => {
    const { notifier, messages, process } = setup()
    notifier.onStarted(process("p"), 1)
    notifier.onFailed(id("p"), "no")
    assert.deepStrictEqual(messages(), [])
  })

  it("pauses a process whose output the peer does not take, and reads it again when it has", () => {
    const { notifier, calls, process, setBuffered } = setup()
    const [a, b, c] = [process("a"), process("b"), process("c")]
    setBuffered(highWaterBytes)
    notifier.onOutput(c, 1, "pty", output)
    assert.deepStrictEqual(calls, [])
    setBuffered(highWaterBytes + 1)
    notifier.onOutput(a, 1, "pty", output)
    notifier.onOutput(b, 1, "pty", output)
    assert.deepStrictEqual(calls, ["pause a", "pause b"])
    notifier.onDrain()
    notifier.onDrain()
    assert.deepStrictEqual(calls, ["pause a", "pause b", "resume a", "resume b"])
  })

  it("sends nothing any more once stopped, and holds nobody up", () => {
    const { notifier, messages, calls, process, setBuffered } = setup({ lifecycle: true })
    const p = process("p")
    setBuffered(highWaterBytes + 1)
    notifier.onOutput(p, 1, "pty", output)
    notifier.stop()
    notifier.stop()
    assert.deepStrictEqual(calls, ["pause p", "resume p"])
    notifier.onStarted(p, 1)
    notifier.onOutput(p, 2, "pty", output)
    notifier.onExited(p, 3, exit, false)
    notifier.onClosed(p, 4)
    notifier.onFailed(id("q"), "no")
    assert.lengthOf(messages(), 1)
    assert.deepStrictEqual(calls, ["pause p", "resume p"])
  })

  it("does not touch a closed process when the peer has taken everything", () => {
    const { notifier, calls, process, setBuffered } = setup()
    const p = process("p")
    setBuffered(highWaterBytes + 1)
    notifier.onOutput(p, 1, "pty", output)
    notifier.onClosed(p, 2)
    notifier.onDrain()
    assert.deepStrictEqual(calls, ["pause p"])
  })
})
