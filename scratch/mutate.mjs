/**
 * Mutation testing: changes the code in many small ways, one at a time, and lists the changes that no test notices.
 *
 *   npm run mutate -- process                    a folder of src: process, session or transport
 *   npm run mutate -- spawn/Guard.ts             a file
 *   npm run mutate -- spawn/Guard.ts session/Outbox.ts
 *
 * Each file runs separately, with its tests in scratch/mutate/tests.mjs, and takes from seconds to a few minutes.
 * MUTATE_CONCURRENCY sets how many mutants run at a time (2).
 *
 * Runs in a PID namespace, with bubblewrap: a mutant of code that kills processes could kill any of yours.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { Stryker } from "@stryker-mutator/core"
import { testsOf, timeoutOf } from "./mutate/tests.mjs"

if (process.env.MUTATE_CONTAINED === undefined) {
  const namespace = ["--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--die-with-parent"]
  const { error, status } = spawnSync("bwrap", [...namespace, process.execPath, ...process.argv.slice(1)], {
    stdio: "inherit",
    env: { ...process.env, MUTATE_CONTAINED: "1" }
  })
  if (error !== undefined) console.error(`mutants must be contained, and bubblewrap cannot be run: ${error.message}`)
  process.exit(status ?? 1)
}

/** The percentage of a target's mutants that tests must notice. */
const breakAt = 85

const reports = "node_modules/.cache/mutate"

const filesOf = (target) =>
  target.endsWith(".ts")
    ? [target]
    : readdirSync(join("src", target), { recursive: true })
        .filter((name) => name.endsWith(".ts"))
        .map((name) => join(target, name))

const runFile = async (file) => {
  const tests = testsOf(file)
  process.env.MUTATE_TESTS = JSON.stringify(tests)
  process.env.MUTATE_TIMEOUT = String(timeoutOf(tests))
  const report = join(reports, `${file.replaceAll("/", "-")}.json`)
  rmSync(report, { force: true })
  const results = await new Stryker({
    mutate: [`src/${file}`],
    plugins: ["@stryker-mutator/vitest-runner"],
    testRunner: "vitest",
    vitest: { configFile: "scratch/mutate/vitest.config.ts", related: false },
    coverageAnalysis: "perTest",
    // Modules stay loaded between mutants, so code that only runs at load time is not tested.
    ignoreStatic: true,
    // Texts are for people, and the compiler checks tags.
    mutator: { excludedMutations: ["StringLiteral"] },
    concurrency: Number(process.env.MUTATE_CONCURRENCY ?? 2),
    // What a mutant leaves behind, such as a child or a socket, must not affect all later ones.
    maxTestRunnerReuse: 60,
    timeoutMS: 2 * timeoutOf(tests),
    timeoutFactor: 2,
    ignorePatterns: [".git"],
    tempDirName: ".stryker-tmp",
    reporters: ["json"],
    jsonReporter: { fileName: report },
    logLevel: "error",
    fileLogLevel: "off",
    thresholds: { high: 100, low: breakAt, break: null }
  }).runMutationTest()
  return { results, source: readFileSync(join("src", file), "utf8").split("\n") }
}

const count = (results, ...statuses) => results.filter(({ status }) => statuses.includes(status)).length
const percent = (part, all) => (all === 0 ? "-" : `${((100 * part) / all).toFixed(1)} %`)

mkdirSync(reports, { recursive: true })
let failed = false
for (const target of process.argv.slice(2)) {
  let noticed = 0
  let all = 0
  for (const file of filesOf(target)) {
    const startedAt = performance.now()
    const { results, source } = await runFile(file)
    const killed = count(results, "Killed", "Timeout")
    const survived = results.filter(({ status }) => status === "Survived" || status === "NoCoverage")
    noticed += killed
    all += killed + survived.length
    for (const { location, mutatorName, replacement, status } of survived) {
      const { line, column } = location.start
      console.log(`  src/${file}:${line}:${column} ${status} ${mutatorName}`)
      console.log(`    - ${source[line - 1].trim()}`)
      console.log(`    + ${(replacement ?? "").replaceAll(/\s+/g, " ").slice(0, 160)}`)
    }
    const seconds = Math.round((performance.now() - startedAt) / 1000)
    console.log(
      `${file}: ${killed + survived.length} mutants, ${killed} killed, ${survived.length} survived, ` +
        `${percent(killed, killed + survived.length)}, ${count(results, "Ignored")} ignored, ${seconds} s`
    )
  }
  console.log(`${target}: ${noticed} of ${all} mutants were noticed (${percent(noticed, all)})`)
  failed ||= noticed < (all * breakAt) / 100
}
process.exitCode = failed ? 1 : 0
