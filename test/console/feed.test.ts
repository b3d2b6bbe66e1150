import { assert, describe, it } from "@effect/vitest"
import { Acks } from "../../src/console/Acks.js"
import { AttachedFeed } from "../../src/console/AttachedFeed.js"
import type { Display } from "../../src/console/Feed.js"
import { Input } from "../../src/console/Input.js"
import { Outputs } from "../../src/console/Outputs.js"
import { OwnFeed } from "../../src/console/OwnFeed.js"
import { agreeable, connecting, type FakeSocket, frame, type Sent } from "./support.js"

const base64 = (text: string) => Buffer.from(text).toString("base64")

/** Shows text, and says so at once or when it is told to. */
const showing = () => {
  let text = ""
  let isPaused = false
  const waiting: Array<() => void> = []
  const live: Array<boolean> = []
  const display: Display = {
    reset: (_size, screen) => {
      text = screen === null ? "" : new TextDecoder().decode(screen)
    },
    output: (_stream, bytes, isLive, shown) => {
      text += new TextDecoder().decode(bytes)
      live.push(isLive)
      if (isPaused) waiting.push(shown)
      else shown()
    },
    resize: () => {},
    gap: () => {
      text += "[gap]"
    }
  }
  return {
    display,
    live,
    text: () => text,
    pause: () => {
      isPaused = true
    },
    resume: () => {
      isPaused = false
      for (const shown of waiting.splice(0)) shown()
    }
  }
}

describe("acknowledgements", () => {
  it("are of absolute numbers, some bytes apart, and never go back", () => {
    const sent: Array<number> = []
    const acks = new Acks(100, (seq) => sent.push(seq))
    acks.shown(1, 60)
    acks.shown(2, 60)
    acks.shown(3, 10)
    acks.shown(5, 500)
    acks.shown(4, 500)
    acks.flush()
    assert.deepStrictEqual(sent, [2, 5])
  })
})

/** A process with retained output, from `first` on. */
const server = (chunks: ReadonlyArray<string>, first = 1) => {
  let all = Array.from(chunks)
  const answers = (request: Sent) => {
    const { method, params } = request
    if (method === "process/read") {
      const after = Number(params["afterSeq"] ?? 0)
      const found = all.map((text, i) => ({ seq: i + 1, stream: "pty", chunk: base64(text) }))
      const kept = found.filter(({ seq }) => seq > after && seq >= first)
      return {
        result: {
          chunks: kept.slice(0, 2),
          nextSeq: all.length + 1,
          exited: false,
          exitCode: null,
          signal: null,
          closed: false,
          failure: null,
          truncated: after < first - 1,
          droppedBytes: 0
        }
      }
    }
    if (method === "process/attach") {
      return {
        result: {
          attachmentId: 1,
          role: "operator",
          seq: all.length,
          size: { rows: 24, cols: 80 },
          screen: base64(`<screen ${all.length}>`),
          title: null,
          truncated: false,
          exited: false,
          exitCode: null,
          signal: null,
          closed: false,
          viewers: []
        }
      }
    }
    return agreeable(request)
  }
  return {
    answers,
    /** Prints, to a client that is there. */
    print: (text: string, socket?: FakeSocket) => {
      all = [...all, text]
      socket?.receive(frame("p", all.length, text))
    },
    get count() {
      return all.length
    }
  }
}

const acked = (socket: FakeSocket) => socket.of("process/ack").map(({ params }) => params["seq"])

const own = (connection: ReturnType<typeof connecting>["connection"], display: Display, tty = true) =>
  new OwnFeed({ connection, outputs: new Outputs(connection), session: "s-1", processId: "p", tty, display })

