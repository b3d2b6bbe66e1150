import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Guard } from "../../src/spawn/Guard.js"
import { entryOf, membersOf, table } from "../../src/spawn/ProcessTree.js"
import { ProcessTrees } from "../../src/spawn/ProcessTrees.js"
import { child, pidOf } from "../support/children.js"
import { settle } from "../support/fake.js"
import { eventually, isAlive } from "../support/servers.js"

const layer = ProcessTrees.layer.pipe(Layer.provide(Guard.layerNone))

describe("real children", () => {
  it.scopedLive("SIGKILL for the tree reaches its group and those who left it", () =>
    Effect.gen(function* () {
      const pid = pidOf(yield* child("/bin/sh", "-c", "sleep 1000 & setsid sleep 1000 & wait"))
      const tree = (yield* ProcessTrees).track(pid)
      const found = () => [...membersOf({ pid, startTime: entryOf(pid)?.startTime ?? 0 }, table()).values()]
      const sleepers = () => found().filter((member) => member.pid !== pid)
      yield* eventually("all three run", () => sleepers().length === 2 && sleepers().some(({ group }) => group !== pid))
      const pids = found().map((member) => member.pid)
      assert.isFalse(tree.hasRemains())
      tree.signal("SIGKILL", "tree")
      yield* eventually("all are gone", () => !pids.some(isAlive))
      tree.reaped()
      // Members that were killed count until their own parent has reaped them.
      yield* eventually("and nothing is left", () => !tree.hasRemains())
      // Nobody is left to get it, and that is no error.
      for (const target of ["leader", "group", "tree"] as const) tree.signal("SIGTERM", target)
    }).pipe(Effect.provide(layer))
  )

  it.scopedLive("a signal for the leader reaches it alone", () =>
    Effect.gen(function* () {
      const running = yield* child("/bin/sh", "-c", "sleep 1000 & wait")
      const pid = pidOf(running)
      const tree = (yield* ProcessTrees).track(pid)
      const found = () => [...membersOf({ pid, startTime: entryOf(pid)?.startTime ?? 0 }, table()).keys()]
      yield* eventually("both run", () => found().length === 2)
      const other = found().find((member) => member !== pid) ?? Number.NaN
      tree.signal("SIGKILL", "leader")
      yield* eventually("the leader is gone", () => entryOf(pid) === undefined)
      assert.isTrue(isAlive(other))
      tree.reaped()
      assert.isTrue(tree.hasRemains())
      tree.signal("SIGTERM", "group")
      yield* eventually("the other is gone", () => !isAlive(other))
      yield* eventually("and nothing is left", () => !tree.hasRemains())
    }).pipe(Effect.provide(layer))
  )
})

/** A guard that writes down the numbers that it was to watch, and to forget. */
const recording = () => {
  const watched = new Set<number>()
  const closed: Array<number> = []
  const guard = Layer.succeed(Guard, {
    register: ({ pid, startTime }) => {
      assert.strictEqual(startTime, entryOf(pid)?.startTime)
      watched.add(pid)
    },
    unregister: ({ pid }) => assert.isTrue(watched.delete(pid), "it was watched"),
    socket: () => -1,
    closeTerminal: ({ pid }) => void closed.push(pid),
    addFolder: () => {},
    removeFolder: () => {},
    setCgroup: () => {}
  })
  return { watched, closed, layer: ProcessTrees.layer.pipe(Layer.provide(guard)) }
}

/** What a process runs. */
const nameOf = (pid: number) => {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8")
  } catch {
    return undefined
  }
}

/** The tree of a shell that runs a script, once it has so many members, all of them asleep. */
const planted = (script: string, count: number) =>
  Effect.gen(function* () {
    const running = yield* child("/bin/sh", "-c", script)
    const pid = pidOf(running)
    const tree = (yield* ProcessTrees).track(pid)
    const identity = { pid, startTime: entryOf(pid)?.startTime ?? 0 }
    const members = () => [...membersOf(identity, table()).values()]
    const areReady = () => members().every((member) => member.pid === pid || nameOf(member.pid) === "sleep\n")
    yield* eventually(`${count} run`, () => members().length === count && areReady())
    return { running, pid, tree, members }
  })

/** Starts one that leaves the session. */
const apart = "setsid sleep 1000 &"

