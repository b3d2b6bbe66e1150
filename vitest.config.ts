import { defineConfig } from "vitest/config"

// `--mode interop` runs the tests against the genuine client, which is a download too large for every run.
export default defineConfig(({ mode }) => ({
  test: {
    include: [mode === "interop" ? "test/interop/*.test.ts" : "test/**/*.test.ts"],
    exclude: mode === "interop" ? [] : ["test/interop/**"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Real children share two cores: more files at a time only make each other late.
    maxWorkers: 2
  }
}))