describe("the output of an own process", () => {
  it("begins with the screen, and goes on after it", async () => {
    const process = server(["a", "b"])
    const { connection, online, settle } = connecting(process.answers)
    const shown = showing()
    const socket = await online()
    const feed = own(connection, shown.display)
    // Comes before the answer, and is part of the screen; then one that is not.
    socket.receive(frame("p", 2, "b"))
    process.print("c", socket)
    await settle()
    process.print("d", socket)
    assert.include(["<screen 2>cd", "<screen 3>d"], shown.text())
    assert.strictEqual(feed.facts.phase.value._tag, "Live")
    feed.close()
  })

  it("is complete and in order after each of many lost connections", async () => {
    const process = server([])
    const { connection, online, last, settle } = connecting(process.answers)
    const shown = showing()
    await online()
    const feed = own(connection, shown.display, false)
    await settle()
    let expected = ""
    for (let cut = 0; cut < 14; cut++) {
      for (let i = 0; i < 5; i++) {
        expected += `${process.count},`
        process.print(`${process.count},`, last())
      }
      last().lose()
      for (let i = 0; i < 7; i++) {
        expected += `${process.count},`
        process.print(`${process.count},`)
      }
      connection.connect()
      last().open()
      for (let i = 0; i < 3; i++) {
        await Promise.resolve()
        expected += `${process.count},`
        process.print(`${process.count},`, last())
      }
      await settle()
    }
    assert.strictEqual(shown.text(), expected)
    feed.close()
  })

  it("that was both held and fetched is acknowledged, so that the process goes on", async () => {
    const process = server(["a"])
    const { connection, online, last, settle } = connecting(process.answers)
    const shown = showing()
    await online()
    const feed = own(connection, shown.display, false)
    await settle()
    last().lose()
    process.print("b")
    process.print("c")
    connection.connect()
    last().open()
    await Promise.resolve()
    last().receive(frame("p", 2, "b"))
    last().receive(frame("p", 3, "c"))
    await settle()
    assert.strictEqual(shown.text(), "abc")
    assert.strictEqual(acked(last()).at(-1), 3)
    feed.close()
  })

  it("is acknowledged only once it is shown", async () => {
    const process = server([])
    const { connection, online, settle } = connecting(process.answers)
    const shown = showing()
    const socket = await online()
    const feed = own(connection, shown.display, false)
    await settle()
    shown.pause()
    const before = acked(socket).length
    for (let i = 0; i < 8; i++) process.print("x".repeat(16_384), socket)
    assert.lengthOf(acked(socket), before)
    shown.resume()
    assert.strictEqual(acked(socket).at(-1), 8)
    feed.close()
    // What is left on the way is not waited for.
    assert.strictEqual(acked(socket).at(-1), process.count)
  })

  it("of which too much was printed while the connection was lost is replaced by the screen", async () => {
    const process = server(["a", "b", "c", "d"], 4)
    const { connection, online, last, settle } = connecting(process.answers)
    const shown = showing()
    const outputs = new Outputs(connection)
    await online()
    outputs.hold("p")
    last().receive(frame("p", 1, "a"))
    const feed = new OwnFeed({
      connection,
      outputs,
      session: "s-1",
      processId: "p",
      tty: true,
      display: shown.display
    })
    assert.strictEqual(shown.text(), "a")
    last().lose()
    connection.connect()
    last().open()
    await settle()
    assert.strictEqual(shown.text(), "<screen 4>")
    feed.close()
  })

  it("of one that was just started is live from its first byte; what is fetched later is not", async () => {
    const process = server([])
    const { connection, online, last, settle } = connecting(process.answers)
    const shown = showing()
    const outputs = new Outputs(connection)
    const socket = await online()
    outputs.hold("p")
    process.print("\u001b[c", socket)
    const feed = new OwnFeed({ connection, outputs, session: "s-1", processId: "p", tty: true, display: shown.display })
    assert.lengthOf(socket.of("process/attach"), 0)
    assert.deepStrictEqual(shown.live, [true])
    socket.lose()
    process.print("\u001b[c")
    connection.connect()
    last().open()
    await settle()
    assert.deepStrictEqual(shown.live, [true, false])
    feed.close()
  })

  it("that nobody looks at is acknowledged", async () => {
    const { connection, online } = connecting()
    const socket = await online()
    new Outputs(connection)
    socket.receive(frame("q", 7, "unseen"))
    await new Promise((resolve) => setTimeout(resolve, 200))
    assert.deepStrictEqual(acked(socket), [7])
  })
})