describe("a signal", () => {
  it.scopedLive("for the tree reaches those who left the group as well, and is the one that was sent", () =>
    Effect.gen(function* () {
      const { running, tree, members } = yield* planted(`sleep 1000 & ${apart} wait`, 3)
      const pids = members().map(({ pid }) => pid)
      tree.signal("SIGTERM", "tree")
      yield* eventually("all are gone", () => !pids.some(isAlive))
      yield* eventually("the leader is reaped", () => running.signalCode !== null)
      assert.strictEqual(running.signalCode, "SIGTERM")
    }).pipe(Effect.provide(layer))
  )

  it.scopedLive("for the group leaves those alone who have left it", () =>
    Effect.gen(function* () {
      const { running, pid, tree, members } = yield* planted(`sleep 1000 & ${apart} wait`, 3)
      const stray = members().find(({ group }) => group !== pid)?.pid ?? Number.NaN
      const others = members().filter(({ group }) => group === pid)
      tree.signal("SIGTERM", "group")
      yield* eventually("the group is gone", () => !others.some((member) => isAlive(member.pid)))
      yield* eventually("its leader is reaped", () => running.signalCode === "SIGTERM")
      assert.isTrue(isAlive(stray))
      process.kill(stray, "SIGKILL")
    }).pipe(Effect.provide(layer))
  )

  it.scopedLive("reaches who came after the last one", () =>
    Effect.gen(function* () {
      const { pid, tree, members } = yield* planted(`sleep 1; ${apart} wait`, 2)
      // Nobody minds this one.
      tree.signal("SIGWINCH", "tree")
      const newcomers = () => members().filter(({ group, session }) => group !== pid && session !== pid)
      yield* eventually("one has left the group", () => newcomers().length === 1)
      const pids = members().map((member) => member.pid)
      tree.signal("SIGTERM", "tree")
      yield* eventually("all are gone", () => !pids.some(isAlive))
    }).pipe(Effect.provide(layer))
  )

  it.scopedLive("that comes after a SIGKILL in the same turn does not come first", () =>
    Effect.gen(function* () {
      const { running, tree } = yield* planted("sleep 1000 & wait", 2)
      tree.signal("SIGKILL", "tree")
      tree.signal("SIGTERM", "tree")
      tree.signal("SIGTERM", "leader")
      yield* eventually("the leader is reaped", () => running.signalCode !== null)
      assert.strictEqual(running.signalCode, "SIGKILL")
    }).pipe(Effect.provide(layer))
  )

  it.scopedLive("SIGKILL for several trees, at once and one after the other, ends all of them", () =>
    Effect.gen(function* () {
      const trees = [
        yield* planted(`${apart} wait`, 2),
        yield* planted(`${apart} wait`, 2),
        yield* planted(`${apart} wait`, 2)
      ] as const
      const pids = trees.map(({ members }) => members().map(({ pid }) => pid))
      trees[0].tree.signal("SIGKILL", "tree")
      trees[1].tree.signal("SIGKILL", "tree")
      yield* eventually("two are gone", () => !pids.slice(0, 2).flat().some(isAlive))
      assert.isTrue(pids[2]?.every(isAlive))
      trees[2].tree.signal("SIGKILL", "tree")
      yield* eventually("all are gone", () => !pids.flat().some(isAlive))
    }).pipe(Effect.provide(layer))
  )
})

describe("the guard", () => {
  const { watched, closed, layer } = recording()

  it.scopedLive("watches a leader, and those that a SIGTERM may cut off from it, until all are gone", () =>
    Effect.gen(function* () {
      const deaf = "setsid sh -c 'trap \"\" TERM; exec sleep 1000' &"
      const { running, pid, tree, members } = yield* planted(`sleep 1000 & ${deaf} wait`, 3)
      const stray = members().find(({ group }) => group !== pid)?.pid ?? Number.NaN
      assert.deepStrictEqual([...watched], [pid])
      tree.signal("SIGTERM", "tree")
      assert.sameMembers([...watched], [pid, stray])
      yield* eventually("the leader is reaped", () => running.signalCode !== null)
      tree.reaped()
      assert.isTrue(tree.findRemains())
      assert.sameMembers([...watched], [pid, stray])
      assert.isTrue(isAlive(stray))
      tree.signal("SIGKILL", "tree")
      yield* eventually("the stray is gone", () => !isAlive(stray))
      assert.isTrue(tree.hasRemains())
      assert.isFalse(tree.findRemains())
      assert.isFalse(tree.hasRemains())
      assert.deepStrictEqual([...watched], [])
    }).pipe(Effect.provide(layer))
  )

  it.scopedLive("forgets those that are gone when the next signal is sent", () =>
    Effect.gen(function* () {
      const { running, pid, tree, members } = yield* planted(`${apart} exec sleep 1000`, 2)
      const stray = members().find(({ group }) => group !== pid)?.pid ?? Number.NaN
      tree.signal("SIGWINCH", "tree")
      assert.sameMembers([...watched], [pid, stray])
      process.kill(stray, "SIGKILL")
      yield* eventually("the stray is gone", () => !isAlive(stray))
      yield* settle
      tree.signal("SIGWINCH", "tree")
      assert.deepStrictEqual([...watched], [pid])
      tree.signal("SIGKILL", "tree")
      yield* eventually("the leader is reaped", () => running.signalCode !== null)
      tree.reaped()
      assert.isFalse(tree.findRemains())
    }).pipe(Effect.provide(layer))
  )

  it.scopedLive("goes on watching those that may be cut off when only the group or the leader gets a signal", () =>
    Effect.gen(function* () {
      const { running, pid, tree, members } = yield* planted(`${apart} exec sleep 1000`, 2)
      const stray = members().find(({ group }) => group !== pid)?.pid ?? Number.NaN
      for (const target of ["tree", "group", "leader"] as const) {
        tree.signal("SIGWINCH", target)
        assert.sameMembers([...watched], [pid, stray], target)
      }
      tree.signal("SIGKILL", "tree")
      yield* eventually("the leader is reaped", () => running.signalCode !== null)
      tree.reaped()
      yield* eventually("nothing is left", () => !tree.findRemains())
      assert.deepStrictEqual([...watched], [])
    }).pipe(Effect.provide(layer))
  )

  it.scopedLive("is told whose terminal is closed", () =>
    Effect.gen(function* () {
      const { running, pid, tree } = yield* planted("exec sleep 1000", 1)
      tree.closeTerminal()
      assert.deepStrictEqual(closed, [pid])
      running.kill("SIGKILL")
      yield* eventually("the leader is reaped", () => running.signalCode !== null)
      tree.reaped()
      assert.isFalse(tree.findRemains())
    }).pipe(Effect.provide(layer))
  )

  it.scopedLive("forgets by itself a tree of which nothing is left", () =>
    Effect.gen(function* () {
      const { running, tree } = yield* planted("exec sleep 1000", 1)
      assert.isFalse(tree.findRemains())
      running.kill("SIGKILL")
      yield* eventually("the leader is reaped", () => running.signalCode !== null)
      tree.reaped()
      yield* eventually("it is forgotten", () => watched.size === 0)
      assert.isFalse(tree.hasRemains())
    }).pipe(Effect.provide(layer))
  )
})
