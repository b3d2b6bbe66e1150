/** Real children on terminals. */
import { Buffer } from "node:buffer"
import { readdirSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Child, ExitStatus, type Io } from "../../src/spawn/Child.js"
import { Spawner } from "../../src/spawn/Spawner.js"
import { withForeignBytes } from "../support/children.js"
import { eventually, isAlive } from "../support/servers.js"

/** A child that runs a script, and what it has told: the kinds of its reports in order, and its output. */
const started = (script: string, io: Io = { _tag: "Pty", rows: 30, cols: 100 }) =>
  Effect.gen(function* () {
    const { spawn } = yield* Spawner
    const child = yield* Effect.acquireRelease(
      spawn({ argv: ["/bin/sh", "-c", script], cwd: "/", env: { PATH: "/usr/bin:/bin" }, io }),
      (child) => Effect.sync(() => child.signal("SIGKILL", "tree"))
    )
    return { child, ...listening(child) }
  })

const listening = (child: Child) => {
  const told: Array<string> = []
  const chunks: Array<Buffer> = []
  const output = () => Buffer.concat(chunks).toString()
  let status: ExitStatus | undefined
  const listen = () =>
    child.listen({
      onOutput: (stream, bytes) => {
        assert.strictEqual(stream, "pty")
        if (told.at(-1) !== "output") told.push("output")
        chunks.push(Buffer.from(bytes))
      },
      onOutputEnd: () => told.push("outputEnd"),
      onStdinClosed: () => told.push("stdinClosed"),
      onExit: (exit) => {
        told.push("exit")
        status = exit
      }
    })
  return { told, chunks, output, listen, status: () => status }
}

const write = (child: Child, text: string) =>
  Effect.async<void>((resume) => child.write(Buffer.from(text), () => resume(Effect.void)))

const test = (title: string, body: Effect.Effect<unknown, unknown, Spawner | Scope.Scope>) =>
  it.scopedLive(title, () => Effect.provide(body, Spawner.layer))