describe("the output of another session", () => {
  it("goes on after what was seen, on the next connection", async () => {
    const process = server(["a"])
    const { connection, online, last, settle } = connecting(process.answers)
    const shown = showing()
    const socket = await online()
    const feed = new AttachedFeed({ connection, session: "s-2", processId: "p", display: shown.display })
    await settle()
    assert.deepStrictEqual(socket.of("attachment/ack").at(0)?.params, { attachmentId: 1, seq: 1 })
    assert.strictEqual(shown.text(), "<screen 1>")
    socket.lose()
    assert.strictEqual(feed.facts.phase.value._tag, "Interrupted")
    connection.connect()
    last().open()
    await settle()
    assert.deepStrictEqual(last().of("process/attach")[0]?.params["from"], { type: "seq", afterSeq: 1 })
    assert.strictEqual(feed.facts.phase.value._tag, "Live")
    last().receive({ method: "attachment/ended", params: { attachmentId: 1, reason: "revoked" } })
    assert.strictEqual(feed.facts.phase.value._tag, "Over")
    feed.close()
  })

  it("is replaced by a screen where it was skipped", async () => {
    const { connection, online, settle } = connecting(server(["a"]).answers)
    const shown = showing()
    const socket = await online()
    const feed = new AttachedFeed({ connection, session: "s-2", processId: "p", display: shown.display })
    await settle()
    const params = { attachmentId: 1, seq: 9, size: { rows: 24, cols: 80 }, screen: base64("later"), skippedBytes: 5 }
    socket.receive({ method: "attachment/screen", params })
    assert.strictEqual(shown.text(), "later")
    assert.strictEqual(socket.of("attachment/ack").at(-1)?.params["seq"], 9)
    feed.close()
  })
})

describe("input", () => {
  const bytes = (text: string) => new TextEncoder().encode(text)

  it("without an answer is sent again on the next connection, with the same id", async () => {
    const silent = (request: Sent) => (request.method === "process/write" ? undefined : agreeable(request))
    const { connection, online, last, settle } = connecting(silent)
    const refused: Array<string> = []
    const socket = await online()
    const input = new Input(connection, { processId: "p" }, (why) => refused.push(why))
    input.write(bytes("a"))
    input.write(bytes("b"))
    const first = socket.of("process/write").map(({ params }) => params)
    socket.lose()
    input.write(bytes("c"))
    connection.connect()
    last().open()
    await settle()
    const again = last()
      .of("process/write")
      .map(({ params }) => params)
    assert.deepStrictEqual(again.slice(0, 2), first)
    assert.strictEqual(again[2]?.["chunk"], base64("c"))
    assert.deepStrictEqual(refused, [])
    last().lose(1008, "the session was ended")
    input.write(bytes("d"))
    assert.deepStrictEqual(refused, ["not sent: there is no connection"])
    input.close()
  })

  it("that was answered is not sent again; what is not accepted is told", async () => {
    const answers = (request: Sent) =>
      request.method === "process/write" ? { result: { accepted: false, status: "stdinClosed" } } : agreeable(request)
    const { connection, online, last, settle } = connecting(answers)
    const refused: Array<string> = []
    await online()
    const input = new Input(connection, { session: "s-2", processId: "p" }, (why) => refused.push(why))
    input.write(bytes("a"))
    await settle()
    assert.deepStrictEqual(refused, ["not sent: its input is closed"])
    last().lose()
    connection.connect()
    last().open()
    await settle()
    assert.lengthOf(last().of("process/write"), 0)
    input.close()
  })

  it("is bounded, and split into messages", async () => {
    const silent = (request: Sent) => (request.method === "process/write" ? undefined : agreeable(request))
    const { connection, online } = connecting(silent)
    const refused: Array<string> = []
    const socket = await online()
    const input = new Input(connection, { processId: "p" }, (why) => refused.push(why))
    input.write(new Uint8Array(1_000_000))
    assert.lengthOf(socket.of("process/write"), 16)
    input.write(new Uint8Array(100_000))
    assert.deepStrictEqual(refused, ["not sent: the process does not read its input"])
    input.close()
  })
})
