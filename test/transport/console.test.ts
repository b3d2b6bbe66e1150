/** The web console over HTTP: its files, who may connect from it, downloads of recordings, and failed logins. */
import { createHash, createHmac } from "node:crypto"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { request } from "node:http"
import { createConnection, type Socket } from "node:net"
import { join } from "node:path"
import { brotliCompressSync, gzipSync } from "node:zlib"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { WebSocket } from "ws"
import * as RecordingStore from "../../src/session/RecordingStore.js"
import * as Authenticator from "../../src/transport/Authenticator.js"
import { ConsolePage, type Page } from "../../src/transport/ConsolePage.js"
import { selfSigned } from "../support/certificate.js"
import { exposed, folder } from "../support/exposed.js"
import { asks, upgrade } from "../support/raw.js"
import { eventually, rawSocket, webSocketServer } from "../support/servers.js"

const script = "export {}\n".repeat(50)

/** A folder of built pages, with a secret beside it. */
const built = Effect.map(folder, (outside) => {
  const inside = join(outside, "console")
  mkdirSync(inside)
  writeFileSync(join(outside, "secret-1.js"), "secret")
  writeFileSync(join(inside, "index.html"), '<script nonce="__NONCE__"></script><style nonce="__NONCE__"></style>')
  writeFileSync(join(inside, "main-ABC.js"), script)
  writeFileSync(join(inside, "main-ABC.js.br"), brotliCompressSync(script))
  writeFileSync(join(inside, "main-ABC.js.gz"), gzipSync(script))
  writeFileSync(join(inside, "style-ABC.css"), "")
  return inside
})

const sha256 = (text: string) => createHash("sha256").update(text).digest()

const operator = "operator-token"

/** A signed token with these claims. */
const signed = (claims: object, secret: string) => {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")
  const content = `${part({ alg: "HS256" })}.${part(claims)}`
  return `${content}.${createHmac("sha256", secret).update(content).digest("base64url")}`
}

/** A server with a console, open to its own user unless `auth` says otherwise. */
const server = (page: Page = {}, auth: Layer.Layer<never, Authenticator.SecretError> = Layer.empty) =>
  Effect.flatMap(built, (pages) => {
    const console = Layer.succeed(ConsolePage, { folder: pages, operatorSha256: sha256(operator), ...page })
    return exposed({
      auth: Layer.provideMerge(Authenticator.layerConsole, Layer.merge(console, auth)),
      session: { handshakeTimeoutMs: 20_000 }
    })
  })

/** The whole answer to a request whose path is sent as it is. */
const get = (url: string, path: string, headers: Record<string, string> = {}, method = "GET") =>
  Effect.async<{ status: number; headers: Record<string, string>; body: Buffer }>((resume) => {
    const { hostname, port } = new URL(url)
    const call = request({ hostname, port, path, method, headers, agent: false }, (response) => {
      const parts: Array<Buffer> = []
      response.on("data", (part) => parts.push(part))
      response.on("end", () => {
        const { statusCode = 0, headers } = response
        resume(
          Effect.succeed({ status: statusCode, headers: headers as Record<string, string>, body: Buffer.concat(parts) })
        )
      })
    })
    call.once("error", (error) => resume(Effect.die(error)))
    call.end()
  })

/** The first bytes that a socket receives; it reads no more. */
const receivesOnce = (socket: Socket) =>
  new Promise<string>((resolve) => {
    socket.once("data", (chunk) => {
      socket.pause()
      resolve(String(chunk))
    })
  })

/** The status of an upgrade with these headers, and with a token as browsers send it. */
const opens = (url: string, host: string, origin: string | undefined, token?: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const offer =
        token === undefined
          ? ""
          : `Sec-WebSocket-Protocol: exec-server.v1, bearer.${Buffer.from(token).toString("base64url")}\r\n`
      const head = upgrade("/", `${origin === undefined ? "" : `Origin: ${origin}\r\n`}${offer}`)
      const { status } = yield* asks(yield* rawSocket(url), head.replace("Host: 127.0.0.1", `Host: ${host}`))
      return status
    })
  )

