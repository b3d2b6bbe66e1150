import { assert, describe, it } from "@effect/vitest"
import { type Cast, Reader, readSize } from "../../src/console/Cast.js"
import { Playback } from "../../src/console/Playback.js"
import { PlayerClock } from "../../src/console/PlayerClock.js"

const read = (...pieces: ReadonlyArray<string>): Cast => {
  const reader = new Reader()
  for (const piece of pieces) reader.push(piece)
  return reader.end()
}

const header = '{"version": 3, "term": {"cols": 80, "rows": 24}, "timestamp": 1780000000, "command": "top"}\n'

describe("a recording", () => {
  it("of version 3 has the time since the event before", () => {
    const cast = read(`${header}# a comment\n[0.5, "o", "a"]\n[1.25, "r", "100x30"]\nnonsense\n[0.25, "x", "0"]\n`)
    assert.deepStrictEqual(cast, {
      size: { cols: 80, rows: 24 },
      title: "top",
      startedAtMs: 1_780_000_000_000,
      events: [
        { atMs: 500, code: "o", data: "a" },
        { atMs: 1750, code: "r", data: "100x30" },
        { atMs: 2000, code: "x", data: "0" }
      ],
      durationMs: 2000
    })
  })

  it("of version 2 has the time since the beginning", () => {
    const { events, size, title } = read(
      '{"version": 2, "width": 10, "height": 5, "title": "t"}\n[1, "o", "a"]\n[2.5, "o", "b"]'
    )
    assert.deepStrictEqual([size, title], [{ cols: 10, rows: 5 }, "t"])
    assert.deepStrictEqual(
      events.map(({ atMs }) => atMs),
      [1000, 2500]
    )
  })

  it("may come in pieces that end anywhere", () => {
    const text = `${header}[1, "o", "hello"]\n[1, "o", "again"]\n`
    for (let at = 1; at < text.length; at++) assert.lengthOf(read(text.slice(0, at), text.slice(at)).events, 2)
  })

  it("that is none is refused", () => {
    for (const text of ["", "hello\n", "[]\n", '{"version": 1}\n']) assert.throws(() => read(text), /recording/)
    assert.throws(() => read('{"version": 3, "term": {"cols": 1e9, "rows": 24}}\n'), /size/)
  })

  it("has resizes of a sane size", () => {
    assert.deepStrictEqual(readSize("80x24"), { cols: 80, rows: 24 })
    for (const data of ["", "80", "0x5", "99999x5", "axb"]) assert.isUndefined(readSize(data))
  })
})

describe("the clock of a player", () => {
  it("stands, goes, goes faster, and ends", () => {
    const clock = new PlayerClock(10_000)
    assert.isFalse(clock.isPlaying(0))
    clock.play(1000)
    assert.strictEqual(clock.position(3000), 2000)
    clock.setSpeed(4, 3000)
    assert.strictEqual(clock.position(4000), 6000)
    clock.pause(4000)
    assert.strictEqual(clock.position(9000), 6000)
    clock.play(9000)
    assert.strictEqual(clock.position(20_000), 10_000)
    assert.isFalse(clock.isPlaying(20_000))
    clock.play(20_000)
    assert.strictEqual(clock.position(20_000), 0)
  })

  it("is set within the recording", () => {
    const clock = new PlayerClock(5000)
    clock.seek(9000, 0)
    assert.strictEqual(clock.position(0), 5000)
    clock.seek(-1, 0)
    assert.strictEqual(clock.position(0), 0)
  })
})

/** A stage that shows text at once, and can be slow to say so. */
const stage = () => {
  let text = ""
  const resets: Array<string> = []
  const marks: Array<() => void> = []
  let isSlow = false
  return {
    resets,
    text: () => text,
    slow: () => {
      isSlow = true
    },
    release: () => {
      isSlow = false
      for (const mark of marks.splice(0)) mark()
    },
    on: {
      reset: (_size: unknown, screen: string) => {
        text = screen
        resets.push(screen)
      },
      output: (more: string) => {
        text += more
      },
      resize: () => {},
      mark: (listener: () => void) => void (isSlow ? marks.push(listener) : listener()),
      snapshot: () => text
    }
  }
}

const cast = (count: number, data = (i: number) => `${i},`): Cast => ({
  size: { cols: 80, rows: 24 },
  title: "",
  startedAtMs: undefined,
  events: Array.from({ length: count }, (_, i) => ({ atMs: (i + 1) * 1000, code: "o", data: data(i) })),
  durationMs: count * 1000
})

const upTo = (count: number) => Array.from({ length: count }, (_, i) => `${i},`).join("")

describe("playing", () => {
  it("shows what was printed by the time of the clock", async () => {
    let now = 0
    const shown = stage()
    const playback = new Playback(cast(10), shown.on, () => now)
    playback.clock.play(0)
    now = 3500
    await playback.run()
    assert.strictEqual(shown.text(), upTo(3))
  })

  it("goes to any time, forth and back, and shows the same", async () => {
    const shown = stage()
    const playback = new Playback(cast(100), shown.on, () => 0)
    for (const seconds of [90, 3, 57, 56, 99, 0, 12, 100]) {
      await playback.seek(seconds * 1000)
      assert.strictEqual(shown.text(), upTo(seconds))
    }
    assert.isTrue(
      shown.resets.some((screen) => screen !== ""),
      "it never began at a screen that it had kept"
    )
  })

  it("goes back while screens are still being drawn", async () => {
    const shown = stage()
    const playback = new Playback(cast(100), shown.on, () => 0)
    shown.slow()
    await playback.seek(90_000)
    await playback.seek(57_000)
    assert.strictEqual(shown.text(), upTo(57))
  })

  it("gives no more than the stage can take", async () => {
    const shown = stage()
    const playback = new Playback(
      cast(100, () => "x".repeat(100_000)),
      shown.on,
      () => 0
    )
    shown.slow()
    const sought = playback.seek(100_000)
    await Promise.resolve()
    assert.isBelow(shown.text().length, 500_000)
    shown.release()
    await sought
    assert.lengthOf(shown.text(), 10_000_000)
  })
})
