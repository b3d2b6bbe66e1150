/**
 * Messages over streams that the caller has: one a line.
 *
 * @since 0.1.0
 */
import type { Readable, Writable } from "node:stream"
import * as Effect from "effect/Effect"
import * as Lines from "../protocol/Lines.js"
import type { Link, LinkEvents, OpenLink } from "./TextChannel.js"

/** The two ends of a connection; they belong to the caller, who also gets rid of them. */
export interface Options {
  /** What the server says. */
  readonly input: Readable
  /** What the server hears; it ends when the client does. */
  readonly output: Writable
  /** The longest message that is read, in bytes; 256 MiB. */
  readonly maxMessageBytes?: number | undefined
}

/** Reads messages from a stream, and writes them to another; gives what takes the listeners away again. */
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

/** The link over two streams; there is no second one. */
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
          // Not before whoever opens the link has it.
          if (over) queueMicrotask(onEnd)
          const release = () => {
            leave()
            for (const event of ["end", "close"]) input.removeListener(event, onEnd)
            output.removeListener("close", onEnd)
            link.close()
            // Errors are still heard: nobody else may be there to do so, and they would end the program.
          }
          return { link, release }
        }),
        ({ release }) => Effect.sync(release)
      ),
      ({ link }) => link
    )
