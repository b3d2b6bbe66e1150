/** An executor that dials its client: what it asks of the registry, how requests are signed, and when it gives up. */
import { createHash, createHmac } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as AwsKeys from "../../src/remote/AwsKeys.js"
import * as SigV4 from "../../src/remote/SigV4.js"
import { type FakeRelay, fakeRelay, type RawSocket } from "../support/fakeRelay.js"
import { directory } from "../support/files.js"
import { eventually, launch } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"

const id = "env-1"

const answer = (relay: FakeRelay, more: object = {}) => ({
  status: 200,
  body: JSON.stringify({
    environment_id: id,
    url: `${relay.url.replace("http", "ws")}/socket?ticket=secret`,
    transport: "direct_jsonrpc_v1",
    registration_id: "r",
    ...more
  })
})

const keys = { AWS_ACCESS_KEY_ID: "AKID", AWS_SECRET_ACCESS_KEY: "aws-secret", AWS_REGION: "eu-west-1" }

const executor = (relay: FakeRelay, ...args: ReadonlyArray<string>) =>
  launch({
    args: ["--remote", relay.url, "--environment-id", id, "--remote-transport", "direct", "--aws-sigv4", ...args],
    env: { ...keys, AWS_SESSION_TOKEN: "session" }
  })

const setting = Effect.gen(function* () {
  const relay = yield* fakeRelay(id)
  relay.answers = [answer(relay)]
  return relay
})

