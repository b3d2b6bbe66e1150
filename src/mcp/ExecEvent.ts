/**
 * What happens to commands, as events for programs that show a model's work: begin, output, input, end.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

const about = {
  /** The number of the command. */
  sessionId: Schema.Int,
  /** The id that the caller gave to the call that started it; null if it gave none. */
  callId: Schema.NullOr(Schema.String)
}

/**
 * A command was started.
 *
 * @category schemas
 */
export const ExecCommandBegin = Schema.TaggedStruct("ExecCommandBegin", {
  ...about,
  /** The command line. */
  cmd: Schema.String,
  /** Its working directory. */
  workdir: Schema.String,
  /** The id of the environment that it runs in. */
  environment: Schema.String,
  tty: Schema.Boolean,
  startedAtMs: Schema.Number
})

/**
 * A command has printed something, on stdout or stderr or in its terminal: bytes, cut anywhere. In JSON they are
 * base64.
 *
 * @category schemas
 */
export const ExecCommandOutputDelta = Schema.TaggedStruct("ExecCommandOutputDelta", {
  ...about,
  chunk: Schema.Uint8ArrayFromBase64,
  /** How many bytes before the chunk were left out, because this reader was too slow or they were lost on the way. */
  missedBytes: Schema.Int
})

/**
 * Something was typed into a command. Its output may have come before this.
 *
 * @category schemas
 */
export const TerminalInteraction = Schema.TaggedStruct("TerminalInteraction", {
  ...about,
  /** The beginning of the text that was written, at most 4096 characters. */
  stdin: Schema.String,
  /** How many characters of it were left out. */
  omittedChars: Schema.Int,
  /** The keys that were pressed after it, by name. */
  keys: Schema.Array(Schema.String),
  closesStdin: Schema.Boolean
})

/**
 * A command has ended. If something that it started `holdsOutput`, output may follow.
 *
 * @category schemas
 */
export const ExecCommandEnd = Schema.TaggedStruct("ExecCommandEnd", {
  ...about,
  /** The status, or 128 + the signal's number; null if it is not known. */
  exitCode: Schema.NullOr(Schema.Int),
  signal: Schema.NullOr(Schema.String),
  timedOut: Schema.Boolean,
  holdsOutput: Schema.Boolean,
  /** Why its end is not known: the connection has ended, for example; null if it is known. */
  lost: Schema.NullOr(Schema.String),
  durationMs: Schema.Number,
  /** All of its output as plain text: the beginning and the end, about 32,000 bytes. */
  output: Schema.Struct({
    head: Schema.String,
    /** Empty if nothing was left out. */
    tail: Schema.String,
    omittedLines: Schema.Int,
    omittedBytes: Schema.Int,
    lines: Schema.Int,
    bytes: Schema.Int
  })
})

/**
 * The reader was too slow: this many events before the next one were dropped, with so many bytes of output.
 *
 * @category schemas
 */
export const EventsMissed = Schema.TaggedStruct("EventsMissed", { events: Schema.Int, bytes: Schema.Int })

/**
 * An event of the commands.
 *
 * @category schemas
 */
export const ExecEvent = Schema.Union(
  ExecCommandBegin,
  ExecCommandOutputDelta,
  TerminalInteraction,
  ExecCommandEnd,
  EventsMissed
)
export type ExecEvent = typeof ExecEvent.Type
