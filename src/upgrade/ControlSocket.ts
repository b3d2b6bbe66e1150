/**
 * The socket on which a server is asked for an upgrade. What answers is loaded for the first client.
 *
 * @since 0.1.0
 */
import { createServer, type Socket } from "node:net"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Shape } from "../internal/Handover.js"
import { HeldServer } from "../internal/HeldServer.js"
import type { ListenError } from "../transport/Transport.js"
import * as UnixSocket from "../transport/UnixSocket.js"
import type { Server } from "./Replacing.js"

/** The name of its state. */
export const part = "control"

/** Its state. The schema is made on use: an ordinary start has none. */
export const schema = () =>
  Schema.Struct({
    path: Schema.String,
    fd: Schema.NonNegativeInt,
    file: Schema.Struct({ dev: Schema.BigInt, ino: Schema.BigInt, mtimeNs: Schema.BigInt })
  })

/** The most clients at a time. */
const maxClients = 8

/** Listens at a path until the scope closes, and replaces the server when it is asked to. */
export const listen = (
  path: string,
  address: string,
  handover: Shape,
  server: Server
): Effect.Effect<void, ListenError, Scope.Scope> =>
  Effect.gen(function* () {
    const fork = yield* FiberSet.makeRuntime<never>()
    let serve: Promise<(socket: Socket) => void> | undefined
    const accept = (socket: Socket) => {
      socket.on("error", () => socket.destroy())
      serve ??= import("./Requests.js").then(({ make }) => make(server, address, fork))
      void serve.then(
        (serve) => serve(socket),
        () => socket.destroy()
      )
    }
    const { control, held } = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const control = createServer({ allowHalfOpen: true }, accept)
        control.maxConnections = maxClients
        return { control, held: new HeldServer(control) }
      }),
      ({ control, held }) =>
        Effect.sync(() => {
          held.close()
          control.close()
        })
    )
    control.on("error", () => {})
    const before = handover.adopted(part)
    const found = before === undefined ? undefined : Schema.decodeUnknownSync(schema())(before.state)
    const adopted = found?.path === path ? found : undefined
    if (adopted !== undefined) {
      yield* UnixSocket.adopt(path, adopted.file)
      control.listen({ fd: adopted.fd })
    }
    const file = adopted?.file ?? (yield* UnixSocket.listen(control, path))
    handover.contribute({
      name: part,
      freeze: (writer) => Schema.encodeSync(schema())({ path, fd: writer.descriptor(held.fd), file }),
      hold: (duplicate) => held.hold(duplicate),
      release: () => held.release()
    })
  })
