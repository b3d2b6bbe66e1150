/**
 * Real children that another version of the server takes over. Here both versions are in one process; the one before
 * stops reading, and no longer hears of exits.
 */
import { Buffer } from "node:buffer"
import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { ImageWriter } from "../../src/internal/Image.js"
import { layerSpawner } from "../../src/sandbox/Bubblewrap.js"
import { type Child, type ChildSpec, ExitStatus, type Handover } from "../../src/spawn/Child.js"
import { ChildState, SpawnerState } from "../../src/spawn/ChildState.js"
import type { Confinement } from "../../src/spawn/Confinement.js"
import { Spawner } from "../../src/spawn/Spawner.js"
import { readerOf, viaJson } from "../support/image.js"
import { eventually, isAlive } from "../support/servers.js"

/** What a child has reported. */
interface Heard {
  output: string
  status: ExitStatus | undefined
  ended: boolean
}

const listen = (child: Child): Heard => {
  const heard: Heard = { output: "", status: undefined, ended: false }
  child.listen({
    onOutput: (_, bytes) => {
      heard.output += bytes.toString("latin1")
    },
    onExit: (status) => {
      heard.status = status
    },
    onOutputEnd: () => {
      heard.ended = true
    },
    onStdinClosed: () => {}
  })
  return heard
}

const sh = (script: string, io: ChildSpec["io"] = { _tag: "Pipe", stdin: true }): ChildSpec => ({
  argv: ["sh", "-c", script],
  cwd: "/",
  env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin" },
  io
})

const sleepNow = (ms: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)

const terminal: ChildSpec["io"] = { _tag: "Pty", rows: 24, cols: 80 }

interface Versions {
  readonly start: (spec: ChildSpec) => Effect.Effect<Child, unknown>
  /** The next version, and its children in place of these. */
  readonly replace: (children: ReadonlyArray<Child>) => Effect.Effect<ReadonlyArray<Child>, never, Scope.Scope>
}

const spawnerOf = Effect.map(Layer.build(Layer.fresh(layerSpawner)), (context) => Context.get(context, Spawner))

const handoverOf = ({ handover }: Spawner["Type"]): Handover => {
  assert.isDefined(handover)
  return handover as Handover
}

/** What Node.js does not document. */
interface Internals {
  readonly _getActiveHandles: () => ReadonlyArray<unknown>
}
interface SocketInternals {
  readonly _handle?: { readonly fd?: number; readonly readStop: () => void }
}

/** Stops all reading of these descriptors in this process. */
const stopReading = (descriptors: ReadonlySet<number>) => {
  for (const each of (process as unknown as Internals)._getActiveHandles()) {
    const handle = each instanceof Socket ? (each as SocketInternals)._handle : undefined
    if (handle?.fd !== undefined && descriptors.has(handle.fd)) handle.readStop()
  }
}

