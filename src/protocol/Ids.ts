/**
 * The identifiers of the protocol.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { maxBytes, maxIdBytes } from "./Bounds.js"
import { clip, Text } from "./Schemas.js"

/**
 * An id that a client chooses: any string of at most 1 KiB.
 *
 * @category schemas
 */
export const ClientId = maxBytes(Text, maxIdBytes)

/**
 * The id a client chooses for a process: any string, even an empty one; unique within a session. Not an OS pid.
 *
 * @category schemas
 */
export const ProcessId = ClientId.pipe(Schema.brand("ProcessId"))
export type ProcessId = typeof ProcessId.Type

/**
 * A name for a session (ours): a letter or a digit, then up to 63 letters, digits, `.`, `_` and `-`.
 *
 * @category schemas
 */
export const SessionName = maxBytes(Text, maxIdBytes).pipe(
  Schema.pattern(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, {
    message: ({ actual }) =>
      `invalid session name ${JSON.stringify(clip(String(actual)))}: expected a letter or a digit, then up to 63 letters, digits, ".", "_" or "-"`
  })
)

/**
 * The public handle of a session (ours). Unlike the session id it is no secret: it does not permit resuming the session.
 *
 * @category schemas
 */
export const SessionHandle = ClientId

/**
 * The id the server gives a recording (ours): 32 hexadecimal digits.
 *
 * @category schemas
 */
export const RecordingId = maxBytes(Text, maxIdBytes).pipe(
  Schema.pattern(/^[0-9a-f]{32}$/, {
    message: ({ actual }) =>
      `invalid recording id ${JSON.stringify(clip(String(actual)))}: expected 32 hexadecimal digits`
  })
)

/**
 * The id the server gives a session: a version 4 UUID.
 *
 * @category schemas
 */
export const SessionId = Text.pipe(Schema.brand("SessionId"))
export type SessionId = typeof SessionId.Type
