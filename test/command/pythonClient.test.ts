/** `schema --client python`: the client works on every transport, and mypy knows its types. */
import { execFile, spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WebSocketServer } from "ws"
import { selfSigned } from "../support/certificate.js"
import { command, nowhere } from "../support/command.js"
import { page, section } from "../support/pages.js"
import { binary, webSocketServer } from "../support/servers.js"

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/python/${name}`, import.meta.url))

const folder = mkdtempSync(join(tmpdir(), "exec-server-python-"))

beforeAll(() =>
  Effect.runPromise(
    Effect.map(command(["schema", "--client", "python"]), ({ code, stdout }) => {
      assert.strictEqual(code, 0)
      writeFileSync(join(folder, "exec_client.py"), stdout)
    })
  )
)

afterAll(() => rmSync(folder, { recursive: true }))

/** Runs Python, where warnings are errors; a session that hangs is ended. */
const python = (args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = {}) =>
  Effect.async<{ readonly stdout: string; readonly stderr: string }>((resume) => {
    const options = { cwd: folder, timeout: 50_000, env: { ...process.env, ...nowhere, PYTHONPATH: folder, ...env } }
    execFile("python3", ["-B", "-W", "error", ...args], options, (error, stdout, stderr) =>
      resume(Effect.succeed({ stdout, stderr: error === null ? stderr : `${error.message}\n${stderr}` }))
    )
  })

/** Runs a case of the fixture. */
const passes = (args: ReadonlyArray<string>, env?: NodeJS.ProcessEnv) =>
  Effect.map(python([fixture("cases.py"), ...args], env), (ended) =>
    assert.deepStrictEqual(ended, { stdout: "ok\n", stderr: "" })
  )

/** A server of this test. */
const listening = Effect.acquireRelease(
  Effect.async<WebSocketServer>((resume) => {
    const server: WebSocketServer = new WebSocketServer({ host: "127.0.0.1", port: 0 }, () =>
      resume(Effect.succeed(server))
    )
  }),
  (server) => Effect.sync(() => server.close())
)

describe("the Python client", () => {
  it.scopedLive("works on WebSocket", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer({ env: nowhere })
      yield* passes(["served", url])
      yield* passes(["resumed", url])
    })
  )

  it.scopedLive("works on a unix socket", () =>
    Effect.gen(function* () {
      const url = `unix://${folder}/socket`
      yield* webSocketServer({ listen: url, env: nowhere })
      yield* passes(["served", url])
    })
  )

  it.live("works on stdin and stdout of a server that it starts", () => passes(["started", process.execPath, binary]))

  it.scopedLive("is encrypted and authenticated", () =>
    Effect.gen(function* () {
      const { cert, key } = selfSigned()
      const file = (name: string, text: string) => {
        writeFileSync(join(folder, name), text, { mode: 0o600 })
        return join(folder, name)
      }
      const token = "t".repeat(40)
      const certificate = file("cert.pem", cert)
      const tls = ["--tls-cert", certificate, "--tls-key", file("key.pem", key)]
      const authentication = ["--ws-auth", "capability-token", "--ws-token-file", file("token", token)]
      const listen = "wss://127.0.0.1:0"
      const { url } = yield* webSocketServer({ listen, args: [...tls, ...authentication], env: nowhere })
      yield* passes(["encrypted", url, certificate, token])
    })
  )

  it.scopedLive("reads fragments, answers pings, and tells why it was closed", () =>
    Effect.gen(function* () {
      const pongs: Array<string> = []
      const server = yield* listening
      server.on("connection", (socket) => {
        socket.on("pong", (data) => pongs.push(data.toString()))
        socket.on("message", (data) => {
          const { id, method } = JSON.parse(data.toString())
          const answer = (result: object) => JSON.stringify({ id, result })
          if (method === "end") socket.close(1008, "the session was ended")
          else if (method === "large") socket.send(answer({ text: "é".repeat(5_000_000) }))
          else if (method === "initialize") {
            // Within a character as well.
            const bytes = Buffer.from(answer({ sessionId: "é" }))
            const middle = bytes.indexOf(0xc3) + 1
            socket.ping("before")
            socket.send(bytes.subarray(0, middle), { fin: false, binary: false })
            socket.ping("between")
            socket.send(Buffer.alloc(0), { fin: false, binary: false })
            socket.send(bytes.subarray(middle), { fin: true, binary: false })
          }
        })
      })
      const { port } = server.address() as AddressInfo
      yield* passes(["frames", `ws://127.0.0.1:${port}`])
      assert.deepStrictEqual(pongs, ["before", "between"])
    })
  )

  it.scopedLive("ends the connection where the server sends what is wrong", () =>
    Effect.gen(function* () {
      const frame = (first: number, payload: Buffer) => Buffer.concat([Buffer.from([first, payload.length]), payload])
      const text = (value: unknown) => frame(0x81, Buffer.from(JSON.stringify(value)))
      const wrong = [
        frame(0x81, Buffer.from("{")),
        text([]),
        text({ id: -1, error: { code: -32600, message: "what?" } }),
        frame(0x82, Buffer.from("{}")),
        frame(0x80, Buffer.from("{}")),
        frame(0xc1, Buffer.from("{}")),
        frame(0x09, Buffer.from("x")),
        Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x7b, 0x7d]),
        Buffer.from([0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Buffer.from([0x81, 5, 0x7b]),
        Buffer.alloc(0)
      ]
      const left = [...wrong]
      const server = yield* listening
      server.on("connection", (_, { socket }) => {
        // Past the library, which sends nothing of the kind.
        socket.end(left.shift() ?? "")
      })
      const { port } = server.address() as AddressInfo
      yield* passes(["wrong", `ws://127.0.0.1:${port}`], { WRONG: String(wrong.length) })
      assert.isEmpty(left)
    })
  )

  it.scopedLive("does what docs/protocol.md shows", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer({ env: nowhere })
      const shown = section(page("docs/protocol.md"), "A description for machines")
      const [, example = ""] = /```text\n([\s\S]*?)```/.exec(shown) ?? []
      const notes = join(folder, "notes.txt")
      const script = example.replace("ws://127.0.0.1:8080", url).replace("/tmp/notes.txt", notes)
      assert.deepStrictEqual(yield* python(["-c", script]), {
        stdout:
          "{'processes': []}\n[b'a', b'b']\nstdout b'out\\n'\n" +
          "-32004 No such file or directory (os error 2): /nowhere\n",
        stderr: ""
      })
      assert.strictEqual(readFileSync(notes, "utf8"), "notes")
    })
  )
})

/** Always in continuous integration. */
const hasMypy = process.env["CI"] === "true" || spawnSync("mypy", ["--version"]).status === 0

describe.runIf(hasMypy)("mypy", () => {
  /** The lines in which it finds a fault. */
  const found = (path: string) => {
    const args = ["--strict", "--no-error-summary", "--cache-dir", join(folder, "mypy"), path]
    const { stdout, stderr } = spawnSync("mypy", args, {
      cwd: folder,
      encoding: "utf8",
      env: { ...process.env, MYPYPATH: folder }
    })
    assert.strictEqual(stderr, "")
    return Array.from(stdout.matchAll(/:(\d+): error: /g), ([, line]) => Number(line))
  }

  it("finds no fault in the client", () => assert.deepStrictEqual(found(join(folder, "exec_client.py")), []))

  it("finds wrong types, missing and misspelt members, and wrong words", () => {
    const marked = readFileSync(fixture("wrong.py"), "utf8")
      .split("\n")
      .flatMap((line, index) => (line.endsWith("# wrong") ? [index + 1] : []))
    assert.isAbove(marked.length, 5)
    assert.deepStrictEqual(found(fixture("wrong.py")), marked)
  })
})
