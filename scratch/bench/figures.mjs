// The measurements. Each function returns figures of one server as numbers, and leaves out those it cannot measure.
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { NoBinaryOutput, open, withClients, within } from "./client.mjs"
import * as Output from "./output.mjs"
import * as Servers from "./servers.mjs"

/** The value below which the given share of all values lies. */
export const quantile = (values, share) => values.toSorted((a, b) => a - b)[Math.floor(values.length * share)]

/** How many processes print at once. */
const printers = 16

/** Slow servers are measured with fewer repetitions. */
const patienceMs = 20_000

/**
 * Measures durations of consecutive calls, in milliseconds; each call returns its end. The first half is warm-up:
 * compiling takes some milliseconds now and then, which would determine the p99.
 */
const durations = async (count, f) => {
  const taken = []
  const deadline = performance.now() + patienceMs
  while (taken.length < count * 2 && performance.now() < deadline) {
    const startedAt = performance.now()
    taken.push((await f(taken.length)) - startedAt)
  }
  return taken.slice(-Math.ceil(taken.length / 2))
}

/** Makes `count` calls, `inFlight` at a time; returns the rate per second. */
const rate = async (count, inFlight, f) => {
  let left = count
  const worker = async () => {
    while (left-- > 0) await f()
  }
  const startedAt = performance.now()
  await Promise.all(Array.from({ length: inFlight }, worker))
  return (count * 1000) / (performance.now() - startedAt)
}

/** Returns a function that returns the processor time used since now; NaN if that is unknown. */
const cpuClock = (server) => {
  const before = Servers.cpuSeconds(server)
  return () => Servers.cpuSeconds(server) - before
}

/** A request that does nothing. Older servers lack the first one; any answer will do. */
const cheapest = async (client) => {
  const { error } = await client.call("environment/status")
  return error?.code === -32601 ? ["process/read", { processId: "none" }] : ["environment/status"]
}

/** Memory is measured on new servers: a used heap has free room, which would hide the growth. */
const onNewServer = async (spec, f) => {
  if (spec.url !== undefined) return {}
  const server = await Servers.start(spec)
  try {
    return await f(server)
  } finally {
    await Servers.stop(server)
  }
}

const startup = (_, { connections }, spec) =>
  onNewServer(spec, async (server) => {
    const idle = await Servers.residentKb(server)
    const full = await withClients(connections, server.url, "idle connections", () => Servers.residentKb(server))
    return { startup: server.startupMs, "rss-idle": idle / 1024, "rss-connection": (full - idle) / connections }
  })

const idleProcesses = (_, { processes }, spec) =>
  onNewServer(spec, (server) =>
    withClients(1, server.url, "idle processes", async (client) => {
      // The first processes pay for shared memory, such as room for garbage. Among few it would dominate the figure.
      for (let i = 0; i < processes / 8; i++) await client.run(["/bin/true"])
      const idle = await Servers.residentKb(server)
      const sleepers = await Promise.all(Array.from({ length: processes }, () => client.start(["/bin/sleep", "120"])))
      const full = await Servers.residentKb(server)
      for (const sleeper of sleepers) await client.terminate(sleeper)
      return { "rss-process": (full - idle) / processes }
    })
  )

const status = ({ url }, { roundTrips }) =>
  withClients(1, url, "status", async (client) => {
    const request = await cheapest(client)
    const taken = await durations(roundTrips, () => client.call(...request).then(() => performance.now()))
    return { "status-p50": quantile(taken, 0.5) * 1000, "status-p99": quantile(taken, 0.99) * 1000 }
  })

const manyRequests = (server, { requests }) =>
  withClients(1, server.url, "requests", async (client) => {
    const request = await cheapest(client)
    const burst = (count) => rate(count, 64, () => client.call(...request))
    await burst(requests / 2)
    const cpu = cpuClock(server)
    return { requests: await burst(requests), "requests-cpu": (cpu() * 1e6) / requests }
  })

/** Like `manyRequests`, but each answer triggers the next request, which has a segment of its own. */
const loneRequests = (server, { requests }) =>
  withClients(
    1,
    server.url,
    "lone requests",
    async (client) => {
      const request = await cheapest(client)
      const burst = (count) => rate(count, 64, () => client.call(...request))
      await burst(requests / 2)
      const cpu = cpuClock(server)
      return { lone: await burst(requests), "lone-cpu": (cpu() * 1e6) / requests }
    },
    { alone: true }
  )

