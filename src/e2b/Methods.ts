/**
 * The methods of the Connect services: what they take, and how they answer.
 *
 * @since 0.1.0
 */
import type { IncomingMessage } from "node:http"
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { Answers } from "./Connect.js"
import type { Failure } from "./Failure.js"
import type { Sandbox } from "./Sandboxes.js"

/** What a method knows besides its message. */
export interface Call {
  readonly sandbox: Sandbox
  readonly request: IncomingMessage
  /** The deadline of the client, in milliseconds; undefined if it has none. */
  readonly timeoutMs: number | undefined
}

/** A method that takes one message and answers once. */
interface Unary<A, I> {
  readonly kind: "unary"
  readonly schema: Schema.Schema<A, I>
  readonly handle: (given: A, call: Call) => Effect.Effect<object, Failure>
}

/** A method that takes one message and answers with a stream, which it ends. */
interface Answering<A, I> {
  readonly kind: "answering"
  readonly schema: Schema.Schema<A, I>
  readonly handle: (given: A, call: Call, answers: Answers) => Effect.Effect<void, Failure>
}

/** A method that takes a stream and answers once. */
interface Taking<A, I> {
  readonly kind: "taking"
  readonly schema: Schema.Schema<A, I>
  readonly handle: (given: Stream.Stream<A, Failure>, call: Call) => Effect.Effect<object, Failure>
}

/** A method, whatever it takes. */
// biome-ignore lint/suspicious/noExplicitAny: the message of each method has its own type, which its schema decodes.
export type Method = Unary<any, any> | Answering<any, any> | Taking<any, any>

/** The methods by the path of their requests. */
export type Methods = { readonly [path: string]: Method }

/** Makes a method that answers once. */
export const unary = <A, I>(schema: Schema.Schema<A, I>, handle: Unary<A, I>["handle"]): Unary<A, I> => ({
  kind: "unary",
  schema,
  handle
})

/** Makes a method that answers with a stream. */
export const answering = <A, I>(schema: Schema.Schema<A, I>, handle: Answering<A, I>["handle"]): Answering<A, I> => ({
  kind: "answering",
  schema,
  handle
})

/** Makes a method that takes a stream. */
export const taking = <A, I>(schema: Schema.Schema<A, I>, handle: Taking<A, I>["handle"]): Taking<A, I> => ({
  kind: "taking",
  schema,
  handle
})
