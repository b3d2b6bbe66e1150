/**
 * The tools: their names, their parameters and what a model is told about them.
 *
 * @since 0.1.0
 */
import { type Fields, integer, jsonSchemaOf, required, text, texts, toggle, word } from "./Parameters.js"

/** What a tool does, for those who decide whether it may be called. */
export interface Hints {
  readonly readOnlyHint: boolean
  readonly destructiveHint?: boolean
  readonly idempotentHint?: boolean
  readonly openWorldHint: boolean
}

/** A tool. */
export interface Tool<F extends Fields = Fields> {
  readonly name: string
  readonly title: string
  readonly description: string
  readonly fields: F
  readonly hints: Hints
  /** Members that only some clients read. */
  readonly meta: Readonly<Record<string, unknown>> | undefined
}

/** The longest wait of a call, in milliseconds: clients give up after a minute. */
const maxYieldMs = 50_000

/** The most output of one answer, in tokens. */
const maxTokens = 100_000

/** Without it, Claude Code puts longer answers into a file. In characters. */
const longAnswers = { "anthropic/maxResultSizeChars": 500_000 }

/** The model sees it from the start, and need not search for it. */
const alwaysThere = { ...longAnswers, "anthropic/alwaysLoad": true }

const session_id = required(integer({}, "Session ID from exec_command or list_sessions."))

const max_output_tokens = integer(
  { minimum: 100, maximum: maxTokens },
  "Output budget in tokens (about 4 characters each). Default 8000. The middle is left out; read_output can show it."
)

const yieldTime = (description: string) => integer({ minimum: 0, maximum: maxYieldMs }, description)

const path = required(text("Absolute path."))

const readOnly: Hints = { readOnlyHint: true, openWorldHint: false }

const writing = (idempotentHint: boolean, openWorldHint: boolean): Hints => ({
  readOnlyHint: false,
  destructiveHint: true,
  idempotentHint,
  openWorldHint
})

const define = <const F extends Fields>(tool: Tool<F>): Tool<F> => tool

const execCommand = define({
  name: "exec_command",
  title: "Run a command",
  description:
    "Runs a shell command. Returns its output and exit code when it ends, or, if it is still running after yield_time_ms, its output so far and a session_id: use write_stdin to type into it, read_output to wait for more, kill_session to end it. Start servers and watchers the same way: they keep running. Use tty for programs that ask questions, draw a screen or need a terminal.",
  fields: {
    cmd: required(text("Shell command line.")),
    workdir: text("Working directory, absolute. Default: the server's."),
    tty: toggle("Run in a terminal. Default false: pipes, with an open stdin."),
    yield_time_ms: yieldTime("How long to wait for the end before returning. Default 10000, at most 50000."),
    timeout_ms: integer({ minimum: 1 }, "Kill the command and all its children after this time. Default: never."),
    max_output_tokens
  },
  hints: writing(false, true),
  meta: alwaysThere
})

const writeStdin = define({
  name: "write_stdin",
  title: "Type into a running command",
  description:
    'Writes to a running command\'s stdin, then returns its new output. chars is sent as is: end a line with \\n. keys are sent after chars, e.g. ["ctrl-c"], ["up","enter"].',
  fields: {
    session_id,
    chars: text("Text to write."),
    keys: texts(
      "Keys to press: enter, tab, esc, space, backspace, delete, up, down, left, right, home, end, page-up, page-down, f1-f12, ctrl-a to ctrl-z, alt-x. Without a terminal only ctrl-c, ctrl-d and ctrl-\\\\ mean something."
    ),
    close_stdin: toggle("Close stdin afterwards (end of file)."),
    yield_time_ms: yieldTime(
      "How long to wait for output. Returns earlier once output has come and been quiet for 300 ms, or at the end. Default 2000."
    ),
    max_output_tokens
  },
  hints: writing(false, true),
  meta: alwaysThere
})