const test = (title: string, body: (versions: Versions) => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.scopedLive(title, () =>
    Effect.gen(function* () {
      // Never closed: its guard and its children are no longer its own.
      const before = yield* Scope.extend(spawnerOf, yield* Scope.make())
      yield* body({
        start: before.spawn,
        replace: (children) =>
          Effect.gen(function* () {
            for (const child of children) child.pause()
            const writer = new ImageWriter()
            const states = children.map((child) => child.freeze?.(writer))
            const common = handoverOf(before).freeze(writer)
            const reader = readerOf(writer)
            stopReading(writer.descriptors)
            const after = handoverOf(yield* spawnerOf)
            after.restore(viaJson(SpawnerState, common))
            const adopted = states.map((state) => after.adopt(viaJson(ChildState, state), reader))
            yield* Effect.addFinalizer(() =>
              Effect.sync(() => {
                for (const child of adopted) child.signal("SIGKILL", "tree")
              })
            )
            after.begin()
            return adopted
          })
      })
    })
  )

const isDone = ({ status, ended }: Heard) => status !== undefined && ended

describe("a child of the version before", () => {
  for (const io of [{ _tag: "Pipe", stdin: true }, terminal] as const) {
    test(`reports the output that waits, then its true status (${io._tag})`, ({ start, replace }) =>
      Effect.gen(function* () {
        const child = yield* start(sh("stty -onlcr 2>/dev/null; echo before; read line; echo got $line; exit 42", io))
        const first = listen(child)
        yield* eventually("it prints", () => first.output.includes("before\n"))
        const [next] = yield* replace([child])
        assert.strictEqual(next?.pid, child.pid)
        const heard = listen(next as Child)
        next?.write(Buffer.from("text\n"), () => {})
        yield* eventually("it ends", () => isDone(heard))
        assert.include(heard.output, "got text\n")
        assert.notInclude(heard.output, "before")
        assert.deepStrictEqual(heard.status, ExitStatus.Exited({ code: 42 }))
        assert.strictEqual(first.status, undefined)
      }))

    test(`that ends meanwhile is told with its true status, and all of its output (${io._tag})`, ({ start, replace }) =>
      Effect.gen(function* () {
        const folder = mkdtempSync(join(tmpdir(), "handover-"))
        yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(folder, { recursive: true })))
        const go = join(folder, "go")
        const script = `while [ ! -e ${go} ]; do sleep 0.01; done; seq 500; kill -SEGV $$`
        const child = yield* start(sh(script, io))
        const first = listen(child)
        child.pause()
        const [next] = yield* replace([child])
        // In one turn of the event loop: the version before, which is in this process, must not hear of it.
        writeFileSync(go, "")
        const isZombie = () => readFileSync(`/proc/${child.pid}/stat`, "latin1").includes(") Z ")
        for (let tries = 0; !isZombie() && tries < 2000; tries++) sleepNow(5)
        assert.isTrue(isZombie())
        const heard = listen(next as Child)
        yield* eventually("it ends", () => isDone(heard))
        const lines = heard.output.replaceAll("\r", "").trim().split("\n")
        assert.deepStrictEqual(
          lines,
          Array.from({ length: 500 }, (_, index) => String(index + 1))
        )
        assert.strictEqual(heard.status?._tag === "Signaled" && heard.status.signal, "SIGSEGV")
        assert.strictEqual(first.output, "")
      }))
  }

  test("that has ended is known, with what is left of its tree, which can be killed", ({ start, replace }) =>
    Effect.gen(function* () {
      const child = yield* start(sh("sleep 1000 >/dev/null 2>&1 & echo $!; exit 1"))
      const first = listen(child)
      yield* eventually("it ends", () => isDone(first))
      const survivor = Number(first.output)
      assert.isTrue(child.findRemains())
      const [next] = yield* replace([child])
      const heard = listen(next as Child)
      yield* eventually("the end of the output is told", () => heard.ended)
      assert.isUndefined(heard.status)
      assert.isTrue(next?.findRemains())
      next?.signal("SIGKILL", "tree")
      yield* eventually("it is killed", () => !isAlive(survivor))
      assert.isFalse(next?.findRemains())
    }))

  test("that was not adopted is ended", ({ start, replace }) =>
    Effect.gen(function* () {
      const [kept, other] = [yield* start(sh("read line")), yield* start(sh("sleep 1000 & sleep 1000"))]
      listen(other)
      listen(kept)
      const [next] = yield* replace([kept])
      yield* eventually("it is killed", () => !isAlive(other.pid))
      assert.isTrue(isAlive(kept.pid))
      const heard = listen(next as Child)
      next?.endStdin()
      yield* eventually("the other ends", () => isDone(heard))
    }))

  for (const io of [{ _tag: "Pipe", stdin: true }, terminal] as const) {
    test(`in a sandbox stays in it, and ends with its true status (${io._tag})`, ({ start, replace }) =>
      Effect.gen(function* () {
        const folder = realpathSync(mkdtempSync(join(tmpdir(), "handover-")))
        yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(folder, { recursive: true })))
        const placeholder = join(folder, "forbidden")
        const confinement: Confinement = {
          mounts: [
            { _tag: "Bind", path: "/", writable: false },
            { _tag: "Bind", path: folder, writable: true },
            { _tag: "Bind", path: placeholder, writable: false }
          ],
          placeholders: [placeholder],
          isolated: true
        }
        const script = "trap 'exit 9' USR1; echo $$; read line; echo $line; sleep 1000 & wait"
        const child = yield* start({ ...sh(script, io), confinement })
        const first = listen(child)
        yield* eventually("it prints", () => first.output.includes("\n"))
        assert.isTrue(existsSync(placeholder))
        const [next] = yield* replace([child])
        const heard = listen(next as Child)
        assert.strictEqual(next?.pid, child.pid)
        assert.isTrue(existsSync(placeholder))
        next?.write(Buffer.from("inside\n"), () => {})
        yield* eventually("it goes on", () => heard.output.includes("inside"))
        next?.signal("SIGUSR1", "leader")
        yield* eventually("it ends", () => isDone(heard))
        assert.deepStrictEqual(heard.status, ExitStatus.Exited({ code: 9 }))
        assert.isFalse(next?.findRemains())
        yield* eventually("nothing is left of the sandbox", () => !existsSync(placeholder))
      }))
  }

  test("knows to the byte which input was taken", ({ start, replace }) =>
    Effect.gen(function* () {
      const child = yield* start(sh("read line; sha256sum"))
      listen(child)
      const all = Buffer.from(`${"x".repeat(99)}\n`.repeat(5000))
      child.write(all, () => {})
      child.endStdin()
      const writer = new ImageWriter()
      const state = viaJson(ChildState, child.freeze?.(writer))
      assert.isTrue(state._tag === "Pipe" && state.ending)
      const unsent = Buffer.concat(state.unsent.map((section) => readerOf(writer).bytes(section)))
      assert.isAbove(unsent.length, 0)
      assert.isBelow(unsent.length, all.length)
      assert.isTrue(all.subarray(all.length - unsent.length).equals(unsent))
      yield* replace([])
    }))
})
