/** The sizes of a terminal, in the order of its output. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { maxMarks, ResizeMarks } from "../../src/process/ResizeMarks.js"
import { bench, supervisorLayer } from "../support/fake.js"

describe("marks", () => {
  it("tell the size of each byte", () => {
    const marks = new ResizeMarks({ rows: 24, cols: 80 })
    marks.add({ seq: 2, rows: 30, cols: 90, by: null })
    marks.add({ seq: 2, rows: 31, cols: 91, by: 7 })
    marks.add({ seq: 5, rows: 32, cols: 92, by: null })
    assert.deepStrictEqual(
      [0, 1, 2, 4, 5, 100].map((seq) => marks.sizeAfter(seq).rows),
      [24, 24, 31, 31, 32, 32]
    )
    assert.deepStrictEqual(
      [0, 2, 4, 5].map((seq) => marks.countThrough(seq)),
      [0, 2, 2, 3]
    )
  })

  it("are bounded: the oldest are forgotten, and their size is then the first one", () => {
    const marks = new ResizeMarks({ rows: 1, cols: 1 })
    for (let seq = 1; seq <= maxMarks + 10; seq++) marks.add({ seq, rows: seq + 1, cols: 1, by: null })
    assert.strictEqual(marks.count, maxMarks + 10)
    assert.strictEqual(marks.oldest, 10)
    assert.isUndefined(marks.at(9))
    assert.deepStrictEqual(marks.at(10), { seq: 11, rows: 12, cols: 1, by: null })
    assert.isUndefined(marks.at(maxMarks + 10))
    assert.deepStrictEqual(marks.sizeAfter(0), { rows: 11, cols: 1 })
    assert.strictEqual(marks.countThrough(0), 10)
  })
})

describe("a process", () => {
  it.scoped("marks what changes its size, and nothing else; its events keep their numbers", () =>
    Effect.gen(function* () {
      const { start, of } = yield* bench
      const { process, child } = yield* start("p", { tty: true, size: { rows: 24, cols: 80 } })
      const seen: Array<unknown> = []
      const stop = process.observe({
        onOutput: (seq, stream, bytes) => seen.push([seq, stream, bytes.toString()]),
        onResized: (mark) => seen.push(mark),
        onRestarted: () => {},
        onExited: (seq, { exitCode }) => seen.push(["exited", seq, exitCode]),
        onClosed: (seq) => seen.push(["closed", seq]),
        onReleased: (reason) => seen.push(reason)
      })
      child.emit("pty", "a")
      process.resize(24, 80)
      process.resize(30, 90)
      child.emit("pty", "b")
      child.finish(0)
      assert.deepStrictEqual(seen, [
        [1, "pty", "a"],
        { seq: 1, rows: 30, cols: 90, by: null },
        [2, "pty", "b"],
        ["exited", 3, 0],
        ["closed", 4]
      ])
      assert.deepStrictEqual(
        of("p").map(([kind, seq]) => [kind, seq]),
        [
          ["output", 1],
          ["output", 2],
          ["exited", 3],
          ["closed", 4]
        ]
      )
      stop()
      process.releaseOutput()
      assert.lengthOf(seen, 5)
    }).pipe(Effect.provide(supervisorLayer()))
  )

  it.scoped("tells its observers when its output is freed, once", () =>
    Effect.gen(function* () {
      const { start } = yield* bench
      const { process } = yield* start("p")
      const seen: Array<unknown> = []
      process.observe({
        onOutput: () => {},
        onResized: () => {},
        onRestarted: () => {},
        onExited: () => {},
        onClosed: () => {},
        onReleased: (reason) => seen.push(reason)
      })
      assert.isUndefined(process.marks)
      process.releaseOutput()
      process.releaseOutput()
      assert.deepStrictEqual(seen, ["released"])
    }).pipe(Effect.provide(supervisorLayer()))
  )
})
