/** The command: `npm run fuzz -- --seed N --count N`. */
import { parseArgs } from "node:util"
import { type Lane, lanes, run } from "./Fuzz.js"

const usage = `npm run fuzz -- [options]
  --seed N     where chance starts (1)
  --count N    frames (100000)
  --lane NAME  one lane alone: ${Object.keys(lanes).join(", ")}
  --from N     its first frame`

const read = () => {
  const text = (value: string) => ({ type: "string", default: value }) as const
  return parseArgs({
    options: { seed: text("1"), count: text("100000"), lane: { type: "string" }, from: text("0") }
  }).values
}

const isLane = (name: string): name is Lane => name in lanes

const main = async (): Promise<void> => {
  const { seed, count, lane, from } = read()
  if (lane !== undefined && !isLane(lane)) throw new Error(`there is no lane ${lane}\n${usage}`)
  const figures = await run({
    seed: Number(seed),
    count: Number(count),
    only: lane === undefined ? undefined : { lane, from: Number(from) }
  })
  console.log(JSON.stringify(figures, null, 2))
}

// What is to be done at the end is done then, too.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(130))

main().then(
  () => process.exit(0),
  (error) => {
    console.error(`FAILED: ${error.message}`)
    process.exit(1)
  }
)
