// Runs the end-to-end tests on each supported release of Node.js: raw messages over each transport, and `run`. The
// `node` package of npm provides the releases. `npm run test:nodes -- 22` selects one of them.
//
// Nothing is recompiled: src/spawn/native and node-pty use Node-API and libuv 1, which all releases share.
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"

const supported = ["20", "22", "24"]
const tests = ["test/e2e.test.ts", "test/command/run.test.ts"]

const chosen = process.argv.slice(2)
const unknown = chosen.find((release) => !supported.includes(release))
if (unknown !== undefined) {
  console.error(`npm run test:nodes: ${unknown} is not one of ${supported.join(", ")}`)
  process.exit(2)
}

const vitest = ["node_modules/vitest/vitest.mjs", "run", "--reporter=dot", ...tests]
const versionOf = `console.log("Node.js " + process.version + ", modules " + process.versions.modules)`

const on = (release, args) =>
  spawnSync("npx", ["-y", "-p", `node@${release}`, "--", "node", ...args], {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    stdio: "inherit"
  }).status === 0

const failed = (chosen.length === 0 ? supported : chosen).filter(
  (release) => !(on(release, ["--eval", versionOf]) && on(release, vitest))
)
if (failed.length > 0) {
  console.error(`the end-to-end tests do not pass on Node.js ${failed.join(", ")}`)
  process.exit(1)
}
