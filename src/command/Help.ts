/**
 * Formats the help of a command.
 *
 * @since 0.1.0
 */
import type { Flag } from "./Flag.js"
import { type Command, nameOf, type Word } from "./Grammar.js"

/** How to format it. */
export interface Style {
  /** The width of the terminal, in columns. */
  readonly width: number
  /** Whether headings are bold. */
  readonly isColoured: boolean
}

/** The width without a terminal, and the smallest width to wrap to, in columns. */
const defaultWidth = 80
const minWidth = 40

/** The widest name with its description beside it, in columns; wider names have it on the next line. */
const maxLeft = 28

const bold = "\u001b[1m"
const plain = "\u001b[0m"

/** The style for a stream: colour only at a terminal, unless NO_COLOR or TERM=dumb is set. */
export const styleOf = (
  stream: { readonly isTTY?: boolean; readonly columns?: number },
  { NO_COLOR, TERM }: NodeJS.ProcessEnv
): Style => {
  const isTerminal = stream.isTTY === true
  const columns = stream.columns ?? 0
  return {
    width: isTerminal && columns > 0 ? Math.max(minWidth, columns) : defaultWidth,
    isColoured: isTerminal && !NO_COLOR && TERM !== "dumb"
  }
}

/** Wraps a text; a word longer than `width` gets its own line. */
const wrap = (text: string, width: number): ReadonlyArray<string> => {
  const lines: Array<string> = []
  let line = ""
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === "" ? word : `${line} ${word}`
  }
  return [...lines, line]
}

/** A name and its description, in two columns. */
type Row = readonly [name: string, description: string]

const columnOf = (rows: ReadonlyArray<Row>) =>
  2 + Math.min(maxLeft, Math.max(0, ...rows.map(([{ length }]) => (length > maxLeft ? 0 : length))))

const lineUp = (rows: ReadonlyArray<Row>, column: number, width: number): ReadonlyArray<string> =>
  rows.flatMap(([name, description]) => {
    const [first = "", ...more] = wrap(description, width - column - 2)
    const indent = " ".repeat(column + 2)
    const below = more.map((line) => `${indent}${line}`)
    return name.length + 2 > column
      ? [`  ${name}`, `${indent}${first}`, ...below]
      : [`  ${name.padEnd(column)}${first}`, ...below]
  })

/** `-s, --signal NAME` */
export const written = ({ name, short, placeholder }: Flag): string =>
  `${short === undefined ? "    " : `-${short}, `}--${name}${placeholder === "" ? "" : ` ${placeholder}`}`

/** The description of a flag: its help, its default and its environment variable. */
const described = ({ help, defaultText, variable, isRepeated }: Flag): string => {
  const more = [
    ...(isRepeated ? ["may be repeated"] : []),
    ...(defaultText === undefined ? [] : [`default ${defaultText}`]),
    ...(variable === undefined ? [] : [variable])
  ]
  return more.length === 0 ? help : `${help} (${more.join("; ")})`
}

const wordShown = ({ name, isRepeated = false }: Word) => (isRepeated ? `[${name}...]` : name)

/** The usage line of a command. */
const usage = (command: Command): string =>
  [
    nameOf(command),
    // The root runs the server if no command is given.
    ...(command.commands.length === 0 ? [] : [command.run === undefined ? "COMMAND" : "[COMMAND]"]),
    "[FLAGS]",
    ...command.words.map(wordShown),
    ...(command.rest === undefined ? [] : [`-- ${command.rest}`])
  ].join(" ")

/** The help of a command. */
export const format = (command: Command, { width, isColoured }: Style): string => {
  const heading = (text: string) => (isColoured ? `${bold}${text}:${plain}` : `${text}:`)
  const paragraph = (text: string) => wrap(text, width)
  const table = (title: string, rows: ReadonlyArray<Row>, column = columnOf(rows)) =>
    rows.length === 0 ? [] : ["", heading(title), ...lineUp(rows, column, width)]

  const { summary, note, words, commands, examples, flags } = command
  const rows = flags.map((flag): Row => [written(flag), described(flag)])
  const groups = Array.from(new Set(flags.map(({ group }) => group)))
  return [
    `${heading("Usage")} ${usage(command)}`,
    "",
    ...paragraph(summary),
    ...(note === undefined ? [] : ["", ...paragraph(note)]),
    ...table(
      "Commands",
      commands.map((one) => [one.path.at(-1) ?? "", one.summary])
    ),
    ...table(
      "Arguments",
      words.map((word) => [word.name, word.help])
    ),
    // All groups share one column width.
    ...groups.flatMap((group) =>
      table(
        group,
        rows.filter((_, index) => flags[index]?.group === group),
        columnOf(rows)
      )
    ),
    ...(examples.length === 0 ? [] : ["", heading("Examples")]),
    ...examples.flatMap(([line, help]) => [`  # ${help}`, `  ${line}`]),
    ...(commands.length === 0
      ? []
      : ["", ...paragraph(`See \`${nameOf(command)} COMMAND --help\` for the help of a command.`)])
  ]
    .map((line) => `${line}\n`)
    .join("")
}
