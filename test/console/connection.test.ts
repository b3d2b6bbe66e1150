import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"
import { CallError } from "../../src/console/Channel.js"
import { decode } from "../../src/console/Frames.js"
import { diagnose } from "../../src/console/Probe.js"
import { agreeable, connecting, frame, type Sent } from "./support.js"

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

const failureOf = async (promise: Promise<unknown>) => {
  try {
    await promise
  } catch (error) {
    if (error instanceof CallError) return error.failure
    throw error
  }
  return undefined
}

describe("a connection", () => {
  it("greets, with the token in a subprotocol and no secret in the address", async () => {
    const { connection, memory, online } = connecting()
    memory.token = "a token/+"
    const socket = await online()
    assert.deepStrictEqual(socket.protocols, ["exec-server.v1", "bearer.YSB0b2tlbi8r"])
    assert.deepStrictEqual(
      socket.sent.map(({ method }) => method),
      ["initialize", "initialized", "session/grant"]
    )
    assert.containSubset(socket.sent[0]?.params, {
      resumeSessionId: null,
      takeover: false,
      capabilities: { outputWindow: 131_072, binaryOutput: true }
    })
    assert.strictEqual(connection.state.value._tag, "Online")
    assert.strictEqual(memory.sessionId, "secret-1")
  })

  it("that is lost comes back with pauses, and takes its session over", async () => {
    const { connection, sockets, last, settle, online } = connecting()
    const first = await online()
    first.lose()
    assert.strictEqual(connection.state.value._tag, "Waiting")
    assert.deepStrictEqual(await failureOf(connection.call("process/list", {})), { _tag: "Disconnected" })
    await vi.advanceTimersByTimeAsync(240)
    assert.lengthOf(sockets, 1)
    await vi.advanceTimersByTimeAsync(20)
    assert.lengthOf(sockets, 2)
    last().lose()
    await settle()
    await vi.advanceTimersByTimeAsync(490)
    assert.lengthOf(sockets, 2)
    await vi.advanceTimersByTimeAsync(20)
    assert.lengthOf(sockets, 3)
    last().open()
    await settle()
    assert.containSubset(last().sent[0]?.params, { resumeSessionId: "secret-1", takeover: true })
    assert.strictEqual(connection.state.value._tag, "Online")
  })

  it("whose request is unanswered when it is lost fails with that", async () => {
    const { connection, online } = connecting((request) =>
      request.method === "process/wait" ? undefined : agreeable(request)
    )
    const socket = await online()
    const pending = failureOf(connection.call("process/wait", { processId: "p" }))
    socket.lose()
    assert.deepStrictEqual(await pending, { _tag: "Disconnected" })
  })

  it("opens a new session if the old one is gone, and waits as long as that is permitted", async () => {
    const answers = (request: Sent) => {
      if (request.method === "initialize" && Number(request.params["sessionTtlMs"]) > 1000) {
        return { error: { code: -32600, message: "sessionTtlMs may be at most 1000 (maxSessionTtlMs)" } }
      }
      if (request.method === "initialize" && request.params["resumeSessionId"] === "gone") {
        return { error: { code: -32600, message: "unknown session id gone" } }
      }
      return agreeable(request)
    }
    const { connection, memory, online } = connecting(answers)
    memory.sessionId = "gone"
    const socket = await online()
    assert.deepStrictEqual(
      socket.of("initialize").map(({ params }) => [params["resumeSessionId"], params["sessionTtlMs"]]),
      [
        ["gone", 43_200_000],
        ["gone", 1000],
        [null, 1000]
      ]
    )
    assert.strictEqual(connection.state.value._tag, "Online")
    assert.strictEqual(memory.sessionId, "secret-1")
  })

  it("waits for nobody with a token whose session ends with its connection", async () => {
    const message = "sessionTtlMs: a session ends with its connection with a token for one session or process"
    const { connection, online } = connecting((request) =>
      request.method === "initialize" && request.params["sessionTtlMs"] !== undefined
        ? { error: { code: -32600, message } }
        : agreeable(request)
    )
    const socket = await online()
    assert.lengthOf(socket.of("initialize"), 2)
    assert.strictEqual(connection.state.value._tag, "Online")
  })

  for (const [reason, tag] of [
    ["the session was taken over", "TakenOver"],
    ["the session was ended", "Ended"],
    ["the token has expired; connect again with a new one", "NeedsToken"],
    ["the share was revoked", "Ended"]
  ] as const) {
    it(`that is closed because ${reason} stays closed`, async () => {
      const { connection, sockets, online } = connecting()
      const socket = await online()
      socket.lose(1008, reason)
      await vi.advanceTimersByTimeAsync(120_000)
      assert.lengthOf(sockets, 1)
      const state = connection.state.value
      assert.strictEqual(state._tag === "Stopped" ? state.stop._tag : state._tag, tag)
    })
  }

  it("without an answer to its heartbeat is replaced", async () => {
    const { sockets, online } = connecting((request) =>
      request.method === "environment/status" ? undefined : agreeable(request)
    )
    const socket = await online()
    await vi.advanceTimersByTimeAsync(24_000)
    assert.isTrue(socket.isClosed)
    assert.lengthOf(sockets, 2)
  })

  it("that is not opened says why: a token is needed", async () => {
    const { connection, last, settle } = connecting(agreeable, {
      _tag: "NeedsToken",
      message: "the server asks for a token"
    })
    connection.connect()
    last().lose()
    await settle()
    assert.deepStrictEqual(connection.state.value, {
      _tag: "Stopped",
      stop: { _tag: "NeedsToken", message: "the server asks for a token" }
    })
  })

  it("ignores what a socket says that it has left", async () => {
    const { connection, sockets, online, settle } = connecting()
    await online()
    connection.connect()
    sockets[0]?.lose(1008, "the session was taken over")
    sockets[1]?.open()
    await settle()
    assert.strictEqual(connection.state.value._tag, "Online")
  })

  it("tells a refusal from silence", async () => {
    const { connection, online } = connecting((request) => {
      if (request.method === "process/list") return { error: { code: -32003, message: "this token may only view" } }
      return request.method === "process/wait" ? undefined : agreeable(request)
    })
    await online()
    assert.deepStrictEqual(await failureOf(connection.call("process/list", {})), {
      _tag: "Refused",
      code: -32003,
      message: "this token may only view"
    })
    const silent = failureOf(connection.call("process/wait", { processId: "p" }, 1000))
    await vi.advanceTimersByTimeAsync(1001)
    assert.deepStrictEqual(await silent, { _tag: "Silent", method: "process/wait" })
  })
})

