/** Starts on threads of their own: what they start, how many may hang, and what is said of those that do. */
import { closeSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { assert, describe, it, vi } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Posix from "../../src/spawn/Posix.js"
import { maxStuck, maxStuckOfServer, SessionWaits, Waits } from "../../src/spawn/SessionWaits.js"
import { answerMs } from "../../src/spawn/SlowMounts.js"
import { type Options, start } from "../../src/spawn/SlowStarts.js"
import { folder } from "../support/exposed.js"
import { eventually, isAlive } from "../support/servers.js"

/** Everything below /slow is on one mount. */
const find: Options["mounts"]["find"] = (path) =>
  path.toString().startsWith("/slow") ? { path: "/slow", type: "nfs4" } : undefined
const mounts: Options["mounts"] = { isPresent: () => true, find, findWithin: find }

type Ended = readonly [code: number, signal: number]

/** Starts a program in a folder, and says how it ended. */
const bench = Effect.gen(function* () {
  const dir = yield* folder
  const all = { count: 0 }
  const waits = new Waits(all)
  const ended = yield* Deferred.make<Ended>()
  const late: Array<number> = []
  const run = (spec: Partial<Options["spec"]>, more: Partial<Options> = {}, shell = "/bin/sh") => {
    const io = { _tag: "Pipe", stdin: false } as const
    const options: Options = {
      mounts,
      spec: { argv: [], cwd: dir, env: {}, io, ...spec },
      stdio: [-1, -1, -1],
      guard: -1,
      onExit: (code, signal) => Deferred.unsafeDone(ended, Effect.succeed([code, signal])),
      onLate: (pid) => void late.push(pid),
      ...more
    }
    return Effect.provideService(start(options, shell), SessionWaits, waits)
  }
  const failure = (...args: Parameters<typeof run>) => Effect.map(Effect.flip(run(...args)), ({ message }) => message)
  return { dir, all, waits, late, run, failure, end: Deferred.await(ended) }
})

/** The socket of a guard that reads nothing and has no room left: whoever registers there waits. */
const fullGuard = Effect.acquireRelease(
  Effect.sync(() => {
    const [own, theirs] = Posix.guardSocket()
    while (Posix.tell(own, "?"));
    return { own, theirs }
  }),
  ({ own, theirs }) =>
    Effect.sync(() => {
      closeSync(own)
      closeSync(theirs)
    })
)

describe("a start on a thread of its own", () => {
  it.scopedLive("gives the pid, and later how the child ended", () =>
    Effect.gen(function* () {
      const { dir, run, end } = yield* bench
      const script = `echo "$0 $PPID $A" > out; exit 3`
      const pid = yield* run({ argv: ["/bin/sh", "-c", script, "zero"], env: { A: "a b", B: "" } })
      assert.isAbove(pid, 0)
      assert.deepStrictEqual(yield* end, [3, 0])
      assert.strictEqual(readFileSync(`${dir}/out`, "utf8"), `zero ${process.pid} a b\n`)
    })
  )

  it.scopedLive("takes another name for the program, and finds it in the PATH of the child", () =>
    Effect.gen(function* () {
      const { dir, run, end } = yield* bench
      mkdirSync(`${dir}/bin`)
      symlinkSync("/bin/sh", `${dir}/bin/own`)
      const script = "tr '\\0' ' ' < /proc/$$/cmdline > out"
      const env = { PATH: `/none:${dir}/bin:/bin:/usr/bin` }
      yield* run({ argv: ["own", "-c", script, "x"], arg0: "other", env })
      assert.deepStrictEqual(yield* end, [0, 0])
      assert.strictEqual(readFileSync(`${dir}/out`, "utf8"), `other -c ${script} x `)
    })
  )

  it.scopedLive("runs what is executable and has no interpreter in a shell", () =>
    Effect.gen(function* () {
      const { dir, run, failure, end } = yield* bench
      writeFileSync(`${dir}/script`, 'echo "$0 $*" > out\n', { mode: 0o755 })
      yield* run({ argv: ["./script", "a", "b"] })
      assert.deepStrictEqual(yield* end, [0, 0])
      assert.strictEqual(readFileSync(`${dir}/out`, "utf8"), `${dir}/script a b\n`)
      assert.strictEqual(
        yield* failure({ argv: ["./script"] }, {}, "/none/sh"),
        "No such file or directory (os error 2)"
      )
    })
  )

  it.scopedLive("fails in the words of the system", () =>
    Effect.gen(function* () {
      const { dir, run, failure, all } = yield* bench
      writeFileSync(`${dir}/file`, "")
      const notFound = "No such file or directory (os error 2)"
      assert.strictEqual(yield* failure({ argv: ["/none/program"] }), notFound)
      assert.strictEqual(yield* failure({ argv: ["/bin/true"], cwd: "/none" }), notFound)
      const isOfCwd = (argv: string, cwd: string) =>
        Effect.map(Effect.flip(run({ argv: [argv], cwd })), (error) => error.isOfCwd)
      assert.isTrue(yield* isOfCwd("/bin/true", "/none"))
      assert.isFalse(yield* isOfCwd("/none/program", "/"))
      assert.strictEqual(yield* failure({ argv: ["./file"] }), "Permission denied (os error 13)")
      assert.strictEqual(yield* failure({ argv: [] }), "missing program for pipe spawn")
      assert.strictEqual(yield* failure({ argv: ["a\0b"] }), "nul byte found in provided data")
      assert.strictEqual(all.count, 0)
    })
  )
})

describe("starts that hang", () => {
  /** Moves the clock of the time limit, and no other. */
  const withTimers = Effect.acquireRelease(
    Effect.sync(() => vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] })),
    () => Effect.sync(() => vi.useRealTimers())
  )

  it.scopedLive("are as many as a session may have, and no more, wherever they lead", () =>
    Effect.gen(function* () {
      const { failure, run, waits } = yield* bench
      const ends = yield* Effect.scoped(
        Effect.map(withTimers, (clock) => {
          const ends = Array.from({ length: maxStuck }, () => waits.begin(() => {}))
          clock.advanceTimersByTime(answerMs)
          return ends
        })
      )
      const text = `${maxStuck} starts of this session wait for file systems that do not answer: unmount these (umount -l, or abort the FUSE connection) first`
      assert.strictEqual(yield* failure({ argv: ["/bin/true"] }), text)
      ends[0]?.()
      yield* run({ argv: ["/bin/true"] })
    })
  )

  it.scopedLive("are as many as a server may have on slow mounts; other starts go on", () =>
    Effect.gen(function* () {
      const { failure, run, all } = yield* bench
      all.count = maxStuckOfServer
      const refused = new RegExp(`^${maxStuckOfServer} starts of this server wait for file systems`)
      assert.match(yield* failure({ argv: ["/slow/program"] }), refused)
      assert.match(yield* failure({ argv: ["true"], env: { PATH: "/bin:/slow/bin" } }), refused)
      assert.match(yield* failure({ argv: ["/bin/true"], cwd: "/slow/cwd" }), refused)
      yield* run({ argv: ["/bin/true"] })
      all.count = maxStuckOfServer - 1
      const notFound = "No such file or directory (os error 2)"
      assert.strictEqual(yield* failure({ argv: ["/slow/program"] }), notFound)
    })
  )

  const later = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
  const hangs = "did not answer within 10 s: its file system (nfs4 at /slow) hangs"
  const overloaded =
    "the program did not start within 10 s: a file system hangs that it needs, or the machine is overloaded"

  it.scopedLive("fail after ten seconds, and count until they are over", () =>
    Effect.gen(function* () {
      const { failure, all } = yield* bench
      const { own: guard } = yield* fullGuard
      const clock = yield* withTimers
      const failing = yield* Effect.fork(failure({ argv: ["/bin/true"] }, { guard }))
      yield* later
      clock.advanceTimersByTime(9999)
      yield* later
      assert.isNull(failing.unsafePoll())
      assert.strictEqual(all.count, 0)
      clock.advanceTimersByTime(1)
      assert.strictEqual(all.count, 1)
      clock.useRealTimers()
      assert.strictEqual(yield* Fiber.join(failing), overloaded)
      // Whoever waited was killed.
      yield* eventually("it waits no longer", () => all.count === 0)
      assert.strictEqual(all.count, 0)
    })
  )

  it.scopedLive("say what they may be waiting for", () =>
    Effect.gen(function* () {
      const { failure, all } = yield* bench
      const { own: guard } = yield* fullGuard
      for (const [spec, text] of [
        [{ argv: ["/bin/true"], cwd: "/slow/cwd" }, `the working directory /slow/cwd ${hangs}`],
        [{ argv: ["/slow/true"] }, `the program path /slow/true ${hangs}`],
        [{ argv: ["true"], env: { PATH: "/bin:/slow/bin" } }, `the program path /slow/bin/true ${hangs}`]
      ] as const) {
        const answer = yield* Effect.scoped(
          Effect.gen(function* () {
            const clock = yield* withTimers
            const failing = yield* Effect.fork(failure(spec, { guard }))
            yield* later
            clock.advanceTimersByTime(10_000)
            return yield* Fiber.join(failing)
          })
        )
        assert.strictEqual(answer, text)
      }
      yield* eventually("they wait no longer", () => all.count === 0)
    })
  )

  it.scopedLive("and are started in the end are given up: their children are to be killed", () =>
    Effect.gen(function* () {
      const { failure, all, late } = yield* bench
      const clock = yield* withTimers
      const failing = yield* Effect.fork(failure({ argv: ["/bin/sleep", "1000"] }))
      // No turn of the event loop: its result must come after the time limit.
      yield* Effect.yieldNow()
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500)
      clock.advanceTimersByTime(10_000)
      assert.strictEqual(all.count, 1)
      clock.useRealTimers()
      assert.strictEqual(yield* Fiber.join(failing), overloaded)
      yield* eventually("it is told", () => late.length === 1)
      assert.strictEqual(all.count, 0)
      const [pid = 0] = late
      if (isAlive(pid)) process.kill(pid, "SIGKILL")
    })
  )

  it.scopedLive("and fail in the end leave nobody to kill", () =>
    Effect.gen(function* () {
      const { failure, all, late } = yield* bench
      const clock = yield* withTimers
      const failing = yield* Effect.fork(failure({ argv: ["/none/program"] }))
      yield* Effect.yieldNow()
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500)
      clock.advanceTimersByTime(10_000)
      clock.useRealTimers()
      assert.strictEqual(yield* Fiber.join(failing), overloaded)
      yield* eventually("it is told", () => all.count === 0)
      assert.strictEqual(all.count, 0)
      assert.deepStrictEqual(late, [])
    })
  )
})
