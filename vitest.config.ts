import { existsSync } from "node:fs"
import { defineConfig } from "vitest/config"

/** Folders with a run of their own, by mode: one downloads the genuine client, one takes time and privileges. */
const apart = ["interop", "faults"]

/** Tests in a browser also have one. They belong to the others where there is one: in continuous integration, always. */
const hasBrowser = process.env["CI"] === "true" || existsSync("/usr/bin/chromium-headless-shell")

export default defineConfig(({ mode }) => ({
  test: {
    include: [[...apart, "browser"].includes(mode) ? `test/${mode}/**/*.test.ts` : "test/**/*.test.ts"],
    exclude: [...apart, ...(hasBrowser ? [] : ["browser"])]
      .filter((folder) => folder !== mode)
      .map((folder) => `test/${folder}/**`),
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Real children share two cores: more files at a time only make each other late.
    maxWorkers: 2,
    // Machines of continuous integration stand still at times. The report marks what passed only then: (retry x1).
    retry: process.env["CI"] === "true" ? 1 : 0
  }
}))