/** The client's end of a connection. */
const speak = ({ ws }: RawSocket, messages: Array<Json>) => {
  ws.removeAllListeners("message")
  ws.on("message", (data, isBinary) => {
    assert.isFalse(isBinary)
    messages.push(JSON.parse(String(data)))
  })
  return (message: string | Uint8Array) => ws.send(message)
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex")
const hmac = (key: string | Buffer, text: string) => createHmac("sha256", key).update(text).digest()

/** The signature by the specification of Signature Version 4. */
const signature = (request: string, date: string, secret: string, scope: ReadonlyArray<string>) => {
  const toSign = ["AWS4-HMAC-SHA256", date, scope.join("/"), sha256(request)].join("\n")
  const key = scope.reduce<string | Buffer>((key, part) => hmac(key, part), `AWS4${secret}`)
  return hmac(key, toSign).toString("hex")
}

describe("an executor that dials its client", () => {
  it.scopedLive("registers, opens a signed WebSocket, and serves it as any other connection", () =>
    Effect.gen(function* () {
      const relay = yield* setting
      const running = yield* executor(relay)
      const socket = yield* relay.socket(0)
      const [request] = relay.requests
      assert.strictEqual(request?.url, `/cloud/environment/${id}/direct/register`)
      assert.strictEqual(request?.body, '{"transport":"direct_jsonrpc_v1"}')
      const signed = /^AWS4-HMAC-SHA256 Credential=AKID\/\d{8}\/eu-west-1\/execute-api\/aws4_request, SignedHeaders=/
      assert.match(request?.headers.authorization ?? "", signed)
      assert.match(String(request?.headers["x-amz-date"]), /^\d{8}T\d{6}Z$/)
      assert.strictEqual(request?.headers["x-amz-security-token"], "session")
      assert.match(socket.upgrade.headers.authorization ?? "", signed)
      const messages: Array<Json> = []
      const send = speak(socket, messages)
      send('{"id":1,"method":"initialize","params":{"clientName":"x","resumeSessionId":null}}')
      yield* eventually("the answer", () => messages.length === 1)
      send(Buffer.from('{"method":"initialized"}'))
      send("{")
      yield* eventually("the malformed message is answered", () => messages.length === 2)
      const name = `${relay.url.replace("http", "ws")}/socket`
      assert.strictEqual(messages[1].id, -1)
      assert.include(messages[1].error.message, `direct exec-server websocket ${name}`)
      assert.notInclude(JSON.stringify(messages) + running.stderr(), "secret")
      socket.ws.terminate()
      // The same address, without registering again; the session is kept.
      const next = yield* relay.socket(1)
      assert.lengthOf(relay.requests, 1)
      const later: Array<Json> = []
      const { sessionId } = messages[0].result
      speak(
        next,
        later
      )(JSON.stringify({ id: 1, method: "initialize", params: { clientName: "x", resumeSessionId: sessionId } }))
      yield* eventually("the answer", () => later.length === 1)
      assert.strictEqual(later[0].result.sessionId, sessionId)
      running.child.kill("SIGTERM")
      assert.strictEqual(yield* running.exit, 0)
    })
  )

  it.scopedLive("tries again after 503, registers again after 409, and ends after 403", () =>
    Effect.gen(function* () {
      const relay = yield* setting
      relay.refusals.push(503, 409, 403)
      const running = yield* executor(relay)
      assert.strictEqual(yield* running.exit, 1)
      assert.lengthOf(relay.requests, 2)
      const url = `${relay.url.replace("http", "ws")}/socket`
      assert.include(
        running.stderr(),
        `Error: failed to connect to exec-server websocket \`${url}\`: HTTP error: 403 No\n`
      )
      assert.notInclude(running.stderr(), "secret")
    })
  )

  it.scopedLive("registers again after 403 once it has served, and ends if somebody else has its place", () =>
    Effect.gen(function* () {
      const relay = yield* setting
      const running = yield* executor(relay)
      const first = yield* relay.socket(0)
      relay.answers = [{ status: 401, body: "" }, answer(relay), { status: 409, body: "" }]
      relay.refusals.push(403, 404)
      first.ws.terminate()
      const { ws } = yield* relay.socket(1)
      assert.lengthOf(relay.requests, 3)
      relay.refusals.push(409)
      ws.terminate()
      assert.strictEqual(yield* running.exit, 1)
      assert.include(running.stderr(), "Error: environment registry request failed (409 Conflict)")
    })
  )

  it.scopedLive("refuses answers that it cannot use", () =>
    Effect.gen(function* () {
      const relay = yield* setting
      const refused = [
        [answer(relay, { environment_id: "other" }), "environment registry returned a different environment id"],
        [answer(relay, { transport: "X" }), "environment registry returned unsupported direct transport `X`"],
        [answer(relay, { url: "ws://example.com" }), "remote transport requires wss for non-loopback endpoints"],
        [answer(relay, { registration_id: undefined }), "environment registry answered without `registration_id`"],
        [{ status: 503, body: "" }, "environment registry request failed (503 Service Unavailable)"]
      ] as const
      for (const [given, text] of refused) {
        relay.answers = [given]
        const running = yield* executor(relay)
        assert.strictEqual(yield* running.exit, 1)
        assert.include(running.stderr(), `Error: ${text}`)
      }
      assert.lengthOf(relay.requests, refused.length)
    })
  )

  it.scopedLive("says which settings do not fit together", () =>
    Effect.gen(function* () {
      const remote = ["--remote", "http://127.0.0.1:1", "--environment-id", id]
      const cases = [
        [[...remote, "--remote-transport", "direct"], "--remote-transport direct requires --aws-sigv4"],
        [[...remote, "--aws-sigv4"], "--aws-sigv4 requires --remote-transport direct"],
        [["--aws-region", "x"], "--aws-region requires --remote"],
        [
          [...remote, "--remote-transport", "direct", "--aws-sigv4", "--remote-profile", "noise"],
          "--remote-profile means nothing with --remote-transport direct"
        ],
        [
          ["--remote", "http://example.com", "--environment-id", id, "--remote-transport", "direct", "--aws-sigv4"],
          "refusing to send signed requests over plain http"
        ]
      ] as const
      for (const [args, text] of cases) {
        const running = yield* launch({ args })
        assert.strictEqual(yield* running.exit, 2)
        assert.include(running.stderr(), text)
      }
    })
  )
})

const options = { profile: undefined, region: undefined, service: "execute-api", variables: keys, insecure: false }

describe("a signature", () => {
  it.effect("covers the method, the path, the query, three headers and the body", () =>
    Effect.gen(function* () {
      const request = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" } as const
      const signed = yield* SigV4.make(options).headers(new URL("https://host.example:8443/a/b?y=2&x=1"), request)
      const date = signed["x-amz-date"] ?? ""
      const canonical = [
        "POST",
        "/a/b",
        "x=1&y=2",
        "content-type:application/json",
        "host:host.example:8443",
        `x-amz-date:${date}`,
        "",
        "content-type;host;x-amz-date",
        sha256("{}")
      ].join("\n")
      const scope = [date.slice(0, 8), "eu-west-1", "execute-api", "aws4_request"]
      assert.deepStrictEqual(signed, {
        "x-amz-date": date,
        authorization:
          `AWS4-HMAC-SHA256 Credential=AKID/${scope.join("/")}, SignedHeaders=content-type;host;x-amz-date, ` +
          `Signature=${signature(canonical, date, "aws-secret", scope)}`
      })
    })
  )

  it.scoped("takes its keys from the environment, or from a profile", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const { mkdirSync, writeFileSync } = yield* Effect.promise(() => import("node:fs"))
      mkdirSync(`${folder}/.aws`)
      writeFileSync(`${folder}/.aws/credentials`, "[default]\naws_access_key_id = D\naws_secret_access_key = s\n[p]\n")
      writeFileSync(
        `${folder}/.aws/config`,
        "[default]\nregion = r1\n[profile p]\nregion=r2\naws_access_key_id=P\naws_secret_access_key=s\n"
      )
      const request = { method: "GET", headers: {}, body: undefined } as const
      const scopeWith = (more: Partial<AwsKeys.Options>) =>
        SigV4.make({ ...options, variables: { HOME: folder }, ...more })
          .headers(new URL("https://x"), request)
          .pipe(
            Effect.match({
              onFailure: ({ message }) => message,
              onSuccess: ({ authorization = "" }) =>
                /Credential=(\w+)\/\d+\/([\w-]+)/.exec(authorization)?.slice(1).join(" ")
            })
          )
      assert.strictEqual(yield* scopeWith({}), "D r1")
      assert.strictEqual(yield* scopeWith({ profile: "p" }), "P r2")
      assert.strictEqual(yield* scopeWith({ variables: { HOME: folder, AWS_PROFILE: "p" } }), "P r2")
      assert.strictEqual(yield* scopeWith({ variables: { ...keys, HOME: folder } }), "AKID eu-west-1")
      assert.strictEqual(yield* scopeWith({ variables: { ...keys, HOME: folder }, profile: "p", region: "z" }), "P z")
      assert.include(
        yield* scopeWith({ profile: "none", region: "z" }),
        "no AWS keys in the environment, nor in the profile none"
      )
      assert.include(yield* scopeWith({ variables: { HOME: "/nowhere" } }), "--aws-region")
      const plain = AwsKeys.check(options, new URL("http://example.com"))
      assert.isTrue(Either.isLeft(plain))
      assert.isTrue(Either.isRight(AwsKeys.check(options, new URL("http://127.0.0.1:1"))))
    })
  )
})
