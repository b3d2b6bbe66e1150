// What is measured. A group gives one or more figures of one server, each a number, or none where it cannot.
import { Client, withClient } from "./client.mjs"
import * as Servers from "./servers.mjs"

/** The value below which the given share of all values lies. */
export const quantile = (values, share) => values.toSorted((a, b) => a - b)[Math.floor(values.length * share)]

/** Durations, in milliseconds, of one thing after another; the first ones only warm up. */
const durations = async (count, f) => {
  const taken = []
  for (let i = 0; i < count * 1.1; i++) {
    const startedAt = performance.now()
    const endedAt = await f(i)
    taken.push(endedAt - startedAt)
  }
  return taken.slice(-count)
}

/** Does something `count` times, some of them at a time; the rate per second. */
const rate = async (count, inFlight, f) => {
  let left = count
  const worker = async () => {
    while (left-- > 0) await f()
  }
  const startedAt = performance.now()
  await Promise.all(Array.from({ length: inFlight }, worker))
  return (count * 1000) / (performance.now() - startedAt)
}

/** A function that gives the processor time used since now, if that can be known. */
const cpuClock = (server) => {
  const before = Servers.cpuSeconds(server)
  return () => (before === undefined ? undefined : Servers.cpuSeconds(server) - before)
}

/** A request that does nothing; older servers lack the first one, and any answer will do. */
const cheapest = async (client) => {
  const { error } = await client.call("environment/status")
  return error?.code === -32601 ? ["process/read", { processId: "none" }] : ["environment/status"]
}

/** Memory is measured on new servers: the heap of one that was busy has room for what is to be measured. */
const onNewServer = async (spec, f) => {
  const server = await Servers.start(spec)
  try {
    return await f(server)
  } finally {
    await Servers.stop(server)
  }
}

const connections = (count) => async (server) => {
  const idle = await Servers.residentKb(server)
  const clients = []
  try {
    for (let i = 0; i < count; i++) clients.push(await Client.connect(server.url))
    const perConnection = ((await Servers.residentKb(server)) - idle) / count
    return { startup: server.startupMs, "rss-idle": idle / 1024, "rss-connection": perConnection }
  } finally {
    for (const client of clients) client.close()
  }
}

const processes = (count) => (server) =>
  withClient(server.url, "idle processes", async (client) => {
    // The first process brings what all share.
    await client.run(["/bin/true"])
    const idle = await Servers.residentKb(server)
    const sleepers = Array.from({ length: count }, () => client.start(["/bin/sleep", "120"]))
    for (const { started } of sleepers) await started
    const resident = await Servers.residentKb(server)
    for (const sleeper of sleepers) await client.terminate(sleeper)
    return { "rss-process": (resident - idle) / count }
  })

const memory = async (_, size, spec) => {
  if (spec.url !== undefined) return {}
  const first = await onNewServer(spec, connections(size.connections))
  return { ...first, ...(await onNewServer(spec, processes(size.processes))) }
}

const status = ({ url }, size) =>
  withClient(url, "status", async (client) => {
    const request = await cheapest(client)
    const taken = await durations(size.roundTrips, () => client.call(...request).then(() => performance.now()))
    return { "status-p50": quantile(taken, 0.5) * 1000, "status-p99": quantile(taken, 0.99) * 1000 }
  })

const requests = (server, size) =>
  withClient(server.url, "requests", async (client) => {
    const request = await cheapest(client)
    const burst = (count) => rate(count, 64, () => client.call(...request))
    await burst(size.requests / 10)
    const cpu = cpuClock(server)
    return { requests: await burst(size.requests), "requests-cpu": (cpu() * 1e6) / size.requests }
  })

const startToClosed = (tty, { url }, size) =>
  withClient(url, "start to closed", async (client) => {
    const run = () => client.run(["/bin/true"], { tty }).then(() => performance.now())
    return { [tty ? "start-tty" : "start-pipe"]: quantile(await durations(size.starts, run), 0.5) }
  })

const starts = ({ url }, size) =>
  withClient(url, "starts", async (client) => ({
    starts: await rate(size.manyStarts, 8, () => client.run(["/bin/true"]))
  }))

