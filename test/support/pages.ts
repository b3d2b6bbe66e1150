/** Parses the documentation for tests: README.md and the pages of docs/, with their code blocks. */
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

export const root = fileURLToPath(new URL("../..", import.meta.url))

/** A fenced block of code. */
export interface Block {
  readonly page: string
  /** The line number of its first line of code. */
  readonly line: number
  readonly language: string
  readonly text: string
  /** The nearest heading above. */
  readonly heading: string
}

/** A page, with its path from the root of the repository. */
export interface Page {
  readonly path: string
  readonly text: string
  readonly blocks: ReadonlyArray<Block>
}

const blocksOf = (page: string, text: string): ReadonlyArray<Block> => {
  const blocks: Array<Block> = []
  let heading = ""
  let open: { readonly language: string; readonly line: number; readonly lines: Array<string> } | undefined
  for (const [index, line] of text.split("\n").entries()) {
    const fence = /^```(.*)$/.exec(line)
    if (open === undefined) {
      if (fence !== null) open = { language: fence[1] ?? "", line: index + 2, lines: [] }
      else heading = /^#+ (.*)$/.exec(line)?.[1] ?? heading
    } else if (fence === null) open.lines.push(line)
    else {
      const { language, line, lines } = open
      blocks.push({ page, line, language, text: lines.map((line) => `${line}\n`).join(""), heading })
      open = undefined
    }
  }
  if (open !== undefined) throw new Error(`${page}:${open.line}: the block is not closed`)
  return blocks
}

export const page = (path: string): Page => {
  const text = readFileSync(`${root}${path}`, "utf8")
  return { path, text, blocks: blocksOf(path, text) }
}

/** All pages, README.md first. */
export const pages: ReadonlyArray<Page> = [
  "README.md",
  ...readdirSync(`${root}docs`)
    .filter((name) => name.endsWith(".md"))
    .sort()
    .map((name) => `docs/${name}`)
].map(page)

/** The text below the heading with this title, up to the next heading of the same or a higher level. */
export const section = ({ path, text }: Page, title: string): string => {
  const lines = text.split("\n")
  const start = lines.findIndex((line) => /^#+ /.test(line) && line.replace(/^#+ /, "") === title)
  const [hashes = ""] = /^#+/.exec(lines[start] ?? "") ?? []
  if (start === -1) throw new Error(`${path} has no section ${title}`)
  const rest = lines.slice(start + 1)
  let fenced = false
  const end = rest.findIndex((line) => {
    if (line.startsWith("```")) fenced = !fenced
    const level = /^#+(?= )/.exec(line)?.[0].length
    return !fenced && level !== undefined && level <= hashes.length
  })
  return rest.slice(0, end === -1 ? undefined : end).join("\n")
}
