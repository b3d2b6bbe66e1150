import { Buffer } from "node:buffer"
import { closeSync, ftruncateSync, writeSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { check } from "../../src/command/UpgradeCheck.js"
import { ImageWriter } from "../../src/internal/Image.js"
import { SessionsState } from "../../src/session/SessionsState.js"
import * as CarriedListener from "../../src/transport/CarriedListener.js"
import * as Container from "../../src/upgrade/Container.js"
import * as Native from "../../src/upgrade/Native.js"
import * as State from "../../src/upgrade/State.js"
import * as Token from "../../src/upgrade/Token.js"

const boot: Container.Boot = { fallback: { file: "/bin/node", argv: ["node", "é"] }, kept: [7, 8], deadlineMs: 10 }

const state = {
  version: "1.0.0",
  successor: "2.0.0",
  frozenAtNs: "12",
  heldAtNs: "11",
  descriptors: [],
  ended: [],
  parts: { one: { text: "ü" } }
}

/** Writes a state with sections, and uses its descriptor. */
const written = (sections: ReadonlyArray<Buffer>, use: (fd: number) => void): void => {
  const writer = new ImageWriter()
  for (const section of sections) writer.bytes(section)
  const fd = Native.memory("test")
  try {
    State.write(fd, boot, state, writer)
    use(fd)
  } finally {
    closeSync(fd)
  }
}

describe("the state of a server", () => {
  it("is read as it was written, as often as one likes", () => {
    const sections = [Buffer.from("abc"), Buffer.alloc(0), Buffer.alloc(3_000_000, "x"), Buffer.from([0, 255])]
    written(sections, (fd) => {
      for (const _ of [1, 2]) {
        assert.deepStrictEqual(Container.readBoot(fd), boot)
        const { state: found, reader } = State.read(fd)
        assert.deepInclude(found, { ...state, format: State.format, sections: [3, 0, 3_000_000, 2] })
        for (const [index, section] of sections.entries()) assert.isTrue(reader.bytes(index).equals(section))
        assert.throws(() => reader.bytes(4), RangeError, "the state has no section 4")
      }
    })
  })

  it("may have more sections than one system call writes", () => {
    const sections = Array.from({ length: 3000 }, (_, index) => Buffer.from(String(index)))
    written(sections, (fd) => {
      const { reader } = State.read(fd)
      assert.strictEqual(reader.bytes(2999).toString(), "2999")
    })
  })

  it("is refused if it is cut short, or another file", () => {
    written([Buffer.alloc(100)], (fd) => {
      const { reader } = State.read(fd)
      ftruncateSync(fd, 300)
      assert.throws(() => reader.bytes(0), Container.NotAnImage, "incomplete")
      ftruncateSync(fd, 100)
      assert.throws(() => State.read(fd), Container.NotAnImage, "incomplete")
      writeSync(fd, Buffer.from("something else, of some length"), 0, 30, 0)
      assert.throws(() => State.read(fd), Container.NotAnImage, "this is not the state of a server")
    })
  })

  const own = { ...state, format: State.format, readableFrom: State.format, sections: [] }

  it("of the next version is read, as far as this one knows it", () => {
    const next = {
      ...own,
      format: State.format + 1,
      another: { member: 1 },
      descriptors: [{ fd: 9, dev: "1", ino: "2", kind: "socket" }],
      parts: { ...own.parts, unheard: [1, 2] }
    }
    const found = Either.getOrThrow(State.parse(next))
    assert.strictEqual(found.format, State.format + 1)
    assert.deepStrictEqual(found.descriptors, [{ fd: 9, dev: "1", ino: "2" }])
  })

  it("that needs a later version is refused, with what to do", () => {
    const message = State.parse({ ...own, version: "7.0.0", format: 9, readableFrom: State.format + 1 })
    assert.deepStrictEqual(
      message,
      Either.left(
        `the state of version 7.0.0 has format 9, which needs a reader of format ${State.format + 1}; ` +
          `this version reads ${State.format}: go there in smaller steps`
      )
    )
  })

  it("of the version before, which has fewer members, is read", () => {
    const { successor, ended, ...before } = own
    const found = Either.getOrThrow(State.parse(before))
    assert.deepStrictEqual([found.successor, found.ended], ["", []])
  })

  it("has parts that tolerate members of a later version", () => {
    const listener = { asked: "{}", url: "ws://127.0.0.1:1", fd: 5, later: true }
    assert.notProperty(Schema.decodeUnknownSync(CarriedListener.schema())(listener), "later")
    const sessions = { frozenAtMs: 1, sessions: [], parts: { later: [] }, later: {} }
    assert.deepStrictEqual(Schema.decodeUnknownSync(SessionsState)(sessions).sessions, [])
  })
})

describe("a version that is asked whether it can take over", () => {
  /** Asks this version, with the state above and these secret parts. */
  const ask = (parts: Readonly<Record<string, unknown>>) =>
    Effect.gen(function* () {
      const [image, secret] = [Native.memory("test"), Native.secret(State.formatSecrets({ variables: {}, parts }))]
      State.write(image, boot, state, { sections: [] })
      Token.leave({ image, secret, isCheck: true, failure: undefined, disarm: () => {} })
      const error = yield* Effect.flip(check(["--listen", "nowhere"]))
      for (const fd of [image, secret]) closeSync(fd)
      return error.message
    })

  it.effect("reads secret parts too, and does not show what they have", () =>
    Effect.gen(function* () {
      const remote = { kind: "noise", target: "https://x", url: "wss://x/secret" }
      assert.match(yield* ask({ remote }), /nowhere/)
      const message = "the state of remote cannot be read"
      assert.strictEqual(yield* ask({ remote: { ...remote, url: ["secret"] } }), message)
    })
  )
})

describe("what no other process may see", () => {
  it("is in a socket that keeps it", () => {
    const fd = Native.secret(State.formatSecrets({ variables: { TOKEN: "ß" }, parts: { a: 1 } }))
    try {
      for (const _ of [1, 2]) {
        assert.deepStrictEqual(State.parseSecrets(Native.peek(fd)), { variables: { TOKEN: "ß" }, parts: { a: 1 } })
      }
    } finally {
      closeSync(fd)
    }
  })

  it("has a limit", () => {
    assert.throws(() => Native.secret(Buffer.alloc(200_000)), "EMSGSIZE")
  })
})

describe("an exec that fails", () => {
  it("changes nothing", () => {
    const fd = Native.memory("test")
    try {
      assert.throws(() => Native.exec({ file: "/nothing", argv: ["x"], handover: "1", kept: [fd] }), "ENOENT")
      assert.isUndefined(process.env["EXEC_SERVER_HANDOVER"])
    } finally {
      closeSync(fd)
    }
  })
})
