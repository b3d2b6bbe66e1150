/** Every request on files, what it does and every way it is refused, over a real socket and in process. */
import { Buffer } from "node:buffer"
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { base64, directory, refuses, shell } from "../support/files.js"
import { hasBubblewrap, memoryClient, memoryLayer, webSocketServer } from "../support/servers.js"
import type { Json, TestClient } from "../support/TestClient.js"

const notFound = "No such file or directory (os error 2)"
const isDirectory = "Is a directory (os error 21)"
const notDirectory = "Not a directory (os error 20)"
const exists = "File exists (os error 17)"

const restricted = {
  permissions: { type: "managed", file_system: { type: "restricted", entries: [] }, network: "restricted" },
  windowsSandboxLevel: "disabled"
}

const content = ({ dataBase64 }: Json) => Buffer.from(dataBase64, "base64").toString()

/** a.txt, link -> a.txt, dangling, fifo, d/{x,sub/deep,inner -> x}, dlink -> d, locked by nothing. */
const fixture = `
  printf hello > a.txt; ln -s a.txt link; ln -s nowhere dangling; mkfifo fifo
  mkdir -p d/sub; printf x > d/x; printf deep > d/sub/deep; ln -s x d/inner; ln -s d dlink
`

const suite = (name: string, connect: Effect.Effect<TestClient, never, Scope.Scope>) =>
  describe(name, () => {
    const test = (
      title: string,
      body: (client: TestClient, dir: string) => Effect.Effect<unknown, unknown, Scope.Scope>
    ) =>
      it.scopedLive(title, () =>
        Effect.gen(function* () {
          const dir = yield* directory
          shell(dir, fixture)
          const client = yield* connect
          yield* client.handshake()
          yield* body(client, dir)
        })
      )

    test("readFile", (client, dir) =>
      Effect.gen(function* () {
        for (const path of [`${dir}/a.txt`, `file://${dir}/a.txt`, `${dir}/link`, `${dir}/d/../a.txt`]) {
          assert.deepStrictEqual(yield* client.ask("fs/readFile", { path }), { dataBase64: "aGVsbG8=" })
        }
        const path = (last: string) => ({ path: `${dir}/${last}` })
        yield* refuses(client, "fs/readFile", path("nope"), -32004, notFound)
        yield* refuses(client, "fs/readFile", path("dangling"), -32004, notFound)
        yield* refuses(client, "fs/readFile", path("a.txt/x"), -32603, notDirectory)
        yield* refuses(client, "fs/readFile", path("d"), -32600, `path \`${dir}/d\` is not a file`)
        yield* refuses(client, "fs/readFile", path("fifo"), -32600, `path \`${dir}/fifo\` is not a file`)
        yield* refuses(client, "fs/readFile", { path: "/dev/zero" }, -32600, "path `/dev/zero` is not a file")
        yield* refuses(client, "fs/readFile", {}, -32602, "missing field `path`")
        shell(dir, "truncate -s 536870913 huge")
        yield* refuses(
          client,
          "fs/readFile",
          path("huge"),
          -32600,
          /^file is too large to read: limit is (536870912|402604\d{3}) bytes$/
        )
        // Files of the system's own say that they are empty.
        assert.match(content(yield* client.ask("fs/readFile", { path: "/proc/self/status" })), /^Name:/)
      }))

    test("a path can be written in many ways, and not in others", (client, dir) =>
      Effect.gen(function* () {
        writeFileSync(`${dir}/sp ace%41`, "1")
        for (const path of [
          `file://${dir}/sp%20ace%2541`,
          `file://${dir}/sp ace%2541`,
          `FILE://${dir}/sp%20ace%2541`,
          `file:${dir}/sp%20ace%2541`,
          `file://localhost${dir}/sp%20ace%2541`,
          `file://${dir}/d/../sp%20ace%2541`,
          `${dir}/sp ace%41`,
          `${dir}//./d/../sp ace%41`
        ]) {
          assert.strictEqual((yield* client.ask("fs/getMetadata", { path })).size, 1, path)
        }
        const wrong: ReadonlyArray<readonly [string, RegExp]> = [
          ["relative", /^invalid URI: relative URL without a base.*\(field `path`\)$/],
          ["", /^invalid URI: relative URL without a base.*\(field `path`\)$/],
          ["../up", /relative URL without a base/],
          ["~/x", /relative URL without a base/],
          ["http://x/y", /^unsupported path URI scheme `http` \(field `path`\)$/],
          [`file://host${dir}`, /^'file:\/\/host.*' is invalid on 'linux' \(field `path`\)$/],
          [`file://${dir}?q=1`, /^query parameters are not allowed in path URIs \(field `path`\)$/],
          [`file://${dir}#f`, /^fragments are not allowed in path URIs \(field `path`\)$/],
          [`file://${dir}/top%00`, /^'file:\/\/.*%00' is invalid on 'linux' \(field `path`\)$/],
          [`${dir}/a\0b`, /contains a NUL byte \(field `path`\)$/]
        ]
        for (const [path, message] of wrong) {
          for (const method of ["fs/readFile", "fs/getMetadata", "fs/canonicalize", "fs/readDirectory", "fs/remove"]) {
            yield* refuses(client, method, { path }, -32602, message)
          }
        }
        const copy = { sourcePath: `${dir}/a.txt`, destinationPath: "b", recursive: false }
        yield* refuses(client, "fs/copy", copy, -32602, /relative URL.*\(field `destinationPath`\)$/)
      }))

    test("names that are not UTF-8", (client, dir) =>
      Effect.gen(function* () {
        shell(dir, "mkdir n; printf b > $'n/\\xff'; mkdir $'n/d\\xfe'; printf c > $'n/d\\xfe/c'")
        yield* refuses(client, "fs/getMetadata", { path: `file://${dir}/%ff` }, -32004, notFound)
        assert.strictEqual(content(yield* client.ask("fs/readFile", { path: `file://${dir}/n/%ff` })), "b")
        const { entries } = yield* client.ask("fs/readDirectory", { path: `${dir}/n` })
        assert.sameMembers(
          entries.map((entry: Json) => entry.fileName),
          ["\ufffd", "d\ufffd"]
        )
        const options = { maxDepth: 9, maxDirectories: 9, maxEntries: 9, followDirectorySymlinks: false }
        const walked = yield* client.ask("fs/walk", { path: `file://${dir}/n`, options })
        const found = walked.entries.map((entry: Json) => entry.path)
        assert.deepStrictEqual(found, [`file://${dir}/n/d%FE`, `file://${dir}/n/%FF`, `file://${dir}/n/d%FE/c`])
        assert.strictEqual(content(yield* client.ask("fs/readFile", { path: found[2] })), "c")
        const destinationPath = `${dir}/m`
        yield* client.ask("fs/copy", { sourcePath: `${dir}/n`, destinationPath, recursive: true })
        assert.strictEqual(content(yield* client.ask("fs/readFile", { path: `file://${dir}/m/d%FE/c` })), "c")
        yield* client.ask("fs/remove", { path: `${dir}/n` })
        yield* refuses(client, "fs/getMetadata", { path: `${dir}/n` }, -32004, notFound)
      }))

    test("writeFile", (client, dir) =>
      Effect.gen(function* () {
        const write = (last: string, text: string) =>
          client.ask("fs/writeFile", { path: `file://${dir}/${last}`, dataBase64: base64(text) })
        assert.deepStrictEqual(yield* write("new", "abc"), {})
        assert.strictEqual(readFileSync(`${dir}/new`, "utf8"), "abc")
        assert.strictEqual(statSync(`${dir}/new`).mode & 0o777, 0o666 & ~process.umask())
        shell(dir, "chmod 751 a.txt")
        yield* write("a.txt", "")
        assert.strictEqual(readFileSync(`${dir}/a.txt`, "utf8"), "")
        yield* write("link", "via link")
        assert.strictEqual(readFileSync(`${dir}/a.txt`, "utf8"), "via link")
        assert.strictEqual(statSync(`${dir}/a.txt`).mode & 0o777, 0o751)
        assert.isTrue(lstatSync(`${dir}/link`).isSymbolicLink())
        yield* write("dangling", "q")
        assert.strictEqual(readFileSync(`${dir}/nowhere`, "utf8"), "q")
        const refused = (last: string, dataBase64: string, code: number, message: string) =>
          refuses(client, "fs/writeFile", { path: `${dir}/${last}`, dataBase64 }, code, message)
        yield* refused("nodir/x", "cQ==", -32004, notFound)
        yield* refused("d", "cQ==", -32603, isDirectory)
        yield* refused("a.txt/b", "", -32603, notDirectory)
        yield* refused("fifo", "cQ==", -32600, `path \`${dir}/fifo\` is not a file`)
        const bad = "fs/writeFile requires valid base64 dataBase64: "
        yield* refused("new", "!!", -32600, `${bad}Invalid symbol 33, offset 0.`)
        yield* refused("new", "YQ", -32600, `${bad}Invalid padding`)
        yield* refused("new", "YQ==YQ==", -32600, `${bad}Invalid symbol 61, offset 2.`)
        assert.strictEqual(readFileSync(`${dir}/new`, "utf8"), "abc", "a bad request touches nothing")
        yield* refuses(client, "fs/writeFile", { path: `${dir}/z` }, -32602, "missing field `dataBase64`")
      }))

    test("much is written as it came, and a fault far behind is found before anything is touched", (client, dir) =>
      Effect.gen(function* () {
        const bytes = Buffer.alloc(3_000_001, "0123456789abcdef!")
        const path = `${dir}/much`
        yield* client.ask("fs/writeFile", { path, dataBase64: base64(bytes) })
        assert.isTrue(readFileSync(path).equals(bytes))
        const { dataBase64 } = yield* client.ask("fs/readFile", { path })
        assert.isTrue(Buffer.from(dataBase64, "base64").equals(bytes))
        const broken = `${base64(bytes).slice(0, 3_000_000)}!aaa`
        const message = "fs/writeFile requires valid base64 dataBase64: Invalid symbol 33, offset 3000000."
        yield* refuses(client, "fs/writeFile", { path, dataBase64: broken }, -32600, message)
        const early = `${base64(bytes).slice(0, 524284)}aa==${base64(bytes)}`
        yield* refuses(client, "fs/writeFile", { path, dataBase64: early }, -32600, /Invalid symbol 61, offset 524286/)
        assert.isTrue(readFileSync(path).equals(bytes))
      }))

    test("createDirectory", (client, dir) =>
      Effect.gen(function* () {
        const create = (last: string, more: object = {}) =>
          client.ask("fs/createDirectory", { path: `${dir}/${last}`, ...more })
        assert.deepStrictEqual(yield* create("n1/n2/n3"), {})
        yield* create("n1/n2/n3")
        yield* create("dlink")
        yield* create("m3", { recursive: false })
        yield* create("m4", { recursive: null })
        for (const made of ["n1/n2/n3", "m3", "m4"]) assert.isTrue(statSync(`${dir}/${made}`).isDirectory())
        const refused = (last: string, recursive: boolean, code: number, message: string) =>
          refuses(client, "fs/createDirectory", { path: `${dir}/${last}`, recursive }, code, message)
        yield* refused("d", false, -32603, exists)
        yield* refused("m1/m2", false, -32004, notFound)
        yield* refused("a.txt", true, -32603, exists)
        yield* refused("dangling", true, -32603, exists)
        yield* refused("a.txt/x", true, -32603, notDirectory)
        yield* refused("a.txt/x/y/z", true, -32603, notDirectory)
      }))

    test("getMetadata", (client, dir) =>
      Effect.gen(function* () {
        const kinds = (last: string) =>
          Effect.map(client.ask("fs/getMetadata", { path: `file://${dir}/${last}` }), (found) => {
            assert.isTrue(Number.isInteger(found.createdAtMs) && found.createdAtMs >= 0)
            assert.strictEqual(found.modifiedAtMs, Math.floor(statSync(`${dir}/${last}`).mtimeMs))
            assert.strictEqual(found.size, statSync(`${dir}/${last}`).size)
            return [found.isDirectory, found.isFile, found.isSymlink]
          })
        assert.deepStrictEqual(yield* kinds("a.txt"), [false, true, false])
        assert.deepStrictEqual(yield* kinds("d"), [true, false, false])
        assert.deepStrictEqual(yield* kinds("link"), [false, true, true])
        assert.deepStrictEqual(yield* kinds("dlink"), [true, false, true])
        assert.deepStrictEqual(yield* kinds("fifo"), [false, false, false])
        assert.strictEqual((yield* client.ask("fs/getMetadata", { path: "file:///" })).isDirectory, true)
        yield* refuses(client, "fs/getMetadata", { path: `${dir}/dangling` }, -32004, notFound)
        yield* refuses(client, "fs/getMetadata", { path: `${dir}/nope` }, -32004, notFound)
        yield* refuses(client, "fs/getMetadata", { path: `${dir}/a.txt/x` }, -32603, notDirectory)
        const long = { path: `${dir}/${"x".repeat(300)}` }
        yield* refuses(client, "fs/getMetadata", long, -32603, "File name too long (os error 36)")
      }))

    test("canonicalize answers in the form of the question", (client, dir) =>
      Effect.gen(function* () {
        const canonical = (path: string) => Effect.map(client.ask("fs/canonicalize", { path }), (found) => found.path)
        writeFileSync(`${dir}/sp ace%41`, "")
        assert.strictEqual(yield* canonical(`file://${dir}/link`), `file://${dir}/a.txt`)
        assert.strictEqual(yield* canonical(`${dir}/link`), `${dir}/a.txt`)
        assert.strictEqual(yield* canonical(`file://${dir}/dlink/sub`), `file://${dir}/d/sub`)
        assert.strictEqual(yield* canonical(`file://${dir}/dlink/../a.txt`), `file://${dir}/a.txt`)
        assert.strictEqual(yield* canonical(`${dir}/dlink/../a.txt`), `${dir}/a.txt`)
        assert.strictEqual(yield* canonical(`file://${dir}/d/`), `file://${dir}/d`)
        assert.strictEqual(yield* canonical(`file://${dir}/sp%20ace%2541`), `file://${dir}/sp%20ace%2541`)
        assert.strictEqual(yield* canonical("/"), "/")
        yield* refuses(client, "fs/canonicalize", { path: `${dir}/dangling` }, -32004, notFound)
        yield* refuses(client, "fs/canonicalize", { path: `${dir}/nope` }, -32004, notFound)
        symlinkSync("loop", `${dir}/loop`)
        const loop = "Too many levels of symbolic links (os error 40)"
        yield* refuses(client, "fs/canonicalize", { path: `${dir}/loop` }, -32603, loop)
      }))

    test("readDirectory leaves out what leads nowhere", (client, dir) =>
      Effect.gen(function* () {
        const list = (last: string) =>
          Effect.map(client.ask("fs/readDirectory", { path: `file://${dir}/${last}` }), ({ entries }) =>
            entries
              .map((entry: Json) => {
                assert.hasAllKeys(entry, ["fileName", "isDirectory", "isFile"])
                return `${entry.fileName} ${entry.isDirectory ? "d" : entry.isFile ? "f" : "-"}`
              })
              .sort()
          )
        assert.deepStrictEqual(yield* list(""), ["a.txt f", "d d", "dlink d", "fifo -", "link f"])
        assert.deepStrictEqual(yield* list("dlink"), ["inner f", "sub d", "x f"])
        yield* refuses(client, "fs/readDirectory", { path: `${dir}/a.txt` }, -32603, notDirectory)
        yield* refuses(client, "fs/readDirectory", { path: `${dir}/nope` }, -32004, notFound)
      }))

    test("remove", (client, dir) =>
      Effect.gen(function* () {
        const remove = (last: string, more: object = {}) => client.ask("fs/remove", { path: `${dir}/${last}`, ...more })
        const refused = (last: string, more: object, code: number, message: string) =>
          refuses(client, "fs/remove", { path: `${dir}/${last}`, ...more }, code, message)
        yield* refused("nope", { force: false }, -32004, notFound)
        yield* refused("d", { recursive: false }, -32603, "Directory not empty (os error 39)")
        yield* refused("a.txt/x", { force: false }, -32603, notDirectory)
        // With a slash at the end it is still the link that goes.
        assert.deepStrictEqual(yield* remove("dlink/"), {})
        assert.strictEqual(readFileSync(`${dir}/d/sub/deep`, "utf8"), "deep")
        yield* remove("a.txt")
        yield* remove("nope")
        yield* remove("link/x")
        yield* remove("dangling", { force: false })
        yield* remove("link", { force: false, recursive: null })
        yield* remove("d", { force: null })
        yield* remove("fifo")
        assert.strictEqual(shell(dir, "ls -A"), "")
        mkdirSync(`${dir}/empty`)
        yield* remove("empty", { recursive: false })
        yield* refuses(client, "fs/remove", { path: "/" }, -32600, "the root directory is not removed")
        yield* refuses(client, "fs/remove", { path: "file:///tmp/../." }, -32600, "the root directory is not removed")
      }))

    test("copy", (client, dir) =>
      Effect.gen(function* () {
        const params = (source: string, destination: string, recursive: boolean) => ({
          sourcePath: `${dir}/${source}`,
          destinationPath: `file://${dir}/${destination}`,
          recursive
        })
        const copy = (source: string, destination: string, recursive = false) =>
          client.ask("fs/copy", params(source, destination, recursive))
        const refused = (source: string, destination: string, recursive: boolean, code: number, message: string) =>
          refuses(client, "fs/copy", params(source, destination, recursive), code, message)
        shell(dir, "chmod 4751 a.txt; chmod 700 d/sub; printf 'old and longer' > old; mkfifo d/fifo")

        assert.deepStrictEqual(yield* copy("a.txt", "b.txt"), {})
        yield* copy("a.txt", "old")
        for (const made of ["b.txt", "old"]) {
          assert.strictEqual(readFileSync(`${dir}/${made}`, "utf8"), "hello")
          assert.strictEqual(statSync(`${dir}/${made}`).mode & 0o7777, 0o4751)
        }
        yield* copy("link", "link2")
        yield* copy("dangling", "dangling2")
        assert.strictEqual(readlinkSync(`${dir}/link2`), "a.txt")
        assert.strictEqual(readlinkSync(`${dir}/dangling2`), "nowhere")
        yield* refused("link", "b.txt", false, -32603, exists)
        yield* refused("a.txt", "d", false, -32603, isDirectory)
        yield* refused("nope", "n", false, -32004, notFound)
        yield* refused("a.txt", "no/such", false, -32004, notFound)
        const kinds = "fs/copy only supports regular files, directories, and symlinks"
        yield* refused("fifo", "fifo2", false, -32600, kinds)
        yield* refused("a.txt", "fifo", false, -32600, `path \`${dir}/fifo\` is not a file`)
        const needs = "fs/copy requires recursive: true when sourcePath is a directory"
        yield* refused("d", "d2", false, -32600, needs)

        yield* copy("d", "d2", true)
        assert.strictEqual(shell(dir, "cd d2; find . | sort"), ".\n./inner\n./sub\n./sub/deep\n./x\n")
        assert.strictEqual(readlinkSync(`${dir}/d2/inner`), "x")
        assert.strictEqual(statSync(`${dir}/d2/sub`).mode & 0o777, 0o700)
        yield* refused("d", "d2", true, -32603, exists)
        shell(dir, "rm d2/inner; printf other > d2/x; printf mine > d2/mine")
        yield* copy("d", "d2", true)
        assert.strictEqual(readFileSync(`${dir}/d2/x`, "utf8"), "x")
        assert.strictEqual(readFileSync(`${dir}/d2/mine`, "utf8"), "mine")
        yield* refused("d", "b.txt", true, -32603, exists)
        shell(dir, "mkdir d3; printf f > d3/sub")
        yield* refused("d", "d3", true, -32603, exists)
        const { error } = yield* client.call("fs/copy", { sourcePath: dir, destinationPath: dir })
        assert.deepStrictEqual(error, { code: -32602, message: "missing field `recursive`" })
      }))

    test("nothing is copied onto itself, under whatever name", (client, dir) =>
      Effect.gen(function* () {
        shell(dir, "ln a.txt hard; ln -s $PWD/d/sub sublink; mkdir other; ln d/x other/x")
        const itself = "fs/copy cannot copy a file to itself"
        const copy = (source: string, destination: string, message: string) =>
          refuses(
            client,
            "fs/copy",
            { sourcePath: `${dir}/${source}`, destinationPath: `${dir}/${destination}`, recursive: true },
            -32600,
            message
          )
        for (const other of ["a.txt", "link", "hard", "d/../a.txt", "dlink/../a.txt"]) {
          yield* copy("a.txt", other, itself)
          assert.strictEqual(readFileSync(`${dir}/a.txt`, "utf8"), "hello")
        }
        yield* copy("d", "other", itself)
        assert.strictEqual(readFileSync(`${dir}/d/x`, "utf8"), "x")
        const inside = "fs/copy cannot copy a directory to itself or one of its descendants"
        for (const other of ["d", "d/inside", "d/sub/a/b/c", "dlink", "dlink/new", "sublink/new/er"]) {
          yield* copy("d", other, inside)
        }
        assert.strictEqual(shell(dir, "cd d; find . | sort"), ".\n./inner\n./sub\n./sub/deep\n./x\n")
      }))

    test("followSymlinks: false refuses a link anywhere in the path", (client, dir) =>
      Effect.gen(function* () {
        const params = (last: string, more: object = {}) => ({
          path: `${dir}/${last}`,
          followSymlinks: false,
          ...more
        })
        const loop = "Symbolic link loop (os error 40)"
        const link = "path contains a symbolic link"
        const dataBase64 = "eA=="
        assert.deepStrictEqual(yield* client.ask("fs/readFile", params("a.txt")), { dataBase64: "aGVsbG8=" })
        yield* refuses(client, "fs/readFile", params("link"), -32603, loop)
        yield* refuses(client, "fs/readFile", params("dlink/x"), -32603, notDirectory)
        yield* refuses(client, "fs/readFile", params("d"), -32600, `path \`${dir}/d\` is not a file`)
        yield* refuses(client, "fs/readFile", params("nope"), -32004, notFound)
        assert.strictEqual((yield* client.ask("fs/getMetadata", params("d/x"))).isSymlink, false)
        assert.strictEqual((yield* client.ask("fs/getMetadata", { ...params(""), path: "/" })).isDirectory, true)
        yield* refuses(client, "fs/getMetadata", params("link"), -32600, link)
        yield* refuses(client, "fs/getMetadata", params("dlink/x"), -32603, notDirectory)
        yield* refuses(client, "fs/writeFile", params("link", { dataBase64 }), -32603, loop)
        yield* refuses(client, "fs/writeFile", params("dangling", { dataBase64 }), -32603, loop)
        yield* refuses(client, "fs/writeFile", params("dlink/n", { dataBase64 }), -32603, notDirectory)
        assert.deepStrictEqual(yield* client.ask("fs/writeFile", params("d/n", { dataBase64 })), {})
        yield* refuses(client, "fs/createDirectory", params("dlink/q"), -32603, notDirectory)
        yield* refuses(client, "fs/createDirectory", params("dlink/q", { recursive: false }), -32603, notDirectory)
        yield* refuses(client, "fs/createDirectory", params("dlink"), -32603, exists)
        assert.deepStrictEqual(yield* client.ask("fs/createDirectory", params("d/q/r")), {})
        assert.deepStrictEqual(yield* client.ask("fs/createDirectory", params("d/q/r")), {})
        yield* refuses(client, "fs/createDirectory", params("d/q", { recursive: false }), -32603, exists)
        yield* refuses(client, "fs/remove", params("link", { recursive: false }), -32600, link)
        yield* refuses(client, "fs/remove", params("dlink/x", { recursive: false }), -32603, notDirectory)
        const unsupported = "recursive no-follow removal is unsupported"
        yield* refuses(client, "fs/remove", params("d"), -32603, unsupported)
        yield* client.ask("fs/remove", params("d/q/r", { recursive: false }))
        yield* client.ask("fs/remove", params("d/n", { recursive: false }))
        assert.strictEqual(shell(dir, "cd d; find . | sort"), ".\n./inner\n./q\n./sub\n./sub/deep\n./x\n")
        assert.deepStrictEqual(yield* client.ask("fs/readFile", { ...params("link"), followSymlinks: null }), {
          dataBase64: "aGVsbG8="
        })
      }))

    test("a sandbox that allows no files keeps every request from them; others change nothing", (client, dir) =>
      Effect.gen(function* () {
        const path = `${dir}/a.txt`
        const options = { maxDepth: 1, maxDirectories: 1, maxEntries: 1, followDirectorySymlinks: false }
        const all: Record<string, object> = {
          "fs/readFile": { path },
          "fs/writeFile": { path, dataBase64: "" },
          "fs/createDirectory": { path },
          "fs/getMetadata": { path },
          "fs/canonicalize": { path },
          "fs/readDirectory": { path },
          "fs/walk": { path, options },
          "fs/remove": { path },
          "fs/copy": { sourcePath: path, destinationPath: `${dir}/b`, recursive: true },
          "fs/open": { handleId: "h", path }
        }
        for (const [method, params] of Object.entries(all)) {
          // What April 2026 called a sandbox is refused for what it is, whatever else there is.
          const { error: old } = yield* client.call(method, { ...params, sandboxPolicy: { type: "read-only" } })
          assert.deepInclude(old, { code: -32600 }, method)
          assert.include(old.message, "`sandboxPolicy`")
          const { result, error } = yield* client.call(method, { ...params, sandbox: restricted })
          // To remove what is not there is no error.
          if (hasBubblewrap && method === "fs/remove") assert.deepStrictEqual(result, {})
          else assert.isDefined(error, method)
          if (!hasBubblewrap) assert.match(error.message, /cannot enforce a restricted sandbox/)
        }
        assert.isFalse(existsSync(`${dir}/b`))
        assert.strictEqual(readFileSync(path, "utf8"), "hello")
        yield* client.ask("fs/close", { handleId: "h" })
        const windowsSandboxLevel = "disabled"
        for (const sandbox of [
          null,
          { permissions: { type: "disabled" }, windowsSandboxLevel },
          { permissions: { type: "external", network: "restricted" }, windowsSandboxLevel },
          {
            permissions: { type: "managed", file_system: { type: "unrestricted" }, network: "restricted" },
            windowsSandboxLevel
          }
        ]) {
          assert.deepStrictEqual(yield* client.ask("fs/readFile", { path, sandbox }), { dataBase64: "aGVsbG8=" })
        }
        for (const sandboxPolicy of [null, false, { type: "danger-full-access" }, { type: "external-sandbox" }]) {
          assert.deepStrictEqual(yield* client.ask("fs/readFile", { path, sandboxPolicy }), { dataBase64: "aGVsbG8=" })
        }
        yield* refuses(client, "fs/readFile", { path, sandbox: {} }, -32602, "missing field `permissions` in `sandbox`")
      }))

    it.scopedLive("before the handshake every request is refused, after its params were found to be right", () =>
      Effect.gen(function* () {
        const client = yield* connect
        const path = "/etc/hostname"
        const before = "client must call initialize before using filesystem methods"
        yield* refuses(client, "fs/readFile", { path }, -32600, before)
        yield* refuses(client, "fs/close", { handleId: "" }, -32600, before)
        yield* refuses(client, "fs/readFile", {}, -32602, "missing field `path`")
        yield* refuses(client, "fs/watch", {}, -32601, "unknown method: fs/watch")
        yield* client.ask("initialize", { clientName: "x", resumeSessionId: null })
        const between = "client must send initialized before using filesystem methods"
        yield* refuses(client, "fs/writeFile", { path, dataBase64: "" }, -32600, between)
      })
    )
  })

suite(
  "memory",
  Effect.flatMap(Layer.build(memoryLayer), (context) => Effect.provide(memoryClient, context))
)
suite(
  "WebSocket",
  Effect.flatMap(webSocketServer(), ({ connect }) => connect)
)
