// Runs a built command, and caches what V8 has compiled for it: node scratch/warm.mjs dist/bin.js ARGUMENTS...
import { writeFileSync } from "node:fs"
import v8 from "node:v8"

const [, , bin, ...args] = process.argv
process.argv = [process.execPath, bin, ...args]

// A server ends once it has printed its address: what ends it properly would be read at each start.
process.stdout.write = () => setImmediate(() => process.exit())
process.stderr.write = () => true

const { scripts } = await import(bin)

process.prependListener("exit", () => {
  // V8 rejects cached code that was made with other flags, and the program has set these.
  for (const flag of ["semi-space-growth-factor=2", "parallel-scavenge", "concurrent-array-buffer-sweeping"]) {
    v8.setFlagsFromString(`--${flag}`)
  }
  for (const [file, script] of scripts) writeFileSync(file.replace(/cjs$/, "cache"), script.createCachedData())
})