/** Output in full, and when there is a given number of bytes of it. */
const collect = (client) => {
  const chunks = []
  let length = 0
  let check = () => {}
  client.onChunk = (bytes, take) => {
    length += bytes
    check()
    chunks.push(take())
  }
  const until = (total) =>
    new Promise((resolve) => {
      check = () => length >= total && resolve(performance.now())
      check()
    })
  return { until, text: () => Buffer.concat(chunks).toString() }
}

const echo = (tty, { url }, size) =>
  withClient(url, "echo", async (client) => {
    const output = collect(client)
    const argv = tty ? ["/bin/sh", "-c", "stty raw -echo; echo ready; exec cat"] : ["/bin/cat"]
    const cat = client.start(argv, { tty, pipeStdin: !tty })
    await cat.started
    let expected = tty ? "ready\n" : ""
    await output.until(expected.length)
    const taken = await durations(size.echoes, async (i) => {
      const text = `line ${i}\n`
      expected += text
      const echoed = output.until(expected.length)
      const write = { processId: cat.processId, chunk: btoa(text), writeId: `${cat.processId}-${i}` }
      const { status } = await client.request("process/write", write)
      if (status !== "accepted") throw new Error(`a write was ${status}`)
      return echoed
    })
    if (output.text() !== expected) throw new Error("what came back is not what was sent")
    await client.terminate(cat)
    return { [tty ? "echo-pty" : "echo-pipe"]: quantile(taken, 0.5) * 1000 }
  })

/** The clock stops at the last byte; that it was the last one is known when the process is closed. */
const throughput = (tty, server, size) =>
  withClient(server.url, "output", async (client) => {
    const name = tty ? "pty" : "pipe"
    const expected = size[`${name}Bytes`]
    let received = 0
    let endedAt = 0
    client.onChunk = (length) => {
      received += length
      endedAt = performance.now()
    }
    const head = `head -c ${expected} /dev/zero`
    const cpu = cpuClock(server)
    const startedAt = performance.now()
    await client.run(tty ? ["/bin/sh", "-c", `stty raw; ${head}`] : head.split(" "), { tty })
    if (received !== expected) throw new Error(`${name} output: ${received} bytes of ${expected} arrived`)
    return { [`${name}-rate`]: expected / 1000 / (endedAt - startedAt), [`${name}-cpu`]: (cpu() * 1e9) / expected }
  })

/** Every group, in the order it runs, with its figures: name, what it is, unit, whether more or less is better. */
export const groups = [
  {
    run: memory,
    figures: [
      ["startup", "spawn to address line", "ms", "less"],
      ["rss-idle", "memory when idle", "MB", "less"],
      ["rss-connection", "memory per idle connection", "kB", "less"],
      ["rss-process", "memory per idle process", "kB", "less"]
    ]
  },
  {
    run: status,
    figures: [
      ["status-p50", "status round trip, p50", "us", "less"],
      ["status-p99", "status round trip, p99", "us", "less"]
    ]
  },
  {
    run: requests,
    figures: [
      ["requests", "requests, 64 in flight", "/s", "more"],
      ["requests-cpu", "server CPU per request", "us", "less"]
    ]
  },
  { run: startToClosed.bind(null, false), figures: [["start-pipe", "start to closed, pipes, p50", "ms", "less"]] },
  { run: startToClosed.bind(null, true), figures: [["start-tty", "start to closed, tty, p50", "ms", "less"]] },
  { run: starts, figures: [["starts", "starts, 8 in flight", "/s", "more"]] },
  { run: echo.bind(null, false), figures: [["echo-pipe", "echo round trip, pipe, p50", "us", "less"]] },
  { run: echo.bind(null, true), figures: [["echo-pty", "echo round trip, pty, p50", "us", "less"]] },
  {
    run: throughput.bind(null, false),
    figures: [
      ["pipe-rate", "pipe output", "MB/s", "more"],
      ["pipe-cpu", "server CPU per GB, pipe", "s", "less"]
    ]
  },
  {
    run: throughput.bind(null, true),
    figures: [
      ["pty-rate", "pty output", "MB/s", "more"],
      ["pty-cpu", "server CPU per GB, pty", "s", "less"]
    ]
  }
]
