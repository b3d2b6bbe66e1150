import { configDefaults, defineConfig } from "vitest/config"

/** Faults take time and privileges: they are for `npm run test:faults`. */
const withFaults = process.env["FAULTS"] === "1"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: [...configDefaults.exclude, ...(withFaults ? [] : ["test/faults/**"])],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Real children share two cores: more files at a time only make each other late.
    maxWorkers: 2
  }
})
