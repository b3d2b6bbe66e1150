/**
 * Runs the shell blocks of a page as if pasted: in one shell, from the top, in a folder of their own, with
 * `exec-server` on the PATH. Addresses on the page get free ports.
 */
import { spawn } from "node:child_process"
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { connect, createServer } from "node:net"
import { join } from "node:path"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { nowhere } from "./command.js"
import { directory } from "./files.js"
import type { Block, Page } from "./pages.js"
import { binary } from "./servers.js"

/** A command of a block, and the output that the page shows; undefined if it shows none. */
interface Step {
  readonly where: string
  readonly command: string
  readonly shown: string | undefined
}

/**
 * The commands of a block. In a `console` block each has a prompt before it and its output below; an `sh` block is one
 * command.
 */
const stepsOf = ({ page, line, language, text }: Block): ReadonlyArray<Step> => {
  if (language === "sh") return [{ where: `${page}:${line}`, command: text, shown: undefined }]
  const steps: Array<{ where: string; command: string; shown: string }> = []
  for (const [index, one] of text.split("\n").slice(0, -1).entries()) {
    const last = steps.at(-1)
    if (one.startsWith("$ ")) steps.push({ where: `${page}:${line + index}`, command: `${one.slice(2)}\n`, shown: "" })
    else if (last === undefined) throw new Error(`${page}:${line}: a console block begins with a prompt`)
    else if (one.startsWith("> ") && last.shown === "") last.command += `${one.slice(2)}\n`
    else last.shown += `${one}\n`
  }
  return steps
}

/** A port that was free a moment ago. */
export const freePort = Effect.async<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

/** Waits until a port is listened on. */
export const listens = (port: number): Effect.Effect<void> => {
  const attempt = Effect.async<boolean>((resume) => {
    const socket = connect(port, "127.0.0.1")
    socket.once("connect", () => resume(Effect.succeed(true)))
    socket.once("error", () => resume(Effect.succeed(false)))
    return Effect.sync(() => socket.destroy())
  })
  return attempt.pipe(
    Effect.delay("20 millis"),
    Effect.repeat({ until: (isOpen) => isOpen }),
    Effect.timeout("20 seconds"),
    Effect.catchAll(() => Effect.dieMessage(`nobody listens on ${port}`))
  )
}

const quoted = (text: string) => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&")

/**
 * The expected output as a pattern: `<word>` matches any word, a line of `...` any lines, and a space any number of
 * spaces.
 */
export const patternOf = (shown: string): RegExp => {
  const lines = shown
    .split("\n")
    .slice(0, -1)
    .map((line) =>
      line === "..."
        ? "(?:.*\\n)*?"
        : `${quoted(line)
            .replaceAll(/<[a-z -]+>/g, "\\S+")
            .replaceAll(/ +/g, " +")}\\n`
    )
  return new RegExp(`^${lines.join("")}$`)
}

/** Maps each port on a page to the one used instead. */
export const portsOf = (text: string): Effect.Effect<ReadonlyMap<string, number>> => {
  const shown = new Set(Array.from(text.matchAll(/(?:127\.0\.0\.1:|port: )(\d{4,5})\b/g), ([, port = ""]) => port))
  return Effect.map(
    Effect.forEach(shown, (port) => Effect.map(freePort, (free) => [port, free] as const)),
    (pairs) => new Map(pairs)
  )
}

/** A text with the ports replaced. */
export const withPorts = (text: string, ports: ReadonlyMap<string, number>): string =>
  text.replaceAll(/(127\.0\.0\.1:|port: )(\d{4,5})\b/g, (_, before, port) => `${before}${ports.get(port) ?? port}`)

const shell = (
  folder: string
): Effect.Effect<(command: string) => Effect.Effect<[string, number]>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const bin = join(folder, ".bin")
    const work = join(folder, "work")
    for (const made of [bin, work]) mkdirSync(made)
    const wrapper = join(bin, "exec-server")
    writeFileSync(wrapper, `#!/bin/sh\nexec ${JSON.stringify(process.execPath)} ${JSON.stringify(binary)} "$@"\n`)
    chmodSync(wrapper, 0o755)
    const env = { ...process.env, ...nowhere, PATH: `${bin}:${process.env["PATH"]}`, HOME: work, LC_ALL: "C.UTF-8" }
    const { EXEC_SERVER_URL: _, CODEX_EXEC_SERVER_URL: __, EXEC_SERVER_TOKEN: ___, ...clean } = env
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        // A process group of its own, to kill everything that the page left running.
        spawn("bash", ["--noprofile", "--norc"], { cwd: work, env: clean, detached: true, stdio: "pipe" })
      ),
      (child) =>
        Effect.async<void>((resume) => {
          if (child.exitCode !== null) return resume(Effect.void)
          child.once("exit", () => resume(Effect.void))
          child.stdin.end("kill $(jobs -p) 2>/dev/null; wait\nexit\n")
        }).pipe(
          Effect.timeout("20 seconds"),
          Effect.catchAll(() => Effect.sync(() => void process.kill(-(child.pid ?? 0), "SIGKILL")))
        )
    )
    let said = ""
    let wake = () => {}
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk) => {
        said += chunk
        wake()
      })
    }
    let count = 0
    return (command) =>
      Effect.async<[string, number]>((resume) => {
        const output = join(folder, `output.${++count}`)
        const look = () => {
          const status = new RegExp(`^done ${count} (\\d+)$`, "m").exec(said)?.[1]
          if (status !== undefined) resume(Effect.succeed([readFileSync(output, "utf8"), Number(status)]))
        }
        wake = look
        child.stdin.write(
          `{ (exit \${status:-0})\n${command}} >${output} 2>&1 </dev/null; status=$?; echo "done ${count} $status"\n`
        )
      }).pipe(
        Effect.timeout("30 seconds"),
        Effect.catchAll(() => Effect.dieMessage(`it does not end: ${command}${said}`))
      )
  })

/** Commands that build or test the package itself cannot run within its tests. Their scripts are only looked up. */
export const isOwnScript = ({ language, text }: Block): boolean =>
  language === "sh" && text.split("\n").every((line) => line === "" || /^(npm|npx vitest) /.test(line))

/** Runs all shell blocks of a page. A failure, or unexpected output, is a defect. */
export const runPage = ({ path, blocks }: Page): Effect.Effect<void> =>
  Effect.gen(function* () {
    const steps = blocks
      .filter((block) => (block.language === "sh" || block.language === "console") && !isOwnScript(block))
      .flatMap(stepsOf)
    const folder = yield* directory
    const ports = yield* portsOf(steps.map(({ command }) => command).join("\n"))
    const run = yield* shell(folder)
    for (const [index, { where, command, shown }] of steps.entries()) {
      const [output, status] = yield* run(withPorts(command, ports))
      const text = Array.from(ports).reduce((text, [port, free]) => text.replaceAll(String(free), port), output)
      // A failure must be expected: the next line shows the status.
      if (status !== 0)
        assert.match(steps[index + 1]?.command ?? "", /^echo \$\?/, `${where}: status ${status}: ${text}`)
      if (shown !== undefined) assert.match(text, patternOf(shown), where)
      if (!/&$/m.test(command.trimEnd())) continue
      for (const [, port = ""] of command.matchAll(/127\.0\.0\.1:(\d{4,5})/g)) yield* listens(ports.get(port) ?? 0)
    }
    assert.isNotEmpty(steps, path)
  }).pipe(Effect.scoped)
