/** Networks that fail in the ways of real ones. */
import { Buffer } from "node:buffer"
import { type AddressInfo, createConnection, createServer, type Socket } from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** A proxy that, once told to, swallows everything in both directions and ends nothing. */
export const swallowingProxy = (
  target: string
): Effect.Effect<
  { readonly url: string; readonly swallow: Effect.Effect<void>; readonly pass: Effect.Effect<void> },
  never,
  Scope.Scope
> =>
  Effect.gen(function* () {
    const sockets = new Set<Socket>()
    let swallows = false
    const { hostname, port } = new URL(target)
    const server = createServer({ allowHalfOpen: true }, (near) => {
      const far = createConnection({ host: hostname, port: Number(port), allowHalfOpen: true })
      for (const [from, to] of [
        [near, far],
        [far, near]
      ] as const) {
        sockets.add(from)
        from.on("error", () => {})
        from.on("data", (bytes) => {
          if (!swallows) to.write(bytes)
        })
        from.on("end", () => {
          if (!swallows) to.end()
        })
      }
    })
    yield* Effect.acquireRelease(
      Effect.promise(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))),
      () =>
        Effect.sync(() => {
          for (const socket of sockets) socket.destroy()
          server.close()
        })
    )
    const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
    return {
      url,
      swallow: Effect.sync(() => {
        swallows = true
      }),
      // New connections only: what was swallowed is missing in the others, which stay silent to one side.
      pass: Effect.sync(() => {
        swallows = false
      })
    }
  })

/** A proxy that keeps everything that goes through it, and can cut its connections or change a byte. */
export const recordingProxy = (
  target: string
): Effect.Effect<
  {
    readonly url: string
    readonly recorded: () => Buffer
    readonly cut: Effect.Effect<void>
    /** Changes the last byte of the next long piece for a client. */
    readonly forge: Effect.Effect<void>
    /** Whether that has been done. */
    readonly hasForged: () => boolean
  },
  never,
  Scope.Scope
> =>
  Effect.gen(function* () {
    const sockets = new Set<Socket>()
    const chunks: Array<Buffer> = []
    let forges = false
    let hasForged = false
    const { hostname, port } = new URL(target)
    const cut = Effect.sync(() => {
      for (const socket of sockets) socket.destroy()
      sockets.clear()
    })
    const server = createServer((near) => {
      const far = createConnection({ host: hostname, port: Number(port) })
      for (const [from, to] of [
        [near, far],
        [far, near]
      ] as const) {
        sockets.add(from)
        from.on("error", () => {})
        from.on("data", (bytes: Buffer) => {
          chunks.push(bytes)
          if (forges && from === far && bytes.length > 100) {
            forges = false
            hasForged = true
            bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1
          }
          to.write(bytes)
        })
        from.on("end", () => to.end())
        from.on("close", () => {
          sockets.delete(from)
          to.destroy()
        })
      }
    })
    yield* Effect.acquireRelease(
      Effect.promise(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))),
      () =>
        Effect.zipRight(
          cut,
          Effect.sync(() => server.close())
        )
    )
    const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
    const forge = Effect.sync(() => {
      forges = true
    })
    return { url, recorded: () => Buffer.concat(chunks), cut, forge, hasForged: () => hasForged }
  })
