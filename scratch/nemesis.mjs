// Kills, freezes and cuts the parts of a fleet at random, and checks what must hold nevertheless:
// npm run nemesis -- --minutes 10 [--seed N] [--clients N]
//
// Two gateways, three hosts and PostgreSQL. Each client counts lines of its session's process. Checked: no line is lost
// or doubled, no session is served by two connections, no session is lost without a cause, every request is answered
// within 15 seconds, and every session is resumed or said to be lost within 15 seconds, except while the database is
// away. In the end the rows of the directory agree with the sessions, and no process is left of the others.
//
// Exits with 1, and says what failed.
import { readdirSync, readFileSync } from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import { parseArgs } from "node:util"
import { WebSocket } from "ws"
import { connect, counting, gateway, host, postgres, proxy, until } from "./fleet/machines.mjs"

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    clients: { type: "string", default: "20" }
  }
})
const [minutes, seed, count] = [values.minutes, values.seed, values.clients].map(Number)

// xorshift: the order of the faults is that of the seed; their effects are not.
let state = seed * 2654435761 + 1
const random = () => {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return (state >>> 0) / 2 ** 32
}
const between = (from, to) => from + random() * (to - from)
const oneOf = (list) => list[Math.floor(random() * list.length)]

const leaseMs = 6000
const begunAt = Date.now()
const at = () => `${((Date.now() - begunAt) / 1000).toFixed(1).padStart(6)} s`
const failures = []
const fail = (what) => {
  failures.push(what)
  console.log(`${at()} FAILED ${what}`)
}

const database = await postgres(false)
const throughs = [await proxy(() => database.port), await proxy(() => database.port)]
const gateways = []
for (const { port } of throughs) {
  const through = database.url.replace(/:\d+\//, `:${port}/`)
  gateways.push(await gateway(through, ["--lease", `${leaseMs}ms`, "--wait", "4s"]))
}
const hosts = []
for (const id of ["h1", "h2", "h3"]) {
  hosts.push(
    await host(
      id,
      gateways.map(({ url }) => url),
      ["--capacity", "40", "--detached-session-ttl-ms", "120000"]
    )
  )
}
console.log(`${at()} seed ${seed}: ${count} clients for ${minutes} minutes`)

/** The hosts by their numbers in ids of sessions. */
const names = new Map((await database.query("select no, id from fleet_host")).map(({ no, id }) => [no, id]))

// Faults.

/** The times at which something was done to a host or to the database, by its id. */
const faults = []
const note = (what, id, ms) => {
  const fault = { id, from: Date.now(), to: Date.now() + ms }
  faults.push(fault)
  console.log(`${at()} ${what}`)
  return () => {
    fault.to = Date.now()
  }
}
const hadFault = (id, sinceMs) => faults.some((fault) => fault.id === id && fault.to > Date.now() - sinceMs)

let isOver = false

const freeze = async (one, what, id, ms) => {
  const end = note(`${what} is frozen for ${(ms / 1000).toFixed(1)} s`, id, ms)
  one.kill("SIGSTOP")
  await sleep(ms)
  one.kill("SIGCONT")
  end()
}

const restart = async (one, what, id) => {
  const end = note(`${what} is killed`, id, 60_000)
  one.kill("SIGKILL")
  await one.gone()
  await sleep(between(200, 3000))
  await one.start()
  end()
}

/** One fault at a time in each group, so that one gateway can be reached at any time. */
const groups = [
  async () => {
    const index = Math.floor(random() * 2)
    const [one, name] = [gateways[index], `gateway ${index + 1}`]
    await oneOf([
      () => restart(one, name, name),
      () => freeze(one, name, name, between(1000, 12_000)),
      // Long enough that its clients and hosts have gone, and its leases as well.
      () => freeze(one, name, name, between(20_000, 45_000)),
      async () => {
        const ms = between(1000, 10_000)
        const end = note(`${name} is cut off from the database for ${(ms / 1000).toFixed(1)} s`, name, ms)
        throughs[index].deafen()
        await sleep(ms)
        throughs[index].hear()
        end()
      },
      async () => {
        note(`${name} loses its connections to the database`, name, 0)
        throughs[index].cut()
      }
    ])()
  },
  async () => {
    const one = oneOf(hosts)
    await oneOf([
      () => restart(one, one.id, one.id),
      () => freeze(one, one.id, one.id, between(500, leaseMs - 3000)),
      () => freeze(one, one.id, one.id, between(leaseMs, leaseMs * 2))
    ])()
  },
  async () => {
    const ms = between(500, 9000)
    const end = note(`PostgreSQL is away for ${(ms / 1000).toFixed(1)} s`, "database", ms)
    database.stop()
    await sleep(ms)
    // It recovers first.
    database.start()
    end()
  },
  async () => {
    const victims = clients.filter(() => random() < 0.3)
    note(`${victims.length} clients are cut`, "clients", 0)
    for (const client of victims) client.cut()
  }
]
const pauses = [6000, 15_000, 45_000, 5000]

// Clients.

const stats = { resumed: 0, lost: 0, sessions: 0, lines: 0, slowestMs: 0, late: 0 }

const answered = async (promise, what) => {
  const from = Date.now()
  const timer = setTimeout(() => fail(`${what} was not answered within 15 seconds`), 15_000)
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    stats.slowestMs = Math.max(stats.slowestMs, Date.now() - from)
  }
}

