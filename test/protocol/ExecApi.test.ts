import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { ExecApi, ReadResult, StartParams, WriteResult } from "../../src/protocol/ExecApi.js"
import { type Family, MethodFacts } from "../../src/protocol/MethodFacts.js"
import { formatParseError } from "../../src/protocol/Schemas.js"
import { startParams } from "../support/TestClient.js"

const families = new Map<string, Family>([
  ["initialize", "handshake"],
  ["environment", "environment info"],
  ["process", "exec"],
  ["attachment", "exec"],
  ["console", "session"],
  ["session", "session"],
  ["usage", "exec"],
  ["recording", "exec"],
  ["share", "session"],
  ["fs", "filesystem"],
  ["http", "http"],
  ["environmentConfig", "environment config"],
  ["capabilityRoots", "capability discovery"],
  ["capabilities", "capability discovery"]
])

it("has each method in the family that the original names it by", () => {
  for (const { _tag, annotations } of ExecApi.requests.values()) {
    const [group = ""] = _tag.split("/")
    assert.strictEqual(Context.get(annotations, MethodFacts).family, families.get(group), _tag)
  }
})

const payloadOf = (method: string) => {
  const rpc = ExecApi.requests.get(method)
  if (rpc === undefined) throw new Error(`no ${method}`)
  return rpc.payloadSchema as unknown as Schema.Schema<Record<string, unknown>, unknown>
}

const decode = (method: string, params: unknown) =>
  Either.mapLeft(Schema.decodeUnknownEither(payloadOf(method))(params), formatParseError)

const accepted = (method: string, params: unknown) =>
  Either.getOrThrowWith(decode(method, params), (message) => new Error(message))

const refusal = (method: string, params: unknown) =>
  Either.getOrThrowWith(Either.flip(decode(method, params)), () => new Error(`${method} accepted it`))

const start = startParams("p", ["a"])

it("has the methods of the protocol", () => {
  assert.sameMembers(
    [...ExecApi.requests.keys()],
    [
      "initialize",
      "environment/info",
      "environment/status",
      "environment/limits",
      "process/start",
      "session/grant",
      "session/list",
      "process/usage",
      "usage/watch",
      "share/create",
      "share/list",
      "share/revoke",
      "recording/start",
      "recording/stop",
      "recording/list",
      "recording/read",
      "recording/remove",
      "session/end",
      "process/attach",
      "attachment/detach",
      "attachment/screen",
      "attachment/drive",
      "console/watch",
      "process/read",
      "process/write",
      "process/closeStdin",
      "process/resize",
      "process/signal",
      "process/terminate",
      "process/wait",
      "process/snapshot",
      "process/list",
      "fs/readFile",
      "fs/writeFile",
      "fs/createDirectory",
      "fs/getMetadata",
      "fs/canonicalize",
      "fs/readDirectory",
      "fs/walk",
      "fs/remove",
      "fs/copy",
      "fs/open",
      "fs/readBlock",
      "fs/writeBlock",
      "fs/close",
      "fs/watchMissing",
      "http/request",
      "http/cancel",
      "environmentConfig/read",
      "capabilityRoots/discoverV1",
      "capabilities/discoverV2"
    ]
  )
})

describe("initialize", () => {
  it("keeps the difference between absent and null, which decides the dialect", () => {
    assert.notProperty(accepted("initialize", { clientName: "x" }), "resumeSessionId")
    assert.isNull(accepted("initialize", { clientName: "x", resumeSessionId: null })["resumeSessionId"])
  })

  it("ignores capabilities it does not know", () => {
    const { capabilities } = accepted("initialize", { clientName: "x", capabilities: { lifecycle: true, other: 1 } })
    assert.deepStrictEqual(capabilities, { lifecycle: true })
    accepted("initialize", { clientName: "x", capabilities: null })
  })

  it("needs a clientName", () => {
    assert.strictEqual(refusal("initialize", {}), "missing field `clientName`")
    assert.include(refusal("initialize", { clientName: 1 }), "invalid type: number, expected a string")
    assert.include(refusal("initialize", { clientName: "x", capabilities: [] }), "capabilities")
  })
})

