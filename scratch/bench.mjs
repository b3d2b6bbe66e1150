// Measures this server against a floor, and against other servers if given: `npm run bench -- --help` says how.
import { existsSync } from "node:fs"
import { cpus, loadavg } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { figures, groups, quantile } from "./bench/figures.mjs"
import * as Servers from "./bench/servers.mjs"

const usage = `npm run bench -- [options]
  --rounds N        rounds, of which medians are shown (3)
  --quick           little of each
  --only A,B        only these figures: ${figures.map(({ name }) => name).join(", ")}
  --url ws://...    measure this running server as well (repeatable)
  --server COMMAND  start this server and measure it as well; it prints ws://IP:PORT on a line (repeatable)
  --json            JSON instead of a table`

const sizes = {
  full: {
    connections: 200,
    processes: 50,
    roundTrips: 5000,
    requests: 20_000,
    starts: 100,
    manyStarts: 300,
    echoes: 2000,
    pipeBytes: 300_000_000,
    ptyBytes: 50_000_000
  },
  quick: {
    connections: 20,
    processes: 10,
    roundTrips: 500,
    requests: 2000,
    starts: 10,
    manyStarts: 40,
    echoes: 200,
    pipeBytes: 30_000_000,
    ptyBytes: 5_000_000
  }
}

const refuse = (message) => {
  console.error(`${message}\n\n${usage}`)
  process.exit(2)
}

const readOptions = () => {
  const flag = { type: "boolean", default: false }
  const list = { type: "string", multiple: true, default: [] }
  const text = (value) => ({ type: "string", default: value })
  const options = { rounds: text("3"), only: text(""), quick: flag, json: flag, help: flag, url: list, server: list }
  try {
    return parseArgs({ options }).values
  } catch (error) {
    return refuse(error.message)
  }
}

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url))

const specsOf = (options) => [
  { label: "floor", command: [process.execPath, path("bench/floor.mjs")] },
  { label: "this", command: [process.execPath, path("../dist/bin.js"), "--listen", "ws://127.0.0.1:0"] },
  ...options.server.map((line, i) => ({ label: `server${i + 1}`, command: ["/bin/sh", "-c", `exec ${line}`], line })),
  ...options.url.map((url, i) => ({ label: `url${i + 1}`, url, line: url }))
]

/** `status` selects `status-p50` and `status-p99`. */
const select = (only) => {
  const names = only.split(",").filter((name) => name !== "")
  const matches = (name) => (figure) => figure.name === name || figure.name.startsWith(`${name}-`)
  const unknown = names.find((name) => !figures.some(matches(name)))
  if (unknown !== undefined) refuse(`there is no figure ${unknown}`)
  return names.length === 0 ? figures : figures.filter((figure) => names.some((name) => matches(name)(figure)))
}

/** One round: all servers at once, but only one of them busy, each figure of one right after that of the other. */
const runRound = async (round, specs, wanted, size, record) => {
  const servers = []
  const attempt = async (spec, f) => {
    try {
      await f()
    } catch (error) {
      record.failures.push(`round ${round}, ${spec.label}: ${error.message}`)
    }
  }
  try {
    for (const spec of specs) await attempt(spec, async () => servers.push({ spec, server: await Servers.start(spec) }))
    // Who goes first changes, in case it matters.
    if (round % 2 === 0) servers.reverse()
    for (const { run, gives } of groups) {
      if (!gives.some((name) => wanted.some((figure) => figure.name === name))) continue
      for (const { spec, server } of servers) {
        console.error(`round ${round}: ${gives[0]}, ${spec.label}`)
        await attempt(spec, async () => {
          const values = await run(server, size, spec)
          for (const name of gives) if (values[name] !== undefined) record.values[name][spec.label].push(values[name])
        })
      }
    }
  } finally {
    for (const { spec, server } of servers) await attempt(spec, () => Servers.stop(server))
  }
}

const summarize = (wanted, specs, values) =>
  wanted.map((figure) => {
    const floor = quantile(values[figure.name].floor, 0.5)
    const servers = specs.map(({ label }) => {
      const rounds = values[figure.name][label]
      const median = quantile(rounds, 0.5)
      return [label, { median, ratio: median === undefined ? undefined : median / floor, rounds }]
    })
    return { ...figure, servers: Object.fromEntries(servers) }
  })

const digits = (value) => (value === undefined ? "-" : value.toFixed(Math.abs(value) >= 100 ? 0 : 2))

const printTable = (rows, specs) => {
  const others = specs.slice(1).map(({ label }) => label)
  const head = ["figure", "", "unit", "better", "floor", ...others.flatMap((label) => [label, "ratio"])]
  const lines = rows.map(({ name, what, unit, better, servers }) => [
    ...[name, what, unit, better, digits(servers.floor.median)],
    ...others.flatMap((label) => [digits(servers[label].median), digits(servers[label].ratio)])
  ])
  const widths = head.map((_, column) => Math.max(...[head, ...lines].map((line) => line[column].length)))
  const pad = (cell, column) => (column < 4 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]))
  for (const line of [head, ...lines]) console.log(line.map(pad).join("  "))
  for (const { label, line } of specs) if (line !== undefined) console.log(`${label}: ${line}`)
}

const main = async () => {
  const options = readOptions()
  if (options.help) return console.log(usage)
  const rounds = /^[1-9]\d?$/.test(options.rounds) ? Number(options.rounds) : refuse("--rounds is 1 to 99")
  if (!existsSync(path("../dist/bin.js"))) refuse("there is no dist/bin.js; run npm run build first")
  const wanted = select(options.only)
  const specs = specsOf(options)
  const empty = () => Object.fromEntries(specs.map(({ label }) => [label, []]))
  const record = { failures: [], values: Object.fromEntries(figures.map(({ name }) => [name, empty()])) }
  const load = loadavg()[0]
  const size = options.quick ? sizes.quick : sizes.full
  for (let round = 1; round <= rounds; round++) await runRound(round, specs, wanted, size, record)
  const rows = summarize(wanted, specs, record.values)
  const machine = { node: process.version, cpus: cpus().length, load }
  if (options.json) console.log(JSON.stringify({ machine, rounds, figures: rows, failures: record.failures }, null, 2))
  else printTable(rows, specs)
  for (const failure of record.failures) console.error(`FAILED: ${failure}`)
  process.exitCode = record.failures.length > 0 ? 1 : 0
}

await main()
