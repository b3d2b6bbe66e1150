/** The console that a default server prints the address of, and names that others could own. */
import { existsSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { chromium } from "playwright-core"
import { eventually, webSocketServer } from "../support/servers.js"

const executablePath = ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium"].find(existsSync)

/** A browser for which a domain of somebody else is this machine. */
const browser = Effect.acquireRelease(
  Effect.promise(() => {
    if (executablePath === undefined) {
      throw new Error("there is no browser: apt-get install --no-install-recommends chromium-headless-shell")
    }
    const args = ["--no-sandbox", "--host-resolver-rules=MAP evil.example 127.0.0.1"]
    return chromium.launch({ executablePath, args })
  }),
  (browser) => Effect.promise(() => browser.close())
)

describe("a server without settings", () => {
  it.scopedLive("prints an address that opens its console, and is none for a domain that resolves to it", () =>
    Effect.gen(function* () {
      const { stderr } = yield* webSocketServer()
      yield* eventually("it is printed", () => stderr().includes("#token="))
      const address = /console at (\S+)/.exec(stderr())?.[1] ?? ""
      const page = yield* Effect.flatMap(browser, (browser) => Effect.promise(() => browser.newPage()))
      const reports: Array<string> = []
      page.on("console", (message) => reports.push(message.text()))
      page.on("pageerror", (error) => reports.push(String(error)))
      const requests: Array<string> = []
      page.on("request", (request) => requests.push(request.url()))
      const opened = page.waitForEvent("websocket")
      yield* Effect.promise(() => page.goto(address))
      const socket = yield* Effect.promise(() => opened)
      yield* Effect.promise(() => socket.waitForEvent("framereceived"))
      assert.deepStrictEqual(reports, [])
      assert.isAtMost(requests.length, 5)
      assert.notInclude(page.url(), "token")
      const rebound = address.replace("127.0.0.1", "evil.example")
      const refused = yield* Effect.promise(() => page.goto(rebound))
      assert.strictEqual(refused?.status(), 403)
      const connection = yield* Effect.promise(() =>
        page.evaluate(
          (url) =>
            new Promise<string>((resolve) => {
              const socket = new WebSocket(url)
              socket.onopen = () => resolve("open")
              socket.onerror = () => resolve("refused")
            }),
          rebound.replace(/^http:(.*)\/console.*/, "ws:$1/")
        )
      )
      assert.strictEqual(connection, "refused")
    })
  )
})