/** Connections one after another, from the first packet to the answer of `initialize`. */
const connect = (server, { connects }) => {
  const measure = async () => {
    const once = async () => {
      const client = await open(server.url)
      const endedAt = performance.now()
      client.close()
      return endedAt
    }
    const cpu = cpuClock(server)
    const taken = await durations(connects, once)
    return { connect: quantile(taken, 0.5), "connect-cpu": (cpu() * 1000) / (2 * taken.length) }
  }
  return within(measure(), 60_000, "connections")
}

/** A whole command. The floor is a Node.js program that does nothing. */
const command = (_, { commands }, { commandLine }) => {
  if (commandLine === undefined) return {}
  const [file, ...args] = commandLine
  const taken = []
  for (let i = 0; i < 2 * commands; i++) {
    const startedAt = performance.now()
    const { status } = spawnSync(file, args, { stdio: "ignore" })
    if (status !== 0) throw new Error(`${commandLine.join(" ")} exited with ${status}`)
    taken.push(performance.now() - startedAt)
  }
  return { command: quantile(taken.slice(-commands), 0.5) }
}

const startToClosed = (tty, { url }, { starts }) =>
  withClients(1, url, "start to closed", async (client) => {
    const taken = await durations(starts, () => client.run(["/bin/true"], { tty }).then(() => performance.now()))
    return { [tty ? "start-tty" : "start-pipe"]: quantile(taken, 0.5) }
  })
const startPipe = startToClosed.bind(null, false)
const startTty = startToClosed.bind(null, true)

const manyStarts = (server, { manyStarts }) =>
  withClients(1, server.url, "starts", async (client) => {
    const cpu = cpuClock(server)
    const starts = await rate(manyStarts, 8, () => client.run(["/bin/true"]))
    return { starts, "starts-cpu": (cpu() * 1000) / manyStarts }
  })

/** Returns a function that resolves when exactly the expected output has arrived since the last call. */
const expectOutput = (client) => {
  let text = ""
  let check = () => {}
  client.onChunk = (_, take) => {
    text += take().toString()
    check()
  }
  return (expected) =>
    new Promise((resolve, reject) => {
      check = () => {
        if (text.length < expected.length) return
        if (text === expected) resolve(performance.now())
        else reject(new Error("what came back is not what was sent"))
        text = ""
      }
      check()
    })
}

const echo = (tty, { url }, { echoes }) =>
  withClients(1, url, "echo", async (client) => {
    const expect = expectOutput(client)
    const argv = tty ? ["/bin/sh", "-c", "stty raw -echo; echo ready; exec cat"] : ["/bin/cat"]
    const cat = await client.start(argv, { tty, pipeStdin: !tty })
    if (tty) await expect("ready\n")
    const taken = await durations(echoes, async (i) => {
      const line = `line ${i}\n`
      const write = { processId: cat.processId, chunk: btoa(line), writeId: `${cat.processId}-${i}` }
      const [endedAt, { status }] = await Promise.all([expect(line), client.request("process/write", write)])
      if (status !== "accepted") throw new Error(`a write was ${status}`)
      return endedAt
    })
    await client.terminate(cat)
    return { [tty ? "echo-pty" : "echo-pipe"]: quantile(taken, 0.5) * 1000 }
  })
const echoPipe = echo.bind(null, false)
const echoPty = echo.bind(null, true)

/**
 * First prints a quarter, to warm up, and checks its digest. Then prints everything and counts the bytes. The clock
 * stops at the last byte, which is known once the process is closed.
 */
const throughput = async (name, pieces, command, server) => {
  const tty = name === "pty"
  const run = (client, count) => client.run(["/bin/sh", "-c", command(Output.print(count))], { tty })
  const check = async (client, count) => {
    const hash = createHash("sha256")
    client.onChunk = (_, take) => hash.update(take())
    await run(client, count)
    if (hash.digest("hex") !== Output.digest(count)) throw new Error(`${name} output: not the bytes that were printed`)
  }
  const measure = async (client) => {
    await check(client, Math.ceil(pieces / 4))
    const expected = pieces * Output.pieceBytes
    let received = 0
    let endedAt = 0
    client.onChunk = (length) => {
      received += length
      endedAt = performance.now()
    }
    const cpu = cpuClock(server)
    const startedAt = performance.now()
    await run(client, pieces)
    if (received !== expected) throw new Error(`${name} output: ${received} bytes of ${expected} arrived`)
    return { [`${name}-rate`]: expected / 1000 / (endedAt - startedAt), [`${name}-cpu`]: (cpu() * 1e9) / expected }
  }
  return withClients(1, server.url, `${name} output`, measure, { binary: name === "binary" })
}