describe("a child on a terminal", () => {
  test(
    "has the size that was asked for, and the one that it is given later",
    Effect.gen(function* () {
      const { child, listen, output } = yield* started("stty size; read line; stty size")
      listen()
      yield* eventually("the first size", () => output().includes("30 100"))
      child.resize(7, 9)
      yield* write(child, "\n")
      yield* eventually("the second size", () => output().includes("7 9"))
    })
  )

  test(
    "loses nothing of what it wrote before it exited, though nobody listened then; the end comes last",
    Effect.gen(function* () {
      const { child, listen, told, output, status } = yield* started("stty -opost; seq 2000; exit 3")
      listen()
      yield* eventually("it has ended", () => told.includes("outputEnd"))
      assert.strictEqual(output(), `${Array.from({ length: 2000 }, (_, i) => i + 1).join("\n")}\n`)
      assert.deepStrictEqual(told, ["output", "stdinClosed", "exit", "outputEnd"])
      assert.deepStrictEqual(status(), ExitStatus.Exited({ code: 3 }))
      // Nobody is there any more, and that is no error.
      child.resize(1, 1)
      child.endStdin()
      child.write(Buffer.from("x"), () => assert.fail("nobody has taken it"))
    })
  )

  for (const [what, before, expected] of [
    ["after a line", "one\n", "one"],
    ["in the middle of a line, which it gets as well", "one\ntwo", "one two"],
    ["after a carriage return", "one\r", "one"],
    ["before anything", "", ""]
  ] as const) {
    test(
      `reads the end of its input ${what}`,
      Effect.gen(function* () {
        const script = "stty -echo; echo ready; printf '[%s]' \"$(cat | tr '\\n' ' ' | sed 's/ $//')\""
        const { child, listen, output } = yield* started(script)
        listen()
        yield* eventually("it is ready", () => output().includes("ready"))
        if (before !== "") yield* write(child, before)
        child.endStdin()
        yield* eventually("it has read all", () => output().includes(`[${expected}]`))
      })
    )
  }

  for (const [what, before, readers] of [
    ["before anything", undefined, 1],
    ["after a write of nothing", "", 1],
    ["after a line", "one\n", 1],
    ["in the middle of a line", "one\ntwo", 1],
    ["after an end of its own", "\x04", 2]
  ] as const) {
    test(
      `gets one end of input ${what}, and what is written after it`,
      Effect.gen(function* () {
        const script = `stty -echo; echo ready; ${"cat > /dev/null; ".repeat(readers)}read line; echo "[$line]"`
        const { child, listen, output } = yield* started(script)
        listen()
        yield* eventually("it is ready", () => output().includes("ready"))
        if (before !== undefined) yield* write(child, before)
        child.endStdin()
        yield* write(child, "rest\n")
        yield* eventually("it has read the line", () => output().includes("]"))
        assert.include(output(), "[rest]")
      })
    )
  }

  test(
    "that was paused and resumed before anybody listened is read",
    Effect.gen(function* () {
      const { child, listen, output } = yield* started("echo out; exec sleep 1000")
      child.pause()
      child.resume()
      listen()
      yield* eventually("it came", () => output().includes("out"))
    })
  )

  test(
    "that is given up while it runs is not read any more when it exits",
    Effect.gen(function* () {
      // It outlives the hangup that comes when its terminal is closed.
      const { child, listen, told, output } = yield* started("trap '' HUP; echo out; exec sleep 1000")
      listen()
      yield* eventually("it came", () => output().includes("out"))
      child.abandonOutput()
      yield* eventually("its output has ended", () => told.includes("outputEnd"))
      yield* turns(20)
      // The descriptor is somebody else's by now.
      yield* withForeignBytes
      assert.notInclude(told, "exit")
      child.signal("SIGKILL", "tree")
      yield* eventually("it has exited", () => told.includes("exit"))
      assert.strictEqual(output().trim(), "out")
      assert.strictEqual(told.filter((kind) => kind === "outputEnd").length, 1)
    })
  )

  test(
    "gets an end of input that it has given another character to",
    Effect.gen(function* () {
      const { child, listen, output } = yield* started("stty -echo eof ^X; echo ready; cat > /dev/null; echo end")
      listen()
      yield* eventually("it is ready", () => output().includes("ready"))
      child.endStdin()
      yield* eventually("it has read the end", () => output().includes("end"))
    })
  )

  test(
    "is not read while it is paused, also from the start",
    Effect.gen(function* () {
      const { child, listen, output } = yield* started("echo one; read line; echo two; sleep 1000")
      child.pause()
      listen()
      yield* write(child, "\n")
      yield* turns(20)
      assert.strictEqual(output(), "")
      child.resume()
      yield* eventually("all came", () => output().includes("two"))
    })
  )

  test(
    "that floods tells every byte once and in order, also if it is paused now and then, and its end comes last",
    Effect.gen(function* () {
      const { child, listen, told, chunks, output } = yield* started("stty -opost; seq 300000")
      listen()
      for (let round = 0; round < 20 && !told.includes("exit"); round++) {
        yield* turns(5)
        child.pause()
        child.resume()
        child.pause()
        const before = chunks.length
        yield* turns(5)
        assert.strictEqual(chunks.length, before)
        child.resume()
      }
      yield* eventually("it has ended", () => told.includes("outputEnd"))
      assert.isTrue(output() === `${Array.from({ length: 300_000 }, (_, i) => i + 1).join("\n")}\n`)
      assert.strictEqual(told.at(-1), "outputEnd")
      // What comes while it is read makes the chunk larger. One read gives about 4 kB, seldom up to 20.
      assert.isAbove(Math.max(...chunks.map(({ length }) => length)), 32_768)
    })
  )

  test(
    "that floods ends at once when it is given up",
    Effect.gen(function* () {
      const { child, listen, told, output } = yield* started("exec yes")
      listen()
      yield* eventually("much came", () => output().length > 500_000)
      child.abandonOutput()
      yield* eventually("its output has ended", () => told.includes("outputEnd"))
      const before = output().length
      yield* withForeignBytes
      yield* turns(20)
      assert.strictEqual(output().length, before)
    })
  )

  test(
    "takes much input in order, as fast as it reads",
    Effect.gen(function* () {
      const { child, listen, output } = yield* started("stty raw -echo; echo ready; head -c 200000 | cksum; sleep 1000")
      listen()
      yield* eventually("it is ready", () => output().includes("ready"))
      const done: Array<number> = []
      for (let i = 0; i < 20; i++) child.write(Buffer.alloc(10_000, 97 + i), () => done.push(i))
      yield* eventually("it has read all", () => /\d+ 200000/.test(output()))
      assert.deepStrictEqual(
        done,
        Array.from({ length: 20 }, (_, i) => i)
      )
    })
  )

  test(
    "whose descendant holds the terminal has exited, and its output ends with that of the descendant",
    Effect.gen(function* () {
      const { listen, told, output } = yield* started("trap '' HUP; (sleep 0.3; echo late) & exit 0")
      listen()
      yield* eventually("it has ended", () => told.includes("outputEnd"))
      assert.include(output(), "late")
      assert.isBelow(told.indexOf("exit"), told.lastIndexOf("output"))
      assert.strictEqual(told.at(-1), "outputEnd")
    })
  )

  for (const when of ["before anybody listens", "after that"] as const) {
    test(
      `may be given up while a descendant holds the terminal, ${when}: what was written is told first`,
      Effect.gen(function* () {
        const script = "trap '' HUP; echo out; sleep 1000 & exit 0"
        const { child, listen, told, output } = yield* started(script)
        if (when === "before anybody listens") {
          child.abandonOutput()
          yield* turns(20)
          listen()
        } else {
          listen()
          yield* eventually("it has exited", () => told.includes("exit"))
          assert.notInclude(told, "outputEnd")
          child.abandonOutput()
        }
        yield* eventually("it has ended", () => told.includes("outputEnd") && told.includes("exit"))
        if (when === "after that") assert.include(output(), "out")
        assert.lengthOf(
          told.filter((kind) => kind === "outputEnd"),
          1
        )
      })
    )
  }

  test(
    "that cannot be started leaves no terminal behind",
    Effect.gen(function* () {
      const { spawn } = yield* Spawner
      const open = () => readdirSync("/proc/self/fd").length
      const io = { _tag: "Pty", rows: 1, cols: 1 } as const
      const refused = Effect.flip(spawn({ argv: ["/no/such"], cwd: "/", env: {}, io }))
      yield* refused
      const before = open()
      assert.strictEqual((yield* refused).message, "No such file or directory (os error 2)")
      assert.strictEqual(open(), before)
    })
  )

  test(
    "that was killed is told so",
    Effect.gen(function* () {
      const { child, listen, told, status } = yield* started("sleep 1000")
      listen()
      child.signal("SIGKILL", "tree")
      yield* eventually("it has ended", () => told.includes("outputEnd"))
      assert.deepStrictEqual(status(), ExitStatus.Signaled({ number: 9, signal: "SIGKILL" }))
      assert.isFalse(isAlive(child.pid))
    })
  )
})

const turns = (count: number) =>
  Effect.promise(async () => {
    for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
  })
