/** docs/deploy: what the image is made of is there, and enough. Images themselves are not built here. */
import { spawn, spawnSync } from "node:child_process"
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { createInterface } from "node:readline"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { parse } from "yaml"
import * as ServerFlags from "../../src/command/ServerFlags.js"
import * as ListenConfig from "../../src/server/ListenConfig.js"
import * as ServerConfig from "../../src/server/ServerConfig.js"
import { directory } from "../support/files.js"
import { nobody } from "../support/otherUser.js"
import { root } from "../support/pages.js"
import { connectTo } from "../support/servers.js"

const isRoot = process.getuid?.() === 0

interface Instruction {
  readonly name: string
  readonly rest: string
}

const instructionsOf = (stage: string) =>
  stage.split("\n").flatMap((line): ReadonlyArray<Instruction> => {
    const [, name = "", rest = ""] = /^([A-Z]+) (.*)$/.exec(line) ?? []
    assert.isTrue(line === "" || name !== "", line)
    return line === "" ? [] : [{ name, rest }]
  })

/** The instructions of each stage. */
const stages = readFileSync(`${root}docs/deploy/Containerfile`, "utf8")
  .replace(/^#.*\n/gm, "")
  .replaceAll("\\\n", " ")
  .trim()
  .split(/\n+(?=FROM )/)
  .map(instructionsOf)

const [first = [], last = []] = stages
const all = (stage: ReadonlyArray<Instruction>, name: string) =>
  stage.flatMap((instruction) => (instruction.name === name ? [instruction.rest] : []))
const json = (stage: ReadonlyArray<Instruction>, name: string): ReadonlyArray<string> =>
  JSON.parse(all(stage, name)[0] ?? "")

/** The sources and the destination of a COPY. */
const copies = (stage: ReadonlyArray<Instruction>) =>
  all(stage, "COPY").map((rest) => {
    const words = rest.split(" ")
    const from = words[0]?.startsWith("--from=") ? words.shift() : undefined
    return { from, sources: words.slice(0, -1), to: words.at(-1) ?? "" }
  })

describe("docs/deploy/Containerfile", () => {
  it("has two stages of the same Node.js, and ends as another user than root", () => {
    assert.lengthOf(stages, 2)
    const [one = "", two = ""] = [first, last].map((stage) => all(stage, "FROM")[0])
    assert.match(one, /^docker\.io\/library\/node:(\S+) AS build$/)
    assert.strictEqual(two, one.replace(" AS build", "-slim"))
    assert.deepStrictEqual(all(last, "USER"), ["node"])
  })

  it("copies what there is, and only what git has", () => {
    const ignored = ["dist", "node_modules"]
    for (const { from, sources } of copies(first)) {
      assert.strictEqual(from, undefined)
      for (const source of sources) {
        assert.isTrue(existsSync(`${root}${source}`), source)
        assert.notInclude(ignored, source)
      }
    }
    for (const command of all(first, "RUN")) {
      const [, script] = /^npm run (\S+)/.exec(command) ?? []
      const { scripts } = JSON.parse(readFileSync(`${root}package.json`, "utf8"))
      if (script !== undefined) assert.property(scripts, script)
    }
  })

  it("has flags of a server that listens for everybody with a token", () => {
    const args = json(last, "CMD")
    const given = Option.getOrThrow(ServerFlags.readAlone(args))
    const config = Either.getOrThrow(ServerConfig.load(given.texts, {}, undefined))
    const listen = Either.getOrThrow(ListenConfig.parse(config))
    assert.strictEqual(listen._tag === "WebSocket" && listen.auth._tag, "CapabilityToken")
    assert.include(config.listen, `:${all(last, "EXPOSE")[0]}`)
    assert.include(json(last, "ENTRYPOINT"), "exec-server")
  })

  it.scopedLive("copies enough into the last stage: a server runs there, as another user", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      chmodSync(folder, 0o755)
      for (const { from, sources, to } of copies(last)) {
        assert.strictEqual(from, "--from=build")
        for (const source of sources) {
          const path = source.replace(/^\/app\//, root)
          assert.isTrue(existsSync(path), source)
          mkdirSync(join(folder, dirname(to)), { recursive: true })
          if (source.endsWith("node_modules")) symlinkSync(path, join(folder, to))
          else cpSync(path, join(folder, to), { recursive: true })
        }
      }
      const [, target = "", link = ""] = /^ln -s (\S+) (\S+)$/.exec(all(last, "RUN").at(-1) ?? "") ?? []
      mkdirSync(join(folder, dirname(link)), { recursive: true })
      symlinkSync(join(folder, target), join(folder, link))
      const token = join(folder, "token")
      writeFileSync(token, "correct", { mode: 0o600 })
      const identity = isRoot ? { uid: nobody, gid: nobody } : {}
      if (isRoot) chownSync(token, nobody, nobody)
      const args = json(last, "CMD").map((arg) =>
        arg.replace("8080", "0").replace("0.0.0.0", "127.0.0.1").replace("/run/secrets/token", token)
      )
      const server = yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn(join(folder, link), args, { ...identity, cwd: "/", stdio: ["ignore", "pipe", "ignore"] })
        ),
        (server) => Effect.sync(() => server.kill("SIGTERM"))
      )
      const url = yield* Effect.async<string>((resume) => {
        createInterface({ input: server.stdout }).once("line", (line) => resume(Effect.succeed(line)))
      })
      const client = yield* connectTo(url, { headers: { Authorization: "Bearer correct" } })
      yield* client.handshake()
      yield* client.sh("p", "id -u; exit 3", { tty: true })
      yield* client.closed("p")
      assert.strictEqual((yield* client.exited("p")).exitCode, 3)
      assert.strictEqual(String(client.output("p", "pty")).trim(), String(isRoot ? nobody : process.getuid?.()))
      const [, program = "", ...words] = all(last, "HEALTHCHECK")[0]?.match(/^CMD (.*)$/) ?? []
      assert.deepStrictEqual(words, [])
      const [node = "", ...script] = JSON.parse(program.replace("127.0.0.1:8080", new URL(url).host))
      assert.strictEqual(spawnSync(node, script).status, 0)
      assert.strictEqual(
        spawnSync(
          node,
          script.map((word: string) => word.replace("readyz", "none"))
        ).status,
        1
      )
    })
  )
})

describe("docs/deploy/compose.yaml", () => {
  it("builds that file, and has what its flags name", () => {
    const compose = parse(readFileSync(`${root}docs/deploy/compose.yaml`, "utf8"))
    const service = compose.services["exec-server"]
    assert.isTrue(existsSync(join(root, "docs/deploy", service.build.context, service.build.dockerfile)))
    const [secret] = service.secrets
    assert.property(compose.secrets, secret)
    assert.include(json(last, "CMD"), `/run/secrets/${secret}`)
    const [port] = service.ports
    assert.strictEqual(port.split(":").at(-1), all(last, "EXPOSE")[0])
    for (const volume of service.volumes) assert.property(compose.volumes, volume.split(":")[0])
    const graceMs = ServerConfig.settings.shutdownGracePeriodMs.default
    assert.isAbove(Number.parseInt(service.stop_grace_period, 10) * 1000, graceMs)
  })
})
