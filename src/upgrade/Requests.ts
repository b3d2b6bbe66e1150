/**
 * Answers what is asked on the control socket: by the server's own user, and by no process that it has started.
 *
 * @since 0.1.0
 */
import type { Socket } from "node:net"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { version } from "../internal/Package.js"
import * as SocketOwner from "../spawn/SocketOwner.js"
import * as Replacing from "./Replacing.js"
import * as Requester from "./Requester.js"
import * as Wire from "./Wire.js"

/** How long a request may take to arrive, in milliseconds. */
const requestMs = 5000

/** The longest request, in bytes. */
const maxRequestBytes = 65536

/** Reads a line. Calls back once, with undefined if there is none in time. */
const readLine = (socket: Socket, onLine: (line: string | undefined) => void): void => {
  let text = ""
  let isOver = false
  const end = (line: string | undefined) => {
    if (isOver) return
    isOver = true
    clearTimeout(timer)
    onLine(line)
  }
  const timer = setTimeout(() => end(undefined), requestMs)
  socket.setEncoding("utf8")
  socket.on("data", (chunk: string) => {
    if (isOver) return
    text += chunk
    const [line = "", ...others] = text.split("\n")
    if (others.length > 0) end(line)
    else if (text.length > maxRequestBytes) end(undefined)
  })
  for (const event of ["end", "close"]) socket.on(event, () => end(undefined))
}

const decode = Schema.decodeUnknownEither(Schema.parseJson(Wire.Request))

/** The part of Node's handle of a connection that it has no API for. */
const descriptorOf = (socket: Socket): number | undefined =>
  (socket as unknown as { readonly _handle?: { readonly fd?: number } | null })._handle?.fd

/** Why a process may not ask; undefined if it may. */
const refusalOf = (owner: SocketOwner.SocketOwner | undefined, { registry }: Replacing.Server): string | undefined => {
  const own = process.geteuid?.()
  if (owner?._tag !== "Unix" || (owner.uid !== own && owner.uid !== 0)) {
    return `only user ${own} may ask this server, and root`
  }
  const started = registry.list().flatMap(({ supervisor }) => supervisor.list().map((process) => process.info().pid))
  return SocketOwner.isWithin(owner, new Set(started.filter((pid) => pid !== null)))
    ? "a process that this server has started cannot replace it: ask from outside"
    : undefined
}

/** Answers the clients of a control socket. Only one upgrade is under way at a time. */
export const make = (
  server: Replacing.Server,
  address: string,
  fork: (effect: Effect.Effect<void>) => void
): ((socket: Socket) => void) => {
  let isBusy = false
  const refused = (message: string): Wire.Answer => ({ refused: { message, serves: version } })

  const upgrade = (request: Wire.UpgradeRequest, requester: Requester.Requester): Effect.Effect<Wire.Answer> =>
    Effect.suspend((): Effect.Effect<Wire.Answer> => {
      if (isBusy) return Effect.succeed(refused("another upgrade is under way"))
      isBusy = true
      return Replacing.replace(server, request, requester).pipe(
        Effect.match({
          onFailure: ({ message }) => refused(message),
          onSuccess: (to): Wire.Answer => {
            const carried = { sessions: 0, processes: 0, listeners: 0 }
            const { pid } = process
            return { upgraded: { pid, from: version, to, dryRun: true, gapMs: 0, awayMs: 0, carried, ended: [] } }
          }
        }),
        Effect.ensuring(
          Effect.sync(() => {
            isBusy = false
          })
        )
      )
    })

  return (socket) => {
    const answer = (value: Wire.Answer) => void socket.end(Wire.line(value))
    readLine(socket, (line) => {
      if (line === undefined) return void socket.destroy()
      const owner = SocketOwner.of(socket)
      const refusal = refusalOf(owner, server)
      if (refusal !== undefined) return answer(refused(refusal))
      const found = decode(line)
      if (Either.isLeft(found)) return answer(refused("this is not a request; run exec-server upgrade"))
      const request = found.right
      if (request.method === "status") return answer({ status: { pid: process.pid, version, address } })
      fork(Effect.map(upgrade(request, { fd: descriptorOf(socket), who: Requester.whoIs(owner) }), answer))
    })
  }
}
