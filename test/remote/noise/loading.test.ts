/** Keys of ML-KEM-768 take time to load. Who uses no encrypted relay does not. */
import { spawnSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { binary } from "../../support/servers.js"

const dist = join(binary, "..")

/** Says which modules are loaded, one a line. */
const hooks = `export const load = (url, context, next) => (process._rawDebug(url), next(url, context))`
const data = (source: string) => `data:text/javascript,${encodeURIComponent(source)}`
const register = data(`import { register } from "node:module"; register(${JSON.stringify(data(hooks))})`)

describe("the keys of encrypted relays", () => {
  it("are loaded by no module of the package before they are needed", () => {
    const urlOf = (name: string) => pathToFileURL(join(dist, name)).href
    const names = ["index.js", "remote/Rendezvous.js", "remote/RemoteTransport.js", "remote/noise/NoiseTransport.js"]
    const script = names.map((name) => `await import(${JSON.stringify(urlOf(name))})`).join("\n")
    const { status, stderr } = spawnSync(
      process.execPath,
      ["--import", register, "--input-type=module", "--eval", script],
      { encoding: "utf8" }
    )
    assert.strictEqual(status, 0, stderr)
    const lines = stderr.split("\n")
    const last = lines.indexOf(urlOf("remote/noise/NoiseTransport.js"))
    const keys = lines.findIndex((line) => line.includes("@noble/post-quantum"))
    assert.isAbove(last, lines.indexOf(urlOf("remote/RemoteTransport.js")))
    assert.isAbove(keys, last)
  })

  it("are not in the bundle of a server without remote mode", () => {
    const bundle = (kind: string) =>
      readFileSync(join(dist, readdirSync(dist).find((name) => name.startsWith(`${kind}-`) && /cjs$/.test(name)) ?? ""))
    assert.isFalse(bundle("server").includes("ml_kem768"))
    assert.isTrue(bundle("commands").includes("ml_kem768"))
  })
})
