/** Configuration in the pages: files that are read as the server reads them. */
import { writeFileSync } from "node:fs"
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
