/**
 * A listening socket that goes over an upgrade: it listens all the time, and what connects meanwhile waits in the kernel.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/** The name of its state. */
export const part = "listener"

/** Its state. The schema is made on use: an ordinary start has none. */
export const schema = () =>
  Schema.Struct({
    /** The address that was asked for, as JSON. */
    asked: Schema.String,
    url: Schema.String,
    fd: Schema.NonNegativeInt,
    /** The identity of a unix socket's file. */
    file: Schema.optional(Schema.Struct({ dev: Schema.BigInt, ino: Schema.BigInt, mtimeNs: Schema.BigInt }))
  })
