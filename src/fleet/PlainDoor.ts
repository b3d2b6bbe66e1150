/**
 * The door for clients that know nothing of fleets: it looks like one server. It reads `initialize`, places the session or
 * finds its host, and connects the two sockets. Nothing after that is read.
 *
 * @since 0.1.0
 */
import { randomUUID } from "node:crypto"
import type { Duplex } from "node:stream"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { isRecord } from "effect/Predicate"
import { Code } from "../protocol/Failure.js"
import * as Wire from "../protocol/Wire.js"
import type { Shape as Directory, Placement } from "./DirectoryApi.js"
import type { FleetLink } from "./FleetLink.js"
import * as FleetMetrics from "./FleetMetrics.js"
import * as MessageReader from "./MessageReader.js"
import type { Place, SessionIds } from "./SessionIds.js"
import * as SplicedSocket from "./SplicedSocket.js"
import * as Upstream from "./Upstream.js"

/** Who has come. */
export interface Caller {
  readonly subject: string
  /** What the host must have. */
  readonly labels: ReadonlyArray<string>
}

/** Where a session is, as far as this gateway knows. */
export type Found = Data.TaggedEnum<{
  Here: { readonly link: FleetLink }
  /** It is lost or over, for good; the reason for the client. */
  Lost: { readonly reason: string }
  /** It cannot be told, or not be reached, now. */
  NotYet: { readonly reason: string }
}>
export const Found = Data.taggedEnum<Found>()

/** What a door needs of its gateway. */
export interface Options {
  readonly gateway: string
  readonly ids: SessionIds
  readonly directory: Directory
  /** From `makeTurns`, one for all clients. */
  readonly turns: Effect.Semaphore
  /** The hosts that are heard, by id. */
  readonly heard: () => ReadonlyMap<string, FleetLink>
  readonly find: (place: Place) => Found
  /** A session is carried until the returned function is called. */
  readonly carry: (link: FleetLink, inner: string) => () => void
  /** How long a client waits for a place, in milliseconds. */
  readonly waitMs: number
  /** How long a client may take to send a message, in milliseconds. */
  readonly messageMs: number
}

/** Ends the connection with a close frame. */
class Goodbye extends Data.TaggedError("Goodbye")<{ readonly code: number; readonly reason: string }> {}

/** Answers the request with an error. The client may send another one. */
class Refused extends Data.TaggedError("Refused")<{ readonly code: number; readonly message: string }> {}

/** The code of a close frame for clients that may try again. */
const later = 1013

/** The longest first message, and the longest answer to it, in bytes. */
const maxBytes = 1_048_576

/** How long a host may take to answer `initialize`, in milliseconds. */
const answerMs = 5000

/** The requests that a client may have refused on one connection. */
const maxAttempts = 16

/** The hosts that are tried for one session. */
const maxHosts = 3

/** How long a waiting client's row holds without being renewed, in milliseconds: its gateway may have died. */
const stayMs = 4000

/**
 * How many statements of clients that want a place a gateway runs at once: fewer than it has connections, so that leases
 * are renewed however many clients wait.
 */
const maxStatements = 4

/** The turns of the statements of one gateway's clients, first come, first served. */
export const makeTurns = (): Effect.Semaphore => Effect.unsafeMakeSemaphore(maxStatements)

/** How often a waiting client asks again if nothing is told, in milliseconds. */
const askMs = 1000

const listed = (labels: ReadonlyArray<string>) =>
  labels.length === 0 ? "" : ` with the label${labels.length === 1 ? "" : "s"} ${labels.join(", ")}`

