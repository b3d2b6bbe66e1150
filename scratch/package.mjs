// Packs the package, installs it into an empty folder, and tests it there: the command, a server, the library, its
// types.
import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "exec-server-package-"))
const run = (file, args, cwd = folder) => execFileSync(file, args, { cwd, encoding: "utf8", timeout: 600_000 })

const check = (what, holds) => {
  if (!holds) throw new Error(`not so: ${what}`)
  console.log(`ok: ${what}`)
}

const consumer = `
import { Effect, Layer } from "effect"
import { ExecClient, ExecServer, HeadTail, NodeServices } from "exec-server"
import { FakeSpawner, Script } from "exec-server/testing"
import { ExecApi } from "exec-server/protocol"
import * as Client from "exec-server/client"
import * as Server from "exec-server/server"

const echo = Effect.gen(function* () {
  const client = yield* ExecClient.ExecClient
  const child = yield* client.start({ argv: ["/bin/echo", "hello"], cwd: "/", tty: true })
  const { exit, terminal } = yield* child.communicate()
  return [exit.exitCode, HeadTail.bytesOf(terminal).toString()]
})
const real = ExecClient.layerInProcess().pipe(Layer.provide(ExecServer.layerSessions), Layer.provide(NodeServices.layer))
const fake = Client.ExecClient.layerInProcess().pipe(
  Layer.provide(Server.ExecServer.layerSessions),
  Layer.provide(FakeSpawner.layerOf(Script.plan([Script.output(1, "fake"), Script.exit(2)]))),
  Layer.provide(Server.NodeServices.layer)
)
const results = Effect.all([Effect.provide(echo, real), Effect.provide(echo, fake)])
Effect.runPromise(results).then((results) => console.log(JSON.stringify(results)))

export const params = ExecApi.StartParams
`

const command = `
import { spawn } from "node:child_process"
import { Effect } from "effect"
import { ExecClient } from "exec-server/client"

const server = spawn("./node_modules/.bin/exec-server", ["--listen", "ws://127.0.0.1:0"])
server.stdout.once("data", async (line) => {
  const program = Effect.gen(function* () {
    const client = yield* ExecClient.connectWebSocket({ url: String(line).trim() })
    const child = yield* client.start({ argv: ["/bin/sh", "-c", "exit 7"], cwd: "/" })
    return (yield* child.closed).exitCode
  })
  console.log(await Effect.runPromise(Effect.scoped(program)))
  server.kill()
})
server.on("exit", (code) => console.log("exit " + code))
`

try {
  const packed = JSON.parse(run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder], root))[0]
  const files = packed.files.map(({ path }) => path)
  const tarball = join(folder, packed.filename)
  console.log(`${packed.filename}: ${files.length} files, ${statSync(tarball).size} bytes`)
  const expected = /^(dist\/|docs\/|src\/|package\.json$|README\.md$|LICENSE$|CHANGELOG\.md$)/
  check(
    "nothing is packed but sources, what was built, and what describes it",
    files.every((path) => expected.test(path))
  )
  check("nothing of this machine is packed", !files.some((path) => /\.cache$|^src\/spawn\/native\/build\//.test(path)))
  for (const path of [
    "docs/protocol.md",
    "dist/bin.js",
    "dist/openrpc.json",
    "dist/index.d.ts",
    "dist/testing/index.js",
    "dist/mcp/index.js",
    "src/spawn/native/binding.gyp"
  ]) {
    check(`${path} is packed`, files.includes(path))
  }

  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "consumer", private: true, type: "module" }))
  run("npm", ["install", "--no-audit", "--no-fund", tarball])
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
  check("the command tells the version", run("npx", ["exec-server", "--version"]).trim() === version)

  const { openrpc, info } = JSON.parse(run("npx", ["exec-server", "schema"]))
  check("the command describes its protocol", openrpc === "1.3.2" && info.version === version)

  writeFileSync(join(folder, "command.mjs"), command)
  check("a server starts, and a process on it", run("node", ["command.mjs"]) === "7\nexit 0\n")

  const call = {
    jsonrpc: "2.0",
    id: 1,
    method: "tools/call",
    params: { name: "exec_command", arguments: { cmd: "echo hi" } }
  }
  const talk = `(echo '${JSON.stringify(call)}'; sleep 3) | npx exec-server mcp`
  check("an agent runs a command", run("sh", ["-c", talk]).includes("[exit code 0"))

  writeFileSync(join(folder, "consumer.ts"), consumer)
  const options = ["--strict", "--target", "es2022", "--module", "nodenext", "--types", "node", "--typeRoots"]
  const tsc = join(root, "node_modules/typescript/bin/tsc")
  run("node", [tsc, ...options, join(root, "node_modules/@types"), "--skipLibCheck", "consumer.ts"])
  console.log("ok: a consumer is type-checked")
  const said = run("node", ["consumer.js"]).trim()
  check("the library runs real and fake processes", said === '[[0,"hello\\r\\n"],[0,"fake"]]')

  writeFileSync(join(folder, "closed.mjs"), 'await import("exec-server/dist/process/Posix.js")')
  let message = ""
  try {
    execFileSync("node", ["closed.mjs"], { cwd: folder, encoding: "utf8", stdio: "pipe" })
  } catch (error) {
    message = String(error.stderr)
  }
  check("what is not exported cannot be reached", message.includes("ERR_PACKAGE_PATH_NOT_EXPORTED"))
} finally {
  rmSync(folder, { recursive: true, force: true })
}
