/** What sessions have besides plain processes, over upgrades of a real server. */
import { createHash, randomBytes } from "node:crypto"
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as ExecClient from "../../src/client/ExecClient.js"
import { bytesOf } from "../../src/client/HeadTail.js"
import { at, entry, readRoot, sandbox } from "../support/sandbox.js"
import { eventually, hasBubblewrap } from "../support/servers.js"
import { temporary, upgradable, versionBeside } from "../support/upgrades.js"

const env = { PATH: process.env["PATH"] ?? "" }

const statesOf = (parent: number) =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const fields = readFileSync(`/proc/${name}/stat`, "latin1").split(") ")[1]?.split(" ") ?? []
        return Number(fields[1]) === parent ? [fields[0]] : []
      } catch {
        return []
      }
    })

describe("over three upgrades", () => {
  it.live(
    "go recordings, restarts, time limits, terminals that are fed, and sandboxes",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporary
        const recordings = join(folder, "recordings")
        const server = yield* upgradable({
          args: [
            "--recordings-dir",
            recordings,
            "--closed-process-retention-ms",
            "300000",
            "--retained-output-bytes-per-process",
            "67108864"
          ]
        })
        const next = yield* versionBeside("9.9.9")
        const client = yield* ExecClient.connectWebSocket({ url: server.url })
        const start = (argv: ReadonlyArray<string>, more: object = {}) =>
          client.start({ argv, cwd: folder, env, ...more })

        const script = `i=0; while [ ! -e ${folder}/stop ]; do echo line $i; i=$((i+1)); done; echo end; exit 6`
        const flood = yield* start(["sh", "-c", script], { record: {} })
        const restarted = yield* start(["sh", "-c", `echo x >> ${folder}/starts; sleep 0.5; exit 1`], {
          restart: { policy: "always", maxRestarts: 4, withinMs: 3_600_000, backoffMs: 300, maxBackoffMs: 300 }
        })
        const limited = yield* start(["sleep", "1000"], { timeoutMs: 6000 })
        const before = performance.now()
        const timing = yield* Effect.fork(Effect.map(limited.closed, (exit) => ({ exit, at: performance.now() })))
        const input = randomBytes(300_000).toString("hex")
        const fed = yield* start(["sh", "-c", "stty raw -echo; echo ready; sleep 3; head -c 600000 | sha256sum"], {
          tty: true
        })
        yield* Effect.fork(fed.write(input))
        const writable = join(folder, "work")
        mkdirSync(writable)
        const rules = sandbox([readRoot, entry(at(writable), "write")])
        const confined = hasBubblewrap
          ? yield* start(["sh", "-c", `sleep 4; echo a > ${writable}/in; echo b > ${folder}/out; exit 8`], {
              sandbox: rules as never
            })
          : undefined
        for (let i = 0; i < 3; i++) {
          if (hasBubblewrap) yield* client.files.readFile("/etc/passwd", { sandbox: rules as never })
          yield* Effect.sleep("300 millis")
          yield* server.upgrade(next)
        }
        const upgraded = performance.now()
        writeFileSync(join(folder, "stop"), "")
        assert.strictEqual((yield* flood.closed).exitCode, 6)
        const hash = createHash("sha256").update(input.slice(0, 600_000)).digest("hex")
        const { exit, terminal } = yield* fed.communicate({})
        assert.strictEqual(exit.exitCode, 0)
        assert.include(bytesOf(terminal).toString(), hash)
        const ended = yield* Fiber.join(timing)
        assert.isTrue(ended.exit.timedOut)
        assert.isAbove(ended.at - before, 5900)
        assert.isBelow(ended.at, upgraded + 6000, "the limit began anew")
        if (confined !== undefined) {
          assert.strictEqual((yield* confined.closed).exitCode, 8)
          assert.strictEqual(readFileSync(join(writable, "in"), "utf8"), "a\n")
        }
        assert.strictEqual((yield* restarted.closed).exitCode, 1)
        assert.strictEqual(readFileSync(join(folder, "starts"), "utf8"), "x\n".repeat(5))
        const [file = ""] = readdirSync(recordings)
        yield* eventually("the recording has ended", () => readFileSync(join(recordings, file), "utf8").includes('"x"'))
        const events = readFileSync(join(recordings, file), "utf8")
          .trim()
          .split("\n")
          .slice(1)
          .map((line) => JSON.parse(line))
        const text = events
          .filter(([, code]) => code === "o")
          .map(([, , data]) => data)
          .join("")
        const lines = text.split("\r\n")
        for (const [index, line] of lines.slice(0, -2).entries()) assert.strictEqual(line, `line ${index}`)
        assert.strictEqual(lines.at(-2), "end")
        yield* eventually("no zombie is left", () => !statesOf(server.pid).includes("Z"))
      }).pipe(Effect.scoped),
    60_000
  )
})
