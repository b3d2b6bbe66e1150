/** Who may use the server, its control plane, and the command that serves it. */
import { writeFileSync } from "node:fs"
import { request as httpRequest } from "node:http"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { command, start } from "../support/command.js"
import { type Answer, request, serve, shell, stream, unary, until } from "../support/e2b.js"
import { directory } from "../support/files.js"
import { eventually, isAlive } from "../support/servers.js"

const list = "process.Process/List"

const token = "e2b_0123456789"

describe("access", () => {
  it.scopedLive("with a token needs it, in any of three headers", () =>
    Effect.gen(function* () {
      const url = yield* serve(token)
      const status = (headers: Record<string, string>) =>
        Effect.map(unary(url, list, {}, headers), (answer) => answer.status)
      assert.strictEqual(yield* status({ "x-access-token": token }), 200)
      assert.strictEqual(yield* status({ "x-api-key": token }), 200)
      assert.strictEqual(yield* status({ authorization: `Bearer ${token}` }), 200)
      assert.strictEqual(yield* status({ "x-access-token": `${token}0` }), 401)
      const none = yield* unary(url, list)
      assert.strictEqual(none.status, 401)
      assert.strictEqual(none.body.code, "unauthenticated")
      assert.strictEqual((yield* request(`${url}/sandboxes`)).status, 401)
      assert.strictEqual((yield* request(`${url}/files?path=/etc/passwd`)).status, 401)
      // Whether it is there may be asked without.
      assert.strictEqual((yield* request(`${url}/health`)).status, 204)
    })
  )

  it.scopedLive("web pages have none, nor do names that somebody made resolve to this machine", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const status = (headers: Record<string, string>) =>
        Effect.async<number | undefined>((resume) => {
          httpRequest(`${url}/health`, { headers }, (response) => {
            response.resume()
            resume(Effect.succeed(response.statusCode))
          }).end()
        })
      assert.strictEqual(yield* status({}), 204)
      assert.strictEqual(yield* status({ origin: "http://localhost" }), 403)
      assert.strictEqual(yield* status({ host: "evil.example.com" }), 403)
    })
  )
})