describe("the files of the console", () => {
  it.scopedLive("the page has a nonce of its own and a strict policy, and is not stored", () =>
    Effect.gen(function* () {
      const url = yield* server()
      const [one, other] = [yield* get(url, "/console"), yield* get(url, "/console?query")]
      const nonceOf = ({ body }: typeof one) => /nonce="([^"]+)"/.exec(body.toString())?.[1] ?? ""
      assert.notStrictEqual(nonceOf(one), nonceOf(other))
      assert.notInclude(one.body.toString(), "__NONCE__")
      assert.strictEqual(
        one.headers["content-security-policy"],
        `default-src 'none'; script-src 'self'; style-src 'self' 'nonce-${nonceOf(one)}'; style-src-attr 'unsafe-inline'; ` +
          "img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; " +
          "frame-ancestors 'none'; require-trusted-types-for 'script'"
      )
      assert.include(one.headers, {
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin"
      })
      const head = yield* get(url, "/console", {}, "HEAD")
      assert.strictEqual(head.headers["content-length"], one.headers["content-length"])
      assert.strictEqual(head.body.length, 0)
    })
  )

  it.scopedLive("a file comes in an encoding that was offered, and may be kept", () =>
    Effect.gen(function* () {
      const url = yield* server()
      for (const [offer, encoding] of [
        ["gzip, deflate, br", "br"],
        ["GZIP", "gzip"],
        ["br;q=0, gzip;q=0.5", "gzip"],
        ["identity", undefined]
      ] as const) {
        const answer = yield* get(url, "/console/main-ABC.js", { "accept-encoding": offer })
        assert.strictEqual(answer.headers["content-encoding"], encoding, offer)
        assert.strictEqual(answer.headers["vary"], "accept-encoding")
        assert.match(answer.headers["cache-control"] ?? "", /immutable/)
        assert.match(answer.headers["content-type"] ?? "", /^text\/javascript/)
      }
      const plain = yield* get(url, "/console/main-ABC.js")
      assert.strictEqual(plain.body.toString(), script)
      const style = yield* get(url, "/console/style-ABC.css", { "accept-encoding": "br" })
      assert.deepStrictEqual([style.status, style.headers["content-encoding"]], [200, undefined])
    })
  )

  it.scopedLive("only these are there, for reading only, below any prefix", () =>
    Effect.gen(function* () {
      const url = yield* server()
      for (const path of [
        "/console/index.html",
        "/console/main-ABC.js.br",
        "/console/other-ABC.js",
        "/console/../secret-1.js",
        "/console/..%2fsecret-1.js",
        "/console//main-ABC.js",
        "/console/x/main-ABC.js",
        "/console/recordings/x.cast"
      ]) {
        assert.strictEqual((yield* get(url, path)).status, 404, path)
      }
      for (const method of ["POST", "PUT", "OPTIONS"]) {
        const { status, headers } = yield* get(url, "/console", {}, method)
        assert.deepStrictEqual([status, headers["allow"]], [405, "GET, HEAD"])
      }
      const { status, headers } = yield* get(url, "/console/")
      assert.deepStrictEqual([status, headers["location"]], [308, "../console"])
      assert.strictEqual((yield* get(yield* exposed(), "/console")).status, 404)
    })
  )

  it.scopedLive("a host that another may own, or a foreign page, gets none", () =>
    Effect.gen(function* () {
      const url = yield* server({}, Authenticator.layerCapabilityToken({ sha256: sha256("client").toString("hex") }))
      for (const host of ["127.0.0.1", "localhost:1", "[::1]"]) {
        assert.strictEqual((yield* get(url, "/console", { host })).status, 200, host)
      }
      for (const host of ["evil.example", "192.0.2.1", "name"]) {
        const { status, body } = yield* get(url, "/console", { host })
        assert.strictEqual(status, 403)
        assert.include(body.toString(), "--public-url")
      }
      assert.strictEqual((yield* get(url, "/console", { origin: "http://evil.example" })).status, 403)
    })
  )
})