const makeClient = (number) => {
  const one = { id: undefined, inner: undefined, connection: undefined, lastSeq: 0, text: "", next: 1 }
  const mark = `nemesis-${process.pid}-${number}`
  let turn = number
  let old = []

  const take = (seq, chunk) => {
    if (seq <= one.lastSeq) return
    if (seq !== one.lastSeq + 1) return fail(`client ${number}: after output ${one.lastSeq} comes ${seq}`)
    one.lastSeq = seq
    one.text += Buffer.from(chunk, "base64").toString()
    const lines = one.text.split("\n")
    one.text = lines.pop()
    for (const line of lines) {
      if (line !== String(one.next)) fail(`client ${number}: the line after ${one.next - 1} is ${JSON.stringify(line)}`)
      one.next = Number(line) + 1
      stats.lines++
    }
  }

  /** Opens a connection to the next gateway, and sends `initialize`. */
  const attempt = async (resumeSessionId) => {
    const { url } = gateways[turn++ % 2]
    let early = []
    let isReading = true
    const connection = await connect(url, WebSocket, {
      onOutput: ({ seq, chunk }) => {
        if (connection !== undefined && old.includes(connection)) {
          if (seq > connection.endSeq) fail(`client ${number}: two connections serve its session`)
        } else if (isReading) early.push([seq, chunk])
        else take(seq, chunk)
      }
    })
    connection.endSeq = Number.POSITIVE_INFINITY
    const silence = setInterval(() => {
      if (connection.ws.readyState === WebSocket.OPEN) connection.ws.ping()
      // Kept open: it must serve nothing more.
      if (connection.silentMs() > 3500 && connection.ending() === undefined && !isOver) connection.abandon("silent")
    }, 1000)
    connection.ws.once("close", () => clearInterval(silence))
    const answer = await answered(
      connection.call("initialize", { clientName: mark, resumeSessionId }),
      `initialize of client ${number}`
    ).catch((error) => ({ later: error.message }))
    if (answer.result === undefined) {
      old.push(connection)
      return answer
    }
    connection.notify("initialized")
    connection.sessionId = answer.result.sessionId
    return {
      ...answer,
      connection,
      ready: () => {
        isReading = false
        for (const [seq, chunk] of early) take(seq, chunk)
        early = []
      }
    }
  }

  const open = async () => {
    const { result, connection, ready } = await attempt(null)
    if (result === undefined) return
    Object.assign(one, { id: result.sessionId, connection, lastSeq: 0, text: "", next: 1 })
    ready()
    stats.sessions++
    const params = {
      processId: "p",
      // The mark tells whose process it is.
      argv: [...counting(0.1), mark],
      cwd: "/tmp",
      env: { PATH: process.env.PATH },
      tty: false
    }
    await answered(connection.call("process/start", params), `process/start of client ${number}`)
  }

  const resume = async () => {
    const answer = await attempt(one.id)
    if (answer.error?.code === -32600) {
      const no = Number(one.id.split(".")[0])
      const name = names.get(no)
      stats.lost++
      // A host may be lost for what was done to it, or to all gateways at once.
      if (!hadFault(name, 40_000)) fail(`client ${number} lost its session on ${name}: ${answer.error.message}`)
      one.id = undefined
      return
    }
    if (answer.result === undefined) return
    stats.resumed++
    const { connection, ready } = answer
    one.connection = connection
    for (;;) {
      const read = { processId: "p", afterSeq: one.lastSeq === 0 ? null : one.lastSeq, maxBytes: 1_000_000, waitMs: 0 }
      const { result, error } = await answered(
        connection.call("process/read", read),
        `process/read of client ${number}`
      )
      if (error !== undefined) {
        // Its client was cut off before it was started.
        if (one.next === 1 && /unknown process/.test(error.message)) one.id = undefined
        else fail(`client ${number} cannot read: ${error.message}`)
        break
      }
      for (const { seq, chunk } of result.chunks) take(seq, chunk)
      if (result.chunks.length === 0) break
    }
    // What was on its way to a gateway that was frozen may still come; what was made since must not.
    for (const connection of old) {
      // Those of a session that was lost count by other numbers.
      if (connection.sessionId === one.id) connection.endSeq = Math.min(connection.endSeq, one.lastSeq)
    }
    ready()
  }

  one.cut = () => {
    one.connection?.ws.terminate()
  }

  /** Serves until the end: resumes whenever the connection is lost. */
  one.run = async () => {
    let lostAt
    while (!isOver || one.id === undefined || one.connection?.ending() !== undefined) {
      if (isOver && Date.now() > isOver + 60_000) return fail(`client ${number} is not served in the end`)
      if (one.id !== undefined && one.connection?.ending() === undefined) {
        lostAt = undefined
        await sleep(100)
        continue
      }
      if (one.connection !== undefined && !old.includes(one.connection)) old.push(one.connection)
      old = old.filter(({ ws }) => ws.readyState === WebSocket.OPEN)
      const isResumption = one.id !== undefined
      if (isResumption) lostAt ??= Date.now()
      await (isResumption ? resume() : open()).catch(() => {})
      const tookMs = lostAt === undefined ? 0 : Date.now() - lostAt
      const isServed = one.id === undefined || one.connection?.ending() === undefined
      if (isServed && isResumption) lostAt = undefined
      if (tookMs > 15_000 && !hadFault("database", tookMs + 20_000)) {
        stats.late++
        fail(`client ${number} was neither served nor told within ${tookMs} ms`)
        lostAt = undefined
      }
      if (!isServed) await sleep(100)
    }
  }
  one.close = () => {
    for (const connection of [...old, one.connection]) connection?.ws.terminate()
  }
  return one
}

