import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Guard } from "../../src/spawn/Guard.js"
import { entryOf, membersOf, table } from "../../src/spawn/ProcessTree.js"
import { ProcessTrees } from "../../src/spawn/ProcessTrees.js"
import { child, pidOf } from "../support/children.js"
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
