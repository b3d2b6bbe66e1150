/** Configuration in the pages: files that are read as the server reads them, units and images whose flags there are. */
import { execFile } from "node:child_process"
import { existsSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as EnvironmentConfig from "../../src/environment/EnvironmentConfig.js"
import * as ServerConfig from "../../src/server/ServerConfig.js"
import { directory } from "../support/files.js"
import { type Block, pages } from "../support/pages.js"

const blocks = pages.flatMap(({ blocks }) => blocks)

const of = (language: string) => blocks.filter((block) => block.language === language)

const where = ({ page, line }: Block) => `${page}:${line}`

/** Fails for a flag of the server that there is not; what the other flags say is read as on the command line. */
const reads = (words: ReadonlyArray<string>, what: string) => {
  const texts: { [key: string]: string } = {}
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? ""
    const key = ServerConfig.keys.find((key) => `--${ServerConfig.flagName(key)}` === word)
    if (key === undefined) assert.fail(`${what}: there is no flag ${word}`)
    else texts[key] = ServerConfig.isSwitch(key) ? "true" : (words[++i] ?? "")
  }
  const loaded = ServerConfig.load(texts, {}, undefined)
  assert.isTrue(Either.isRight(loaded), `${what}: ${Either.isLeft(loaded) ? loaded.left.message : ""}`)
}

const run = (file: string, args: ReadonlyArray<string>) =>
  Effect.async<string>((resume) => {
    execFile(file, args, (_, stdout, stderr) => resume(Effect.succeed(stdout + stderr)))
  })

describe("configuration files", () => {
  for (const block of of("toml")) {
    const [name] = /(?<=^# )\S+/.exec(block.text) ?? [""]
    it.scopedLive(`${where(block)}: ${name}`, () =>
      Effect.gen(function* () {
        const file = join(yield* directory, name)
        writeFileSync(file, block.text)
        const read: Either.Either<unknown, { readonly message: string }> =
          name === "environments.toml" ? EnvironmentConfig.load(file) : ServerConfig.load({}, {}, file)
        assert.isTrue(Either.isRight(read), Either.isLeft(read) ? read.left.message : "")
      })
    )
  }

  it("name every key of an environment", () => {
    const text = of("toml").find(({ text }) => text.startsWith("# environments.toml"))?.text ?? ""
    const page = pages.find(({ path }) => path === "docs/configuration.md")?.text ?? ""
    const refused = EnvironmentConfig.parse(`${text}\nnone = 1\n`, "x", "/")
    const known = Either.isLeft(refused) ? Array.from(refused.left.message.matchAll(/`(\w+)`/g), ([, key]) => key) : []
    assert.isAbove(known.length, 5)
    for (const key of known.filter((key) => key !== "none" && key !== "x")) assert.include(page, `\`${key}\``)
  })
})

/** Directives that systemd knows, in their sections: where systemd is installed it is asked itself. */
const directives: { readonly [section: string]: ReadonlyArray<string> } = {
  Unit: ["Description", "After"],
  Service: [
    "User",
    "ExecStart",
    "LogsDirectory",
    "WorkingDirectory",
    "KillMode",
    "TimeoutStopSec",
    "Delegate",
    "Restart",
    "LimitNOFILE"
  ],
  Install: ["WantedBy"]
}

describe("systemd units", () => {
  for (const block of of("ini")) {
    it.scopedLive(where(block), () =>
      Effect.gen(function* () {
        let section = ""
        for (const line of block.text.split("\n").filter((line) => line !== "" && !line.startsWith("#"))) {
          const [, heading] = /^\[(\w+)\]$/.exec(line) ?? []
          if (heading !== undefined) section = heading
          else {
            const [, name = "", value = ""] = /^(\w+)=(.+)$/.exec(line) ?? []
            assert.include(directives[section] ?? [], name, line)
            if (name === "ExecStart") reads(value.split(" ").slice(1), line)
            if (name === "TimeoutStopSec") {
              assert.isAbove(Number(value) * 1000, ServerConfig.defaults.shutdownGracePeriodMs)
            }
          }
        }
        if (!existsSync("/usr/bin/systemd-analyze")) return
        const unit = join(yield* directory, "exec-server.service")
        // The program and the user of the page are not those of this machine.
        writeFileSync(unit, block.text.replace("/usr/local/bin/exec-server", "/bin/true").replace(/^User=.*\n/m, ""))
        const said = yield* run("/usr/bin/systemd-analyze", ["verify", unit])
        assert.notInclude(said, "exec-server.service", said)
      })
    )
  }
})

const instructions = ["FROM", "RUN", "COPY", "USER", "WORKDIR", "EXPOSE", "ENTRYPOINT", "CMD"]

describe("container files", () => {
  for (const block of of("dockerfile")) {
    it(where(block), () => {
      const lines = block.text.replaceAll(/\\\n/g, "").trim().split("\n")
      assert.match(lines[0] ?? "", /^FROM node:(2[0-9])-/)
      for (const line of lines) {
        const [, instruction = "", rest = ""] = /^([A-Z]+) (.+)$/.exec(line) ?? []
        assert.include(instructions, instruction, line)
        if (instruction === "ENTRYPOINT") assert.deepStrictEqual(JSON.parse(rest), ["exec-server"])
        if (instruction === "CMD") reads(JSON.parse(rest), line)
      }
    })
  }
})