describe("process/start", () => {
  it("takes a path in either form", () => {
    for (const cwd of ["/tmp", "file:///tmp"]) {
      assert.deepInclude(accepted("process/start", { ...start, cwd })["cwd"], { path: "/tmp" })
    }
    assert.match(refusal("process/start", { ...start, cwd: "tmp" }), /cwd/)
    assert.match(refusal("process/start", { ...start, cwd: "file://host/tmp" }), /cwd/)
  })

  for (const field of ["processId", "argv", "cwd", "env", "tty"]) {
    it(`needs ${field}`, () => {
      const { [field]: _, ...rest } = start as Record<string, unknown>
      assert.strictEqual(refusal("process/start", rest), `missing field \`${field}\``)
      assert.include(refusal("process/start", { ...start, [field]: null }), "invalid type: null, expected a")
    })
  }

  for (const field of ["arg0", "envPolicy", "sandbox", "size", "timeoutMs"]) {
    it(`takes null for ${field}`, () => {
      assert.notProperty(accepted("process/start", { ...start, [field]: null }), field)
    })
  }

  it("pipeStdin is false by default, and never null", () => {
    assert.isFalse(accepted("process/start", start)["pipeStdin"])
    assert.include(refusal("process/start", { ...start, pipeStdin: null }), "invalid type: null, expected a boolean")
  })

  it("an envPolicy needs all of its fields, and one of three words", () => {
    const policy = { inherit: "core", ignoreDefaultExcludes: false, exclude: [], set: {}, includeOnly: [] }
    accepted("process/start", { ...start, envPolicy: policy })
    for (const field of Object.keys(policy)) {
      const { [field]: _, ...rest } = policy as Record<string, unknown>
      assert.include(refusal("process/start", { ...start, envPolicy: rest }), `missing field \`${field}\``)
    }
    assert.include(
      refusal("process/start", { ...start, envPolicy: { ...policy, inherit: "bogus" } }),
      "unknown variant `bogus`, expected one of `core`, `all`, `none`"
    )
  })

  it("refuses sizes out of range, naming the field", () => {
    for (const size of [{ rows: 0, cols: 1 }, { rows: 1, cols: 65_536 }, { rows: 1 }, { rows: 1.5, cols: 1 }]) {
      assert.match(refusal("process/start", { ...start, size }), /rows|cols/)
    }
  })

  it("ignores members it does not know", () => {
    assert.notProperty(accepted("process/start", { ...start, unheardOf: { of: "it" } }), "unheardOf")
  })

  it("metadata: what it has must be what it says", () => {
    const threadId = "0191a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b"
    for (const metadata of [null, {}, { threadId, toolCallId: "c" }, { threadId: null, more: 1 }]) {
      accepted("process/start", { ...start, metadata })
    }
    assert.include(refusal("process/start", { ...start, metadata: { threadId: "x" } }), "expected a UUID")
    assert.include(refusal("process/start", { ...start, metadata: 5 }), "metadata")
  })
})

describe("the other requests", () => {
  it("read: null is absent", () => {
    const params = { processId: "p", afterSeq: null, maxBytes: null, waitMs: null }
    assert.deepStrictEqual(accepted("process/read", params), { processId: "p" })
    assert.include(refusal("process/read", { processId: "p", afterSeq: -1 }), "afterSeq")
  })

  it("write: bytes, and a writeId that is absent or not empty", () => {
    const params = accepted("process/write", { processId: "p", chunk: "YWI=", writeId: null })
    assert.strictEqual((params["chunk"] as Buffer).toString(), "ab")
    assert.include(refusal("process/write", { processId: "p", chunk: "", writeId: "" }), "writeId must not be empty")
    assert.include(refusal("process/write", { processId: "p", chunk: "YQ" }), "Invalid padding")
    assert.strictEqual(refusal("process/write", { processId: "p" }), "missing field `chunk`")
  })

  it("resize: rows and columns of 1 to 65535", () => {
    accepted("process/resize", { processId: "p", rows: 1, cols: 65_535 })
    for (const rows of [0, -1, 65_536, 1.5, null, "1"]) {
      assert.include(refusal("process/resize", { processId: "p", rows, cols: 1 }), "rows")
    }
  })

  it("signal: a target of three", () => {
    for (const target of ["group", "leader", "tree", null]) {
      accepted("process/signal", { processId: "p", signal: "SIGTERM", target })
    }
    assert.include(refusal("process/signal", { processId: "p", signal: "SIGTERM", target: "all" }), "target")
  })

  it("terminate: force or graceful with a time", () => {
    for (const mode of [undefined, null, { type: "force" }, { type: "graceful", timeoutMs: 0 }]) {
      accepted("process/terminate", { processId: "p", mode })
    }
    for (const mode of [{}, "force", { type: "graceful" }, { type: "gentle" }, { type: "graceful", timeoutMs: -1 }]) {
      assert.include(refusal("process/terminate", { processId: "p", mode }), "mode")
    }
  })

  it("wait: until of two, waitMs null is no limit", () => {
    accepted("process/wait", { processId: "p", until: "closed", waitMs: null })
    assert.include(refusal("process/wait", { processId: "p", until: "dead" }), "until")
  })
})

describe("results", () => {
  it("a read result travels with base64 chunks and nulls", () => {
    const encoded = Schema.encodeSync(ReadResult)({
      chunks: [{ seq: 1, stream: "pty", chunk: Buffer.from("ab") }],
      nextSeq: 2,
      exited: false,
      exitCode: null,
      signal: null,
      closed: false,
      failure: null,
      sandboxDenied: false,
      truncated: false,
      droppedBytes: 0
    })
    assert.deepStrictEqual(encoded.chunks, [{ seq: 1, stream: "pty", chunk: "YWI=" }])
    assert.isNull(encoded.exitCode)
  })

  it("a write result has both of its generations", () => {
    assert.deepStrictEqual(Schema.encodeSync(WriteResult)({ accepted: false, status: "unknownProcess" }), {
      accepted: false,
      status: "unknownProcess"
    })
  })

  it("start parameters can be written by a client too", () => {
    const decoded = Schema.decodeUnknownSync(StartParams)({ ...start, cwd: "file:///tmp/a%20b" })
    assert.strictEqual(Schema.encodeSync(StartParams)(decoded).cwd, "file:///tmp/a%20b")
  })
})
