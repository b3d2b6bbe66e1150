/**
 * Connections over text transports: encodes requests, decodes responses and notifications, and closes the connection if
 * the server violates the protocol.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import * as AttachmentFrame from "../protocol/AttachmentFrame.js"
import * as BinaryFrame from "../protocol/BinaryFrame.js"
import type { Method } from "../protocol/ExecApi.js"
import { clip } from "../protocol/Schemas.js"
import * as Wire from "../protocol/Wire.js"
import * as Api from "./Api.js"
import { type ClientError, ProtocolViolation, ServerError, TransportClosed } from "./ClientError.js"
import type { Channel, ChannelEvents, Connector } from "./Connector.js"

/**
 * Carries messages to a server. Sending after its end does nothing.
 *
 * @category models
 */
export interface Link {
  readonly send: (text: string) => void
  /** Closes the connection; no further callbacks are needed. */
  readonly close: () => void
  /** Pauses or resumes reading. Some messages may still arrive after `pause`. */
  readonly pause?: () => void
  readonly resume?: () => void
}

/**
 * The callbacks of a link, called from the event loop.
 *
 * @category models
 */
export interface LinkEvents {
  /** One complete text message. */
  readonly onMessage: (text: string) => void
  /** One binary message. */
  readonly onBinary: (bytes: Buffer) => void
  /** An invalid message, and why it is invalid. */
  readonly onMalformed: (detail: string) => void
  /** The link ended; with a reason, if it is known. */
  readonly onEnd: (reason: string | undefined) => void
}

/**
 * Opens a link; the scope closes it.
 *
 * @category models
 */
export type OpenLink = (events: LinkEvents) => Effect.Effect<Link, ClientError, Scope.Scope>

const requestId = (id: Wire.RequestId): number | undefined => (/^\d+$/.test(id) ? Number(id) : undefined)

/** A binary frame as the notification that it stands for. */
const decodeFrame = (bytes: Buffer): Either.Either<Api.Notification, string> =>
  bytes[0] === AttachmentFrame.kind
    ? Either.map(AttachmentFrame.decode(bytes), (params) => ({ method: "attachment/output", params }))
    : Either.map(BinaryFrame.decode(bytes), (params) => ({ method: "process/output", params }))

const open = (openLink: OpenLink, events: ChannelEvents): Effect.Effect<Channel, ClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const runFork = Runtime.runFork(yield* Effect.runtime<never>())
    // Includes requests whose caller was interrupted: their responses still arrive.
    const unanswered = new Map<number, Method>()
    let link: Link | undefined
    let over = false

    const end = (error: ClientError) => {
      if (over) return
      over = true
      unanswered.clear()
      link?.close()
      events.onEnd(error)
    }
    const violation = (detail: string) => end(new ProtocolViolation({ detail }))

    const onResponse = (wireId: Wire.RequestId, body: Wire.ResponseBody) => {
      const id = requestId(wireId)
      const method = id === undefined ? undefined : unanswered.get(id)
      if (id === undefined || method === undefined) {
        const said = body._tag === "Error" ? `: ${clip(body.message)}` : ""
        return violation(`received a response for the unknown request id ${clip(wireId)}${said}`)
      }
      unanswered.delete(id)
      if (body._tag === "Error") {
        return events.onAnswer(id, Either.left(new ServerError({ code: body.code, reason: body.message })))
      }
      const result = Api.decodeResult(method, body.result)
      if (Either.isLeft(result)) return violation(`the result of ${method} is not one: ${result.left}`)
      events.onAnswer(id, Either.right(result.right))
    }

    const onNotification = (method: string, params: unknown) => {
      const notification = Api.decodeNotification(method, params)
      if (notification === undefined) {
        runFork(Effect.logDebug(`ignored the unknown notification ${clip(method)}`))
      } else if (Either.isLeft(notification)) violation(`${method} is malformed: ${notification.left}`)
      else events.onNotification(notification.right)
    }

    link = yield* openLink({
      onMessage: (text) => {
        if (over) return
        const message = Wire.parse(text)
        switch (message._tag) {
          case "Response":
            return onResponse(message.id, message.body)
          case "Notification":
            return onNotification(message.method, message.params)
          case "Request":
            return violation(`the server sent the request ${clip(message.method)}`)
          case "Malformed":
            return violation(`the server sent an invalid message: ${message.detail}`)
        }
      },
      onBinary: (bytes) => {
        if (over) return
        const notification = decodeFrame(bytes)
        if (Either.isLeft(notification)) violation(`the server sent an invalid binary frame: ${notification.left}`)
        else events.onNotification(notification.right)
      },
      onMalformed: (detail) => violation(`the server sent an invalid message: ${detail}`),
      onEnd: (reason) => end(new TransportClosed({ reason }))
    })
    // The link ended before it was returned.
    if (over) link.close()
    const carrier = link
    return {
      request: (id, { method, text }) => {
        if (over) return
        unanswered.set(id, method)
        carrier.send(`{"id":${id},"method":${JSON.stringify(method)},"params":${text}}`)
      },
      initialized: () => {
        if (!over) carrier.send(Wire.notification("initialized", {}))
      },
      acknowledgeOutput: (processId, seq) => {
        if (!over) carrier.send(Wire.notification("process/ack", { processId, seq }))
      },
      acknowledge: (attachmentId, seq) => {
        if (!over) carrier.send(Wire.notification("attachment/ack", { attachmentId, seq }))
      },
      pause: () => carrier.pause?.(),
      resume: () => carrier.resume?.()
    }
  })

/**
 * Makes a connector of links of one kind.
 *
 * @category constructors
 */
export const connector = (openLink: OpenLink, resumable: boolean): Connector => ({
  resumable,
  prepare: Api.prepareText,
  open: (events) => open(openLink, events)
})