const clients = Array.from({ length: count }, (_, index) => makeClient(index))
const runs = clients.map((client) => client.run())
await until("all clients count", () => clients.every(({ next }) => next > 3))
// The gateways' own leases must have held for a lease before anybody can be lost.
await sleep(leaseMs)

const endAt = Date.now() + minutes * 60_000
await Promise.all(
  groups.map(async (act, index) => {
    while (Date.now() < endAt) {
      await sleep(between(0.3, 1.7) * pauses[index])
      if (Date.now() < endAt) await act().catch((error) => fail(`the nemesis itself: ${error.message}`))
    }
  })
)

// The end: everything is up, and must agree.

console.log(`${at()} no more faults`)
await sleep(leaseMs)
isOver = Date.now()
await Promise.all(runs)
const counted = clients.map(({ next }) => next)
await until("all clients count on", () => clients.every(({ next }, index) => next > counted[index] + 3))

const live = clients.map(({ id }) => id.split("."))
const byHost = Array.from(names.keys()).map((number) => live.filter(([no]) => Number(no) === number).length)
const agree = async () => {
  const used = await database.query("select no, used from fleet_host")
  const attached = await database.query(
    "select host, inner_id from fleet_session where state = 'attached' order by inner_id"
  )
  const quota = await database.query("select coalesce(sum(used), 0)::int as n from fleet_quota")
  const open = await database.query(
    "select count(*)::int as n from fleet_session where state in ('placing', 'attached', 'detached')"
  )
  return {
    used: Array.from(names.keys()).map((no) => used.find((row) => row.no === no)?.used ?? 0),
    attached: attached.map(({ inner_id: inner }) => inner),
    quota: quota[0].n,
    open: open[0].n
  }
}
const inner = live.map(([, , id]) => id).sort()
let rows
const isRight = async () => {
  rows = await agree()
  // Sessions whose clients were cut off before they knew of them may still wait for these: rows and places agree.
  return (
    rows.used.reduce((sum, n) => sum + n, 0) === rows.open &&
    rows.quota === rows.open &&
    rows.used.every((n, index) => n >= byHost[index]) &&
    inner.every((id) => rows.attached.includes(id)) &&
    rows.attached.length === inner.length
  )
}
await until("the rows agree with the truth", isRight, 30_000).catch(() =>
  fail(`the rows do not agree: ${JSON.stringify({ ...rows, attached: rows.attached.length })}, sessions ${byHost}`)
)
const programs = () =>
  readdirSync("/proc").filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(`\0nemesis-${process.pid}-`)
    } catch {
      return false
    }
  }).length
await until("no process of a lost session is left", () => programs() === count, 20_000).catch(() =>
  fail(`${programs()} processes are left of ${count} sessions`)
)
for (const { log, url } of gateways) {
  for (const line of log.split("\n")) if (/level=(ERROR|FATAL)/.test(line)) fail(`${url} logged: ${line}`)
}

for (const client of clients) client.close()
for (const one of [...hosts, ...gateways]) one.kill("SIGTERM")
await Promise.race([Promise.all([...hosts, ...gateways].map(({ gone }) => gone())), sleep(10_000)])
for (const one of [...hosts, ...gateways]) one.kill("SIGKILL")
for (const { close } of throughs) close()
database.close()
console.log(`${at()} ${JSON.stringify({ ...stats, faults: faults.length, failures: failures.length })}`)
process.exit(failures.length === 0 ? 0 : 1)
