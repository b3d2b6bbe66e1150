/**
 * Layers for tests: `exec-server/testing`. They use no resources of the machine, and Effect's clock for time.
 *
 * @since 0.1.0
 */
export * as FakeSpawner from "./FakeSpawner.js"
export * as FaultyLink from "./FaultyLink.js"
export * as FaultyMemory from "./FaultyMemory.js"
export * as MemoryFileSystem from "./MemoryFileSystem.js"
export * as Recording from "./Recording.js"
export * as Script from "./Script.js"
export * as ScriptedHttp from "./ScriptedHttp.js"
