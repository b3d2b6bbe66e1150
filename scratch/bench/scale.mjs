// Measures the server under load: memory by connections and processes, the latency of a small request beside 100
// printing processes, starts while 500 MB of output are retained, and what each member costs of lists, of retained
// output in many chunks, and of large trees: the same for each, however many there are.
import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { withClients } from "./client.mjs"
import { quantile } from "./figures.mjs"
import * as Servers from "./servers.mjs"

const counts = [10, 100, 1000]
const printers = 100
const requests = 20_000
const starts = 300
const startRuns = 5
const retainedBytes = 500_000_000
const perProcess = 8_388_608
const chunkCounts = [1000, 10_000, 100_000]
const treeCounts = [100, 1000, 10_000]

const command = [process.execPath, fileURLToPath(new URL("../../dist/bin.js", import.meta.url))]

const onServer = async (args, f) => {
  const server = await Servers.start({ command: [...command, "--listen", "ws://127.0.0.1:0", ...args] })
  try {
    return await f(server)
  } finally {
    await Servers.stop(server)
  }
}

/** Memory in kB at each count of what `add` adds, and the cost of each one in the last step. */
const grow = async (server, add) => {
  const rows = []
  let before = { count: 0, kb: await Servers.residentKb(server) }
  for (const count of counts) {
    await add(count - before.count)
    const kb = await Servers.residentKb(server)
    rows.push({ count, each: (kb - before.kb) / (count - before.count), total: kb / 1024 })
    before = { count, kb }
  }
  return rows
}

const connections = () =>
  onServer(["--max-connections", "2000", "--max-sessions", "2000"], async (server) => {
    const rows = []
    let idle = await Servers.residentKb(server)
    for (const count of counts) {
      const kb = await withClients(count, server.url, "connections", () => Servers.residentKb(server))
      rows.push({ count, each: (kb - idle) / count, total: kb / 1024 })
      idle = Math.max(idle, await Servers.residentKb(server))
    }
    return rows
  })

const sleepers = async (client, count) => {
  for (let i = 0; i < count; i += 50) {
    const some = Array.from({ length: Math.min(50, count - i) }, () => client.start(["/bin/sleep", "600"]))
    await Promise.all(some)
  }
}

const processes = () =>
  onServer([], (server) =>
    withClients(1, server.url, "processes", (client) => grow(server, (count) => sleepers(client, count)))
  )

/** How long each of some consecutive runs takes, in milliseconds. */
const timed = async (runs, f) => {
  const taken = []
  for (let i = 0; i < runs; i++) {
    const startedAt = performance.now()
    await f()
    taken.push(performance.now() - startedAt)
  }
  return taken
}

/** The latencies of consecutive small requests, in milliseconds. */
const latencies = async (client) => {
  const taken = await timed(requests, () => client.call("environment/status"))
  return { p50: quantile(taken, 0.5), p99: quantile(taken, 0.99) }
}

/** 1,000 connections and 1,000 processes, of which 100 print a line every 10 ms. */
const crowd = () =>
  onServer(["--max-connections", "2000", "--max-sessions", "2000"], (server) =>
    withClients(1000, server.url, "a crowd", async (...clients) => {
      // Not a shell loop that starts a program for every pause: a hundred of these would occupy two processors.
      const print = [
        "perl",
        "-e",
        '$| = 1; while (1) { print "a line of output\\n"; select undef, undef, undef, 0.01 }'
      ]
      const idle = await latencies(clients[0])
      await Promise.all(clients.slice(0, 1000 - printers).map((client) => client.start(["/bin/sleep", "600"])))
      let chunks = 0
      for (const client of clients.slice(-printers)) client.onChunk = () => chunks++
      await Promise.all(clients.slice(-printers).map((client) => client.start(print)))
      const before = { chunks, at: performance.now() }
      const crowd = await latencies(clients[0])
      return { idle, crowd, chunksPerSecond: ((chunks - before.chunks) * 1000) / (performance.now() - before.at) }
    })
  )

/** The median of some runs, in microseconds. */
const microseconds = async (runs, f) => quantile(await timed(runs, f), 0.5) * 1000

/** The cost of a list for each process in it, and of a snapshot of one of them. */
const lists = () =>
  onServer([], (server) =>
    withClients(1, server.url, "lists", async (client) => {
      const [list, snapshot] = [[], []]
      let last
      for (const count of counts) {
        await sleepers(client, count - 1 - (list.at(-1)?.count ?? 0))
        last = await client.start(["/bin/sh", "-c", "echo screen; exec sleep 600"], { tty: true })
        const each = (await microseconds(100, () => client.request("process/list", {}))) / count
        list.push({ count, each })
        const one = () => client.request("process/snapshot", { processId: last.processId })
        snapshot.push({ count, each: await microseconds(100, one) })
      }
      return { list, snapshot }
    })
  )