const readOutput = define({
  name: "read_output",
  title: "Read or await output",
  description:
    "Waits for a command and returns its new output; also works after it ended. With wait_for, returns as soon as a text appears. With offset, returns kept output from that byte again (what was left out, for example).",
  fields: {
    session_id,
    wait_for: texts('Return as soon as the new output contains one of these texts, e.g. ["listening on", "error"].'),
    yield_time_ms: yieldTime("How long to wait for the end (or for wait_for). Default 10000; 0 returns at once."),
    offset: integer({ minimum: 0 }, "Read kept output from this byte on instead of new output; does not wait."),
    max_output_tokens
  },
  hints: readOnly,
  meta: alwaysThere
})

const readScreen = define({
  name: "read_screen",
  title: "Look at the terminal",
  description:
    "Shows the screen of a command that runs in a terminal (tty), as a person would see it: for editors, menus, top, and whatever redraws itself.",
  fields: {
    session_id,
    rows: integer({ minimum: 1, maximum: 500 }),
    cols: integer({ minimum: 1, maximum: 500 }, "Resize the terminal first (both rows and cols).")
  },
  hints: readOnly,
  meta: undefined
})

const killSession = define({
  name: "kill_session",
  title: "End a command",
  description:
    "Ends a command and all its children: SIGTERM, then SIGKILL after 2 seconds; or sends one signal. Returns the last output.",
  fields: {
    session_id,
    signal: word(
      ["SIGINT", "SIGTERM", "SIGKILL", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGSTOP", "SIGCONT"],
      "Send only this signal to its process group."
    )
  },
  hints: writing(true, false),
  meta: longAnswers
})

const listSessions = define({
  name: "list_sessions",
  title: "List commands",
  description: "Lists commands that run or ended lately, with session_id, state and how long ago they were started.",
  fields: {},
  hints: readOnly,
  meta: undefined
})

const readFile = define({
  name: "read_file",
  title: "Read a file",
  description: "Reads a text file with line numbers, or part of it. Images are returned as images.",
  fields: {
    path,
    offset: integer({ minimum: 1 }, "First line, from 1."),
    limit: integer({ minimum: 1 }, "Number of lines. Default 2000.")
  },
  hints: readOnly,
  meta: longAnswers
})

const writeFile = define({
  name: "write_file",
  title: "Write a file",
  description: "Creates a file, or replaces all of its content. Missing directories are created.",
  fields: { path, content: required(text()) },
  hints: writing(true, false),
  meta: undefined
})

const editFile = define({
  name: "edit_file",
  title: "Edit a file",
  description: "Replaces old_text, which must occur exactly once (or everywhere with replace_all), by new_text.",
  fields: { path, old_text: required(text()), new_text: required(text()), replace_all: toggle() },
  hints: writing(false, false),
  meta: undefined
})

/** The tools for commands. */
export const commandTools = { execCommand, writeStdin, readOutput, readScreen, killSession, listSessions }

/** The tools for files. */
export const fileTools = { readFile, writeFile, editFile }

/** Which tools are offered: those for commands, or all. */
export const selections = ["exec", "all"] as const
/** One of them. */
export type Selection = (typeof selections)[number]

/** The offered tools, in their order. */
export const offered = (selection: Selection): ReadonlyArray<Tool> => [
  ...Object.values(commandTools),
  ...(selection === "all" ? Object.values(fileTools) : [])
]

/** The fields of a tool; with several environments, one of them says which. */
export const fieldsOf = ({ fields }: Tool, environments: ReadonlyArray<string>): Fields =>
  environments.length < 2
    ? fields
    : { ...fields, environment: word(environments, `Which machine. Default: ${environments[0]}.`) }

/** A tool as `tools/list` describes it. */
export const describe = (tool: Tool, environments: ReadonlyArray<string>) => {
  const { name, title, description, hints, meta } = tool
  return {
    name,
    title,
    description,
    inputSchema: jsonSchemaOf(fieldsOf(tool, environments)),
    annotations: { title, ...hints },
    ...(meta === undefined ? {} : { _meta: meta })
  }
}
