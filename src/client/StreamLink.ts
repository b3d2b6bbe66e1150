/**
 * Messages over two streams of the caller: one per line.
 *
 * @since 0.1.0
 */
import type { Readable, Writable } from "node:stream"
import * as Effect from "effect/Effect"
import * as Lines from "../protocol/Lines.js"
import type { Link, LinkEvents, OpenLink } from "./TextChannel.js"

/** The two streams of a connection. They belong to the caller, who also destroys them. */
export interface Options {
  /** The server's output. */
  readonly input: Readable
  /** The server's input; the client ends it when it closes. */
  readonly output: Writable
  /** The longest message from the server, in bytes; 256 MiB. */
  readonly maxMessageBytes?: number | undefined
}

/** Reads messages from one stream and writes them to the other; returns a function that removes the listeners. */
export const join = (
  { input, output, maxMessageBytes = 268435456 }: Options,
  { onMessage, onMalformed }: Pick<LinkEvents, "onMessage" | "onMalformed">
): { readonly link: Link; readonly leave: () => void } => {
  const onData = Lines.make(maxMessageBytes, { onLine: onMessage, onBadLine: onMalformed })
  input.on("data", onData)
  const link: Link = {
    send: (text) => {
      if (output.writable) output.write(`${text}\n`)
    },
    close: () => void output.end(),
    pause: () => void input.pause(),
    resume: () => void input.resume()
  }
  return { link, leave: () => void input.removeListener("data", onData) }
}

/** Opens the link over two streams; it can be opened once. */
export const open =
  (options: Options): OpenLink =>
  (events) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => {
          const { input, output } = options
          const onEnd = () => events.onEnd(undefined)
          const onError = (error: Error) => events.onEnd(error.message)
          const { link, leave } = join(options, events)
          for (const event of ["end", "close"]) input.on(event, onEnd)
          for (const stream of [input, output]) stream.on("error", onError)
          output.on("close", onEnd)
          const over = input.readableEnded || input.destroyed || output.writableEnded || output.destroyed
          // Delayed until the caller has the link.
          if (over) queueMicrotask(onEnd)
          const release = () => {
            leave()
            for (const event of ["end", "close"]) input.removeListener(event, onEnd)
            output.removeListener("close", onEnd)
            link.close()
            // Keep an error listener: without one, an error would crash the program.
          }
          return { link, release }
        }),
        ({ release }) => Effect.sync(release)
      ),
      ({ link }) => link
    )
