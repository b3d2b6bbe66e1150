/** What decides which programs git runs in a folder that may be written, wherever `.git` leads. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { refuses } from "../support/files.js"
import { at, entry, readRoot, sandbox } from "../support/sandbox.js"
import { connected, eventually, hasBubblewrap, webSocketServer } from "../support/servers.js"
import { startParams, type TestClient } from "../support/TestClient.js"

/** A folder with `ws`, which sandboxes may write, and `other`, which some may. */
const project = Effect.acquireRelease(
  Effect.sync(() => {
    const dir = realpathSync(mkdtempSync(join(tmpdir(), "git-")))
    for (const folder of ["ws", "other"]) mkdirSync(join(dir, folder))
    return dir
  }),
  (dir) => Effect.sync(() => rmSync(dir, { recursive: true }))
)

const file = (path: string, content: string) => {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, content)
}

const link = (target: string, path: string) => {
  mkdirSync(dirname(path), { recursive: true })
  symlinkSync(target, path)
}

/** A folder as git keeps its own in. */
const repository = (path: string) => {
  mkdirSync(`${path}/hooks`, { recursive: true })
  file(`${path}/config`, "")
}

const writing = (...paths: ReadonlyArray<string>) =>
  sandbox([readRoot, ...paths.map((path) => entry(at(path), "write"))])

/** Tries to change, move and replace paths below `ws`, and to move others; gives what succeeded. */
const attack = (
  client: TestClient,
  id: string,
  dir: string,
  paths: ReadonlyArray<string>,
  parents: ReadonlyArray<string>,
  box: object
) =>
  Effect.gen(function* () {
    const script = `
      try() { name="$1"; shift; ( eval "$@" ) >/dev/null 2>&1 && echo "$name"; }
      for path in ${paths.join(" ")}; do
        try "wrote $path" "mkdir -p $path/hooks && echo evil > $path/hooks/pre-commit"
        try "configured $path" "echo evil >> $path/config"
        try "changed $path" "echo evil >> $path"
        try "moved $path" "mv $path moved && mv moved $path"
        try "replaced $path" "rm -rf $path; mkdir $path && echo evil > $path/config"
      done
      for path in ${parents.join(" ")}; do try "moved $path" "mv $path moved && mv moved $path"; done
      rm -rf moved
      echo tried; touch ours && echo writable`
    yield* client.sh(id, script, { sandbox: box, cwd: `${dir}/ws` })
    yield* client.closed(id)
    return client.output(id, "stdout").toString().trimEnd().split("\n")
  })

const held = ["tried", "writable"]

