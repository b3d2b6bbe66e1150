/** The genuine SDK of E2B works unchanged, with and without its control plane. */
import { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { start } from "../support/command.js"
import { directory } from "../support/files.js"
import { eventually } from "../support/servers.js"
import { folderOf, install, installTimeoutMs } from "./support/npm.js"

const version = "2.51.0"

const token = "e2b_0123456789abcdef"

interface Result {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

interface Handle extends Result {
  readonly pid: number
  readonly wait: () => Promise<Result>
  readonly kill: () => Promise<boolean>
  readonly disconnect: () => Promise<void>
  readonly sendStdin: (text: string) => Promise<void>
  readonly closeStdin: () => Promise<void>
}

interface Info {
  readonly name: string
  readonly type: string
  readonly path: string
}

/** What is used of the SDK. */
interface Sandbox {
  readonly sandboxId: string
  readonly isRunning: () => Promise<boolean>
  readonly kill: () => Promise<boolean>
  readonly setTimeout: (ms: number) => Promise<void>
  readonly getInfo: () => Promise<{ readonly metadata: object; readonly state: string }>
  readonly downloadUrl: (path: string, options?: object) => Promise<string>
  readonly uploadUrl: (path: string) => Promise<string>
  readonly commands: {
    readonly run: ((cmd: string, options: { readonly background: true; readonly stdin?: boolean }) => Promise<Handle>) &
      ((cmd: string, options?: object) => Promise<Result>)
    readonly connect: (pid: number, options?: object) => Promise<Handle>
    readonly list: () => Promise<ReadonlyArray<{ readonly pid: number }>>
    readonly kill: (pid: number) => Promise<boolean>
  }
  readonly pty: {
    readonly create: (options: object) => Promise<Handle>
    readonly resize: (pid: number, size: object) => Promise<void>
    readonly sendInput: (pid: number, bytes: Uint8Array) => Promise<void>
  }
  readonly files: {
    readonly write: ((path: string, data: string | ArrayBuffer, options?: object) => Promise<Info>) &
      ((files: ReadonlyArray<object>) => Promise<ReadonlyArray<Info>>)
    readonly read: ((path: string, options: { readonly format: "bytes" }) => Promise<Uint8Array>) &
      ((path: string, options?: object) => Promise<string>)
    readonly list: (path: string, options?: object) => Promise<ReadonlyArray<Info>>
    readonly makeDir: (path: string) => Promise<boolean>
    readonly rename: (from: string, to: string) => Promise<Info>
    readonly remove: (path: string) => Promise<void>
    readonly exists: (path: string) => Promise<boolean>
    readonly watchDir: (
      path: string,
      onEvent: (event: { readonly type: string; readonly name: string }) => void,
      options?: object
    ) => Promise<{ readonly stop: () => Promise<void> }>
  }
}

interface Sdk {
  readonly Sandbox: {
    readonly create: (options: object) => Promise<Sandbox>
    readonly connect: (id: string, options: object) => Promise<Sandbox>
    readonly list: (options: object) => {
      readonly nextItems: () => Promise<ReadonlyArray<{ readonly sandboxId: string }>>
    }
  }
}

const sdk = (): Promise<Sdk> => import(pathToFileURL(join(folderOf("e2b", version), "e2b", "dist", "index.mjs")).href)

/** A sandbox of the SDK, and the options that it was made with. */
const create = (options: object): Effect.Effect<readonly [Sandbox, object], never, Scope.Scope> =>
  Effect.gen(function* () {
    const running = yield* start(
      ["e2b", "--listen", "http://127.0.0.1:0"],
      "apiKey" in options ? { EXEC_SERVER_E2B_TOKEN: token } : {}
    )
    yield* eventually("its address", () => running.stdout().endsWith("\n"))
    const url = running.stdout().trim()
    const all = { sandboxUrl: url, apiUrl: url, ...options }
    const { Sandbox } = yield* Effect.promise(sdk)
    return [
      yield* Effect.promise(() => Sandbox.create({ ...all, envs: { GREETING: "hi" }, metadata: { who: "me" } })),
      all
    ]
  })

/** The name of an error, and what it says. */
const rejection = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "",
    (error: Error) => `${error.name}: ${error.message}`
  )

const test = (name: string, options: object, run: (sandbox: Sandbox, dir: string, options: object) => Promise<void>) =>
  it.scopedLive(name, () =>
    Effect.gen(function* () {
      const [sandbox, all] = yield* create(options)
      const dir = yield* directory
      yield* Effect.promise(() => run(sandbox, dir, all))
    })
  )

describe(`e2b ${version}`, () => {
  beforeAll(() => install("e2b", version), installTimeoutMs)

  describe.each([
    ["in debug mode", { debug: true }],
    ["with the control plane", { apiKey: token }]
  ])("%s", (_, options) => {
    test("commands", options, async ({ commands }, dir) => {
      const heard: Array<string> = []
      const onStdout = (text: string) => heard.push(text)
      const ran = await commands.run("echo $A; pwd; echo err >&2", { envs: { A: "1" }, cwd: dir, onStdout })
      assert.deepInclude(ran, { exitCode: 0, stdout: `1\n${dir}\n`, stderr: "err\n" })
      assert.strictEqual(heard.join(""), ran.stdout)
      assert.match(await rejection(commands.run("exit 3")), /^CommandExitError: exit status 3$/)
      const cat = await commands.run("cat", { background: true, stdin: true })
      assert.include(
        (await commands.list()).map(({ pid }) => pid),
        cat.pid
      )
      const again = await commands.connect(cat.pid)
      await cat.sendStdin("hello\n")
      await cat.closeStdin()
      assert.strictEqual((await cat.wait()).stdout, "hello\n")
      assert.strictEqual((await again.wait()).stdout, "hello\n")
      const sleep = await commands.run("sleep 1000", { background: true })
      assert.isTrue(await sleep.kill())
      assert.match(await rejection(sleep.wait()), /^CommandExitError: signal: killed$/)
      assert.isFalse(await commands.kill(sleep.pid))
      assert.match(
        await rejection(commands.run("sleep 1000", { timeoutMs: 1000 })),
        /^TimeoutError: \[deadline_exceeded\]/
      )
      assert.match(
        await rejection(commands.run("true", { cwd: "/nowhere" })),
        /^InvalidArgumentError: .*'\/nowhere' does not exist/
      )
      assert.match(
        await rejection(commands.run("true", { user: "nobody-here" })),
        /^AuthenticationError: .*'nobody-here'/
      )
      const big = await commands.run("head -c 5000000 /dev/zero | tr '\\0' x")
      assert.strictEqual(big.stdout.length, 5_000_000)
    })

    test("terminals", options, async ({ pty }) => {
      let output = ""
      const onData = (bytes: Uint8Array) => {
        output += Buffer.from(bytes).toString()
      }
      const terminal = await pty.create({ cols: 80, rows: 24, onData, envs: { PS1: "> " } })
      await pty.resize(terminal.pid, { cols: 100, rows: 30 })
      await pty.sendInput(terminal.pid, Buffer.from("stty size; exit 0\n"))
      await terminal.wait()
      assert.include(output, "30 100")
    })

    test("files", options, async ({ files }, dir) => {
      const bytes = randomBytes(3_000_000)
      const written = await files.write(`${dir}/a/big`, new Uint8Array(bytes).buffer)
      assert.deepInclude(written, { path: `${dir}/a/big`, name: "big" })
      assert.isTrue(Buffer.from(await files.read(`${dir}/a/big`, { format: "bytes" })).equals(bytes))
      await files.write([
        { path: `${dir}/one`, data: "1" },
        { path: `${dir}/empty`, data: "" }
      ])
      assert.strictEqual(await files.read(`${dir}/one`), "1")
      assert.strictEqual(await files.read(`${dir}/empty`), "")
      await files.write(`${dir}/zipped`, "z".repeat(1000), { gzip: true })
      assert.strictEqual(await files.read(`${dir}/zipped`), "z".repeat(1000))
      const names = async (path: string, depth: number) => (await files.list(path, { depth })).map(({ name }) => name)
      assert.sameMembers(await names(dir, 1), ["a", "one", "empty", "zipped"])
      assert.include(await names(dir, 2), "big")
      assert.isTrue(await files.makeDir(`${dir}/new`))
      assert.isFalse(await files.makeDir(`${dir}/new`))
      assert.deepInclude(await files.rename(`${dir}/one`, `${dir}/new/two`), { name: "two", type: "file" })
      assert.isTrue(await files.exists(`${dir}/new/two`))
      await files.remove(`${dir}/new`)
      assert.isFalse(await files.exists(`${dir}/new/two`))
      assert.match(await rejection(files.read(`${dir}/none`)), /^FileNotFoundError: .*none/)
      assert.match(await rejection(files.list(`${dir}/none`)), /^FileNotFoundError: .*none/)
    })

    test("watching", options, async ({ files }, dir) => {
      let watched: { readonly stop: () => Promise<void> } | undefined
      await new Promise<void>((resolve, reject) => {
        files
          .watchDir(dir, ({ type, name }) => (type === "write" && name === "f" ? resolve() : undefined))
          .then((handle) => {
            watched = handle
            writeFileSync(`${dir}/f`, "x")
          })
          .catch(reject)
      })
      await watched?.stop()
    })
  })

  test("sandboxes of the control plane", { apiKey: token }, async (sandbox, dir, options) => {
    const { Sandbox } = await sdk()
    assert.isTrue(await sandbox.isRunning())
    assert.strictEqual((await sandbox.commands.run("echo $GREETING")).stdout, "hi\n")
    assert.deepInclude(await sandbox.getInfo(), { metadata: { who: "me" }, state: "running" })
    const listed = await Sandbox.list({ ...options, query: { metadata: { who: "me" } } }).nextItems()
    assert.deepStrictEqual(
      listed.map(({ sandboxId }) => sandboxId),
      [sandbox.sandboxId]
    )
    const again = await Sandbox.connect(sandbox.sandboxId, options)
    assert.strictEqual((await again.commands.run("echo again")).stdout, "again\n")
    await sandbox.setTimeout(60_000)
    writeFileSync(join(dir, "f"), "content")
    const download = await sandbox.downloadUrl(join(dir, "f"), { useSignatureExpiration: 600 })
    assert.strictEqual(await (await fetch(download)).text(), "content")
    const form = new FormData()
    form.append("file", new Blob(["uploaded"]), "g")
    assert.strictEqual(
      (await fetch(await sandbox.uploadUrl(join(dir, "g")), { method: "POST", body: form })).status,
      200
    )
    assert.strictEqual(await sandbox.files.read(join(dir, "g")), "uploaded")
    const sleep = await sandbox.commands.run("sleep 1000", { background: true })
    assert.isTrue(await sandbox.kill())
    assert.match(await rejection(sleep.wait()), /^CommandExitError: signal: killed$/)
    assert.isFalse(await sandbox.isRunning())
    assert.isFalse(await sandbox.kill())
    assert.match(await rejection(Sandbox.connect(sandbox.sandboxId, options)), /^SandboxNotFoundError/)
    assert.match(await rejection(Sandbox.create({ ...options, apiKey: "e2b_00" })), /^AuthenticationError/)
  })
})
