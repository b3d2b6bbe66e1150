/** Real children on pipes, at the moments that cannot be met from outside at will. */
import { Buffer } from "node:buffer"
import { readdirSync, readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { ExitStatus } from "../../src/spawn/Child.js"
import { Spawner } from "../../src/spawn/Spawner.js"
import { withForeignBytes } from "../support/children.js"
import { settle } from "../support/fake.js"
import { eventually, isAlive } from "../support/servers.js"

describe("a child that has exited before anybody listens", () => {
  it.scopedLive("takes no input: a write before that fails for itself, and the end of stdin is told", () =>
    Effect.gen(function* () {
      const { spawn } = yield* Spawner
      const child = yield* spawn({ argv: ["/bin/true"], cwd: "/", env: {}, io: { _tag: "Pipe", stdin: true } })
      yield* eventually("it has exited", () => !isAlive(child.pid))
      child.write(Buffer.from("nobody reads this"), () => assert.fail("nobody has taken it"))
      // The error of the write comes in a later turn of the event loop.
      for (let turn = 0; turn < 20; turn++) yield* settle
      const told: Array<string> = []
      let status: ExitStatus | undefined
      child.listen({
        onOutput: () => told.push("output"),
        onOutputEnd: () => told.push("outputEnd"),
        onStdinClosed: () => told.push("stdinClosed"),
        onExit: (exit) => {
          told.push("exit")
          status = exit
        }
      })
      yield* eventually("all is told", () => told.length === 3)
      assert.sameMembers(told, ["exit", "outputEnd", "stdinClosed"])
      assert.deepStrictEqual(status, ExitStatus.Exited({ code: 0 }))
    }).pipe(Effect.provide(Spawner.layer))
  )
})

/** A child that runs a script, and what it has told: the kinds of its reports in order, and its output. */
const started = (script: string, stdin = true) =>
  Effect.gen(function* () {
    const { spawn } = yield* Spawner
    const child = yield* Effect.acquireRelease(
      spawn({
        argv: ["/bin/sh", "-c", script],
        cwd: "/",
        env: { PATH: "/usr/bin:/bin" },
        io: { _tag: "Pipe", stdin }
      }),
      (child) => Effect.sync(() => child.signal("SIGKILL", "tree"))
    )
    const told: Array<string> = []
    const output = { stdout: "", stderr: "", pty: "" }
    const listen = () =>
      child.listen({
        onOutput: (stream, bytes) => {
          output[stream] += bytes.toString()
        },
        onOutputEnd: () => told.push("outputEnd"),
        onStdinClosed: () => told.push("stdinClosed"),
        onExit: () => told.push("exit")
      })
    return { child, told, output, listen }
  })

const test = (title: string, body: Effect.Effect<unknown, unknown, Spawner | Scope.Scope>) =>
  it.scopedLive(title, () => Effect.provide(body, Spawner.layer))

describe("a child on pipes", () => {
  test(
    "has two streams of its own, and is told each by its name",
    Effect.gen(function* () {
      const { output, told, listen } = yield* started("echo out; echo err >&2")
      listen()
      yield* eventually("it has ended", () => told.includes("outputEnd") && told.includes("exit"))
      assert.deepStrictEqual(output, { stdout: "out\n", stderr: "err\n", pty: "" })
    })
  )

  test(
    "reads all that was written before the end of its input",
    Effect.gen(function* () {
      const { child, output, told, listen } = yield* started("wc -c")
      listen()
      let done = 0
      for (let i = 0; i < 20; i++) child.write(Buffer.alloc(50_000), () => done++)
      child.endStdin()
      yield* eventually("it has ended", () => told.includes("outputEnd"))
      assert.strictEqual(output.stdout.trim(), "1000000")
      assert.strictEqual(done, 20)
    })
  )

  test(
    "without stdin reads an end at once, and has both streams",
    Effect.gen(function* () {
      const { child, output, told, listen } = yield* started("cat; readlink /proc/$$/fd/0; echo err >&2", false)
      listen()
      child.write(Buffer.from("x"), () => assert.fail("nobody has taken it"))
      child.endStdin()
      yield* eventually("it has ended", () => told.includes("outputEnd") && told.includes("exit"))
      assert.deepStrictEqual(output, { stdout: "/dev/null\n", stderr: "err\n", pty: "" })
      assert.notInclude(told, "stdinClosed")
    })
  )

  test(
    "that closes its stdin has told so while it runs on",
    Effect.gen(function* () {
      const { child, told, listen } = yield* started("exec 0<&-; exec sleep 1000")
      listen()
      const pour = Effect.sync(() => child.write(Buffer.from("x"), () => {}))
      yield* Effect.repeat(Effect.delay(pour, "10 millis"), { until: () => told.length > 0 }).pipe(
        Effect.timeout("10 seconds")
      )
      assert.deepStrictEqual(told, ["stdinClosed"])
    })
  )

  for (const when of ["before anybody listens", "after that"] as const) {
    test(
      `is not read while it is paused, ${when}`,
      Effect.gen(function* () {
        const { child, output, listen } = yield* started("echo one; echo err >&2; read x; echo two; sleep 1000")
        if (when === "after that") listen()
        child.pause()
        if (when !== "after that") listen()
        const before = { ...output }
        yield* Effect.async<void>((resume) => child.write(Buffer.from("x\n"), () => resume(Effect.void)))
        for (let i = 0; i < 20; i++) yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        assert.deepStrictEqual(output, before)
        child.resume()
        yield* eventually("all came", () => output.stdout === "one\ntwo\n" && output.stderr === "err\n")
      })
    )
  }

  for (const [closed, open, other] of [
    ["stdout", "stderr", 2],
    ["stderr", "stdout", 1]
  ] as const) {
    test(
      `that closes its ${closed} is read, paused and given up on the other stream`,
      Effect.gen(function* () {
        const script = `exec ${3 - other}>&-; echo ready >&${other}; read x; echo more >&${other}; exec sleep 1000`
        const { child, output, told, listen } = yield* started(script)
        listen()
        yield* eventually("it is ready", () => output[open] === "ready\n")
        for (let turn = 0; turn < 20; turn++) yield* settle
        child.pause()
        yield* Effect.async<void>((resume) => child.write(Buffer.from("x\n"), () => resume(Effect.void)))
        yield* eventually("it has written more", () => readFileSync(`/proc/${child.pid}/comm`, "utf8") === "sleep\n")
        for (let turn = 0; turn < 20; turn++) yield* settle
        assert.strictEqual(output[open], "ready\n")
        child.resume()
        yield* eventually("more came", () => output[open] === "ready\nmore\n")
        assert.deepStrictEqual(told, [])
        // The descriptor that was closed is somebody else's by now.
        yield* withForeignBytes
        child.abandonOutput()
        yield* eventually("its output has ended", () => told.includes("outputEnd"))
        assert.strictEqual(output[closed], "")
      })
    )
  }

  test(
    "that was paused and resumed before anybody listened is read",
    Effect.gen(function* () {
      const { child, output, listen } = yield* started("echo out; exec sleep 1000")
      child.pause()
      child.resume()
      listen()
      yield* eventually("it came", () => output.stdout === "out\n")
    })
  )

  for (const when of ["before anybody listens", "after that"] as const) {
    test(
      `may be given up while a descendant holds its output, ${when}: what was written is told first`,
      Effect.gen(function* () {
        const { child, output, told, listen } = yield* started("echo out; echo err >&2; sleep 1000 & exit 0")
        yield* eventually("it has exited", () => !isAlive(child.pid))
        if (when === "after that") {
          listen()
          yield* eventually("it is told", () => told.includes("exit"))
          assert.notInclude(told, "outputEnd")
          child.pause()
        }
        child.abandonOutput()
        if (when !== "after that") listen()
        yield* eventually("it has ended", () => told.includes("outputEnd") && told.includes("exit"))
        assert.deepStrictEqual(output, { stdout: "out\n", stderr: "err\n", pty: "" })
      })
    )
  }

  test(
    "that is given up while it is paused: what waits on both streams is told first",
    Effect.gen(function* () {
      const script = "read x; echo out; echo err >&2; sleep 1000 & exit 0"
      const { child, output, told, listen } = yield* started(script)
      listen()
      child.pause()
      child.write(Buffer.from("x\n"), () => {})
      yield* eventually("it has exited", () => told.includes("exit"))
      assert.deepStrictEqual(output, { stdout: "", stderr: "", pty: "" })
      child.abandonOutput()
      yield* eventually("its output has ended", () => told.includes("outputEnd"))
      assert.deepStrictEqual(output, { stdout: "out\n", stderr: "err\n", pty: "" })
    })
  )

  test(
    "that cannot be started leaves no pipe behind; one that has ended neither",
    Effect.gen(function* () {
      const { spawn } = yield* Spawner
      const open = () => readdirSync("/proc/self/fd").length
      // The guard's socket is opened with the first start, and stays.
      const first = yield* started("exit 0")
      first.listen()
      yield* eventually("the first one has ended", () => first.told.length === 3)
      const before = open()
      const refused = Effect.flip(spawn({ argv: ["/no/such"], cwd: "/", env: {}, io: { _tag: "Pipe", stdin: true } }))
      assert.strictEqual((yield* refused).message, "No such file or directory (os error 2)")
      assert.strictEqual(open(), before)
      const { told, listen } = yield* started("exit 0")
      listen()
      yield* eventually("it has ended", () => told.length === 3)
      yield* eventually("its pipes are closed", () => open() <= before + 1)
    })
  )
})
