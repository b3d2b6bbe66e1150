// What a fleet costs beside a server that is connected to directly, and what its faults cost: medians of three rounds, with
// two gateways, three hosts, PostgreSQL that writes to the disk, and 60 sessions on this machine.
//
// node scratch/fleet.mjs [--rounds N] [--only speed|faults|freeze]
import { spawn } from "node:child_process"
import { setTimeout as sleep } from "node:timers/promises"
import { parseArgs } from "node:util"
import { WebSocket } from "ws"
import { open, withClients } from "./bench/client.mjs"
import { binary, connect, counting, gateway, host, postgres, until } from "./fleet/machines.mjs"

const { values } = parseArgs({ options: { rounds: { type: "string", default: "3" }, only: { type: "string" } } })
const rounds = Number(values.rounds)
const leaseMs = 15_000
const megabytes = 400
/** The silence after which a client gives its connection up. */
const silenceMs = 3500

const quantile = (list, share) => list.toSorted((a, b) => a - b)[Math.floor(list.length * share)]
const median = (list) => quantile(list, 0.5)
const figures = new Map()
const add = (what, value) => {
  figures.set(what, [...(figures.get(what) ?? []), value])
}

const database = await postgres(true)
const gateways = [await gateway(database.url), await gateway(database.url)]
const urls = gateways.map(({ url }) => url)
const hosts = []
for (const id of ["h1", "h2", "h3"]) hosts.push(await host(id, urls, ["--capacity", "40"]))

// A server that is connected to directly.
const direct = spawn(process.execPath, [binary, "--listen", "ws://127.0.0.1:0"], { stdio: ["ignore", "pipe", "pipe"] })
let said = ""
for (const stream of [direct.stdout, direct.stderr]) {
  stream.on("data", (text) => {
    said += text
  })
}
await until("the server listens", () => /ws:\/\/127\.0\.0\.1:\d+/.test(said))
const [directUrl] = /ws:\/\/127\.0\.0\.1:\d+/.exec(said)

// ---- speed: the two in turn

const roundTrip = (url) =>
  withClients(1, url, "requests", async (client) => {
    const taken = []
    for (let i = 0; i < 4000; i++) {
      const from = performance.now()
      await client.call("environment/status")
      if (i >= 2000) taken.push(performance.now() - from)
    }
    return quantile(taken, 0.5) * 1000
  })

const opening = async (url) => {
  const taken = []
  for (let i = 0; i < 60; i++) {
    const from = performance.now()
    const client = await open(url)
    if (i >= 20) taken.push(performance.now() - from)
    client.close()
    // Its place is free again.
    await sleep(5)
  }
  return [quantile(taken, 0.5), quantile(taken, 0.95)]
}

const output = (url, isBinary) =>
  withClients(
    1,
    url,
    "output",
    async (client) => {
      let bytes = 0
      let from
      client.onChunk = (length) => {
        bytes += length
        // The first part is warm-up.
        if (from === undefined && bytes > megabytes * 250_000) from = [performance.now(), bytes]
      }
      await client.run(["head", "-c", `${megabytes}M`, "/dev/zero"])
      return (bytes - from[1]) / 1000 / (performance.now() - from[0])
    },
    { binary: isBinary }
  )

const speed = async () => {
  for (let round = 0; round < rounds; round++) {
    for (const [name, url] of [
      ["direct", directUrl],
      ["gateway", urls[round % 2]]
    ]) {
      add(`small request, p50, ${name} (us)`, await roundTrip(url))
      const [p50, p95] = await opening(url)
      add(`connect and initialize, p50, ${name} (ms)`, p50)
      add(`connect and initialize, p95, ${name} (ms)`, p95)
      add(`output, text, ${name} (MB/s)`, await output(url, false))
      add(`output, binary, ${name} (MB/s)`, await output(url, true))
    }
  }
}

// ---- faults

let gaps = 0
let doubles = 0