describe("clients that take nothing", () => {
  it.scopedLive("share one copy of a file", () =>
    Effect.gen(function* () {
      const pages = yield* folder
      const size = 20_000_000
      writeFileSync(join(pages, "large-ABC.js"), Buffer.alloc(size, " "))
      const url = yield* server({ folder: pages })
      const before = process.memoryUsage().arrayBuffers
      for (let i = 0; i < 20; i++) {
        const socket = yield* rawSocket(url)
        const began = receivesOnce(socket)
        socket.write("GET /console/large-ABC.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert.match(yield* Effect.promise(() => began), /^HTTP\/1\.1 200 /)
      }
      assert.isBelow(process.memoryUsage().arrayBuffers - before, 5 * size)
    })
  )
})

describe("connections from the console", () => {
  it.scopedLive("need the own origin, a host that nobody else owns, and a token; other clients need none", () =>
    Effect.gen(function* () {
      const url = yield* server({ publicUrl: new URL("https://tools.example/exec") })
      const { host } = new URL(url)
      for (const [name, origin, token, status] of [
        [host, undefined, undefined, 101],
        [host, undefined, "unknown", 101],
        [host, `http://${host}`, operator, 101],
        ["localhost:9", "http://localhost:9", operator, 101],
        [host, "https://tools.example", operator, 101],
        ["tools.example", "https://tools.example", operator, 101],
        [host, `http://${host}`, undefined, 401],
        [host, `http://${host}`, "wrong", 401],
        ["tools.example", undefined, undefined, 401],
        [host, `https://${host}`, operator, 403],
        [host, "http://127.0.0.1:1", operator, 403],
        [host, "http://tools.example", operator, 403],
        [host, "null", operator, 403],
        ["evil.example", "http://evil.example", operator, 403],
        ["192.0.2.1", "http://192.0.2.1", operator, 403]
      ] as const) {
        assert.strictEqual(yield* opens(url, name, origin, token), status, `${name} ${origin} ${token}`)
      }
    })
  )

  it.scopedLive("are refused where there is no console", () =>
    Effect.gen(function* () {
      const url = yield* exposed()
      const { host } = new URL(url)
      assert.strictEqual(yield* opens(url, host, `http://${host}`, operator), 403)
    })
  )
})

describe("failed logins", () => {
  it.scopedLive("are answered late, and not many at a time; who has a token need not wait", () =>
    Effect.gen(function* () {
      const url = yield* exposed({
        auth: Authenticator.layerCapabilityToken({ sha256: sha256("right").toString("hex") })
      })
      const ask = (token: string) => get(url, "/", { authorization: `Bearer ${token}` })
      const began = Date.now()
      assert.strictEqual((yield* ask("wrong")).status, 401)
      assert.isAtLeast(Date.now() - began, 240)
      const [wrong, right] = yield* Effect.all(
        [
          Effect.all(
            Array.from({ length: 40 }, () => ask("wrong")),
            { concurrency: 40 }
          ),
          ask("right")
        ],
        { concurrency: 2 }
      )
      assert.strictEqual(right.status, 400)
      const limited = wrong.filter(({ status }) => status === 429)
      assert.isAtLeast(limited.length, 20)
      assert.isTrue(limited.every(({ headers }) => headers["retry-after"] === "1"))
      assert.strictEqual(wrong.filter(({ status }) => status === 401).length, 40 - limited.length)
    })
  )
})

describe("downloads of recordings", () => {
  const recordingId = "0123456789abcdef0123456789abcdef"
  const origin = { session: "s-1", processId: "p1", argv: ["true"] }
  const header = JSON.stringify({ version: 3, term: { cols: 80, rows: 24 }, timestamp: 1, exec_server: origin })

  it.scopedLive("are for those who may read recordings", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      const content = `${header}\n${'[0.1, "o", "hello"]\n'.repeat(20_000)}`
      writeFileSync(join(directory, `${recordingId}.cast`), content)
      const viewerFile = join(yield* folder, "viewer")
      writeFileSync(viewerFile, "viewer-token", { mode: 0o600 })
      const client = Authenticator.layerCapabilityToken({ sha256: sha256("client").toString("hex") })
      const store = RecordingStore.layer(directory).pipe(Layer.orDie)
      const url = yield* server(
        {},
        Layer.merge(store, Layer.provideMerge(Authenticator.layerRoleTokens({ viewerFile }), client))
      )
      const path = `/console/recordings/${recordingId}.cast`
      const ask = (token: string, name = path, method = "GET") =>
        get(url, name, token === "" ? {} : { authorization: `Bearer ${token}` }, method)
      for (const [token, status] of [
        ["", 401],
        ["wrong", 401],
        ["client", 403],
        ["viewer-token", 200],
        [operator, 200]
      ] as const) {
        const answer = yield* ask(token)
        assert.strictEqual(answer.status, status, token)
        if (status === 200) assert.strictEqual(answer.body.toString(), content)
      }
      const head = yield* ask(operator, path, "HEAD")
      assert.strictEqual(head.headers["content-length"], String(content.length))
      assert.strictEqual(head.headers["cache-control"], "no-store")
      assert.strictEqual((yield* ask(operator, path.replace("0", "f"))).status, 404)
      assert.strictEqual((yield* ask(operator, path, "POST")).status, 405)
    })
  )

  it.scopedLive("are for nobody whose token is for one session or process, or has expired", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      writeFileSync(join(directory, `${recordingId}.cast`), `${header}\n`)
      const secretFile = join(yield* folder, "secret")
      const secret = "s".repeat(32)
      writeFileSync(secretFile, secret, { mode: 0o600 })
      const url = yield* server(
        {},
        Layer.merge(
          RecordingStore.layer(directory).pipe(Layer.orDie),
          Authenticator.layerSignedBearerToken({ secretFile })
        )
      )
      const exp = Math.floor(Date.now() / 1000) + 60
      for (const [claims, status] of [
        [{ role: "viewer", exp }, 200],
        [{ role: "operator", exp }, 200],
        [{ role: "viewer", session: "s-1", processId: "p1", exp }, 403],
        [{ role: "operator", session: "s-1", exp }, 403],
        [{ role: "client", exp }, 403],
        [{ role: "viewer", exp: exp - 300 }, 401]
      ] as const) {
        const authorization = `Bearer ${signed(claims, secret)}`
        const answer = yield* get(url, `/console/recordings/${recordingId}.cast`, { authorization })
        assert.strictEqual(answer.status, status, `${JSON.stringify(claims)} ${answer.body}`)
      }
    })
  )

  it.scopedLive("are so many at a time; one that is left makes room", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      writeFileSync(join(directory, `${recordingId}.cast`), `${header}\n${'[0.1, "o", "hello"]\n'.repeat(1_000_000)}`)
      const url = yield* server({}, RecordingStore.layer(directory).pipe(Layer.orDie))
      const path = `/console/recordings/${recordingId}.cast`
      const head = `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${operator}\r\n\r\n`
      const begun = yield* Effect.forEach(Array.from({ length: 32 }), () =>
        Effect.gen(function* () {
          const socket = yield* rawSocket(url)
          const began = receivesOnce(socket)
          socket.write(head)
          assert.match(yield* Effect.promise(() => began), /^HTTP\/1\.1 200 /)
          return socket
        })
      )
      const further = get(url, path, { authorization: `Bearer ${operator}` }, "HEAD")
      const { status, headers } = yield* further
      assert.deepStrictEqual([status, headers["retry-after"]], [429, "1"])
      begun[0]?.destroy()
      yield* further.pipe(
        Effect.repeat({ until: ({ status }) => status === 200, schedule: Schedule.spaced("20 millis") }),
        Effect.timeout("10 seconds")
      )
    })
  )

  it.scopedLive("need a token also where clients need none", () =>
    Effect.gen(function* () {
      const url = yield* server()
      const { status } = yield* get(url, `/console/recordings/${recordingId}.cast`)
      assert.strictEqual(status, 401)
    })
  )
})

