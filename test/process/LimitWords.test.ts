import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as LimitWords from "../../src/process/LimitWords.js"

describe("a limit in words", () => {
  const accepted: ReadonlyArray<readonly [string, object]> = [
    ["memory=2g", { memoryBytes: 2147483648 }],
    ["memory=1.5M", { memoryBytes: 1572864 }],
    ["memory=512mb", { memoryBytes: 536870912 }],
    ["cpus=0.25", { cpus: 0.25 }],
    ["pids=512", { pids: 512 }],
    ["nofile=1024", { openFiles: 1024 }],
    ["fsize=0", { fileSizeBytes: 0 }],
    ["core=0", { coreBytes: 0 }],
    ["cpu=60", { cpuSeconds: 60 }],
    ["as=4G", { addressSpaceBytes: 4294967296 }],
    ["nice=19", { nice: 19 }]
  ]
  for (const [text, limits] of accepted) {
    it(`${text} is read`, () => assert.deepStrictEqual(LimitWords.parse(text), Either.right(limits)))
  }

  for (const text of [
    "",
    "memory",
    "memory=",
    "memory=lots",
    "memory=1",
    "pids=1.5",
    "pids=1k",
    "cpus=0",
    "nice=-1",
    "rss=1",
    "nofile=1e3",
    " nofile=64"
  ]) {
    it(`${JSON.stringify(text)} is refused`, () => assert.isTrue(Either.isLeft(LimitWords.parse(text))))
  }
})