/** The cost of a chunk of many: to take it in, and to read it from the retained output. */
const chunks = async () => {
  const [taken, read] = [[], []]
  for (const wanted of chunkCounts) {
    const [inUs, readUs, count] = await onServer([], (server) =>
      withClients(1, server.url, "chunks", async (client) => {
        let count = 0
        client.onChunk = () => count++
        // Without a pause the server reads many lines at once.
        const print = `$| = 1; for (1 .. ${wanted}) { print "x\\n"; select undef, undef, undef, 0.00001 }`
        const cpu = Servers.cpuSeconds(server)
        const { processId, closed } = await client.start(["perl", "-e", print])
        await closed
        const inUs = ((Servers.cpuSeconds(server) - cpu) * 1e6) / count
        client.parsesChunks = true
        const params = { processId, afterSeq: 0, maxBytes: 10_000_000, waitMs: 0 }
        const readUs = (await microseconds(5, () => client.request("process/read", params))) / count
        return [inUs, readUs, count]
      })
    )
    taken.push({ count, each: inUs })
    read.push({ count, each: readUs })
  }
  return { taken, read }
}

/** A program that starts so many processes as fast as the system can. */
const treeSource = `
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
  for (int left = atoi(argv[1]); --left > 0;) if (fork() == 0) { pause(); return 0; }
  if (write(1, "ready\\n", 6) < 0) return 1;
  pause();
}`

/** How long a tree of so many processes takes to end, for each of them. */
const trees = async () => {
  const folder = mkdtempSync(join(tmpdir(), "scale-"))
  try {
    const program = join(folder, "tree")
    writeFileSync(`${program}.c`, treeSource)
    execFileSync("cc", ["-O1", "-static", "-o", program, `${program}.c`])
    const rows = []
    for (const count of treeCounts) {
      const end = async (client) => {
        const ready = new Promise((resolve) => {
          client.onChunk = resolve
        })
        const tree = await client.start([program, String(count)])
        await ready
        return microseconds(1, () => client.terminate(tree))
      }
      const us = await onServer([], ({ url }) => withClients(1, url, `a tree of ${count}`, end))
      rows.push({ count, each: us / count })
    }
    return rows
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const startOnce = async (client) => {
  const taken = await timed(starts, () => client.run(["/bin/true"]))
  let left = starts
  const startedAt = performance.now()
  const worker = async () => {
    while (left-- > 0) await client.run(["/bin/true"])
  }
  await Promise.all(Array.from({ length: 8 }, worker))
  return { p50: quantile(taken, 0.5), rate: (starts * 1000) / (performance.now() - startedAt) }
}

/** Medians: the second of two identical runs may have half the rate. */
const startFigures = async (client) => {
  const runs = []
  for (let i = 0; i < startRuns; i++) runs.push(await startOnce(client))
  const median = (key) =>
    quantile(
      runs.map((run) => run[key]),
      0.5
    )
  return { p50: median("p50"), rate: median("rate") }
}

const retained = () =>
  onServer(
    [
      ...["--retained-output-bytes-per-process", String(perProcess)],
      ...["--retained-output-bytes-total", String(retainedBytes + perProcess)],
      ...["--closed-process-retention-ms", "600000"]
    ],
    (server) =>
      withClients(1, server.url, "retained output", async (client) => {
        await startOnce(client)
        const before = await startFigures(client)
        const command = `head -c ${perProcess} /dev/zero; exec sleep 600`
        for (let bytes = 0; bytes < retainedBytes; bytes += perProcess) {
          let received = 0
          await new Promise((resolve) => {
            client.onChunk = (length) => {
              received += length
              if (received >= perProcess) resolve()
            }
            client.start(["/bin/sh", "-c", command])
          })
        }
        const mb = (await Servers.residentKb(server)) / 1024
        return { before, after: await startFigures(client), mb }
      })
  )

/** A bar for each row. Flat bars mean constant cost. `total` is in MB. */
const plot = (title, unit, rows) => {
  const most = Math.max(...rows.map(({ each }) => each))
  console.log(`\n${title}, ${unit} each`)
  for (const { count, each, total } of rows) {
    const bar = "#".repeat(Math.max(1, Math.round((40 * each) / most)))
    const all = total === undefined ? "" : `  (${total.toFixed(0)} MB in all)`
    console.log(`${String(count).padStart(6)}  ${each.toFixed(1).padStart(7)}  ${bar}${all}`)
  }
}

/** Measures and prints. Each part uses its own server. */
export const run = async () => {
  const { list, snapshot } = await lists()
  plot("process/list, for each process", "us", list)
  plot("process/snapshot, beside so many processes", "us", snapshot)
  const { taken, read } = await chunks()
  plot("chunks of output, processor time", "us", taken)
  plot("chunks of retained output that are read", "us", read)
  plot("trees that are ended, for each process", "us", await trees())
  plot("connections", "kB", await connections())
  plot("processes", "kB", await processes())
  const { idle, crowd: busy, chunksPerSecond } = await crowd()
  console.log(`\na small request: p50 ${idle.p50.toFixed(2)} ms, p99 ${idle.p99.toFixed(2)} ms with 1,000 connections`)
  console.log(
    `beside 1,000 processes of which ${printers} print (${chunksPerSecond.toFixed(0)} chunks/s): p50 ${busy.p50.toFixed(2)} ms, p99 ${busy.p99.toFixed(2)} ms`
  )
  const { before, after, mb } = await retained()
  console.log(`\nstarts: p50 ${before.p50.toFixed(2)} ms, ${before.rate.toFixed(0)}/s with 8 in flight`)
  console.log(
    `with ${retainedBytes / 1e6} MB retained (${mb.toFixed(0)} MB resident): p50 ${after.p50.toFixed(2)} ms, ` +
      `${after.rate.toFixed(0)}/s; ratios ${(after.p50 / before.p50).toFixed(2)} and ${(after.rate / before.rate).toFixed(2)}`
  )
}
