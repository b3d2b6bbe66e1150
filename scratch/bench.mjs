// Measures this server against a floor, and against other servers if given. See `npm run bench -- --help`.
import { spawnSync } from "node:child_process"
import { cpus, loadavg } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { figures, quantile } from "./bench/figures.mjs"
import { run as scale } from "./bench/scale.mjs"
import * as Servers from "./bench/servers.mjs"

const usage = `npm run bench -- [options]
  --rounds N        rounds, of which medians are shown (3)
  --quick           a tenth of each
  --only A,B        only these figures; "status" is all that begin with "status-":
                    ${figures.map(({ name }) => name).join(" ")}
  --url ws://...    measure this running server as well (repeatable)
  --server COMMAND  start this server and measure it as well; it prints ws://IP:PORT on a line (repeatable)
  --json            JSON instead of a table
  --markdown        a table in Markdown
  --scale           what this server costs with up to 1,000 connections and processes, with 500 MB retained, and
                    whether lists, snapshots, many chunks and large trees cost as much for each member however many
Each figure is the median of the rounds; the spread is the distance of its extremes, in percent of it.
The original, if "codex" is on the PATH, is measured as well.`

/** The size of each measurement. */
const fullSize = {
  connections: 200,
  connects: 300,
  commands: 10,
  processes: 400,
  roundTrips: 5000,
  requests: 60_000,
  starts: 100,
  manyStarts: 300,
  echoes: 2000,
  pipePieces: 400,
  ptyPieces: 20
}

const refuse = (message) => {
  console.error(`${message}\n\n${usage}`)
  process.exit(2)
}

const readOptions = () => {
  const flag = { type: "boolean", default: false }
  const list = { type: "string", multiple: true, default: [] }
  const text = (value) => ({ type: "string", default: value })
  const options = {
    rounds: text("3"),
    only: text(""),
    quick: flag,
    json: flag,
    markdown: flag,
    scale: flag,
    help: flag,
    url: list,
    server: list
  }
  try {
    return parseArgs({ options }).values
  } catch (error) {
    return refuse(error.message)
  }
}

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url))

/** The command line of the original, if it is installed. */
const original = () =>
  spawnSync("codex", ["exec-server", "--help"]).status === 0 ? ["codex exec-server --listen ws://127.0.0.1:0"] : []

const specsOf = ({ server, url }) => [
  {
    label: "floor",
    command: [process.execPath, path("bench/floor.mjs")],
    commandLine: [process.execPath, "-e", "0"],
    losesTail: true
  },
  {
    label: "this",
    command: [process.execPath, path("../dist/bin.js"), "--listen", "ws://127.0.0.1:0"],
    commandLine: [process.execPath, path("../dist/bin.js"), "run", "--", "true"]
  },
  ...[...original(), ...server].map((line, i) => ({
    label: `server${i + 1}`,
    command: ["/bin/sh", "-c", `exec ${line}`],
    line
  })),
  ...url.map((url, i) => ({ label: `url${i + 1}`, url, line: url }))
]

const select = (only) => {
  const matches = (wanted) => (figure) => figure.name === wanted || figure.name.startsWith(`${wanted}-`)
  const names = only.split(",").filter((name) => name !== "")
  const unknown = names.find((name) => !figures.some(matches(name)))
  if (unknown !== undefined) refuse(`there is no figure ${unknown}`)
  return figures.filter((figure) => names.length === 0 || names.some((name) => matches(name)(figure)))
}

/** One round. All servers run, but only one is busy; each figure is measured for all servers in turn. */
const runRound = async (round, { specs, wanted, size, values, failures }) => {
  const attempt = (spec, promise) =>
    promise.catch((error) => {
      failures.push(`round ${round}, ${spec.label}: ${error.message}`)
    })
  const collect = async (measure, server, spec) => {
    for (const [name, value] of Object.entries(await measure(server, size, spec))) {
      if (Number.isFinite(value)) values[name][spec.label].push(value)
    }
  }
  const servers = []
  for (const spec of specs) servers.push({ spec, server: await attempt(spec, Servers.start(spec)) })
  const running = servers.filter(({ server }) => server !== undefined)
  // Alternate the order, in case it matters.
  if (round % 2 === 0) running.reverse()
  for (const measure of new Set(wanted.map(({ measure }) => measure))) {
    const names = figures.filter((figure) => figure.measure === measure).map(({ name }) => name)
    console.error(`round ${round}: ${names.join(", ")}`)
    for (const { spec, server } of running) await attempt(spec, collect(measure, server, spec))
  }
  for (const { spec, server } of running) await attempt(spec, Servers.stop(server))
}

