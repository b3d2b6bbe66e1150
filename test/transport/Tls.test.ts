import { writeFileSync } from "node:fs"
import { request } from "node:https"
import { join } from "node:path"
import { connect } from "node:tls"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { WebSocket } from "ws"
import * as Tls from "../../src/transport/Tls.js"
import { selfSigned } from "../support/certificate.js"
import { exposed, folder } from "../support/exposed.js"
import { answer, ends } from "../support/raw.js"
import { connectTo, rawSocket } from "../support/servers.js"

/** A certificate and its key in files. */
const files = Effect.map(folder, (path) => {
  const { cert, key, privateKey } = selfSigned()
  const certFile = join(path, "cert.pem")
  const keyFile = join(path, "key.pem")
  writeFileSync(certFile, cert)
  writeFileSync(keyFile, key)
  return { path, certFile, keyFile, cert, privateKey }
})

describe("TLS", () => {
  it.scopedLive("carries the same protocol; the address says so", () =>
    Effect.gen(function* () {
      const tls = yield* files
      const url = yield* exposed({ options: { tls } })
      assert.match(url, /^wss:\/\/127\.0\.0\.1:\d+$/)
      const client = yield* connectTo(url, { ca: tls.cert })
      yield* client.handshake()
      assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
      client.post("nope", "x".repeat(2_000_000))
      assert.strictEqual((yield* client.reply(3)).error.code, -32601)
      const ready = yield* Effect.async<number | undefined>((resume) => {
        request(`${url.replace("wss:", "https:")}/readyz`, { ca: tls.cert, agent: false }, (response) => {
          response.resume()
          resume(Effect.succeed(response.statusCode))
        }).end()
      })
      assert.strictEqual(ready, 200)
    })
  )

  it.scopedLive("is not spoken by those who do not, and not trusted by those who should not", () =>
    Effect.gen(function* () {
      const url = yield* exposed({ options: { tls: yield* files } })
      const plain = yield* rawSocket(url)
      plain.write("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
      assert.notInclude((yield* ends(plain)).toString(), "HTTP/1.1 200")
      const refused = yield* Effect.async<string>((resume) => {
        new WebSocket(url).once("error", (error) => resume(Effect.succeed(error.message)))
      })
      assert.match(refused, /self.signed/)
    })
  )

  it.scopedLive("accepted connections outlive the time of those that are not: before, in and after the handshake", () =>
    Effect.gen(function* () {
      const tls = yield* files
      const url = yield* exposed({ options: { tls }, session: { handshakeTimeoutMs: 1500 } })
      const good = yield* connectTo(url, { ca: tls.cert })
      yield* good.handshake()
      const silent = yield* rawSocket(url)
      const begun = yield* rawSocket(url)
      // The head of a record of a handshake, and nothing more.
      begun.write(Buffer.from([0x16, 3, 1, 2, 0]))
      const secured = yield* Effect.acquireRelease(
        Effect.sync(() => connect({ port: Number(new URL(url).port), host: "127.0.0.1", ca: tls.cert })),
        (socket) => Effect.sync(() => socket.destroy())
      )
      secured.on("error", () => {})
      for (const socket of [silent, begun, secured]) yield* ends(socket)
      assert.deepStrictEqual(yield* good.ask("environment/status"), { status: "ready" })
    })
  )
})

describe("files that are no certificate and key", () => {
  it.scoped("are told in one line, which names the file and nothing of its content", () =>
    Effect.gen(function* () {
      const { path, certFile, keyFile, privateKey } = yield* files
      const other = yield* files
      const put = (name: string, content: string | Buffer) => {
        writeFileSync(join(path, name), content)
        return join(path, name)
      }
      const empty = put("empty", "")
      const junk = put("junk", "hunter2")
      const locked = put(
        "locked",
        privateKey.export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "hunter2" })
      )
      const der = put("der", privateKey.export({ type: "pkcs8", format: "der" }))
      const missing = join(path, "missing")
      const noFile = "No such file or directory (os error 2)"
      const notCertificate = (file: string) => `the TLS certificate ${file} is no certificate in PEM`
      const notKey = (file: string) => `the TLS key ${file} is no private key in PEM without a passphrase`
      for (const [cert, key, message] of [
        [missing, keyFile, `cannot read the TLS certificate ${missing}: ${noFile}`],
        [certFile, missing, `cannot read the TLS key ${missing}: ${noFile}`],
        [empty, keyFile, notCertificate(empty)],
        [junk, keyFile, notCertificate(junk)],
        [keyFile, keyFile, notCertificate(keyFile)],
        [certFile, empty, notKey(empty)],
        [certFile, junk, notKey(junk)],
        [certFile, certFile, notKey(certFile)],
        [certFile, locked, notKey(locked)],
        [certFile, der, notKey(der)],
        [certFile, other.keyFile, `the TLS key ${other.keyFile} does not belong to the certificate ${certFile}`]
      ] as const) {
        const loaded = yield* Effect.either(Tls.load({ certFile: cert, keyFile: key }))
        assert.strictEqual(Either.isLeft(loaded) ? loaded.left.message : "it was loaded", message)
      }
      yield* Tls.load({ certFile, keyFile })
    })
  )

  it.scopedLive("keep the server from listening at all", () =>
    Effect.gen(function* () {
      const { certFile } = yield* files
      const result = yield* Effect.either(exposed({ options: { tls: { certFile, keyFile: certFile } } }))
      assert.isTrue(Either.isLeft(result) && result.left._tag === "ListenError")
      assert.strictEqual((yield* answer(`${yield* exposed()}/readyz`)).status, 200)
    })
  )
})
