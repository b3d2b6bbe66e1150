/**
 * Runs scenarios of the official conformance suite of the Model Context Protocol against `/mcp` of the built server:
 *
 *   npm run test:conformance
 *
 * The suite and the Node.js 22 that it needs are fetched by npx.
 */
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"

/** A check that needs a tool which only a server made for the suite has. */
const needsTool = (name) => `it calls the tool ${name}, which only a server made for these checks has`

/** The checks of each scenario that fail, and why they may. */
const scenarios = {
  "server-stateless": {
    ServerRejectsUndeclaredCapability: needsTool("test_missing_capability"),
    MissingCapabilityHttp400: needsTool("test_missing_capability"),
    HttpServerNoIndependentRequestsOnStream: needsTool("test_streaming_elicitation"),
    ServerNoLogWithoutLogLevel: needsTool("test_logging_tool")
  },
  "tools-list": {},
  "http-header-validation": {},
  "server-session-lifecycle": {},
  "dns-rebinding-protection": {
    LocalhostHostAccepted:
      "a page of localhost is refused like any other origin that is not allowed: it must get no shell"
  }
}

/** The seconds that one scenario may take, with the download of the suite. */
const timeoutSeconds = 300

const packages = ["-p", "node@22", "-p", "@modelcontextprotocol/conformance@0.2.0-alpha.12"]

/** Runs a scenario. Gives the names of the checks that failed, and how many passed; undefined without a result. */
const run = (url, scenario) => {
  const { stdout } = spawnSync(
    "npx",
    ["-y", ...packages, "conformance", "server", "--url", url, "--scenario", scenario],
    { encoding: "utf8", timeout: timeoutSeconds * 1000 }
  )
  const [, result, listed = ""] =
    /Passed: (\d+\/\d+), [\s\S]*?(?:=== Failed Checks ===([\s\S]*))?$/.exec(stdout ?? "") ?? []
  if (result === undefined) return undefined
  return { result, failed: Array.from(listed.matchAll(/^ {2}- (\w+): /gm), ([, name]) => name) }
}

const binary = fileURLToPath(new URL("../dist/bin.js", import.meta.url))
const server = spawn(process.execPath, [binary, "--listen", "ws://127.0.0.1:0", "--mcp", "--console", "false"], {
  stdio: ["ignore", "pipe", "inherit"]
})
const [address] = await once(server.stdout, "data")
const url = `${String(address).trim().replace(/^ws/, "http")}/mcp`

let isAsExpected = true
const complain = (text) => {
  console.log(`  ${text}`)
  isAsExpected = false
}
for (const [scenario, expected] of Object.entries(scenarios)) {
  const found = run(url, scenario)
  console.log(`${scenario}: ${found === undefined ? "no result" : `${found.result} passed`}`)
  if (found === undefined) {
    isAsExpected = false
    continue
  }
  for (const name of found.failed) {
    if (name in expected) console.log(`  ${name} fails, as expected: ${expected[name]}`)
    else complain(`${name} fails`)
  }
  for (const name of Object.keys(expected)) {
    if (!found.failed.includes(name)) complain(`${name} does not fail any more: take it out of the list`)
  }
  const [passed, all] = found.result.split("/")
  if (Number(all) - Number(passed) !== found.failed.length) complain("not all failures are named")
}
server.kill()
process.exitCode = isAsExpected ? 0 : 1
