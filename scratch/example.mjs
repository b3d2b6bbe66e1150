// Runs an example on the built package: npm run example -- agent-tool
//
// Node.js strips types on its own only from 22.18 on; this works with every supported version.
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { transformSync } from "esbuild"

const root = fileURLToPath(new URL("..", import.meta.url))
const [name, ...args] = process.argv.slice(2)
const source = readFileSync(`${root}scratch/examples/${name}.ts`, "utf8")
const { code } = transformSync(source, { loader: "ts", format: "esm", target: "node20" })
const child = spawn(process.execPath, ["--input-type=module", "-", ...args], {
  cwd: root,
  stdio: ["pipe", "inherit", "inherit"]
})
child.stdin.end(code)
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal))
child.on("exit", (status) => {
  process.exitCode = status ?? 1
})
