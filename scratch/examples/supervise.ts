// Supervises a service: restarts it when it dies, checks its health, and ends it when it is unhealthy.
import { randomUUID } from "node:crypto"
import { createServer } from "node:net"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { ExecClient } from "exec-server/client"
import { ExecServer, NodeServices } from "exec-server/server"

const say = (text: string) => Effect.sync(() => console.log(text))

/** A service that answers with its pid, and dies on a request to /crash. */
const service = `
  require("node:http").createServer((request, response) => {
    if (request.url === "/crash") process.exit(1)
    response.end(String(process.pid))
  }).listen(Number(process.argv[1]), "127.0.0.1")
`

const freePort = Effect.async<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(address !== null && typeof address === "object" ? address.port : 0)))
  })
})

const request = (url: string) => ({
  method: "GET",
  url,
  requestId: randomUUID(),
  headers: [],
  timeoutMs: 1000,
  redirectPolicy: "stop" as const,
  streamResponse: false
})

/** The pid that the service reports. Polls for up to ten seconds while it does not answer. */
const health = (client: ExecClient.ExecClient["Type"], url: string) =>
  client.call("http/request", request(url)).pipe(
    Effect.map(({ bodyBase64 }) => Number(bodyBase64)),
    Effect.retry(Schedule.intersect(Schedule.spaced("100 millis"), Schedule.recurs(100)))
  )

const program = Effect.gen(function* () {
  const client = yield* ExecClient.ExecClient
  const url = `http://127.0.0.1:${yield* freePort}`
  yield* client.subscribe("process/restarted", ({ attempt }) => console.log(`restarted, attempt ${attempt}`))
  const running = yield* client.startScoped({
    argv: [process.execPath, "-e", service, new URL(url).port],
    cwd: "/",
    restart: { policy: "onFailure", maxRestarts: 3, withinMs: 60_000, backoffMs: 50, maxBackoffMs: 1000 }
  })
  const first = yield* health(client, url)
  yield* say(`healthy: ${first === running.pid ? "the process that was started" : "another process"}`)
  yield* Effect.ignore(client.call("http/request", request(`${url}/crash`)))
  const second = yield* health(client, url)
  yield* say(`healthy again: ${second !== first ? "a new process" : "the same process"}`)
  yield* running.terminate({ type: "graceful", timeoutMs: 2000 })
  const { signal } = yield* running.closed
  yield* say(`ended by ${signal}`)
})

const client = ExecClient.layerInProcess().pipe(
  Layer.provide(ExecServer.layerSessions),
  Layer.provide(NodeServices.layer)
)

NodeRuntime.runMain(program.pipe(Effect.scoped, Effect.provide(client)))
