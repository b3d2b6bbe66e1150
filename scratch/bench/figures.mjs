// What is measured. A group gives one or more figures of one server, each a number, or undefined where it cannot.
import { performance } from "node:perf_hooks"
import { Client, withClient } from "./client.mjs"
import * as Servers from "./servers.mjs"

/** The value below which the given share of all values lies. */
export const quantile = (values, share) => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
}

/** Durations, in milliseconds, of one thing after another; the first ones only warm up. */
const durations = async (count, f) => {
  const warmUp = Math.ceil(count / 10)
  const taken = []
  for (let i = 0; i < warmUp + count; i++) {
    const startedAt = performance.now()
    const endedAt = (await f(i)) ?? performance.now()
    if (i >= warmUp) taken.push(endedAt - startedAt)
  }
  return taken
}

const perSecond = (count, startedAt) => (count * 1000) / (performance.now() - startedAt)

/** Processor time since `before`, in the given part of a second per unit. */
const cpuPer = (server, before, units, scale) =>
  before === undefined ? undefined : ((Servers.cpuSeconds(server) - before) * scale) / units

/** A request that does nothing; older servers lack the first one, and any answer will do. */
const cheapest = async (client) => {
  const { error } = await client.call("environment/status")
  return error?.code === -32601 ? ["process/read", { processId: "none" }] : ["environment/status"]
}

const withServer = async (spec, f) => {
  const server = await Servers.start(spec)
  try {
    return await f(server)
  } finally {
    await Servers.stop(server)
  }
}

/** Memory is measured on new servers: an old one's heap has room for what is to be measured. */
const memory = async (_, size, spec) => {
  if (spec.url !== undefined) return {}
  const connections = await withServer(spec, async (server) => {
    const idle = await Servers.residentKb(server)
    const clients = []
    try {
      for (let i = 0; i < size.connections; i++) clients.push(await Client.connect(server.url))
      const perConnection = ((await Servers.residentKb(server)) - idle) / clients.length
      return { startup: server.startupMs, "rss-idle": idle / 1024, "rss-connection": perConnection }
    } finally {
      for (const client of clients) client.close()
    }
  })
  const perProcess = await withServer(spec, (server) =>
    withClient(server.url, "idle processes", async (client) => {
      // The first one brings what all share.
      await client.run(["/bin/true"])
      const idle = await Servers.residentKb(server)
      const sleepers = Array.from({ length: size.processes }, () => client.start(["/bin/sleep", "120"]))
      for (const { started } of sleepers) await started
      const resident = await Servers.residentKb(server)
      for (const sleeper of sleepers) await client.terminate(sleeper)
      return (resident - idle) / sleepers.length
    })
  )
  return { ...connections, "rss-process": perProcess }
}

const status = ({ url }, size) =>
  withClient(url, "status", async (client) => {
    const [method, params] = await cheapest(client)
    const taken = await durations(size.roundTrips, () => client.call(method, params).then(() => undefined))
    return { "status-p50": quantile(taken, 0.5) * 1000, "status-p99": quantile(taken, 0.99) * 1000 }
  })

const requests = (server, size) =>
  withClient(server.url, "requests", async (client) => {
    const [method, params] = await cheapest(client)
    await client.pump(size.requests / 10, 64, method, params)
    const cpu = Servers.cpuSeconds(server)
    const startedAt = performance.now()
    await client.pump(size.requests, 64, method, params)
    const rate = perSecond(size.requests, startedAt)
    return { requests: rate, "requests-cpu": cpuPer(server, cpu, size.requests, 1e6) }
  })

const startToClosed =
  (tty) =>
  async ({ url }, size) => {
    const f = (client) => durations(size.starts, () => client.run(["/bin/true"], { tty }))
    const taken = await withClient(url, "start to closed", f)
    return { [tty ? "start-tty" : "start-pipe"]: quantile(taken, 0.5) }
  }

const starts = ({ url }, size) =>
  withClient(url, "starts", async (client) => {
    let left = size.manyStarts
    const worker = async () => {
      while (left-- > 0) await client.run(["/bin/true"])
    }
    const startedAt = performance.now()
    await Promise.all(Array.from({ length: 8 }, worker))
    return { starts: perSecond(size.manyStarts, startedAt) }
  })

/** Output in full, and a way to wait until there is a given number of bytes of it. */
const collect = (client) => {
  const chunks = []
  let length = 0
  let wanted
  client.onChunk = (bytes, take) => {
    chunks.push(take())
    length += bytes
    if (length >= wanted?.length) wanted.resolve(performance.now())
  }
  return {
    until: (total) =>
      length >= total ? performance.now() : new Promise((resolve) => (wanted = { length: total, resolve })),
    text: () => Buffer.concat(chunks).toString("latin1")
  }
}