describe.runIf(hasBubblewrap)("git's own files in what may be written", () => {
  /** What is there, the paths below `ws` that must not change, and those that must not move. */
  const kept: Record<
    string,
    readonly [make: (dir: string) => void, paths: ReadonlyArray<string>, parents?: ReadonlyArray<string>]
  > = {
    "a folder": [(dir) => repository(`${dir}/ws/.git`), [".git"]],
    "none yet": [() => {}, [".git", ".codex", ".agents", ".aws"]],
    "a file that points nowhere": [(dir) => file(`${dir}/ws/.git`, "nothing\n"), [".git"]],
    "a pointer to an absolute path": [
      (dir) => {
        repository(`${dir}/ws/a/real`)
        file(`${dir}/ws/.git`, `gitdir: ${dir}/ws/a/real\n`)
      },
      [".git", "a/real"],
      ["a"]
    ],
    "a pointer to a relative path": [
      (dir) => {
        repository(`${dir}/ws/real`)
        file(`${dir}/ws/.git`, "gitdir: ./x/../real")
      },
      [".git", "real"]
    ],
    "a pointer into another writable folder": [
      (dir) => {
        repository(`${dir}/other/real`)
        file(`${dir}/ws/.git`, "gitdir: ../other/real\n")
      },
      [".git", "../other/real"]
    ],
    "a pointer to what is not there yet": [(dir) => file(`${dir}/ws/.git`, "gitdir: later\n"), [".git", "later"]],
    "a worktree of a repository in the same folder": [
      (dir) => {
        repository(`${dir}/ws/main/.git`)
        file(`${dir}/ws/main/.git/worktrees/w/commondir`, "../..\n")
        file(`${dir}/ws/.git`, "gitdir: main/.git/worktrees/w\n")
      },
      [".git", "main/.git/worktrees/w", "main/.git"],
      ["main"]
    ],
    "a worktree whose common folder is elsewhere": [
      (dir) => {
        repository(`${dir}/ws/common`)
        file(`${dir}/ws/private/commondir`, "../common\n")
        file(`${dir}/ws/.git`, "gitdir: private\n")
      },
      [".git", "private", "common"]
    ],
    "hooks and configuration that are links": [
      (dir) => {
        mkdirSync(`${dir}/ws/hooks`)
        file(`${dir}/ws/common/settings`, "")
        link("../hooks", `${dir}/ws/.git/hooks`)
        link("../common/settings", `${dir}/ws/.git/config`)
      },
      [".git", "hooks", "common/settings"]
    ]
  }
  for (const [name, [make, paths, parents = []]] of Object.entries(kept)) {
    it.scopedLive(`${name}: not changed, moved or replaced, and nothing is left behind`, () =>
      Effect.gen(function* () {
        const { client } = yield* connected()
        const dir = yield* project
        make(dir)
        const before = readdirSync(`${dir}/ws`)
        const box = writing(`${dir}/ws`, `${dir}/other`)
        assert.deepStrictEqual(yield* attack(client, "p", dir, paths, parents, box), held)
        yield* eventually("the places are given back", () => readdirSync(`${dir}/ws`).length === before.length + 1)
        // A `.git` that is named is no other, as long as it is not to be written.
        const named = sandbox([...box.permissions.file_system.entries, entry(at(`${dir}/ws/.git`), "read")])
        assert.deepStrictEqual(yield* attack(client, "q", dir, paths, parents, named), held)
      })
    )
  }

  /** What leads through a link that the process could change. */
  const refused: Record<string, readonly [make: (dir: string) => void, at: string]> = {
    "a link within the folder": [
      (dir) => {
        repository(`${dir}/ws/real`)
        link("real", `${dir}/ws/.git`)
      },
      ".git"
    ],
    "a link to an absolute path": [
      (dir) => {
        repository(`${dir}/ws/real`)
        link(`${dir}/ws/real`, `${dir}/ws/.git`)
      },
      ".git"
    ],
    "a link out of the folder": [
      (dir) => {
        repository(`${dir}/other/real`)
        link("../other/real", `${dir}/ws/.git`)
      },
      ".git"
    ],
    "a link to a link": [
      (dir) => {
        repository(`${dir}/ws/real`)
        link("real", `${dir}/ws/middle`)
        link("middle", `${dir}/ws/.git`)
      },
      ".git"
    ],
    "a link to nothing": [(dir) => link("later", `${dir}/ws/.git`), ".git"],
    "a link to itself": [(dir) => link(".git", `${dir}/ws/.git`), ".git"],
    "a link to a pointer": [
      (dir) => {
        repository(`${dir}/ws/real`)
        file(`${dir}/ws/pointer`, "gitdir: real")
        link("pointer", `${dir}/ws/.git`)
      },
      ".git"
    ],
    "a pointer through a link": [
      (dir) => {
        repository(`${dir}/ws/real`)
        link("real", `${dir}/ws/alias`)
        file(`${dir}/ws/.git`, "gitdir: alias\n")
      },
      "alias"
    ],
    "a pointer to what is not there, nor its folder": [(dir) => file(`${dir}/ws/.git`, "gitdir: a/b/c\n"), "a/b/c"],
    "a pointer to the folder itself": [(dir) => file(`${dir}/ws/.git`, "gitdir: .\n"), ".git"],
    "settings for agents that are a link": [(dir) => link("real", `${dir}/ws/.codex`), ".codex"]
  }
  for (const [name, [make, at]] of Object.entries(refused)) {
    it.scopedLive(`${name}: the sandbox is refused, by name`, () =>
      Effect.gen(function* () {
        const { client } = yield* connected()
        const dir = yield* project
        make(dir)
        const box = writing(`${dir}/ws`, `${dir}/other`)
        const { error } = yield* client.call("process/start", startParams("p", ["true"], { sandbox: box }))
        assert.strictEqual(error.code, -32600)
        assert.include(error.message, `${dir}/ws/${at}`)
        assert.match(error.message, /\(protected\) cannot be enforced: /)
        assert.notInclude(readdirSync(`${dir}/ws`), "later")
      })
    )
  }

  it.scopedLive("a folder that is writable within another one cannot be moved away with its repository", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const dir = yield* project
      repository(`${dir}/ws/in/.git`)
      const script =
        "mv in in2 2>/dev/null; mkdir -p in/.git/hooks 2>/dev/null; echo evil > in/.git/hooks/pre-commit; ls"
      const box = { sandbox: writing(`${dir}/ws`, `${dir}/ws/in`), cwd: `${dir}/ws` }
      yield* client.sh("p", script, box)
      yield* client.closed("p")
      assert.strictEqual(client.output("p").toString(), "in\n")
      assert.deepStrictEqual(readdirSync(`${dir}/ws/in/.git/hooks`), [])
    })
  )

  it.scopedLive("an entry of more components than any path needs is refused, before it is examined", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const deep = `/tmp${"/x".repeat(256)}`
      const box = sandbox([readRoot, entry(at(deep), "write")])
      const { error } = yield* client.call("process/start", startParams("p", ["true"], { sandbox: box }))
      assert.strictEqual(error.code, -32600)
      assert.include(error.message, "it has 257 components; the limit is 256")
    })
  )

  it.scopedLive("a pointer makes nothing visible that the sandbox does not show", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const dir = yield* project
      repository(`${dir}/other/real`)
      file(`${dir}/ws/.git`, "gitdir: ../other/real\n")
      const box = sandbox([
        entry({ type: "special", value: { kind: "minimal" } }, "read"),
        entry(at(`${dir}/ws`), "write")
      ])
      yield* client.sh("p", "ls ../other/real || echo hidden", { sandbox: box, cwd: `${dir}/ws` })
      yield* client.closed("p")
      assert.strictEqual(client.output("p", "stdout").toString(), "hidden\n")
    })
  )

  it.scopedLive("what an entry lets a process write by name is not protected", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const dir = yield* project
      repository(`${dir}/ws/real`)
      file(`${dir}/ws/.git`, "gitdir: real\n")
      const box = writing(`${dir}/ws`, `${dir}/ws/real`)
      yield* client.sh("p", "echo x > real/hooks/x && echo wrote; echo x > .git", { sandbox: box, cwd: `${dir}/ws` })
      yield* client.closed("p")
      assert.strictEqual(client.output("p", "stdout").toString(), "wrote\n")
    })
  )

  it.scopedLive(
    "requests on files: nothing appears, reading shows what is there, and one worker serves each kind",
    () =>
      Effect.gen(function* () {
        const { client } = yield* connected()
        const dir = yield* project
        const box = writing(`${dir}/ws`)
        const readOnly = "Read-only file system (os error 30)"
        for (const text of ["a", "b", "c"]) {
          const dataBase64 = Buffer.from(text).toString("base64")
          yield* client.ask("fs/writeFile", { path: `${dir}/ws/a`, dataBase64, sandbox: box })
          yield* refuses(
            client,
            "fs/writeFile",
            { path: `${dir}/ws/.git/config`, dataBase64, sandbox: box },
            -32603,
            readOnly
          )
        }
        const real = yield* project
        const reading = writing(`${real}/ws`)
        assert.deepStrictEqual(yield* client.ask("fs/readDirectory", { path: `${real}/ws`, sandbox: reading }), {
          entries: []
        })
        yield* refuses(
          client,
          "fs/getMetadata",
          { path: `${real}/ws/.git`, sandbox: reading },
          -32004,
          "No such file or directory (os error 2)"
        )
        assert.deepStrictEqual(readdirSync(`${real}/ws`), [])
      })
  )

  it.scopedLive("what somebody else puts into a held place is seen by the next sandbox", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      const dir = yield* project
      const options = { sandbox: writing(`${dir}/ws`), cwd: `${dir}/ws`, pipeStdin: true }
      yield* client.sh("first", "echo ready; read line", options)
      yield* client.sees("first", "ready")
      assert.isTrue(existsSync(`${dir}/ws/.git`))
      repository(`${dir}/ws/.git`)
      yield* client.sh("second", "ls .git; (echo evil > .git/config) 2>/dev/null && echo wrote; true", options)
      yield* client.closed("second")
      assert.strictEqual(client.output("second", "stdout").toString(), "config\nhooks\n")
      yield* client.ask("process/write", { processId: "first", chunk: "Cg==" })
      yield* client.closed("first")
      assert.deepStrictEqual(readdirSync(`${dir}/ws/.git`), ["config", "hooks"])
    })
  )
})