/** Counts lines, and resumes wherever it can as soon as its connection ends. */
const makeClient = async (index) => {
  const one = { next: 1, lastSeq: 0, text: "", turn: index, servedAt: 0, isLost: false }
  const take = (seq, chunk) => {
    if (seq <= one.lastSeq) return
    if (seq !== one.lastSeq + 1) gaps++
    one.lastSeq = seq
    one.text += Buffer.from(chunk, "base64").toString()
    const lines = one.text.split("\n")
    one.text = lines.pop()
    for (const line of lines) {
      if (Number(line) > one.next) gaps++
      if (Number(line) < one.next) doubles++
      one.next = Number(line) + 1
    }
  }
  const attempt = async (resumeSessionId) => {
    // As a balancer that knows which gateway does not answer.
    const gateway = one.silent === undefined ? one.turn++ % urls.length : 1 - one.silent
    let held = []
    let connection
    connection = await connect(urls[gateway], WebSocket, {
      onOutput: ({ seq, chunk }) => (held === undefined ? take(seq, chunk) : held.push([seq, chunk])),
      onEnd: () => {
        if (connection !== undefined && one.connection === connection && !one.isOver) resume().catch(() => {})
      }
    })
    const look = setInterval(() => {
      if (connection.ws.readyState === WebSocket.OPEN) connection.ws.ping()
      // Kept open: it must serve nothing more.
      if (!one.isWatched || one.connection !== connection || connection.silentMs() <= silenceMs) return
      one.silent = gateway
      connection.abandon("silent")
    }, 500)
    connection.ws.once("close", () => clearInterval(look))
    const answer = await connection.call("initialize", { clientName: "measure", resumeSessionId })
    if (answer.error !== undefined) {
      connection.ws.terminate()
      return { error: answer.error }
    }
    connection.notify("initialized")
    one.gateway = gateway
    one.connection = connection
    const go = () => {
      for (const [seq, chunk] of held) take(seq, chunk)
      held = undefined
    }
    return { result: answer.result, go }
  }
  const resume = async () => {
    one.connection = undefined
    while (one.connection === undefined) {
      const { error, go } = await attempt(one.id).catch((failure) => ({ failure }))
      if (error?.code === -32600) {
        one.isLost = true
        one.servedAt = performance.now()
        return
      }
      if (go === undefined) {
        await sleep(20)
        continue
      }
      for (;;) {
        const read = {
          processId: "p",
          afterSeq: one.lastSeq === 0 ? null : one.lastSeq,
          maxBytes: 1_000_000,
          waitMs: 0
        }
        const { result } = await one.connection.call("process/read", read)
        for (const { seq, chunk } of result.chunks) take(seq, chunk)
        if (result.chunks.length === 0) break
      }
      go()
      one.servedAt = performance.now()
    }
  }
  one.begin = async () => {
    const { result, error, go } = await attempt(null)
    if (result === undefined) throw new Error(error.message)
    Object.assign(one, { id: result.sessionId, next: 1, lastSeq: 0, text: "", isLost: false })
    go()
    await one.connection.call("process/start", {
      processId: "p",
      argv: counting(0.2),
      cwd: "/tmp",
      env: { PATH: process.env.PATH },
      tty: false
    })
  }
  await one.begin()
  one.isWatched = true
  return one
}

