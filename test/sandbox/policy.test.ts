import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as Sandbox from "../../src/protocol/Sandbox.js"
import { plan } from "../../src/sandbox/MountPlan.js"
import * as SandboxPolicy from "../../src/sandbox/SandboxPolicy.js"
import * as Seccomp from "../../src/sandbox/Seccomp.js"
import * as WritableFolders from "../../src/sandbox/WritableFolders.js"
import type { Confinement } from "../../src/spawn/Confinement.js"
import { at, entry, readRoot, root, sandbox, special } from "../support/sandbox.js"

const dir = realpathSync(mkdtempSync(join(tmpdir(), "policy-")))
afterAll(() => rmSync(dir, { recursive: true }))
for (const folder of ["ws/.git", "ws/a/b", "ws/private", "other"]) mkdirSync(join(dir, folder), { recursive: true })
writeFileSync(join(dir, "ws/a/b/secret"), "")
symlinkSync(join(dir, "ws"), join(dir, "link"))
symlinkSync(join(dir, "other"), join(dir, "ws/out"))

const policyOf = (json: object) => SandboxPolicy.policyOf(Schema.decodeUnknownSync(Sandbox.Sandbox)(json), undefined)

/** The mounts of a sandbox, a line each, or why there are none. */
const lines = (json: object, writable = WritableFolders.make(), readOnly = false): ReadonlyArray<string> | string =>
  Either.match(
    Either.flatMap(policyOf(json), (policy) =>
      plan(policy ?? { files: undefined, isolated: false }, { writableAround: writable.around }, readOnly)
    ),
    {
      onLeft: ({ message }) => message.replaceAll(dir, ""),
      onRight: ({ mounts = [], placeholders }) => [
        ...mounts.map((mount) => {
          const path = mount.path.replace(dir, "") || "."
          if (mount._tag === "Bind") return `${mount.writable ? "write" : "read"} ${path}`
          return mount._tag === "Link" ? `link ${path}` : `hide ${mount.kind} ${path}`
        }),
        ...placeholders.map((path) => `hold ${path.replace(dir, "")}`)
      ]
    }
  )

/** Names that nothing may appear at in a writable folder. */
const missing = (folder: string, ...more: ReadonlyArray<string>) =>
  [".agents", ".aws", ".codex", ...more].map((name) => `${folder}/${name}`)
const hide = (paths: ReadonlyArray<string>) => paths.map((path) => `hide directory ${path}`)
const hold = (paths: ReadonlyArray<string>) => paths.map((path) => `hold ${path}`)
const inWs = [...hide(missing("/ws")), "read /ws/.git"]
const heldInWs = hold(missing("/ws"))

/** A confinement with writable folders. */
const writing = (...paths: ReadonlyArray<string>): Confinement => ({
  mounts: [...paths].sort().map((path) => ({ _tag: "Bind", path, writable: true })),
  placeholders: [],
  isolated: false
})

const ws = at(`${dir}/ws`)