/** Several processes print at once; every byte is counted. */
const manyPrinters = (server, { pipePieces }) =>
  withClients(1, server.url, "16 printers", async (client) => {
    const pieces = Math.ceil(pipePieces / printers)
    let received = 0
    client.onChunk = (length) => {
      received += length
    }
    const run = (count) =>
      Promise.all(Array.from({ length: printers }, () => client.run(["/bin/sh", "-c", exec(Output.print(count))])))
    await run(Math.ceil(pieces / 4))
    received = 0
    const cpu = cpuClock(server)
    const startedAt = performance.now()
    await run(pieces)
    const expected = printers * pieces * Output.pieceBytes
    if (received !== expected) throw new Error(`${received} bytes of ${expected} arrived`)
    return {
      "many-rate": expected / 1000 / (performance.now() - startedAt),
      "many-cpu": (cpu() * 1e9) / expected
    }
  })

const exec = (print) => `exec ${print}`

const pipeOutput = (server, { pipePieces }) => throughput("pipe", pipePieces, exec, server)

const binaryOutput = (server, { pipePieces }) =>
  throughput("binary", pipePieces, exec, server).catch((error) => {
    if (error instanceof NoBinaryOutput) return {}
    throw error
  })

/**
 * node-pty loses the last output of a child that exits at once. For the floor, the child waits; for others it does not.
 */
const ptyOutput = (server, { ptyPieces }, { losesTail }) =>
  throughput("pty", ptyPieces, (print) => `stty raw; ${print}${losesTail ? "; sleep 0.2" : ""}`, server)

/** The figures in the order they run: function, name, description, unit, and whether more or less is better. */
export const figures = [
  [startup, "startup", "spawn to address line", "ms", "less"],
  [startup, "rss-idle", "memory when idle", "MB", "less"],
  [startup, "rss-connection", "memory per idle connection", "kB", "less"],
  [idleProcesses, "rss-process", "memory per idle process", "kB", "less"],
  [command, "command", "run -- true, whole command, p50", "ms", "less"],
  [connect, "connect", "connect and initialize, p50", "ms", "less"],
  [connect, "connect-cpu", "server CPU per connection", "ms", "less"],
  [status, "status-p50", "status round trip, p50", "us", "less"],
  [status, "status-p99", "status round trip, p99", "us", "less"],
  [manyRequests, "requests", "requests, 64 in flight", "/s", "more"],
  [manyRequests, "requests-cpu", "server CPU per request", "us", "less"],
  [loneRequests, "lone", "lone requests, 64 in flight", "/s", "more"],
  [loneRequests, "lone-cpu", "server CPU per lone request", "us", "less"],
  [startPipe, "start-pipe", "start to closed, pipes, p50", "ms", "less"],
  [startTty, "start-tty", "start to closed, tty, p50", "ms", "less"],
  [manyStarts, "starts", "starts, 8 in flight", "/s", "more"],
  [manyStarts, "starts-cpu", "server CPU per start", "ms", "less"],
  [echoPipe, "echo-pipe", "echo round trip, pipe, p50", "us", "less"],
  [echoPty, "echo-pty", "echo round trip, pty, p50", "us", "less"],
  [pipeOutput, "pipe-rate", "pipe output", "MB/s", "more"],
  [pipeOutput, "pipe-cpu", "server CPU per GB, pipe", "s", "less"],
  [manyPrinters, "many-rate", "output of 16 processes at once", "MB/s", "more"],
  [manyPrinters, "many-cpu", "server CPU per GB, 16 processes", "s", "less"],
  [binaryOutput, "binary-rate", "pipe output, binary", "MB/s", "more"],
  [binaryOutput, "binary-cpu", "server CPU per GB, binary", "s", "less"],
  [ptyOutput, "pty-rate", "pty output", "MB/s", "more"],
  [ptyOutput, "pty-cpu", "server CPU per GB, pty", "s", "less"]
].map(([measure, name, what, unit, better]) => ({ measure, name, what, unit, better }))
