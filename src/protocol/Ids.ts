/**
 * The names that the protocol gives to things.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { Text } from "./Schemas.js"

/** A client's own name for a process: any string, also the empty one; unique within a session. Never an OS pid. */
export const ProcessId = Text.pipe(Schema.brand("ProcessId"))
export type ProcessId = typeof ProcessId.Type

/** The server's name for a session: a version 4 UUID. */
export const SessionId = Text.pipe(Schema.brand("SessionId"))
export type SessionId = typeof SessionId.Type
