/** The directory on a real database: every fence, and what holds after any order of events. */
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { SqlClient } from "@effect/sql/SqlClient"
import { assert, beforeEach, describe, layer } from "@effect/vitest"
import { Effect, Either, Layer } from "effect"
import { type HostDescription, HostTaken, type Placement } from "../../src/fleet/DirectoryApi.js"
import * as DirectorySchema from "../../src/fleet/DirectorySchema.js"
import * as EmbeddedDatabase from "../../src/fleet/EmbeddedDatabase.js"
import { FleetDirectory } from "../../src/fleet/FleetDirectory.js"
import { random } from "../support/random.js"

const leaseMs = 15_000
const database = EmbeddedDatabase.layer(undefined)
const directory = FleetDirectory.layer({ leaseMs, quota: 5 }).pipe(Layer.provideMerge(database))

const host = (id: string, incarnation: string, more: Partial<HostDescription> = {}): HostDescription => ({
  id,
  incarnation,
  labels: [],
  capacity: 2,
  version: "1",
  ...more
})

const clear = Effect.flatMap(SqlClient, (sql) =>
  Effect.forEach(["host", "session", "gateway", "quota", "waiting"], (name) => sql.unsafe(`delete from fleet_${name}`))
)

/** Moves all leases and deadlines into the past, as if time had passed. */
const pass = (ms: number) =>
  Effect.flatMap(SqlClient, (sql) =>
    Effect.all([
      sql.unsafe(`update fleet_host set lease_until = lease_until - interval '${ms} ms'`),
      sql.unsafe(`update fleet_gateway set lease_until = lease_until - interval '${ms} ms',
        since = since - interval '${ms} ms'`),
      sql.unsafe(
        `update fleet_session set until = until - interval '${ms} ms', made_at = made_at - interval '${ms} ms'`
      ),
      sql.unsafe(`update fleet_waiting set until = until - interval '${ms} ms'`)
    ])
  )

const gateway = (id: string) => ({ id, url: undefined, version: "1" })

/** A gateway whose lease has held for longer than a lease. */
const settled = (id: string) =>
  Effect.gen(function* () {
    const { renew } = yield* FleetDirectory
    const sql = yield* SqlClient
    yield* renew(gateway(id), [])
    yield* sql`update fleet_gateway set since = clock_timestamp() - interval '1 hour' where id = ${id}`
  })

const place = (subject: string, heard: ReadonlyArray<string>, labels: ReadonlyArray<string> = [], ticket?: number) =>
  Effect.flatMap(FleetDirectory, (fleet) =>
    fleet.place({ key: randomUUID(), subject, labels, gateway: "g1", heard, ticket })
  )

/** A placed and bound session; its inner id. */
const session = (subject: string, hostId: string) =>
  Effect.gen(function* () {
    const fleet = yield* FleetDirectory
    const key = randomUUID()
    const placed = yield* fleet.place({ key, subject, labels: [], gateway: "g1", heard: [hostId] })
    assert.strictEqual(placed._tag, "Placed")
    const inner = randomUUID()
    assert.isTrue(yield* fleet.bind(key, inner))
    return inner
  })

const stateOf = (inner: string) =>
  Effect.map(
    Effect.flatMap(
      SqlClient,
      (sql) => sql<{ state: string }>`select state from fleet_session where inner_id = ${inner}`
    ),
    ([row]) => row?.state
  )

/** What the rows count must be what there is. */
const checkCounts = Effect.gen(function* () {
  const sql = yield* SqlClient
  const wrong = yield* sql`select h.id from fleet_host h where used <> (select count(*) from fleet_session s
      where s.host = h.id and s.epoch = h.epoch and s.state in ('placing', 'attached', 'detached'))
    union all select q.subject from fleet_quota q where used <> (select count(*) from fleet_session s
      where s.subject = q.subject and s.state in ('placing', 'attached', 'detached'))
    union all select h.id from fleet_host h where used > capacity`
  assert.deepEqual(wrong, [])
})

