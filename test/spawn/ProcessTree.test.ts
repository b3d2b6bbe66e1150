import { mkdtempSync, rmSync, symlinkSync } from "node:fs"
import { constants, tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  childrenOf,
  type Entry,
  entryOf,
  killAll,
  membersOf,
  recipientsOf,
  table
} from "../../src/spawn/ProcessTree.js"
import { child, pidOf } from "../support/children.js"
import { eventually, isAlive } from "../support/servers.js"

const entry = (pid: number, parent: number, group: number, session: number, more: Partial<Entry> = {}): Entry => ({
  pid,
  zombie: false,
  parent,
  group,
  session,
  startTime: pid,
  ...more
})

const leader = { pid: 100, startTime: 100 }
const members = (...entries: ReadonlyArray<Entry>) => [...membersOf(leader, entries).keys()].sort((a, b) => a - b)

const init = entry(1, 0, 1, 1)
const self = entry(100, 50, 100, 100)

describe("membersOf", () => {
  it("the leader and its descendants, whatever group or session they moved to", () => {
    const tree = [
      entry(101, 100, 100, 100),
      entry(102, 101, 102, 100),
      entry(103, 102, 103, 103),
      entry(104, 103, 103, 103)
    ]
    assert.deepStrictEqual(members(init, self, ...tree), [100, 101, 102, 103, 104])
    assert.deepStrictEqual(members(...tree.reverse(), self, init), [100, 101, 102, 103, 104])
  })

  it("all children of one parent, in sessions of their own", () => {
    const children = [101, 102, 103].map((pid) => entry(pid, 100, pid, pid))
    assert.deepStrictEqual(members(self, ...children), [100, 101, 102, 103])
  })

  it("a chain of processes that is deeper than the stack", () => {
    const pids = Array.from({ length: 50_000 }, (_, depth) => 100 + depth)
    const chain = pids.slice(1).map((pid) => entry(pid, pid - 1, pid, pid))
    assert.deepStrictEqual(members(self, ...chain), pids)
  })

  it("its group and its session after their parents are gone, and what descends from them", () => {
    const orphans = [entry(101, 1, 100, 100), entry(102, 1, 102, 100), entry(103, 102, 103, 103)]
    assert.deepStrictEqual(members(init, ...orphans), [101, 102, 103])
  })

  it("not a stranger, not a parent, and not one that cut its chain of parents", () => {
    assert.deepStrictEqual(
      members(init, entry(50, 1, 50, 50), self, entry(51, 50, 50, 50), entry(105, 1, 105, 105)),
      [100]
    )
  })

  it("no zombies", () => {
    assert.deepStrictEqual(members(self, entry(101, 100, 100, 100, { zombie: true })), [100])
    assert.deepStrictEqual(members({ ...self, zombie: true }, entry(101, 100, 100, 100)), [101])
  })

  it("nobody, where a later process has the leader's number", () => {
    const stranger = { ...self, startTime: 999 }
    assert.deepStrictEqual(members(stranger, entry(101, 100, 100, 100)), [])
  })

  it("its strays, by their own names, also where a later process has the leader's number", () => {
    const strays = [
      { pid: 105, startTime: 105 },
      { pid: 106, startTime: 999 }
    ]
    const found = (...entries: ReadonlyArray<Entry>) => [...membersOf({ ...leader, strays }, entries).keys()].sort()
    const others = [entry(105, 1, 105, 105), entry(107, 105, 107, 107), entry(106, 1, 106, 106)]
    assert.deepStrictEqual(found(init, self, ...others), [100, 105, 107])
    assert.deepStrictEqual(found(init, { ...self, startTime: 999 }, ...others), [105, 107])
  })

  it("ends where the table, read while it changed, goes round in circles", () => {
    assert.deepStrictEqual(members(self, entry(101, 102, 100, 100), entry(102, 101, 100, 100)), [100, 101, 102])
  })

  it("thousands of processes in a chain", () => {
    const chain = Array.from({ length: 5000 }, (_, i) => entry(101 + i, 100 + i, 101 + i, 101 + i))
    assert.lengthOf(members(self, ...chain), 5001)
  })
})

describe("the process table", () => {
  it("has this process, as the system knows it", () => {
    const found = entryOf(process.pid)
    assert.deepInclude(found, { pid: process.pid, parent: process.ppid, zombie: false })
    assert.deepInclude(
      table().find(({ pid }) => pid === process.pid),
      { ...found }
    )
  })

  it("has no process that does not exist", () => {
    assert.isUndefined(entryOf(2 ** 22 + 1))
  })
})