describe("policies", () => {
  it("what restricts nothing is no policy", () => {
    const level = { windowsSandboxLevel: "disabled" }
    for (const permissions of [
      { type: "disabled" },
      { type: "external", network: "enabled" },
      { type: "managed", file_system: { type: "unrestricted" }, network: "enabled" }
    ]) {
      assert.deepStrictEqual(policyOf({ permissions, ...level }), Either.right(undefined))
    }
    assert.deepStrictEqual(policyOf(sandbox([entry(root, "write")], {}, "enabled")), Either.right(undefined))
    const isolated = Either.right({ files: undefined, isolated: true })
    assert.deepStrictEqual(policyOf(sandbox([entry(root, "write")])), isolated)
    assert.deepStrictEqual(policyOf({ permissions: { type: "external", network: "restricted" }, ...level }), isolated)
  })

  const table: ReadonlyArray<readonly [string, object, ReadonlyArray<string> | RegExp]> = [
    ["nothing", sandbox([]), []],
    ["all, to read", sandbox([readRoot]), ["read /"]],
    [
      "a folder in what may be read",
      sandbox([readRoot, entry(ws, "write")]),
      ["read /", "write /ws", ...inWs, ...heldInWs]
    ],
    [
      "the order of entries does not matter",
      sandbox([entry(ws, "write"), readRoot]),
      ["read /", "write /ws", ...inWs, ...heldInWs]
    ],
    ["a folder and nothing else", sandbox([entry(ws, "read")]), ["read /ws"]],
    ["a plain path", sandbox([entry({ type: "path", path: `${dir}/other/../ws/` }, "read")]), ["read /ws"]],
    ["what another entry says already", sandbox([readRoot, entry(ws, "read")]), ["read /"]],
    ["denied", sandbox([readRoot, entry(ws, "deny")]), ["read /", "hide directory /ws"]],
    ["none", sandbox([readRoot, entry(at(`${dir}/ws/a/b/secret`), "none")]), ["read /", "hide file /ws/a/b/secret"]],
    [
      "of the same path, denied",
      sandbox([entry(ws, "none"), readRoot, entry(ws, "write")]),
      ["read /", "hide directory /ws"]
    ],
    [
      "what is denied within what may be written cannot be moved away with its folder",
      sandbox([entry(ws, "write"), entry(at(`${dir}/ws/a/b/secret`), "deny")]),
      ["write /ws", ...inWs, "write /ws/a", "write /ws/a/b", "hide file /ws/a/b/secret", ...heldInWs]
    ],
    [
      "seen within what is hidden",
      sandbox([readRoot, entry(ws, "deny"), entry(at(`${dir}/ws/a`), "read")]),
      ["read /", "hide directory /ws", "read /ws/a"]
    ],
    ["nothing there to read", sandbox([entry(at(`${dir}/none/at/all`), "read")]), []],
    [
      "nothing there yet, and nothing may appear",
      sandbox([entry(ws, "write"), entry(at(`${dir}/ws/.codex`), "read")]),
      ["write /ws", ...inWs, ...heldInWs]
    ],
    [
      "nor the folder it would be in",
      sandbox([entry(ws, "write"), entry(at(`${dir}/ws/x/y`), "deny")]),
      /`.*\/ws\/x\/y` \(deny\) cannot be enforced/
    ],
    [
      "project roots",
      sandbox([entry(special("project_roots"), "read")], { cwd: `file://${dir}/other` }),
      ["read /other"]
    ],
    [
      "several of them",
      sandbox([entry(special("project_roots"), "read")], {
        cwd: "file:///",
        workspaceRoots: [`${dir}/other`, `${dir}/ws`]
      }),
      ["read /other", "read /ws"]
    ],
    [
      "those of the policy's own context",
      sandbox([entry(special("project_roots"), "read")], {
        cwd: "file:///",
        workspaceRoots: [`${dir}/other`],
        policyContext: { workspaceRoots: [`${dir}/ws`] }
      }),
      ["read /ws"]
    ],
    [
      "a context of the policy without any",
      sandbox([entry(special("project_roots"), "read")], { cwd: `${dir}/ws`, policyContext: {} }),
      []
    ],
    [
      "the working directory of the policy's own context",
      sandbox([entry(special("current_working_directory"), "read")], {
        cwd: "file:///",
        policyContext: { cwd: `${dir}/ws` }
      }),
      ["read /ws"]
    ],
    [
      "one of its folders",
      sandbox([entry(special("project_roots", "a"), "read")], { cwd: `${dir}/ws` }),
      ["read /ws/a"]
    ],
    [
      "the working directory",
      sandbox([entry(special("current_working_directory"), "read")], { cwd: `${dir}/ws` }),
      ["read /ws"]
    ],
    ["without a working directory", sandbox([entry(special("project_roots"), "read")]), /requires cwd/],
    [
      "a subpath that leads out",
      sandbox([entry(special("project_roots", "../x"), "write")], { cwd: dir }),
      /cannot be enforced/
    ],
    [
      "a subpath of its own",
      sandbox([entry(special("project_roots", "/etc"), "write")], { cwd: dir }),
      /cannot be enforced/
    ],
    [
      "a pattern",
      sandbox([readRoot, entry({ type: "glob_pattern", pattern: "**/*.env" }, "deny")]),
      /"\*\*\/\*\.env"` \(deny\) cannot be enforced/
    ],
    [
      "an unknown place",
      sandbox([entry({ type: "special", value: { kind: "unknown", path: ":x" } }, "read")]),
      /`:unknown` \(read\)/
    ],
    ["programs, to write", sandbox([entry(special("minimal"), "write")]), /`:minimal` \(write\)/],
    ["no devices", sandbox([readRoot, entry(at("/dev"), "write")]), /`\/dev` \(write\)/],
    ["another process", sandbox([readRoot, entry(at("/proc/1"), "write")]), /cannot be enforced/],
    ["through a link that nobody can change", sandbox([entry(at(`${dir}/link`), "read")]), ["link /link", "read /ws"]],
    [
      "through a link in what may be written",
      sandbox([entry(ws, "write"), entry(at(`${dir}/ws/out`), "write")]),
      /contains the link .*\/ws\/out/
    ]
  ]

  for (const [name, json, expected] of table) {
    it(name, () => {
      const found = lines(json)
      if (expected instanceof RegExp) assert.match(String(found), expected)
      else assert.deepStrictEqual(found, expected)
    })
  }

  it("a link is not trusted while a running sandbox can write its folder, whatever the new sandbox says of it", () => {
    const json = sandbox([readRoot, entry(at(`${dir}/ws/out`), "write")])
    const writable = WritableFolders.make()
    const protectedNames = missing("/other", ".git")
    const there = ["read /", "write /other", ...hide(protectedNames), ...hold(protectedNames)]
    assert.deepStrictEqual(lines(json, writable), there)
    const release = [writing(`${dir}/ws`), writing(`${dir}/ws`, `${dir}/ws/a`)].map(writable.hold)
    assert.match(String(lines(json, writable)), /a running sandbox with write access to \/ws can change/)
    release[0]?.()
    // A release counts once.
    release[0]?.()
    assert.match(String(lines(json, writable)), /a running sandbox with write access to \/ws can change/)
    release[1]?.()
    assert.deepStrictEqual(lines(json, writable), there)
  })

  it("for reading, nothing is writable and nothing is held, and what is refused stays refused", () => {
    const boxes = [
      [sandbox([readRoot, entry(ws, "write")]), ["read /"]],
      [sandbox([entry(ws, "write"), entry(at(`${dir}/ws/a`), "deny")]), ["read /ws", "hide directory /ws/a"]]
    ] as const
    for (const [json, expected] of boxes) assert.deepStrictEqual(lines(json, undefined, true), expected)
    const throughLink = sandbox([entry(ws, "write"), entry(at(`${dir}/ws/out`), "write")])
    assert.match(String(lines(throughLink, undefined, true)), /contains the link/)
  })

  it("there is room for folders that are held already, and for as many others as the limit leaves", () => {
    const writable = WritableFolders.make(2)
    const release = writable.hold(writing("/a", "/b"))
    assert.isTrue(writable.hasRoomFor(writing("/a", "/b/c", "/b")))
    assert.isFalse(writable.hasRoomFor(writing("/c")))
    // However many are held, nothing else is distrusted.
    assert.isUndefined(writable.around("/c/link"))
    release()
    assert.isTrue(writable.hasRoomFor(writing("/c", "/d")))
  })

  it("the filter of system calls is known for the common processors only", () => {
    for (const filter of [Seccomp.base, Seccomp.noForeignSockets]) {
      for (const name of ["x64", "arm64"]) assert.strictEqual((filter(name)?.length ?? 1) % 8, 0)
      assert.isUndefined(filter("mips"))
    }
  })
})