describe("the control plane", () => {
  const json = { "content-type": "application/json" }
  const asked = (url: string, method: string, path: string, body?: object) =>
    request(`${url}${path}`, {
      method,
      headers: { ...json, "x-api-key": token },
      ...(body === undefined ? {} : { body: JSON.stringify(body) })
    })
  const in_ = (id: string) => ({ "e2b-sandbox-id": id, "x-access-token": token })

  it.scopedLive("creates sandboxes with processes and variables of their own, which end with them", () =>
    Effect.gen(function* () {
      const url = yield* serve(token)
      const create = (body: object) => Effect.map(asked(url, "POST", "/v2/sandboxes", body), ({ body }: Answer) => body)
      const one = yield* create({ templateID: "base", envVars: { A: "1" }, metadata: { who: "me" }, timeout: 600 })
      const other = yield* create({ templateID: "base" })
      assert.deepInclude(one, { templateID: "base", envdAccessToken: token })
      assert.notStrictEqual(one.sandboxID, other.sandboxID)
      const messages = yield* stream(url, "process.Process/Start", shell("echo $A; sleep 1000"), in_(one.sandboxID))
      const pid = (yield* messages.next)?.body.event.start.pid
      yield* until(messages, "stdout", "1\n")
      assert.strictEqual((yield* unary(url, list, {}, in_(one.sandboxID))).body.processes.length, 1)
      assert.strictEqual((yield* unary(url, list, {}, in_(other.sandboxID))).body.processes.length, 0)
      const { body: found } = yield* asked(url, "GET", "/v2/sandboxes?metadata=who%3Dme&state=running")
      assert.deepStrictEqual(
        found.map(({ sandboxID }: { sandboxID: string }) => sandboxID),
        [one.sandboxID]
      )
      assert.deepStrictEqual((yield* asked(url, "GET", "/sandboxes?metadata=who%3D%25ff%25")).body, [])
      const path = `/sandboxes/${one.sandboxID}`
      assert.deepInclude((yield* asked(url, "GET", path)).body, { state: "running", metadata: { who: "me" } })
      assert.strictEqual(
        (yield* asked(url, "POST", `/v2${path}/connect`, { timeout: 60 })).body.sandboxID,
        one.sandboxID
      )
      assert.strictEqual((yield* asked(url, "POST", `${path}/pause`)).status, 501)
      assert.strictEqual((yield* asked(url, "DELETE", path)).status, 204)
      yield* eventually("its process is gone", () => !isAlive(pid))
      assert.strictEqual((yield* messages.rest).at(-2)?.body.event.end.status, "signal: killed")
      assert.strictEqual((yield* asked(url, "DELETE", path)).status, 404)
      const gone = yield* unary(url, list, {}, in_(one.sandboxID))
      assert.deepStrictEqual([gone.status, gone.body.message], [502, "The sandbox was not found"])
      assert.strictEqual((yield* request(`${url}/health`, { headers: in_(one.sandboxID) })).status, 502)
    })
  )

  it.scopedLive("ends a sandbox at its time, which can be set", () =>
    Effect.gen(function* () {
      const url = yield* serve(token)
      const { body } = yield* asked(url, "POST", "/sandboxes", { templateID: "base", timeout: 600 })
      const messages = yield* stream(url, "process.Process/Start", shell("sleep 1000"), in_(body.sandboxID))
      yield* messages.next
      assert.strictEqual(
        (yield* asked(url, "POST", `/sandboxes/${body.sandboxID}/timeout`, { timeout: 1 })).status,
        204
      )
      assert.strictEqual((yield* messages.rest).at(-2)?.body.event.end.status, "signal: killed")
      assert.strictEqual((yield* asked(url, "GET", `/sandboxes/${body.sandboxID}`)).status, 404)
    })
  )

  it.scopedLive("refuses what a machine cannot give", () =>
    Effect.gen(function* () {
      const url = yield* serve(token)
      const refusal = (body: object) =>
        Effect.map(asked(url, "POST", "/v2/sandboxes", body), ({ status, body }) => [status, body.message])
      assert.match(String(yield* refusal({ autoPause: true })), /^400,autoPause: sandboxes cannot be paused here/)
      assert.match(String(yield* refusal({ allow_internet_access: false })), /^400,allow_internet_access is false/)
      assert.match(String(yield* refusal({ volumeMounts: [] })), /^400,volumeMounts/)
      assert.match(String(yield* refusal({ timeout: -1 })), /^400,.*from 0 to 2147483/)
    })
  )
})

describe("exec-server e2b", () => {
  it.scopedLive("serves with the token of a file, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const file = `${yield* directory}/token`
      writeFileSync(file, `${token}\n`, { mode: 0o600 })
      const running = yield* start(["e2b", "--listen", "http://127.0.0.1:0", "--access-token-file", file], {
        EXEC_SERVER_E2B_TOKEN: "e2b_5ec2e7"
      })
      yield* eventually("its address", () => running.stdout().endsWith("\n"))
      const url = running.stdout().trim()
      yield* eventually("a sentence", () =>
        /exec-server e2b listening on http:\/\/127\.0\.0\.1:\d+\n/.test(running.stderr())
      )
      assert.strictEqual((yield* unary(url, list)).status, 401)
      const headers = { "x-access-token": token }
      const messages = yield* stream(url, "process.Process/Start", shell("env; echo done; sleep 1000"), headers)
      const pid = (yield* messages.next)?.body.event.start.pid
      const output = yield* until(messages, "stdout", "done\n")
      assert.include(output, "PATH=")
      assert.notInclude(output, "e2b_5ec2e7")
      running.child.kill("SIGTERM")
      yield* running.exit
      yield* eventually("its process is gone", () => !isAlive(pid))
    })
  )

  it.live("refuses addresses that it cannot serve safely, or at all", () =>
    Effect.gen(function* () {
      const stderr = (...args: ReadonlyArray<string>) => Effect.map(command(["e2b", ...args]), (ended) => ended.stderr)
      assert.match(yield* stderr("--listen", "http://0.0.0.0:0"), /refusing to listen on .*give --access-token-file/)
      assert.match(
        yield* stderr("--listen", "ws://127.0.0.1:0"),
        /invalid --listen URL `ws:.*expected `http:\/\/IP:PORT`/
      )
      assert.match(yield* stderr("--listen", "https://127.0.0.1:0"), /needs a certificate/)
    })
  )
})