describe("the command", () => {
  it.scopedLive("prints the address with a token once, on stderr, and the token is an operator's", () =>
    Effect.gen(function* () {
      const { url, stderr } = yield* webSocketServer()
      yield* eventually("it is printed", () => stderr().includes("console at"))
      const [, base = "", token = ""] =
        /console at (http:\/\/127\.0\.0\.1:\d+)\/console#token=([\w-]{43})\n/.exec(stderr()) ?? []
      assert.strictEqual(base, url.replace("ws:", "http:"))
      assert.strictEqual(stderr().split(token).length, 2)
      assert.strictEqual((yield* get(url, "/console")).status, 200)
      assert.strictEqual(yield* opens(url, new URL(url).host, base, token), 101)
      assert.strictEqual(yield* opens(url, new URL(url).host, base), 401)
      assert.strictEqual(yield* opens(url, new URL(url).host, undefined), 101)
    })
  )

  it.scopedLive("invites over TLS", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const { cert, key } = selfSigned()
      const [certFile, keyFile] = [join(path, "cert.pem"), join(path, "key.pem")]
      writeFileSync(certFile, cert)
      writeFileSync(keyFile, key, { mode: 0o600 })
      const { url, stderr } = yield* webSocketServer({ args: ["--tls-cert", certFile, "--tls-key", keyFile] })
      yield* eventually("it is printed", () => stderr().includes("console at"))
      const [, base = "", token = ""] = /console at (https:\S+)\/console#token=([\w-]{43})\n/.exec(stderr()) ?? []
      assert.strictEqual(base, url.replace("wss:", "https:"))
      const opens = (origin: string) =>
        Effect.promise(() => {
          const bearer = `bearer.${Buffer.from(token).toString("base64url")}`
          const ws = new WebSocket(url, ["exec-server.v1", bearer], { ca: cert, origin })
          return new Promise<boolean>((resolve) => {
            ws.once("open", () => resolve(true)).once("error", () => resolve(false))
          }).finally(() => ws.terminate())
        })
      assert.isTrue(yield* opens(base))
      assert.isFalse(yield* opens(base.replace("https:", "http:")))
    })
  )

  it.scopedLive("invites to a unix socket through a tunnel, at whose port its page has the own origin", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "s.sock")
      const { stderr } = yield* webSocketServer({ listen: `unix://${path}` })
      yield* eventually("it is printed", () => stderr().includes("console at"))
      const [, token = "", tunnel] =
        /console at http:\/\/localhost:8080\/console#token=([\w-]{43}) through a tunnel: (.*)\n/.exec(stderr()) ?? []
      assert.strictEqual(tunnel, `ssh -L 8080:${path} HOST`)
      const through = (host: string) =>
        Effect.gen(function* () {
          const socket = yield* Effect.acquireRelease(
            Effect.sync(() => createConnection(path)),
            (socket) => Effect.sync(() => socket.destroy())
          )
          const offer = `Sec-WebSocket-Protocol: exec-server.v1, bearer.${Buffer.from(token).toString("base64url")}\r\n`
          const head = upgrade("/", `Origin: http://${host}\r\n${offer}`).replace("127.0.0.1", host)
          return (yield* asks(socket, head)).status
        })
      assert.strictEqual(yield* through("localhost:8080"), 101)
      assert.strictEqual(yield* through("127.0.0.1:1234"), 101)
      assert.strictEqual(yield* through("evil.example:8080"), 403)
    })
  )

  it.scopedLive("gives the token to no process, and to no log", () =>
    Effect.gen(function* () {
      const audit = join(yield* folder, "audit")
      const { url, stderr, pid, connect } = yield* webSocketServer({
        args: ["--audit-log", audit, "--log-level", "debug"]
      })
      yield* eventually("it is printed", () => stderr().includes("#token="))
      const token = /#token=([\w-]{43})/.exec(stderr())?.[1] ?? ""
      const client = yield* connect
      yield* client.handshake()
      const { host } = new URL(url)
      assert.strictEqual(yield* opens(url, host, `http://${host}`, token), 101)
      assert.strictEqual(yield* opens(url, host, `http://${host}`, `${token}x`), 401)
      const metrics = yield* get(url, "/metrics")
      for (const text of [
        stderr().replace(token, ""),
        readFileSync(audit, "utf8"),
        metrics.body.toString(),
        readFileSync(`/proc/${pid}/environ`, "latin1"),
        readFileSync(`/proc/${pid}/cmdline`, "latin1")
      ]) {
        assert.notInclude(text, token)
        assert.notInclude(text, Buffer.from(token).toString("base64url"))
      }
    })
  )

  it.scopedLive("has no console if told so", () =>
    Effect.gen(function* () {
      const { url, stderr } = yield* webSocketServer({ args: ["--console", "false"] })
      assert.strictEqual((yield* get(url, "/console")).status, 404)
      assert.notInclude(stderr(), "console")
    })
  )
})
