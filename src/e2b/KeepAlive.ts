/**
 * Signs of life on answers in which nothing happens, and their deadlines.
 *
 * @since 0.1.0
 */
import type { IncomingMessage } from "node:http"
import * as Effect from "effect/Effect"
import type { Answers } from "./Connect.js"
import { type Failure, fail } from "./Failure.js"

/** The time between two signs of life on a quiet stream, in seconds, if the client does not say. */
const keepAliveSeconds = 90

const keepAliveOf = ({ headers }: IncomingMessage): number => {
  const given = Number(headers["keepalive-ping-interval"] ?? keepAliveSeconds)
  return Number.isInteger(given) && given >= 1 && given <= 3600 ? given : keepAliveSeconds
}

/** What a client is told at its deadline. */
export const deadlinePassed = (timeoutMs: number): Failure =>
  fail("deadline_exceeded", `the deadline of ${timeoutMs} ms has passed`)

/** Keeps an answer alive until it is over, or the deadline of its client. */
export const sustain = (
  answers: Answers,
  request: IncomingMessage,
  timeoutMs: number | undefined,
  beat: Buffer
): Effect.Effect<void> => {
  const beats = Effect.forever(
    Effect.zipRight(
      Effect.sleep(`${keepAliveOf(request)} seconds`),
      // A reader that is behind needs no sign of life, and must not collect them.
      Effect.sync(() => (answers.isCongested ? undefined : answers.send(beat)))
    )
  )
  const late =
    timeoutMs === undefined
      ? Effect.never
      : Effect.zipRight(
          Effect.sleep(timeoutMs),
          Effect.sync(() => answers.end(deadlinePassed(timeoutMs)))
        )
  return Effect.raceFirst(answers.closed, Effect.raceFirst(beats, Effect.zipRight(late, answers.closed)))
}
