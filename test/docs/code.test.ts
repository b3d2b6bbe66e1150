/**
 * The TypeScript of the pages: all of it is type-checked. Programs are run on the build, and print what the page shows;
 * tests are run by vitest; one that serves until it is told to end is told so once it listens.
 */
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { transformSync } from "esbuild"
import ts from "typescript"
import { nowhere } from "../support/command.js"
import { type Block, pages, root } from "../support/pages.js"
import { connected } from "../support/servers.js"
import { listens, patternOf, portsOf, withPorts } from "../support/shell.js"

const where = ({ page, line }: Block) => `${page}:${line}`

/** The code of the pages, each with what the page shows of its output. */
const codes = pages.flatMap(({ blocks }) =>
  blocks.flatMap((block, index) => {
    const next = blocks[index + 1]
    const shown = next?.language === "text" && next.heading === block.heading ? next.text : undefined
    return block.language === "ts" ? [{ block, shown, id: `${block.page.replaceAll(/\W/g, "-")}-${block.line}` }] : []
  })
)

const isTest = ({ block }: (typeof codes)[number]) => block.text.includes('from "@effect/vitest"')

const isProgram = ({ block }: (typeof codes)[number]) => /runMain\(|runPromise\(/.test(block.text)

/** What the compiler says of the blocks, as if each were a file of the package. */
const faults = (): ReadonlyArray<string> => {
  const { config } = ts.readConfigFile(`${root}tsconfig.json`, (path) => readFileSync(path, "utf8"))
  const files = new Map(codes.map(({ block, id }) => [`${root}docs/${id}.ts`, block]))
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files: [...files.keys()] }, ts.sys, root)
  const host = ts.createCompilerHost(options)
  const { getSourceFile, fileExists } = host
  host.fileExists = (path) => files.has(path) || fileExists(path)
  host.getSourceFile = (path, ...rest) => {
    const block = files.get(path)
    return block === undefined
      ? getSourceFile(path, ...rest)
      : ts.createSourceFile(path, block.text, ts.ScriptTarget.ES2022)
  }
  const program = ts.createProgram([...files.keys()], options, host)
  return [...files].flatMap(([path, block]) => {
    const source = program.getSourceFile(path)
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(
      ({ messageText, start = 0 }) =>
        `${block.page}:${block.line + block.text.slice(0, start).split("\n").length - 1}: ` +
        ts.flattenDiagnosticMessageText(messageText, "\n")
    )
  })
}

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs Node.js in the folder of the package, where its own name leads to the build. */
const node = (args: ReadonlyArray<string>, input: string, onStart: (end: () => void) => void = () => {}) =>
  Effect.async<Ended>((resume) => {
    const child = spawn(process.execPath, args, { cwd: root, env: { ...process.env, ...nowhere, NO_COLOR: "1" } })
    let stdout = ""
    let stderr = ""
    child.stdout.on("data", (chunk) => {
      stdout += chunk
    })
    child.stderr.on("data", (chunk) => {
      stderr += chunk
    })
    child.once("close", (code) => resume(Effect.succeed({ code, stdout, stderr })))
    child.stdin.end(input)
    onStart(() => child.kill("SIGTERM"))
    return Effect.sync(() => child.kill("SIGKILL"))
  }).pipe(Effect.timeout("40 seconds"), Effect.orDie)

describe("the TypeScript of the pages", () => {
  it("is type-checked", () => {
    assert.isNotEmpty(codes)
    assert.deepStrictEqual(faults(), [])
  })

  for (const code of codes.filter((code) => isProgram(code) && !isTest(code))) {
    const { block, shown } = code
    it.scopedLive(`runs: ${where(block)}`, () =>
      Effect.gen(function* () {
        const ports = yield* portsOf(block.text)
        const serves = /launch\(/.test(block.text)
        // What a client of the page connects to is there.
        const text = /layerWebSocket\(/.test(block.text)
          ? block.text.replaceAll(/ws:\/\/127\.0\.0\.1:\d+/g, (yield* connected()).server.url)
          : withPorts(block.text, ports)
        const { code: program } = transformSync(text, { loader: "ts", format: "esm", target: "node20" })
        const ended = yield* node(["--input-type=module", "-"], program, (end) => {
          if (!serves) return
          for (const port of ports.values()) Effect.runPromise(listens(port)).then(end, end)
        })
        assert.strictEqual(ended.code, 0, `${where(block)}: ${ended.stdout}${ended.stderr}`)
        if (shown !== undefined) assert.match(ended.stdout, patternOf(shown), where(block))
        else assert.isTrue(serves, `${where(block)} shows nothing of what it prints: ${ended.stdout}`)
      })
    )
  }

  it.live("has tests that pass", () =>
    Effect.gen(function* () {
      const tests = codes.filter(isTest)
      if (tests.length === 0) return
      // In the package, so that its own name leads to the build.
      const folder = mkdtempSync(join(root, "dist", "docs-"))
      for (const { block, id } of tests) writeFileSync(join(folder, `${id}.test.ts`), block.text)
      writeFileSync(join(folder, "vitest.config.mjs"), 'export default { test: { include: ["*.test.ts"] } }')
      const vitest = join(root, "node_modules/vitest/vitest.mjs")
      const { code, stdout, stderr } = yield* Effect.ensuring(
        node([vitest, "run", "--root", folder, "--reporter", "verbose"], ""),
        Effect.sync(() => rmSync(folder, { recursive: true }))
      )
      assert.strictEqual(code, 0, stdout + stderr)
      assert.match(stdout, new RegExp(`Test Files +${tests.length} passed`))
    })
  )
})
