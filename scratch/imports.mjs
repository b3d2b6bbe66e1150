/**
 * The order of imports between the folders of src. Part of `npm run check`, which fails on an import against the order
 * and on a cycle of modules, type imports included.
 */
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"

/** A folder imports only from those before it. `bin.ts` and `index.ts` beside them import from all. */
const order = [
  "internal",
  "protocol",
  "spawn",
  "filesystem",
  "http",
  "sandbox",
  "process",
  "screen",
  "session",
  "transport",
  "remote",
  "fleet",
  "server",
  "upgrade",
  "client",
  "environment",
  "testing",
  "mcp",
  "e2b",
  "command",
  "console"
]

/** Folders that import from fewer, and the modules that may connect the two. */
const apart = [
  { room: "filesystem", from: ["spawn"], but: ["filesystem/Holes.ts"] },
  { room: "http", from: ["spawn", "filesystem"], but: [] },
  {
    room: "client",
    from: ["spawn", "filesystem", "http", "sandbox", "process", "session", "transport", "remote", "server"],
    but: ["client/InProcess.ts", "client/NoiseLink.ts", "client/RelayLink.ts"]
  },
  {
    room: "mcp",
    from: ["spawn", "filesystem", "http", "sandbox", "process", "session", "transport", "remote", "server", "testing"],
    but: []
  },
  {
    room: "e2b",
    from: ["filesystem", "http", "sandbox", "process", "screen", "session", "remote", "server", "testing", "mcp"],
    but: []
  },
  { room: "environment", from: ["spawn", "sandbox", "process", "session", "transport", "remote"], but: [] }
]

const src = fileURLToPath(new URL("../src", import.meta.url))
const modules = readdirSync(src, { recursive: true, encoding: "utf8" })
  .filter((file) => /\.tsx?$/.test(file))
  .sort()

const importsOf = (file) =>
  ts
    .preProcessFile(readFileSync(join(src, file), "utf8"), true, true)
    .importedFiles.map(({ fileName }) => fileName)
    .filter((name) => name.startsWith("."))
    .map((name) => relative(src, join(src, dirname(file), name)).replace(/\.js$/, ""))
    .flatMap((name) => modules.filter((module) => module === `${name}.ts` || module === `${name}.tsx`))

const graph = new Map(modules.map((file) => [file, importsOf(file)]))
const roomOf = (file) => (file.includes("/") ? file.split("/", 1)[0] : undefined)
const faults = []

for (const [file, targets] of graph) {
  const room = roomOf(file)
  if (room === undefined) continue
  if (!order.includes(room)) faults.push(`src/${room} is in no order; scratch/imports.mjs has it`)
  for (const target of targets) {
    const other = roomOf(target)
    const against = other === undefined || order.indexOf(other) > order.indexOf(room)
    const { from = [], but = [] } = apart.find((one) => one.room === room) ?? {}
    if (against || (from.includes(other) && !but.includes(file))) {
      faults.push(`src/${file} imports src/${target}: ${room} does not import from ${other ?? "there"}`)
    }
  }
}

/** Depth-first search. A module on the current path that is reached again closes a cycle. */
const done = new Set()
const visit = (file, way) => {
  if (way.includes(file)) return faults.push(`a cycle: ${[...way.slice(way.indexOf(file)), file].join(" -> ")}`)
  if (done.has(file)) return
  for (const target of graph.get(file) ?? []) visit(target, [...way, file])
  done.add(file)
}
for (const file of modules) visit(file, [])

for (const fault of faults) console.error(fault)
if (faults.length > 0) process.exit(1)