const faults = async () => {
  const clients = []
  for (let i = 0; i < 60; i++) clients.push(await makeClient(i))
  const perHost = await database.query("select used from fleet_host order by id")
  console.log(`placed: ${perHost.map(({ used }) => used).join(" / ")}`)
  const allCount = async () => {
    const counted = clients.map(({ next }) => next)
    await until("all count", () => clients.every(({ next }, index) => next > counted[index] + 2))
  }
  await sleep(leaseMs)
  for (let round = 0; round < rounds && values.only !== "freeze"; round++) {
    await allCount()
    const at = round % 2
    const victims = clients.filter(({ gateway }) => gateway === at)
    const from = performance.now()
    gateways[at].kill("SIGKILL")
    await until("its clients are served", () => victims.every(({ servedAt }) => servedAt > from))
    const taken = victims.map(({ servedAt }) => servedAt - from)
    add("gateway killed: half of its clients are served again after (ms)", median(taken))
    add("gateway killed: all of its clients are served again after (ms)", Math.max(...taken))
    await gateways[at].start()
    await sleep(2000)
  }
  for (let round = 0; round < rounds; round++) {
    await allCount()
    const at = round % 2
    const victims = clients.filter(({ gateway }) => gateway === at)
    const from = performance.now()
    gateways[at].kill("SIGSTOP")
    await until("its clients are served", () => victims.every(({ servedAt }) => servedAt > from))
    const taken = victims.map(({ servedAt }) => servedAt - from)
    add("gateway frozen for 40 s: half of its clients are served again after (ms)", median(taken))
    add("gateway frozen for 40 s: all of its clients are served again after (ms)", Math.max(...taken))
    await sleep(Math.max(0, 40_000 - (performance.now() - from)))
    const rows = () =>
      database.query("select key, host, epoch, inner_id, gateway, attach, state from fleet_session order by key")
    const before = JSON.stringify(await rows())
    gateways[at].kill("SIGCONT")
    for (const client of clients) client.silent = undefined
    for (let second = 0; second < 10; second++) {
      await sleep(1000)
      if (JSON.stringify(await rows()) !== before) throw new Error("rows have moved after the gateway was frozen")
    }
    await allCount()
    add("gateway frozen for 40 s: sessions lost", clients.filter(({ isLost }) => isLost).length)
  }
  await sleep(values.only === "freeze" ? 0 : leaseMs)
  for (let round = 0; round < rounds && values.only !== "freeze"; round++) {
    const from = performance.now()
    database.stop()
    const some = clients.filter((_, index) => index % 6 === round)
    for (const { connection } of some) connection.ws.terminate()
    await until("those that were cut are served", () => some.every(({ servedAt }) => servedAt > from))
    add(
      "PostgreSQL away: clients that were cut are served again after (ms)",
      Math.max(...some.map((c) => c.servedAt - from))
    )
    await sleep(Math.max(0, 20_000 - (performance.now() - from)))
    database.start()
    await allCount()
    await sleep(2000)
    add("PostgreSQL away for 20 s: sessions lost", clients.filter(({ isLost }) => isLost).length)
  }
  await sleep(values.only === "freeze" ? 0 : leaseMs + 2000)
  for (let round = 0; round < Math.min(rounds, 2) && values.only !== "freeze"; round++) {
    const numbers = await database.query("select no, id from fleet_host")
    const { no } = numbers.find(({ id }) => id === hosts[round].id)
    const victims = clients.filter(({ id }) => Number(id.split(".")[0]) === no)
    const from = performance.now()
    hosts[round].kill("SIGKILL")
    await until("they are told", () => victims.every(({ isLost }) => isLost), 60_000)
    add("host killed: its clients are told after (s)", Math.max(...victims.map((c) => c.servedAt - from)) / 1000)
    const others = clients.filter((client) => !victims.includes(client))
    add("host killed: sessions of other hosts lost", others.filter(({ isLost }) => isLost).length)
    await hosts[round].start()
    await sleep(leaseMs / 5)
    await Promise.all(victims.map((client) => client.begin()))
  }
  add("lines missing", gaps)
  add("lines doubled", doubles)
  for (const client of clients) {
    client.isOver = true
    client.connection?.ws.terminate()
  }
}

try {
  if (values.only === undefined || values.only === "speed") await speed()
  if (values.only !== "speed") await faults()
} finally {
  for (const [what, list] of figures) {
    const shown = list.map((value) => (value < 10 && value % 1 !== 0 ? value.toFixed(2) : Math.round(value)))
    console.log(`${what}: ${shown[list.indexOf(median(list))]}  (${shown.join(", ")})`)
  }
  for (const one of [...hosts, ...gateways]) one.kill("SIGTERM")
  direct.kill("SIGTERM")
  await Promise.race([Promise.all([...hosts, ...gateways].map(({ gone }) => gone())), sleep(8000)])
  for (const one of [...hosts, ...gateways]) one.kill("SIGKILL")
  database.close()
}
process.exit(0)
