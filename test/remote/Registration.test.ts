/** Registration: what is sent where, which answers end everything, and in which words. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Registration from "../../src/remote/Registration.js"
import { RemoteAuth } from "../../src/remote/RemoteAuth.js"
import { type Answer, type FakeRelay, fakeRelay } from "../support/fakeRelay.js"
import { registered } from "../support/noise.js"
import { environmentId } from "../support/relay.js"
import { eventually, launch } from "../support/servers.js"

const message = (base: string, id: string) =>
  Either.match(Registration.parseTarget(base, id), {
    onLeft: ({ message }) => message,
    onRight: ({ url }) => url.toString()
  })

describe("parseTarget", () => {
  it("keeps a path of the base URL, without slashes at its end", () => {
    for (const base of ["https://x/base", " https://x/base// "]) {
      assert.strictEqual(message(base, "a-B_1"), "https://x/base/cloud/environment/a-B_1/register")
    }
    assert.strictEqual(message("http://x:1", "a"), "http://x:1/cloud/environment/a/register")
  })

  it("refuses what would send a credential elsewhere", () => {
    assert.strictEqual(message(" ", "a"), "environment registry base URL is required")
    assert.strictEqual(message("https://x", " "), "environment id is required for remote exec-server registration")
    assert.strictEqual(message("https://x", " a"), "environment id must not contain surrounding whitespace")
    assert.strictEqual(message("https://x", "a".repeat(257)), "environment id cannot be longer than 256 characters")
    for (const id of ["a/b", "a?b", "..", "../z", "ä", "a b", "a%2f"]) {
      assert.strictEqual(
        message("https://x", id),
        "environment id must contain only ASCII letters, numbers, '-' or '_'"
      )
    }
    for (const base of ["x", "ftp://x", "https://user:password@x", "https://x?y", "https://x#y"]) {
      assert.match(message(base, "a"), /^invalid remote exec-server registration URL: /)
    }
  })
})

const headers = (url: string, variables: NodeJS.ProcessEnv, more: { tokenFile?: string; insecure?: boolean } = {}) =>
  Effect.gen(function* () {
    const auth = yield* RemoteAuth
    return yield* auth.headers(new URL(url), { method: "POST", headers: {}, body: undefined })
  }).pipe(
    Effect.provide(RemoteAuth.layerBearer({ tokenFile: undefined, insecure: false, variables, ...more })),
    Effect.match({ onFailure: ({ message }) => message, onSuccess: (headers) => headers["authorization"] ?? "none" })
  )

describe("RemoteAuth", () => {
  it.scoped("a file comes before the environment, and is read again each time", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "exec-server-test-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const tokenFile = join(folder, "token")
      const variables = { EXEC_SERVER_REMOTE_TOKEN: "own", CODEX_API_KEY: "key" }
      writeFileSync(tokenFile, "one\n")
      assert.strictEqual(yield* headers("https://x", variables, { tokenFile }), "Bearer one")
      writeFileSync(tokenFile, "two\n")
      assert.strictEqual(yield* headers("https://x", variables, { tokenFile }), "Bearer two")
      writeFileSync(tokenFile, "two\nlines\n")
      const refused = yield* headers("https://x", variables, { tokenFile })
      assert.include(refused, "not one line")
      assert.notInclude(refused, "two")
      assert.match(
        yield* headers("https://x", variables, { tokenFile: "/no/such/file" }),
        /^cannot read the remote token/
      )
      assert.strictEqual(yield* headers("https://x", variables), "Bearer own")
    })
  )

  it.effect("tokens go where nobody reads along, and the API key to its issuer only", () =>
    Effect.gen(function* () {
      const own = { EXEC_SERVER_REMOTE_TOKEN: "own" }
      const key = { CODEX_API_KEY: "key" }
      const local = ["http://127.0.0.1:1", "http://localhost", "http://[::1]:1", "http://[::ffff:127.0.0.1]:1"]
      for (const url of [...local, "https://example.com"]) {
        assert.strictEqual(yield* headers(url, own), "Bearer own")
      }
      // The last two are asked of DNS, which may name any host.
      for (const url of ["http://example.com", "http://127.example.com", "http://localhost.", "http://a.localhost"]) {
        assert.match(yield* headers(url, own), /over plain http/)
      }
      assert.strictEqual(yield* headers("http://example.com", own, { insecure: true }), "Bearer own")
      for (const url of [...local, "https://openai.com", "https://a.openai.org"]) {
        assert.strictEqual(yield* headers(url, key), "Bearer key")
      }
      for (const url of [
        "http://openai.com",
        "https://example.com",
        "https://notopenai.com",
        "https://openai.com.evil"
      ]) {
        assert.match(yield* headers(url, key), /^remote exec-server API-key authentication is restricted to HTTPS/)
      }
      assert.match(yield* headers("https://x", {}), /requires authentication/)
    })
  )
})

const id = "env-1"
const executor = (relay: FakeRelay, environmentId = id, ...args: ReadonlyArray<string>) =>
  launch({
    args: ["--remote", `${relay.url}/base/`, "--environment-id", environmentId, "--name", "a name", ...args],
    env: { EXEC_SERVER_REMOTE_TOKEN: "token" }
  })
const error = (status: number, body: string): Answer => ({ status, body })

describe("registering", { concurrent: true }, () => {
  it.scopedLive(
    "one POST with a bearer token and no body; a line on stderr; then the socket, without credentials",
    () =>
      Effect.gen(function* () {
        const relay = yield* fakeRelay(id)
        const running = yield* executor(relay, id, "--remote-profile", "legacy")
        const { upgrade } = yield* relay.socket(0)
        const [request] = relay.requests
        assert.strictEqual(request?.method, "POST")
        assert.strictEqual(request?.url, `/base/cloud/environment/${id}/register`)
        assert.strictEqual(request?.body, "")
        assert.strictEqual(request?.headers.authorization, "Bearer token")
        assert.strictEqual(upgrade.url, "/socket?ticket=secret")
        for (const name of ["authorization", "origin", "sec-websocket-protocol", "sec-websocket-extensions"]) {
          assert.notProperty(upgrade.headers, name)
        }
        assert.strictEqual(
          running.stderr(),
          `codex exec-server remote environment registered with environment_id ${id}\n`
        )
      })
  )

  const fatal: ReadonlyArray<readonly [string, Answer | "drop", RegExp]> = [
    [
      "401",
      error(401, '{"error":{"message":"who are you"}}'),
      /^Error: environment registry authentication error: environment registry authentication failed \(401 Unauthorized\): who are you\n$/
    ],
    ["403 without a body", error(403, ""), /\(403 Forbidden\): empty error body\n$/],
    [
      "409 with a code",
      error(409, '{"error":{"code":"taken","message":"it is taken"}}'),
      /^Error: environment registry request failed \(409 Conflict, taken\): it is taken\n$/
    ],
    ["500 without a body", error(500, " "), /\(500 Internal Server Error\): empty or malformed error body\n$/],
    ["503 with a long body", error(503, "x".repeat(10_000)), /\(503 Service Unavailable\): x{4096}\n$/],
    ["a redirect", { status: 307, body: "", headers: { location: "/other" } }, /\(307 Temporary Redirect\)/],
    ["an answer that is not JSON", error(200, "hello"), /^Error: environment registry answered without/],
    [
      "an answer without a url",
      error(200, '{"environment_id":"env-1"}'),
      /^Error: environment registry answered without/
    ],
    [
      "another environment",
      error(200, '{"environment_id":"other","url":"ws://127.0.0.1:1"}'),
      /^Error: environment registry returned a different environment id\n$/
    ],
    ["a lost connection", "drop", /^Error: environment registry request failed: error sending request for url \(http:/]
  ]
  for (const [what, answer, text] of fatal) {
    it.scopedLive(`${what}, at the start: one request, one line, exit code 1`, () =>
      Effect.gen(function* () {
        const relay = yield* fakeRelay(id)
        relay.answers = [answer]
        const running = yield* executor(relay)
        assert.strictEqual(yield* running.exit, 1)
        assert.match(running.stderr(), text)
        assert.notInclude(running.stderr(), "token")
        assert.lengthOf(relay.requests, 1)
      })
    )
  }

  it.scopedLive("later, what may pass is waited for, and what may not ends the server with 1", () =>
    Effect.gen(function* () {
      const relay = yield* fakeRelay(id)
      const running = yield* executor(relay)
      const first = yield* relay.socket(0)
      const [good] = relay.answers
      assert.isDefined(good)
      relay.answers = [
        error(503, ""),
        error(401, "not now"),
        ...(good === undefined ? [] : [good]),
        error(409, "taken")
      ]
      first.ws.close(4000, "\u001b[2Jreplaced")
      const second = yield* relay.socket(1)
      assert.lengthOf(relay.requests, 4)
      assert.match(running.stderr(), /the relay socket is gone \(4000: .*replaced\)/)
      assert.notInclude(running.stderr(), "\u001b")
      assert.match(running.stderr(), /\(401 Unauthorized\): not now; registering again/)
      second.ws.terminate()
      assert.strictEqual(yield* running.exit, 1)
      assert.match(running.stderr(), /Error: environment registry request failed \(409 Conflict\): taken\n$/)
    })
  )

  it.scopedLive("an encrypted executor says why its socket is gone, and comes back", () =>
    Effect.gen(function* () {
      const relay = yield* fakeRelay(environmentId)
      relay.answers = [registered(relay)]
      const running = yield* executor(relay, environmentId, "--remote-profile", "noise")
      const first = yield* relay.socket(0)
      first.ws.close(4000, "\u001b[2Jreplaced")
      const second = yield* relay.socket(1)
      assert.match(running.stderr(), /the relay socket is gone \(4000: .*replaced\); another one will follow/)
      assert.notInclude(running.stderr(), "\u001b")
      running.child.kill("SIGTERM")
      assert.strictEqual(yield* running.exit, 0)
      yield* eventually("the socket was closed", () => second.ended)
      assert.lengthOf(relay.requests, 1)
    })
  )

  it.scopedLive("a refused socket is tried again, each time with a new registration", () =>
    Effect.gen(function* () {
      const relay = yield* fakeRelay(id)
      relay.refusals.push(503, 401)
      const running = yield* executor(relay)
      yield* relay.socket(0)
      assert.lengthOf(relay.requests, 3)
      assert.include(running.stderr(), "HTTP error: 503 No")
      assert.notInclude(running.stderr(), "secret")
    })
  )

  it.scopedLive("a registry that never answers is given up, and SIGTERM does not wait for it", () =>
    Effect.gen(function* () {
      const relay = yield* fakeRelay(id)
      relay.answers = ["hang"]
      const [patient, interrupted] = [yield* executor(relay), yield* executor(relay)]
      yield* eventually("both have asked", () => relay.requests.length === 2)
      interrupted.child.kill("SIGTERM")
      assert.strictEqual(yield* interrupted.exit, 0)
      assert.strictEqual(yield* patient.exit, 1)
      assert.match(patient.stderr(), /no answer from http:.* within 10 seconds\n$/)
    })
  )

  it.scopedLive("usage errors are one line, before anything is sent", () =>
    Effect.gen(function* () {
      const relay = yield* fakeRelay(id)
      const running = yield* executor(relay, "a/b")
      assert.strictEqual(yield* running.exit, 2)
      assert.strictEqual(
        running.stderr(),
        "Error: environment id must contain only ASCII letters, numbers, '-' or '_'\n"
      )
      const bare = yield* launch({ args: ["--environment-id", "x"] })
      assert.strictEqual(yield* bare.exit, 2)
      assert.strictEqual(bare.stderr(), "Error: environment registry base URL is required\n")
      assert.lengthOf(relay.requests, 0)
    })
  )
})
