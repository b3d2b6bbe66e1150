// A server inside an HTTP application: the application's own routes, and processes for WebSocket clients at /exec, on
// one port.
import { createServer } from "node:http"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { ExecClient, HeadTail } from "exec-server/client"
import { ExecServer, HttpUpgrade, NodeServices } from "exec-server/server"

const routes = HttpRouter.empty.pipe(
  HttpRouter.get("/hello", HttpServerResponse.text("an ordinary route")),
  HttpRouter.get("/exec", HttpUpgrade.serve)
)

const application = HttpServer.serve(routes).pipe(
  Layer.provide(ExecServer.layerSessions),
  Layer.provide(NodeServices.layer),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
)

const program = Effect.gen(function* () {
  const { address } = yield* HttpServer.HttpServer
  const host = address._tag === "TcpAddress" ? `127.0.0.1:${address.port}` : address.path
  const hello = yield* Effect.promise(() => fetch(`http://${host}/hello`).then((response) => response.text()))
  yield* Effect.sync(() => console.log(`GET /hello: ${hello}`))

  const client = yield* ExecClient.connectWebSocket({ url: `ws://${host}/exec` })
  const child = yield* client.start({ argv: ["echo", "a process"], cwd: "/", env: { PATH: "/usr/bin:/bin" } })
  const { stdout, exit } = yield* child.communicate()
  yield* Effect.sync(() => console.log(`WebSocket /exec: ${HeadTail.bytesOf(stdout)}exit code ${exit.exitCode}`))
}).pipe(Effect.scoped, Effect.provide(application))

NodeRuntime.runMain(program)
