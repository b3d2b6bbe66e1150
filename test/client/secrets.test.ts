/** Secrets of a client, and connections on which everybody could read them. */
import { chmodSync, readFileSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ExecClient from "../../src/client/ExecClient.js"
import { selfSigned } from "../support/certificate.js"
import { command, isOneLine } from "../support/command.js"
import { failureOf } from "../support/fake.js"
import { directory } from "../support/files.js"
import { hostileServer, metadata, sessionId } from "../support/hostile.js"
import { eventually, webSocketServer } from "../support/servers.js"

/** The same server at an address that is not known to be this machine. */
const elsewhere = (url: string) => url.replace("127.0.0.1", "0.0.0.0")

/** A server, and how often somebody has connected to it. */
const counting = Effect.gen(function* () {
  const seen = { connections: 0 }
  const url = yield* hostileServer({
    initialize: () => {
      seen.connections++
      return undefined
    },
    "fs/getMetadata": () => metadata("directory")
  })
  return { url, seen }
})

describe("a secret and plain ws://", () => {
  it.scopedLive("is refused to another machine before anybody is connected to", () =>
    Effect.gen(function* () {
      const { url, seen } = yield* counting
      const there = elsewhere(url)
      const cases: ReadonlyArray<Parameters<typeof ExecClient.connect>[0]> = [
        { url: there, token: "secret" },
        { url: there, headers: { Authorization: "Bearer secret" } },
        { url: there.replace("//", "//user:secret@") },
        { url: `${there}/?token=secret` },
        { url: `${there}/?role=harness`, token: "secret" },
        { url: `${there.replace("ws:", "relay:")}/env`, token: "secret" },
        { url: "ws://192.0.2.1:1", token: "secret" },
        { url: "ws://localhost.:1", token: "secret" },
        { url: "WS://example.invalid:1", token: "secret" },
        { url: "http://example.invalid:1", token: "secret" }
      ]
      for (const options of cases) {
        const error = yield* failureOf(ExecClient.connect(options))
        assert.strictEqual(error._tag, "InsecureSecret", options.url)
        assert.match(error.message, /use wss:\/\/, or an ssh tunnel .* --insecure/)
        assert.notInclude(error.message, "secret")
      }
      assert.strictEqual(seen.connections, 0)
    })
  )

  it.scopedLive("is sent to this machine, over TLS, and where it is allowed", () =>
    Effect.gen(function* () {
      const url = yield* hostileServer({})
      for (const options of [{ url }, { url: url.replace("127.0.0.1", "localhost") }]) {
        yield* Effect.scoped(ExecClient.connect({ ...options, token: "secret" }))
      }
      yield* Effect.scoped(ExecClient.connect({ url: elsewhere(url), token: "secret", insecure: true }))
      // Without a secret there is nothing to read but the protocol.
      yield* Effect.scoped(ExecClient.connect({ url: elsewhere(url) }))
      const tls = yield* failureOf(ExecClient.connect({ url: url.replace("ws:", "wss:"), token: "secret" }))
      assert.strictEqual(tls._tag, "ConnectFailed")
    })
  )

  it.scopedLive("commands and configured environments likewise, with --insecure and `insecure`", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const url = elsewhere(yield* hostileServer({ "fs/getMetadata": () => metadata("directory") }))
      writeFileSync(`${folder}/token`, "secret", { mode: 0o600 })
      const configured = (insecure: boolean) => {
        const file = `${folder}/${insecure}.toml`
        writeFileSync(
          file,
          `[[environments]]\nid = "x"\nurl = "${url}"\ntoken_file = "token"\ninsecure = ${insecure}\n`
        )
        return ["--environments", file, "--env", "x"]
      }
      const copy = (...args: ReadonlyArray<string>) =>
        command(["cp", ...args, ":/x", `${folder}/y`], { env: { EXEC_SERVER_TOKEN: "secret" } })
      for (const args of [["--url", url], ["--url", url, "--token-file", `${folder}/token`], configured(false)]) {
        const refused = yield* copy(...args)
        assert.strictEqual(refused.code, 1)
        isOneLine(refused.stderr)
        assert.match(refused.stderr, /the token is not sent to .*--insecure/)
      }
      for (const args of [["--insecure", "--url", url], ["--insecure", ...configured(false)], configured(true)]) {
        // It got as far as to ask.
        assert.match((yield* copy(...args)).stderr, /is a directory; give --recursive/)
      }
    })
  )
})

describe("a file with a secret that others may read", () => {
  it.scopedLive("is warned of once by a command, and by nothing that is private", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const url = yield* hostileServer({ "process/list": () => ({ processes: [] }) })
      const file = `${folder}/token`
      const at = ["ps", "--url", url, "--session", sessionId, "--token-file", file]
      writeFileSync(file, "secret")
      for (const [mode, warned] of [
        [0o644, true],
        [0o640, true],
        [0o600, false],
        [0o400, false]
      ] as const) {
        chmodSync(file, mode)
        const { code, stderr } = yield* command(at)
        assert.strictEqual(code, 0, stderr)
        const expected = warned
          ? /^exec-server: warning: others may read or change .*\/token \(mode 06\d\d\).*\n$/
          : /^$/
        assert.match(stderr, expected)
        assert.notInclude(stderr, "secret ")
      }
    })
  )

  it.scopedLive("is warned of by a server: its token, and its key", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const [tokenFile, keyFile, certFile] = [`${folder}/token`, `${folder}/key`, `${folder}/cert`]
      const { cert, key } = selfSigned()
      writeFileSync(tokenFile, "secret")
      writeFileSync(certFile, cert)
      writeFileSync(keyFile, key)
      const args = ["--tls-cert", certFile, "--tls-key", keyFile, "--ws-auth", "capability-token"]
      const listen = "wss://127.0.0.1:0"
      const open = yield* webSocketServer({ listen, args: [...args, "--ws-token-file", tokenFile] })
      yield* eventually("both are warned of", () => open.stderr().split("others may read").length === 3)
      for (const file of [tokenFile, keyFile]) assert.include(open.stderr(), `${file} (mode 0644)`)
      for (const file of [tokenFile, keyFile]) chmodSync(file, 0o600)
      const closed = yield* webSocketServer({ listen, args: [...args, "--ws-token-file", tokenFile] })
      assert.notInclude(closed.stderr(), "others may read")
    })
  )

  it.scopedLive("a program of a configured environment does not get the token for another server", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const file = `${folder}/environments.toml`
      const dump = `${folder}/env`
      writeFileSync(file, `[[environments]]\nid = "x"\nprogram = "sh"\nargs = ["-c", "env > ${dump}"]\n`)
      const env = { EXEC_SERVER_TOKEN: "secret-token", MINE: "mine" }
      yield* command(["run", "--environments", file, "--env", "x", "--", "true"], { env })
      const got = readFileSync(dump, "utf8")
      assert.include(got, "MINE=mine\n")
      assert.notInclude(got, "secret-token")
    })
  )
})