describe("real children", () => {
  it.scopedLive("are found by their parent; whoever is gone has none", () =>
    Effect.gen(function* () {
      const pid = pidOf(yield* child("/bin/sh", "-c", "sleep 1000 & sleep 1000 & wait"))
      yield* eventually("both run", () => childrenOf(pid).length === 2)
      for (const found of childrenOf(pid)) {
        assert.deepInclude(found, { parent: pid, group: pid, session: pid, zombie: false })
        assert.deepInclude(entryOf(found.pid), { pid: found.pid, startTime: found.startTime })
      }
      const [first] = childrenOf(pid)
      assert.deepStrictEqual(childrenOf(first?.pid ?? 0), [])
      assert.deepStrictEqual(childrenOf(2 ** 22 + 1), [])
    })
  )

  it.scopedLive("a name with spaces and parentheses is no riddle", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "tree-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const program = join(folder, "a) Z 1 (b")
      symlinkSync("/bin/sleep", program)
      const pid = pidOf(yield* child(program, "1000"))
      yield* eventually("it runs", () => entryOf(pid)?.group === pid)
      assert.deepInclude(entryOf(pid), { pid, parent: process.pid, group: pid, session: pid, zombie: false })
    })
  )

  it.scopedLive(
    "whom a signal is sent to: each member once, and never a stranger who has the leader's number by now",
    () =>
      Effect.gen(function* () {
        const pid = pidOf(yield* child("/bin/sleep", "1000"))
        const startTime = entryOf(pid)?.startTime ?? 0
        const members = [
          entry(pid, 1, pid, pid, { startTime }),
          entry(5_000_001, pid, pid, pid),
          entry(5_000_002, pid, 5_000_002, pid)
        ]
        for (const known of [startTime, 0]) {
          const leader = { pid, startTime: known }
          assert.deepStrictEqual(recipientsOf(leader, "leader", members), [pid])
          assert.deepStrictEqual(recipientsOf(leader, "group", members), [-pid])
          assert.deepStrictEqual(recipientsOf(leader, "tree", members), [-pid, 5_000_002])
        }
        const former = { pid, startTime: startTime - 1 }
        assert.deepStrictEqual(recipientsOf(former, "leader", []), [])
        assert.deepStrictEqual(recipientsOf(former, "group", []), [])
        assert.deepStrictEqual(recipientsOf(former, "tree", [entry(5_000_003, 1, 5_000_003, 5_000_003)]), [5_000_003])
        // Nobody has this number, and its group may still have members.
        assert.deepStrictEqual(recipientsOf({ pid: 5_000_004, startTime: 1 }, "group", []), [-5_000_004])
      })
  )

  it.scopedLive("killAll leaves a stranger alone where there are no strays either", () =>
    Effect.gen(function* () {
      const [stranger, doomed] = [pidOf(yield* child("/bin/sleep", "1000")), pidOf(yield* child("/bin/sleep", "1000"))]
      const startTime = (entryOf(stranger)?.startTime ?? 0) - 1
      killAll([
        { pid: stranger, startTime },
        { pid: doomed, startTime: 0 }
      ])
      yield* eventually("the other is gone", () => !isAlive(doomed))
      assert.isTrue(isAlive(stranger))
    })
  )

  it.scopedLive("killAll ends strays, and leaves a stranger alone who has the leader's number by now", () =>
    Effect.gen(function* () {
      const spawnLeader = Effect.map(child("/bin/sh", "-c", "exec sleep 1000"), pidOf)
      const [stranger, stray] = [yield* spawnLeader, yield* spawnLeader]
      const startTimeOf = (pid: number) => entryOf(pid)?.startTime ?? 0
      const strays = [{ pid: stray, startTime: startTimeOf(stray) }]
      killAll([{ pid: stranger, startTime: startTimeOf(stranger) - 1, strays }])
      yield* eventually("the stray is gone", () => !isAlive(stray))
      assert.isTrue(isAlive(stranger))
    })
  )

  it.scopedLive("killAll ends the trees of several leaders at once, and those who left them", () =>
    Effect.gen(function* () {
      const script = "sleep 1000 & setsid sleep 1000 & wait"
      const leaders = [yield* child("/bin/sh", "-c", script), yield* child("/bin/sh", "-c", script)].map(pidOf)
      const found = () => {
        const entries = table()
        return leaders.flatMap((pid) => {
          const leader = entries.find((entry) => entry.pid === pid)
          return leader === undefined ? [] : [...membersOf(leader, entries).values()]
        })
      }
      const ready = () => found().length === 6 && found().filter(({ pid, group }) => pid === group).length === 4
      yield* eventually("all six run, two of them in sessions of their own", ready)
      const members = found()
      const sent: Array<readonly [pid: number, signal: unknown]> = []
      const { kill } = process
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          vi.spyOn(process, "kill").mockImplementation((pid, signal) => {
            sent.push([pid, signal])
            return kill.call(process, pid, signal)
          })
        ),
        (spy) => Effect.sync(() => spy.mockRestore())
      )
      killAll(members.filter(({ pid }) => leaders.includes(pid)))
      const named = (signal: number) => sent.filter(([, other]) => other === signal).map(([pid]) => pid)
      const [stopped, killed] = [named(constants.signals.SIGSTOP), named(constants.signals.SIGKILL)]
      assert.includeMembers(
        killed,
        members.map(({ pid, group }) => (leaders.includes(group) ? -group : pid))
      )
      assert.sameMembers(stopped, killed)
      assert.deepStrictEqual(
        sent.map(([pid]) => pid),
        [...stopped, ...killed],
        "all are stopped before one is killed"
      )
      yield* eventually("all are gone", () => !members.some(({ pid }) => isAlive(pid)))
    })
  )

  it.scopedLive("killAll leaves nobody behind of members that fork all the time in sessions of their own", () =>
    Effect.gen(function* () {
      // Bounded, for the case that they are not killed.
      const forker = "setsid sh -c 'i=0; while [ $i -lt 150 ]; do sleep 1000 & i=$((i+1)); done; wait' &"
      const pid = pidOf(yield* child("/bin/sh", "-c", `${forker.repeat(6)} wait`))
      const leader = { pid, startTime: entryOf(pid)?.startTime ?? 0 }
      const sessions = new Set<number>()
      const others = () => table().filter(({ session, zombie }) => sessions.has(session) && !zombie)
      yield* Effect.addFinalizer(() => Effect.sync(() => killAll([...sessions].map((pid) => ({ pid, startTime: 0 })))))
      yield* eventually("all fork", () => {
        for (const { session } of membersOf(leader, table()).values()) if (session !== pid) sessions.add(session)
        return sessions.size === 6 && others().length > 60
      })
      killAll([leader])
      yield* eventually("all are gone", () => others().length === 0, 3000)
    })
  )
})