describe("the diagnosis of a socket that was not opened", () => {
  const asking = (readyz: number | undefined, root: number) => (path: string) =>
    readyz === undefined ? Promise.reject(new Error()) : Promise.resolve(path === "readyz" ? readyz : root)
  for (const [what, readyz, root, tag] of [
    ["nothing answers", undefined, 0, "Unreachable"],
    ["the server is not ready", 503, 0, "NotReady"],
    ["a proxy has no server", 502, 0, "NotReady"],
    ["the page is not admitted", 403, 0, "Forbidden"],
    ["something else answers", 404, 0, "NoUpgrade"],
    ["the token is wrong", 200, 401, "NeedsToken"],
    ["there are too many failed logins", 200, 429, "NotReady"],
    ["a proxy does not pass on upgrades", 200, 400, "NoUpgrade"]
  ] as const) {
    it(`is ${tag} if ${what}`, async () => {
      assert.strictEqual((await diagnose(asking(readyz, root), true))._tag, tag)
    })
  }
})

describe("a frame", () => {
  it("of a process, and of an attachment, is read", () => {
    const found = decode(frame("p\u00e9", 2 ** 33 + 1, "hi", 2))
    assert.containSubset(found, { _tag: "Process", processId: "p\u00e9", seq: 2 ** 33 + 1, stream: "stderr" })
    assert.strictEqual(new TextDecoder().decode(found?.bytes), "hi")
    const bytes = Uint8Array.of(2, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 7, 104)
    assert.containSubset(decode(bytes.buffer as ArrayBuffer), {
      _tag: "Attachment",
      attachmentId: 256,
      seq: 7,
      stream: "pty"
    })
  })

  it("that is none is left", () => {
    for (const bytes of [[], [1, 3, 0], [9, 3, 0, 0, 0], [1, 9, 0, 1, 97], [1, 3, 0, 200, 97], [2, 3, 0, 0]]) {
      assert.isUndefined(decode(Uint8Array.from(bytes).buffer as ArrayBuffer))
    }
  })
})