layer(directory, { timeout: 60_000 })("FleetDirectory", (it) => {
  const test = <E>(name: string, body: Effect.Effect<void, E, FleetDirectory | SqlClient>) =>
    it.effect(name, () => Effect.zipRight(clear, body), 30_000)

  test(
    "a second incarnation is refused while the first holds the id, and gets a new epoch when that was lost",
    Effect.gen(function* () {
      const { register, lose } = yield* FleetDirectory
      const first = yield* register(host("h", "one"), "g1")
      assert.deepEqual(yield* Effect.either(register(host("h", "two"), "g1")), Either.left(new HostTaken({ id: "h" })))
      assert.deepEqual(yield* register(host("h", "one"), "g2"), first, "the same process comes again")
      yield* pass(leaseMs + 1)
      assert.isTrue(Either.isLeft(yield* Effect.either(register(host("h", "two"), "g1"))), "nobody has decided yet")
      yield* settled("g1")
      assert.deepEqual(yield* lose("g1"), ["h"])
      const second = yield* register(host("h", "two"), "g1")
      assert.strictEqual(second.no, first.no)
      assert.strictEqual(second.epoch, first.epoch + 1)
      assert.isTrue(Either.isLeft(yield* Effect.either(register(host("h", "one"), "g1"))), "back from the dead")
    })
  )

  test(
    "a lost host's sessions are lost, their places and quotas are free, and its old epoch is stale",
    Effect.gen(function* () {
      const { register, renew, lose, report, hosts, sessions } = yield* FleetDirectory
      const { epoch } = yield* register(host("h", "one"), "g1")
      const inner = yield* session("alice", "h")
      yield* pass(leaseMs + 1)
      yield* settled("g1")
      yield* lose("g1")
      assert.strictEqual(yield* stateOf(inner), "lost")
      assert.deepEqual(yield* renew(gateway("g1"), [{ id: "h", epoch }]), ["h"])
      yield* report("h", epoch, [{ id: inner, attach: 99, state: "attached" }], [])
      assert.strictEqual(yield* stateOf(inner), "lost", "nothing brings it back")
      assert.deepInclude((yield* hosts)[0], { used: 0, incarnation: null, epoch: epoch + 1 })
      assert.deepInclude((yield* sessions)[0], { state: "lost", reason: "its host was lost" })
      yield* checkCounts
    })
  )

  test(
    "after an outage of the database nobody is lost until a gateway's lease has held for a whole lease",
    Effect.gen(function* () {
      const { register, renew, lose, hosts } = yield* FleetDirectory
      const { epoch } = yield* register(host("h", "one"), "g1")
      yield* settled("g1")
      yield* pass(leaseMs + 5000)
      assert.deepEqual(yield* lose("g1"), [], "its own lease has lapsed")
      yield* renew(gateway("g1"), [])
      assert.deepEqual(yield* lose("g1"), [], "its lease has just begun")
      assert.deepEqual(yield* renew(gateway("g1"), [{ id: "h", epoch }]), [], "the host was heard in time")
      assert.isAbove((yield* hosts)[0]?.leaseMs ?? 0, leaseMs / 2)
      assert.deepEqual(yield* lose("g1"), [])
    })
  )

  test(
    "the clock of the database is set back: leases take as long as they should all the same",
    Effect.gen(function* () {
      const { register, renew, lose, hosts } = yield* FleetDirectory
      const { epoch } = yield* register(host("h", "one"), "g1")
      yield* renew(gateway("g1"), [])
      yield* pass(-3_600_000)
      yield* renew(gateway("g1"), [{ id: "h", epoch }])
      assert.isAtMost((yield* hosts)[0]?.leaseMs ?? 0, leaseMs)
      yield* pass(leaseMs - 2000)
      yield* renew(gateway("g1"), [])
      assert.deepEqual(yield* lose("g1"), [])
      yield* pass(4000)
      assert.deepEqual(yield* lose("g1"), ["h"])
    })
  )

  test(
    "a host that says goodbye is lost at once, and a renewal that was on its way does not bring it back",
    Effect.gen(function* () {
      const { register, renew, leave } = yield* FleetDirectory
      const { epoch } = yield* register(host("h", "one"), "g1")
      const inner = yield* session("alice", "h")
      yield* leave("h", epoch)
      assert.deepEqual(yield* renew(gateway("g1"), [{ id: "h", epoch }]), ["h"])
      assert.strictEqual(yield* stateOf(inner), "lost")
      assert.strictEqual((yield* place("alice", ["h"]))._tag, "Full")
      const again = yield* register(host("h", "two"), "g1")
      yield* leave("h", epoch)
      assert.deepEqual(yield* renew(gateway("g1"), [{ id: "h", epoch: again.epoch }]), [], "an old goodbye is none")
    })
  )

  test(
    "the host numbers what happens to a session: a late report changes nothing",
    Effect.gen(function* () {
      const { register, report } = yield* FleetDirectory
      const { epoch } = yield* register(host("h", "one"), "g1")
      const inner = yield* session("alice", "h")
      yield* report("h", epoch, [{ id: inner, attach: 3, state: "attached", gateway: "g2" }], [])
      yield* report("h", epoch, [{ id: inner, attach: 2, state: "detached", gateway: "g1" }], [])
      assert.strictEqual(yield* stateOf(inner), "attached")
      yield* report("h", epoch, [{ id: inner, attach: 4, state: "detached" }], [])
      assert.strictEqual(yield* stateOf(inner), "detached")
    })
  )

  test(
    "what a host has ended is over; a report that is older than a session does not end it",
    Effect.gen(function* () {
      const { register, report } = yield* FleetDirectory
      const { epoch } = yield* register(host("h", "one"), "g1")
      const [ended, fresh] = [yield* session("alice", "h"), yield* session("alice", "h")]
      yield* report("h", epoch, [], [ended])
      assert.deepEqual([yield* stateOf(ended), yield* stateOf(fresh)], ["ended", "attached"])
      yield* checkCounts
      yield* pass(16_000)
      yield* report("h", epoch, [], [])
      assert.strictEqual(yield* stateOf(fresh), "ended")
      yield* checkCounts
    })
  )

  test(
    "a late report ends nothing that it lacks, until the host's epoch has ended",
    Effect.gen(function* () {
      const { register, report, renew, lose } = yield* FleetDirectory
      const { epoch } = yield* register(host("h", "one"), "g1")
      const inner = yield* session("alice", "h")
      yield* report("h", epoch, [{ id: inner, attach: 1, state: "detached", idle: true }], [], 7)
      yield* pass(16_000)
      yield* report("h", epoch, [], [], 6)
      yield* report("h", epoch, [], [], 7)
      assert.strictEqual(yield* stateOf(inner), "detached")
      yield* report("h", epoch, [], [], 8)
      assert.strictEqual(yield* stateOf(inner), "ended")
      yield* renew(gateway("g1"), [{ id: "h", epoch }])
      const ended = yield* session("alice", "h")
      yield* report("h", epoch, [], [ended], 3)
      assert.strictEqual(yield* stateOf(ended), "ended", "what has ended stays so")
      yield* pass(leaseMs + 1)
      yield* settled("g1")
      yield* lose("g1")
      const again = yield* register(host("h", "two"), "g1")
      const next = yield* session("alice", "h")
      yield* pass(16_000)
      yield* renew(gateway("g1"), [{ id: "h", epoch: again.epoch }])
      yield* report("h", epoch, [], [], 9)
      assert.strictEqual(yield* stateOf(next), "attached", "of an epoch that has ended")
      yield* report("h", again.epoch, [], [], 1)
      assert.strictEqual(yield* stateOf(next), "ended", "another process counts anew")
      yield* checkCounts
    })
  )

  test(
    "sessions go to the least loaded host that fits, and to no other",
    Effect.gen(function* () {
      const { register, setState } = yield* FleetDirectory
      yield* register(host("big", "1", { capacity: 4, labels: ["gpu", "eu"] }), "g1")
      yield* register(host("small", "2", { capacity: 1, labels: ["gpu"] }), "g1")
      yield* register(host("deaf", "3", { capacity: 9, labels: ["gpu", "eu"] }), "g1")
      const heard = ["big", "small"]
      const hostOf = (placed: Placement) => (placed._tag === "Placed" ? placed.host : placed._tag)
      assert.strictEqual(hostOf(yield* place("a", heard, ["eu"])), "big")
      assert.strictEqual(hostOf(yield* place("a", heard, ["gpu"])), "small", "0 of 1 is less than 1 of 4")
      assert.strictEqual(hostOf(yield* place("a", heard, ["gpu"])), "big")
      assert.strictEqual(hostOf(yield* place("b", heard, ["tpu"])), "Full")
      assert.isTrue(yield* setState("big", "cordoned"))
      assert.strictEqual(hostOf(yield* place("b", heard, ["gpu"])), "Full")
      assert.isTrue(yield* setState("big", "ready"))
      assert.strictEqual(hostOf(yield* place("b", heard, [])), "big")
      assert.isFalse(yield* setState("nobody", "ready"))
      yield* checkCounts
    })
  )

  test(
    "nobody has more than the quota, and nothing is left of a refused placement",
    Effect.gen(function* () {
      const { register, setQuota, release } = yield* FleetDirectory
      yield* register(host("h", "1", { capacity: 100 }), "g1")
      yield* setQuota("bob", 2)
      const placed = yield* Effect.all(
        Array.from({ length: 6 }, () => place("bob", ["h"])),
        { concurrency: 6 }
      )
      assert.strictEqual(placed.filter(({ _tag }) => _tag === "Placed").length, 2)
      assert.strictEqual(placed.filter(({ _tag }) => _tag === "OverQuota").length, 4)
      const others = yield* Effect.all(Array.from({ length: 6 }, () => place("carol", ["h"])))
      assert.strictEqual(others.filter(({ _tag }) => _tag === "Placed").length, 5, "the default")
      yield* checkCounts
      const sql = yield* SqlClient
      const [row] = yield* sql<{ key: string }>`select key from fleet_session where subject = 'bob' limit 1`
      yield* release(row?.key ?? "", "the test")
      yield* release(row?.key ?? "", "twice")
      yield* checkCounts
      assert.strictEqual((yield* place("bob", ["h"]))._tag, "Placed")
    })
  )

  test(
    "places go to those who wait, in the order of their tickets, over all gateways",
    Effect.gen(function* () {
      const { register, wait, quit, waiting } = yield* FleetDirectory
      yield* register(host("h", "1", { capacity: 1, labels: ["gpu"] }), "g1")
      const first = yield* wait("a", ["gpu"], 5000)
      const second = yield* wait("b", [], 5000)
      yield* wait("c", ["tpu"], 5000)
      assert.strictEqual((yield* place("d", ["h"]))._tag, "Full", "who has not waited is behind")
      assert.strictEqual((yield* place("b", ["h"], [], second))._tag, "Full")
      assert.strictEqual((yield* place("a", ["h"], ["gpu"], first))._tag, "Placed")
      yield* quit(first)
      assert.deepEqual(
        (yield* waiting).map(({ subject }) => subject),
        ["b", "c"]
      )
      yield* pass(6000)
      assert.deepEqual(yield* waiting, [], "a gateway that died left them")
    })
  )

  test(
    "a place that nobody binds is given back, and cannot be bound then",
    Effect.gen(function* () {
      const { register, bind, tidy } = yield* FleetDirectory
      yield* register(host("h", "1", { capacity: 1 }), "g1")
      const fleet = yield* FleetDirectory
      const key = randomUUID()
      yield* fleet.place({ key, subject: "a", labels: [], gateway: "g1", heard: ["h"] })
      assert.strictEqual((yield* place("a", ["h"]))._tag, "Full")
      yield* pass(21_000)
      yield* register(host("h", "1", { capacity: 1 }), "g1")
      yield* tidy
      assert.isFalse(yield* bind(key, "late"))
      assert.strictEqual((yield* place("a", ["h"]))._tag, "Placed")
      yield* checkCounts
    })
  )

  test(
    "sessions of hosts that do not report end when nobody has touched them",
    Effect.gen(function* () {
      const { register, touch, tidy } = yield* FleetDirectory
      const { epoch } = yield* register(host("h", "1"), "g1")
      const inner = yield* session("a", "h")
      yield* touch("h", epoch, inner, "detached", "g1", 30_000)
      yield* tidy
      assert.strictEqual(yield* stateOf(inner), "detached")
      yield* pass(31_000)
      yield* tidy
      assert.strictEqual(yield* stateOf(inner), "ended")
      yield* checkCounts
    })
  )

  test(
    "a session that its client has left, and in which nothing runs, gives way when there is no other place",
    Effect.gen(function* () {
      const { register, report } = yield* FleetDirectory
      const { epoch } = yield* register(host("h", "1"), "g1")
      const [busy, idle] = [yield* session("alice", "h"), yield* session("alice", "h")]
      yield* report(
        "h",
        epoch,
        [
          { id: busy, attach: 2, state: "detached", idle: false },
          { id: idle, attach: 2, state: "detached", idle: false }
        ],
        []
      )
      assert.strictEqual((yield* place("bob", ["h"]))._tag, "Full")
      yield* report("h", epoch, [{ id: idle, attach: 2, state: "detached", idle: true }], [])
      const placed = yield* place("bob", ["h"])
      assert.deepEqual(placed._tag === "Placed" ? placed.displaced : undefined, [{ host: "h", id: idle }])
      assert.deepEqual([yield* stateOf(idle), yield* stateOf(busy)], ["ended", "detached"])
      assert.strictEqual((yield* place("bob", ["h"]))._tag, "Full")
      yield* checkCounts
    })
  )

  test(
    "of a subject that has reached its quota, an idle session gives way",
    Effect.gen(function* () {
      const { register, report, setQuota } = yield* FleetDirectory
      const { epoch } = yield* register(host("h", "1", { capacity: 9 }), "g1")
      yield* setQuota("alice", 1)
      const idle = yield* session("alice", "h")
      assert.strictEqual((yield* place("alice", ["h"]))._tag, "OverQuota")
      yield* report("h", epoch, [{ id: idle, attach: 2, state: "detached", idle: true }], [])
      assert.strictEqual((yield* place("alice", ["h"]))._tag, "Placed")
      assert.strictEqual(yield* stateOf(idle), "ended")
      yield* checkCounts
    })
  )

  test(
    "secrets are made once",
    Effect.gen(function* () {
      const { secret } = yield* FleetDirectory
      const made = yield* Effect.all([secret("ids"), secret("ids"), secret("other")], { concurrency: 3 })
      assert.strictEqual(made[0], made[1])
      assert.notStrictEqual(made[0], made[2])
      assert.isAtLeast(made[0].length, 43)
    })
  )

  test(
    "two gateways that start at once migrate once",
    Effect.gen(function* () {
      yield* Effect.all([DirectorySchema.migrate, DirectorySchema.migrate], { concurrency: 2 })
      const sql = yield* SqlClient
      const [row] = yield* sql<{ n: number }>`select count(*)::int as n from fleet_migration`
      assert.strictEqual(row?.n, 3)
    })
  )

  test(
    "a drained host is told to end when it is empty, or at its deadline",
    Effect.gen(function* () {
      const { register, setState, hosts } = yield* FleetDirectory
      const { epoch } = yield* register(host("h", "1"), "g1")
      const inner = yield* session("a", "h")
      const drained = Effect.map(hosts, ([row]) => row?.drained)
      yield* setState("h", "draining", 60_000)
      assert.isFalse(yield* drained)
      const { report } = yield* FleetDirectory
      yield* report("h", epoch, [], [inner])
      assert.isTrue(yield* drained)
    })
  )

  // Each step is one that a gateway, a host or the passing of time can take, in any order.
  for (const seed of [1, 2, 3, 4]) {
    test(
      `any order of events, seed ${seed}`,
      Effect.gen(function* () {
        const fleet = yield* FleetDirectory
        const sql = yield* SqlClient
        const next = random(seed)
        const pick = <A>(items: ReadonlyArray<A>): A | undefined => items[Math.floor(next() * items.length)]
        const held = new Map<string, { readonly id: string; readonly incarnation: string; readonly epoch: number }>()
        /** The sessions that were declared lost, for good. */
        const lost = new Set<string>()
        const epochs = new Map<string, Map<number, string>>()
        let made = 0
        yield* settled("g1")
        for (let step = 0; step < 150; step++) {
          const id = pick(["h1", "h2"]) ?? ""
          const at = pick(["g1", "g2"]) ?? ""
          const one = pick(Array.from(held.values()))
          switch (Math.floor(next() * 9)) {
            case 0: {
              const incarnation = pick([`i${made}`, one?.incarnation ?? "i"]) ?? ""
              made++
              const got = yield* Effect.either(fleet.register(host(id, incarnation, { capacity: 3 }), at))
              if (Either.isLeft(got)) break
              const { epoch } = got.right
              const owners = epochs.get(id) ?? new Map<number, string>()
              epochs.set(id, owners)
              assert.strictEqual(owners.get(epoch) ?? incarnation, incarnation, "two incarnations in one epoch")
              owners.set(epoch, incarnation)
              held.set(`${id} ${incarnation}`, { id, incarnation, epoch })
              break
            }
            case 1: {
              const mine = Array.from(held.values()).filter(() => next() < 0.6)
              const byId = new Map(mine.map((known) => [known.id, known]))
              const stale = yield* fleet.renew(gateway(at), Array.from(byId.values()))
              for (const id of stale) {
                const known = byId.get(id)
                if (known !== undefined) held.delete(`${id} ${known.incarnation}`)
              }
              break
            }
            case 2:
              yield* pass(Math.floor(next() * leaseMs * 1.2))
              break
            case 3:
              yield* fleet.lose(at)
              break
            case 4:
            case 5: {
              const key = randomUUID()
              const placed = yield* fleet.place({
                key,
                subject: pick(["a", "b"]) ?? "",
                labels: [],
                gateway: at,
                heard: ["h1", "h2"]
              })
              if (placed._tag === "Placed" && next() < 0.8) yield* fleet.bind(key, key)
              break
            }
            case 6: {
              const rows = yield* sql<{
                id: string
              }>`select inner_id as id from fleet_session where inner_id is not null`
              const over = pick(rows)
              const known = rows.filter((row) => row !== over)
              if (one === undefined) break
              const reported = known.map(({ id }) => ({
                id,
                attach: Math.floor(next() * 50),
                state: next() < 0.5 ? ("attached" as const) : ("detached" as const),
                idle: next() < 0.5
              }))
              yield* fleet.report(one.id, one.epoch, reported, over === undefined ? [] : [over.id])
              break
            }
            case 7:
              yield* fleet.tidy
              break
            default:
              if (one !== undefined && next() < 0.3) yield* fleet.leave(one.id, one.epoch)
          }
          yield* checkCounts
          const rows = yield* sql<{ key: string; state: string }>`select key, state from fleet_session`
          for (const { key, state } of rows) {
            if (lost.has(key)) assert.strictEqual(state, "lost", "a lost session came back")
            if (state === "lost") lost.add(key)
          }
          const alive = yield* sql`select s.key from fleet_session s join fleet_host h on h.id = s.host
            where s.state in ('placing', 'attached', 'detached') and s.epoch <> h.epoch`
          assert.deepEqual(alive, [], "a session outlived its epoch")
        }
      })
    )
  }
})

describe("the folder of an embedded directory", () => {
  let folder = ""
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "fleet-"))
    return () => rmSync(folder, { recursive: true, force: true })
  })
  layer(Layer.empty)((it) => {
    it.scoped(
      "keeps what was written, and lets one process in at a time",
      () =>
        Effect.gen(function* () {
          const open = <A, E>(use: Effect.Effect<A, E, FleetDirectory>) =>
            Effect.provide(use, FleetDirectory.layer({ leaseMs }).pipe(Layer.provide(EmbeddedDatabase.layer(folder))))
          const secret = Effect.flatMap(FleetDirectory, (fleet) => fleet.secret("ids"))
          const first = yield* open(
            Effect.gen(function* () {
              const refused = yield* Effect.flip(open(secret))
              assert.include(refused.message, "one gateway at a time may have it")
              return yield* secret
            })
          )
          assert.strictEqual(yield* open(secret), first)
        }),
      60_000
    )
  })
})