const echo =
  (tty) =>
  ({ url }, size) =>
    withClient(url, tty ? "pty echo" : "pipe echo", async (client) => {
      const output = collect(client)
      const argv = tty ? ["/bin/sh", "-c", "stty raw -echo; echo ready; exec cat"] : ["/bin/cat"]
      const cat = client.start(argv, tty ? { tty } : { pipeStdin: true })
      await cat.started
      let expected = tty ? "ready\n" : ""
      await output.until(expected.length)
      const taken = await durations(size.echoes, async (i) => {
        const text = `${i} was said\n`
        expected += text
        const echoed = output.until(expected.length)
        const chunk = Buffer.from(text).toString("base64")
        const { processId } = cat
        const written = client.request("process/write", { processId, chunk, writeId: `${processId}-${i}` })
        const at = await echoed
        const answer = await written
        if (answer.status !== "accepted") throw new Error(`a write was ${answer.status}`)
        return at
      })
      if (output.text() !== expected) throw new Error("what came back is not what was sent")
      await client.terminate(cat)
      return { [tty ? "echo-pty" : "echo-pipe"]: quantile(taken, 0.5) * 1000 }
    })

/** The clock stops at the last byte; that it was the last one is known when the process is closed. */
const throughput = (tty) => (server, size) =>
  withClient(server.url, tty ? "pty output" : "pipe output", async (client) => {
    const expected = tty ? size.ptyBytes : size.pipeBytes
    const head = `head -c ${expected} /dev/zero`
    let received = 0
    let endedAt = 0
    client.onChunk = (length) => {
      received += length
      if (received === expected) endedAt = performance.now()
    }
    const cpu = Servers.cpuSeconds(server)
    const startedAt = performance.now()
    await client.run(tty ? ["/bin/sh", "-c", `stty raw; ${head}`] : head.split(" "), { tty })
    if (received !== expected) throw new Error(`${received} bytes of ${expected} arrived`)
    const name = tty ? "pty" : "pipe"
    const rate = expected / 1000 / (endedAt - startedAt)
    return { [`${name}-rate`]: rate, [`${name}-cpu`]: cpuPer(server, cpu, expected / 1e9, 1) }
  })

/** Every group, in the order it runs, with the figures it gives. */
export const groups = [
  { run: memory, gives: ["startup", "rss-idle", "rss-connection", "rss-process"] },
  { run: status, gives: ["status-p50", "status-p99"] },
  { run: requests, gives: ["requests", "requests-cpu"] },
  { run: startToClosed(false), gives: ["start-pipe"] },
  { run: startToClosed(true), gives: ["start-tty"] },
  { run: starts, gives: ["starts"] },
  { run: echo(false), gives: ["echo-pipe"] },
  { run: echo(true), gives: ["echo-pty"] },
  { run: throughput(false), gives: ["pipe-rate", "pipe-cpu"] },
  { run: throughput(true), gives: ["pty-rate", "pty-cpu"] }
]

/** Name, what it is, unit, and whether more or less of it is better. */
export const figures = [
  ["startup", "spawn to address line", "ms", "less"],
  ["rss-idle", "memory when idle", "MB", "less"],
  ["rss-connection", "memory per idle connection", "kB", "less"],
  ["rss-process", "memory per idle process", "kB", "less"],
  ["status-p50", "status round trip, p50", "us", "less"],
  ["status-p99", "status round trip, p99", "us", "less"],
  ["requests", "requests, 64 in flight", "/s", "more"],
  ["requests-cpu", "server CPU per request", "us", "less"],
  ["start-pipe", "start to closed, pipes, p50", "ms", "less"],
  ["start-tty", "start to closed, tty, p50", "ms", "less"],
  ["starts", "starts, 8 in flight", "/s", "more"],
  ["echo-pipe", "echo round trip, pipe, p50", "us", "less"],
  ["echo-pty", "echo round trip, pty, p50", "us", "less"],
  ["pipe-rate", "pipe output", "MB/s", "more"],
  ["pipe-cpu", "server CPU per GB, pipe", "s", "less"],
  ["pty-rate", "pty output", "MB/s", "more"],
  ["pty-cpu", "server CPU per GB, pty", "s", "less"]
].map(([name, what, unit, better]) => ({ name, what, unit, better }))
