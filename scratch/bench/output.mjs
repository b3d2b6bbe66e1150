// The output of children. It repeats only after megabytes, so that a digest detects lost, duplicated or reordered
// bytes.
import { createHash, randomBytes } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** The length of a piece, in bytes. */
export const pieceBytes = 2_500_000

let made
const piece = () => {
  if (made !== undefined) return made
  const directory = mkdtempSync(join(tmpdir(), "bench-"))
  process.on("exit", () => rmSync(directory, { recursive: true }))
  made = { file: join(directory, "output"), bytes: randomBytes(pieceBytes) }
  writeFileSync(made.file, made.bytes)
  return made
}

/** A shell command that prints this many pieces. */
export const print = (pieces) => `cat${` ${piece().file}`.repeat(pieces)}`

/** The digest of this many pieces. */
export const digest = (pieces) => {
  const hash = createHash("sha256")
  for (let i = 0; i < pieces; i++) hash.update(piece().bytes)
  return hash.digest("hex")
}