/** Serves one connection that was upgraded, until it is spliced and over. */
export const serve = (options: Options, socket: Duplex, head: Buffer, caller: Caller): Effect.Effect<void> => {
  const { gateway, ids, directory, turns, heard, find, carry, waitMs, messageMs } = options
  const inTurn = turns.withPermits(1)
  const { subject, labels } = caller
  const reader = new MessageReader.MessageReader(socket, { masked: true, maxBytes, head })
  const answer = (text: string) => Effect.sync(() => void socket.write(MessageReader.text(text, false)))

  const goodbye = (reason: string) => new Goodbye({ code: later, reason })

  const noRoom = Effect.map(Effect.option(inTurn(directory.hosts)), (rows) => {
    const fitting =
      rows._tag === "None" ? [] : rows.value.filter((row) => labels.every((label) => row.labels.includes(label)))
    const ready = fitting.filter(({ state, incarnation }) => state === "ready" && incarnation !== null)
    const here = heard()
    const reached = ready.filter(({ id }) => here.has(id))
    const capacity = reached.reduce((sum, row) => sum + row.capacity, 0)
    const why =
      rows._tag === "None"
        ? "the directory of the fleet cannot be asked"
        : ready.length === 0
          ? `no host${listed(labels)} is ready`
          : reached.length === 0
            ? `none of the ${ready.length} hosts${listed(labels)} is connected to this gateway`
            : `all ${capacity} places of the ${reached.length} hosts${listed(labels)} are taken`
    return new Refused({
      code: Code.invalidRequest,
      message: `no session could be placed within ${waitMs / 1000} seconds: ${why}; try again later`
    })
  })

  /** Takes a place, or waits for one in the order of tickets. */
  const place = (key: string, without: ReadonlySet<string>) =>
    Effect.gen(function* () {
      let isChanged = false
      let wake = () => {}
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          directory.onChange(() => {
            isChanged = true
            wake()
          })
        ),
        (stop) => Effect.sync(stop)
      )
      const changed = Effect.async<void>((resume) => {
        if (isChanged) return resume(Effect.void)
        wake = () => resume(Effect.void)
      })
      const askedAt = performance.now()
      const until = askedAt + waitMs
      const count = (outcome: FleetMetrics.PlacementOutcome) =>
        FleetMetrics.placed(outcome, performance.now() - askedAt)
      let ticket: number | undefined
      let stayedAt = 0
      yield* Effect.addFinalizer(() =>
        ticket === undefined ? Effect.void : Effect.forkDaemon(Effect.ignore(inTurn(directory.quit(ticket))))
      )
      for (;;) {
        isChanged = false
        const ids = Array.from(heard().keys()).filter((id) => !without.has(id))
        const placed: Placement | undefined = yield* Effect.orElseSucceed(
          inTurn(directory.place({ key, subject, labels, ticket, gateway, heard: ids })),
          () => undefined
        )
        if (placed?._tag === "Placed") {
          count("placed")
          return placed
        }
        if (placed?._tag === "OverQuota") {
          count("quota")
          return yield* new Refused({
            code: Code.invalidRequest,
            message: `${subject} has as many sessions as its quota allows; end one first`
          })
        }
        const left = until - performance.now()
        if (left <= 0) {
          count(placed === undefined ? "failed" : "full")
          return yield* yield* noRoom
        }
        if (placed !== undefined && ticket === undefined) {
          ticket = yield* Effect.orElseSucceed(inTurn(directory.wait(subject, labels, stayMs)), () => undefined)
          stayedAt = performance.now()
          // Whoever has a ticket is asked for again at once: a place may have been freed before.
          if (ticket !== undefined) continue
        } else if (ticket !== undefined && performance.now() - stayedAt > askMs / 2) {
          stayedAt = performance.now()
          yield* Effect.ignore(inTurn(directory.stay(ticket, stayMs)))
        }
        yield* Effect.raceFirst(changed, Effect.sleep(Math.min(askMs, left)))
      }
    }).pipe(Effect.scoped)

  /** Sends `initialize` to a host, and returns the answer. The scope closes the connection to it. */
  const ask = (link: FleetLink, id: string, params: Record<string, unknown>) =>
    Effect.gen(function* () {
      const upstream = yield* Effect.acquireRelease(link.dial(subject), (upstream) =>
        Effect.sync(() => upstream.destroy())
      )
      upstream.on("error", () => upstream.destroy())
      const back = yield* Upstream.open(upstream, maxBytes)
      upstream.write(MessageReader.text(`{"id":${id},"method":"initialize","params":${JSON.stringify(params)}}`, true))
      const message = Wire.parse(
        yield* Effect.timeoutFail(back.message, {
          duration: answerMs,
          onTimeout: () => new Upstream.UpstreamError({ message: "the host does not answer" })
        })
      )
      if (message._tag !== "Response" || message.id !== id) {
        return yield* new Upstream.UpstreamError({ message: "the host's answer is not one to `initialize`" })
      }
      return { upstream, back, body: message.body }
    })

  type Asked = Effect.Effect.Success<ReturnType<typeof ask>>

  const splice = (link: FleetLink, inner: string, { upstream, back }: Asked) =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        const first = { toOne: back.release(), toOther: reader.release() }
        const ends = SplicedSocket.ends(socket, upstream)
        const drop = carry(link, inner)
        const uncount = FleetMetrics.carry(ends[0].socket, ends[1].socket)
        return {
          ends,
          first,
          drop: () => {
            drop()
            uncount()
          }
        }
      }),
      // Not interrupted: what was written last still leaves. It ends with either socket.
      ({ ends, first }) => Effect.uninterruptible(Upstream.splice(ends, first)),
      ({ drop }) => Effect.sync(drop)
    )

  /** The result of `initialize` with the id that resumes the session here. */
  const outward = (result: unknown, inner: string, { no, epoch }: Omit<Place, "inner">) => ({
    ...(isRecord(result) ? result : {}),
    sessionId: ids.make({ no, epoch, inner }, subject)
  })

  const innerOf = (body: Wire.ResponseBody): string | undefined =>
    body._tag === "Result" && isRecord(body.result) && typeof body.result["sessionId"] === "string"
      ? body.result["sessionId"]
      : undefined

  /** Opens a new session, and serves it until the client has gone. */
  const open = (id: Wire.RequestId, params: Record<string, unknown>) =>
    Effect.gen(function* () {
      const failed = new Set<string>()
      for (let attempt = 0; attempt < maxHosts; attempt++) {
        const key = randomUUID()
        const isServed = yield* Effect.scoped(
          Effect.gen(function* () {
            let isBound = false
            const placed = yield* place(key, failed)
            yield* Effect.addFinalizer(() =>
              isBound ? Effect.void : Effect.forkDaemon(Effect.ignore(directory.release(key, "it was not opened")))
            )
            for (const { host, id } of placed.displaced) {
              heard()
                .get(host)
                ?.send({ method: "fleet/end", params: { sessions: [id], onlyIdle: true } })
            }
            const link = heard().get(placed.host)
            const asked =
              link === undefined || link.host.epoch !== placed.epoch
                ? undefined
                : yield* Effect.catchAll(ask(link, id, params), ({ message }) =>
                    Effect.as(
                      Effect.logWarning(`a session could not be opened on ${placed.host}: ${message}`),
                      undefined
                    )
                  )
            if (link === undefined || asked === undefined) {
              failed.add(placed.host)
              return false
            }
            const inner = innerOf(asked.body)
            if (inner === undefined) {
              const { body } = asked
              return yield* body._tag === "Error"
                ? new Refused(body)
                : new Refused({ code: Code.internal, message: "the host has answered without a session id" })
            }
            // The client is told only of what is written down.
            const bound = yield* Effect.orElseSucceed(directory.bind(key, inner), () => false)
            if (!bound) {
              link.send({ method: "fleet/end", params: { sessions: [inner], onlyIdle: false } })
              return yield* goodbye("the session could not be written down; try again")
            }
            isBound = true
            const result = asked.body._tag === "Result" ? asked.body.result : {}
            yield* Effect.logDebug("fleet session opened").pipe(Effect.annotateLogs({ subject, host: placed.host }))
            yield* answer(Wire.success(id, outward(result, inner, placed)))
            yield* splice(link, inner, asked)
            return true
          })
        )
        if (isServed) return
      }
      return yield* goodbye("the hosts cannot be reached; try again")
    })

  const lost = (wanted: string, why = "") =>
    new Refused({ code: Code.invalidRequest, message: `unknown session id ${wanted}${why}` })

  /** Resumes a session without the database, and serves it until the client has gone. */
  const resume = (id: Wire.RequestId, params: Record<string, unknown>, wanted: string) =>
    Effect.gen(function* () {
      const sealed = ids.open(wanted, subject)
      if (sealed === undefined) {
        FleetMetrics.resumed("unknown")
        return yield* lost(wanted)
      }
      const found = find(sealed)
      if (found._tag === "Lost") {
        FleetMetrics.resumed("lost")
        return yield* lost(wanted, `: ${found.reason}`)
      }
      const notYet = (reason: string) => {
        FleetMetrics.resumed("later")
        return goodbye(reason)
      }
      if (found._tag === "NotYet") return yield* notYet(found.reason)
      const { link } = found
      const asked = yield* Effect.catchAll(ask(link, id, { ...params, resumeSessionId: sealed.inner }), ({ message }) =>
        notYet(message)
      )
      const { body } = asked
      FleetMetrics.resumed(body._tag === "Error" ? "refused" : "resumed")
      if (body._tag === "Error") {
        return yield* new Refused({ code: body.code, message: body.message.replaceAll(sealed.inner, wanted) })
      }
      const inner = innerOf(body) ?? sealed.inner
      yield* answer(Wire.success(id, outward(body.result, inner, sealed)))
      yield* splice(link, inner, asked)
    }).pipe(Effect.scoped)

  const next = Effect.timeoutFail(reader.message, {
    duration: messageMs,
    onTimeout: () => new Goodbye({ code: 1008, reason: "initialize was not sent in time" })
  })

  /** Answers one message. Completes with whether the connection was served to its end. */
  const step = Effect.flatMap(next, (text) => {
    const message = Wire.parse(text)
    if (message._tag === "Malformed") {
      return Effect.as(answer(Wire.failure(Wire.malformedId, Code.invalidRequest, message.detail)), false)
    }
    if (message._tag !== "Request") return Effect.succeed(false)
    const { id, method, params } = message
    const served =
      method !== "initialize"
        ? new Refused({ code: Code.invalidRequest, message: `client must call initialize before using ${method}` })
        : !isRecord(params)
          ? new Refused({ code: Code.invalidParams, message: "initialize needs parameters" })
          : typeof params["resumeSessionId"] === "string"
            ? resume(id, params, params["resumeSessionId"])
            : open(id, params)
    return Effect.as(served, true).pipe(
      Effect.catchTag("Refused", ({ code, message }) => Effect.as(answer(Wire.failure(id, code, message)), false))
    )
  })

  const attempts = Effect.gen(function* () {
    for (let attempt = 0; attempt < maxAttempts; attempt++) {
      if (yield* step) return
    }
    return yield* new Goodbye({ code: 1008, reason: "too many requests without a session" })
  })

  const gone = Effect.async<void>((resume) => {
    if (socket.destroyed) return resume(Effect.void)
    const onClose = () => resume(Effect.void)
    socket.once("close", onClose)
    return Effect.sync(() => void socket.off("close", onClose))
  })
  const close = (code: number, reason: string) => Effect.sync(() => void socket.end(MessageReader.close(code, reason)))
  return attempts.pipe(
    Effect.catchTags({
      Goodbye: ({ code, reason }) => close(code, reason),
      ReadError: ({ code, message }) => (code === undefined ? Effect.void : close(code, message))
    }),
    Effect.raceFirst(gone),
    Effect.ensuring(
      Effect.sync(() => {
        reader.release()
        // What was written last may still leave.
        const late = setTimeout(() => socket.destroy(), 1000)
        socket.once("close", () => clearTimeout(late))
        socket.resume()
        if (!socket.writableEnded) socket.destroy()
      })
    )
  )
}