/** Of each server its median, the spread of its rounds, and its ratio to the floor; of this one also to the others. */
const summarize = ({ specs, wanted, values }) =>
  wanted.map(({ name, what, unit, better }) => {
    const median = (label) => quantile(values[name][label], 0.5)
    const servers = specs.map(({ label }) => {
      const rounds = values[name][label]
      const spread = (Math.max(...rounds) - Math.min(...rounds)) / median(label)
      return [label, { median: median(label), spread, ratio: median(label) / median("floor"), rounds }]
    })
    const others = specs.filter(({ label }) => label !== "floor" && label !== "this")
    const thisTo = others.map(({ label }) => [label, median("this") / median(label)])
    return { name, what, unit, better, servers: Object.fromEntries(servers), thisTo: Object.fromEntries(thisTo) }
  })

const printTable = (rows, specs, markdown) => {
  const digits = (value) => (Number.isFinite(value) ? value.toFixed(Math.abs(value) >= 100 ? 0 : 2) : "-")
  const figureOf = ({ median, spread }) =>
    Number.isFinite(median) ? `${digits(median)} (${(100 * spread).toFixed(0)} %)` : "-"
  const others = specs.slice(1).map(({ label }) => label)
  const third = others.filter((label) => label !== "this")
  const head = [
    ...["figure", "what", "unit", "better", "floor (spread)"],
    ...others.flatMap((label) => [`${label} (spread)`, "to floor"]),
    ...third.map((label) => `this to ${label}`)
  ]
  const lines = rows.map(({ name, what, unit, better, servers, thisTo }) => [
    ...[name, what, unit, better, figureOf(servers.floor)],
    ...others.flatMap((label) => [figureOf(servers[label]), digits(servers[label].ratio)]),
    ...third.map((label) => digits(thisTo[label]))
  ])
  const widths = head.map((_, column) => Math.max(...[head, ...lines].map((line) => line[column].length)))
  const pad = (cell, column) => (column < 4 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]))
  if (markdown) {
    const row = (cells) => `| ${cells.join(" | ")} |`
    for (const line of [row(head), row(head.map(() => "---")), ...lines.map(row)]) console.log(line)
  } else for (const line of [head, ...lines]) console.log(line.map(pad).join("  "))
  for (const { label, line } of specs) if (line !== undefined) console.log(`${label}: ${line}`)
}

const options = readOptions()
if (options.help) refuse("Measures this server against a floor.")
if (!/^[1-9]\d?$/.test(options.rounds)) refuse("--rounds is 1 to 99")
if (options.scale) {
  await scale()
  process.exit(0)
}
// Other work on the machine shows in every figure.
const machine = `load average ${loadavg()[0].toFixed(2)} before, ${cpus().length} processors, node ${process.version}`
const specs = specsOf(options)
const size = Object.fromEntries(Object.entries(fullSize).map(([key, n]) => [key, options.quick ? n / 10 : n]))
const lists = () => Object.fromEntries(specs.map(({ label }) => [label, []]))
const values = Object.fromEntries(figures.map(({ name }) => [name, lists()]))
const run = { specs, wanted: select(options.only), size, values, failures: [] }
for (let round = 1; round <= Number(options.rounds); round++) await runRound(round, run)
const rows = summarize(run)
if (options.json) console.log(JSON.stringify({ machine, figures: rows, failures: run.failures }, null, 2))
else {
  printTable(rows, specs, options.markdown)
  console.log(machine)
}
for (const failure of run.failures) console.error(`FAILED: ${failure}`)
// Exit now: abandoned work may still be waiting.
process.exit(run.failures.length > 0 ? 1 : 0)
