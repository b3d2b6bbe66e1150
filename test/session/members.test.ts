/**
 * Every member of every request: that it is used, that it is refused, or that it is ignored and why.
 *
 * The members come from the schemas, so that a new one has no row. What a row says is tried: two requests that differ in
 * one used member have different outcomes, a refused one is refused for each of its values and for no harmless one, and
 * with an ignored one the outcome is the same.
 */
import { Buffer } from "node:buffer"
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import type * as Rpc from "@effect/rpc/Rpc"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { ExecApi } from "../../src/protocol/ExecApi.js"
import * as Sandbox from "../../src/protocol/Sandbox.js"
import * as SandboxPolicy from "../../src/sandbox/SandboxPolicy.js"
import { directory, shell } from "../support/files.js"
import { membersOf, withMember } from "../support/members.js"
import { at, entry, sandbox, special } from "../support/sandbox.js"
import { memoryClient, memoryLayer } from "../support/servers.js"
import { startParams, type TestClient } from "../support/TestClient.js"
import { deltas, httpParams, streamed, type Upstream, upstream } from "../support/upstream.js"

interface World {
  readonly client: TestClient
  readonly dir: string
  readonly http: Upstream
}

type Params = Record<string, unknown>
type From = (world: World) => unknown
type Observe = (world: World, params: Params) => Effect.Effect<unknown, unknown, Scope.Scope>

/** What a request is beside the member that is tried. */
type Base = Params | ((world: World) => Params)

/** What is said of a member. */
type Row =
  | { readonly is: "used"; readonly value: From; readonly base: Base | undefined; readonly invalid: boolean }
  | { readonly is: "shown"; readonly file: string; readonly title: string }
  | { readonly is: "refused"; readonly values: ReadonlyArray<unknown>; readonly harmless: ReadonlyArray<unknown> }
  | { readonly is: "ignored"; readonly because: string; readonly values: ReadonlyArray<unknown> }

/** The outcome differs between `base` with this value and without; `base` changes what the request is otherwise. */
const used = (value: unknown, base?: Base): Row => ({
  is: "used",
  value: typeof value === "function" ? (value as From) : () => value,
  base,
  invalid: false
})

/** No value leads to another result: it is looked at, and this one is invalid. */
const checked = (value: unknown): Row => ({ is: "used", value: () => value, base: undefined, invalid: true })

/** A test of this title in this file shows what it does: it takes time, or a server with other settings. */
const shown = (file: string, title: string): Row => ({ is: "shown", file, title })

const refused = (values: ReadonlyArray<unknown>, harmless: ReadonlyArray<unknown> = [null, false]): Row => ({
  is: "refused",
  values,
  harmless
})

const ignored = (because: string, ...values: ReadonlyArray<unknown>): Row => ({ is: "ignored", because, values })

/** A method: a request that is served, what is looked at, and a row for each member. */
interface Subject {
  readonly base: (world: World) => Params
  /** The outcome; by default the answer. */
  readonly observe?: Observe
  readonly rows: Readonly<Record<string, Row>>
}

const bytes = (text: string) => Buffer.from(text).toString("base64")

/** A sandbox without anything in it: what needs any file at all cannot be done. */
const box = sandbox([])

const policy = refused(
  [{ type: "read-only" }, { type: "workspace-write" }, "read-only", {}],
  [null, false, { type: "danger-full-access" }, { type: "external-sandbox", network_access: "enabled" }]
)

const limited = { sandbox: used(box), sandboxPolicy: policy }

/** The answer, and what is in the directory now. */
const changes = (method: string): Observe => {
  const list = "find . -printf '%P %y %l\\n' | sort; cat file target 2>/dev/null || true"
  return ({ client, dir }, params) => Effect.map(client.call(method, params), (reply) => [reply, shell(dir, list)])
}

/** The answer with a process `p` that is ready, and what `then` finds after the request was sent. */
const onProcess =
  (
    method: string,
    script: string,
    then: (world: World, params: Params) => Effect.Effect<unknown> = () => Effect.void
  ): Observe =>
  (world, params) =>
    Effect.gen(function* () {
      const { client } = world
      const tty = method === "process/resize"
      yield* client.sh("p", script, { pipeStdin: true, tty })
      yield* client.sees("p", "ready", tty ? "pty" : "stdout")
      const request = client.post(method, params)
      const more = yield* then(world, params)
      return [yield* client.reply(request), more]
    })

/** What a process has come to within a second: enough for what does not wait for anything. */
const settled = ({ client }: World): Effect.Effect<unknown> =>
  client.ask("process/wait", { processId: "p", until: "closed", waitMs: 1000 })

// Looks like a secret, for `ignoreDefaultExcludes`.
process.env["MEMBERS_TEST_TOKEN"] = "x"

const startScript = 'echo "$0 in $(pwd)"; env | sort; if [ -t 1 ]; then stty size; fi; cat; exit 3'

/** Starts a process, gives it input where it takes any, and waits for its end. */
const starts: Observe = ({ client }, params) =>
  Effect.gen(function* () {
    const reply = yield* client.call("process/start", params)
    if (reply.error !== undefined) return reply
    const { processId, sandboxType } = reply.result
    const { result } = yield* client.write(processId, "input\n")
    yield* client.call("process/closeStdin", { processId })
    const exited = yield* client.closed(processId)
    const output = (["stdout", "stderr", "pty"] as const).map((stream) => client.output(processId, stream).toString())
    return [processId, sandboxType, result.status, output, exited.exitCode, exited.timedOut]
  })

const policyOf = { inherit: "all", ignoreDefaultExcludes: true, exclude: [], set: { A: "1" }, includeOnly: [] }
const fails = { argv: ["/bin/sh", "-c", "echo run; exit 3"] }
const again = { policy: "onFailure", maxRestarts: 1, withinMs: 60_000, backoffMs: 0, maxBackoffMs: 0 }
const shares = "test/session/shares.test.ts"
const recordings = "test/session/recordings.test.ts"
const recordingId = "0".repeat(32)
const restarts = "test/process/restart.test.ts"
const limits = "test/reliability/limits.test.ts"
const viewers = "test/session/viewers.test.ts"

/** A session that there is not. */
const otherSession = used("s-00000000")

const onPath = (world: World) => ({ path: `${world.dir}/file` })
const noLinks = used(false, ({ dir }: World) => ({ path: `${dir}/link` }))
const walking = { maxDepth: 9, maxDirectories: 9, maxEntries: 9, followDirectorySymlinks: false }

const subjects: Readonly<Record<string, Subject>> = {
  initialize: {
    base: () => ({ clientName: "a" }),
    observe: ({ client }, params) =>
      Effect.map(client.call("initialize", params), ({ error, result }) => [error, result?.capabilities]),
    rows: {
      clientName: ignored("the same is served to every client", "b", ""),
      resumeSessionId: used("00000000-0000-4000-8000-000000000000"),
      capabilities: used({ lifecycle: true }),
      "capabilities.lifecycle": used(true),
      takeover: checked(true),
      sessionTtlMs: shown("test/session/keeping.test.ts", "is how long the session waits for its client"),
      name: checked("-"),
      "capabilities.outputWindow": used(1),
      "capabilities.exitUsage": used(true),
      "capabilities.binaryOutput": shown("test/session/binaryOutput.test.ts", "is not granted to who does not ask")
    }
  },
  "environment/info": { base: () => ({}), rows: {} },
  "environment/status": { base: () => ({}), rows: {} },
  "environment/limits": { base: () => ({}), rows: {} },
  "process/start": {
    base: ({ dir }) => startParams("p", ["/bin/sh", "-c", startScript], { cwd: dir }),
    observe: starts,
    rows: {
      processId: used("q"),
      argv: used(["/bin/echo", "x"]),
      cwd: used("/"),
      env: used({ PATH: "/usr/bin:/bin", X: "1" }),
      tty: used(true),
      arg0: used("other"),
      pipeStdin: used(true),
      envPolicy: used(policyOf),
      "envPolicy.inherit": used("none", { envPolicy: policyOf }),
      "envPolicy.ignoreDefaultExcludes": used(false, { envPolicy: policyOf }),
      "envPolicy.exclude": used(["HOME"], { envPolicy: policyOf }),
      "envPolicy.set": used({ A: "2" }, { envPolicy: policyOf }),
      "envPolicy.includeOnly": used(["A"], { envPolicy: policyOf }),
      ...limited,
      enforceManagedNetwork: refused([true]),
      managedNetwork: refused([{}, { loopbackPorts: [1] }, true]),
      networkProxy: refused([{}, { proxy: { enabled: true } }]),
      shellSnapshot: refused([{}, { scopeId: "a", shell: { name: "sh", path: "file:///bin/sh" } }]),
      metadata: used({ threadId: "00000000-0000-4000-8000-000000000000" }),
      "metadata.threadId": used("00000000-0000-4000-8000-000000000000", { metadata: {} }),
      "metadata.toolCallId": used("call", { metadata: {} }),
      size: used({ rows: 10, cols: 200 }, { tty: true }),
      "size.rows": used(11, { tty: true, size: { rows: 10, cols: 200 } }),
      "size.cols": used(201, { tty: true, size: { rows: 10, cols: 200 } }),
      record: used({}),
      "record.input": shown(recordings, "has the input if that is asked for"),
      "record.maxBytes": shown(
        recordings,
        "ends at its maxBytes, before the event that would exceed them; the process goes on"
      ),
      sizePolicy: shown("test/client/watch.test.ts", "one viewer drives the size, where the process allows it"),
      screen: shown("test/session/screens.test.ts", "misses nothing if the screen was kept from the start"),
      timeoutMs: used(1, { argv: ["/bin/sh", "-c", "sleep 0.5"] }),
      limits: used({ openFiles: 57 }, { argv: ["/bin/sh", "-c", "ulimit -n"] }),
      "limits.memoryBytes": shown(limits, "that need a cgroup are refused without one, with what to do"),
      "limits.cpus": shown(limits, "that need a cgroup are refused without one, with what to do"),
      "limits.pids": shown(limits, "that need a cgroup are refused without one, with what to do"),
      "limits.openFiles": used(57, { argv: ["/bin/sh", "-c", "ulimit -n"], limits: {} }),
      "limits.fileSizeBytes": used(5120, { argv: ["/bin/sh", "-c", "ulimit -f"], limits: {} }),
      "limits.coreBytes": used(512, { argv: ["/bin/sh", "-c", "ulimit -Hc"], limits: {} }),
      "limits.cpuSeconds": used(77, { argv: ["/bin/sh", "-c", "ulimit -t"], limits: {} }),
      "limits.addressSpaceBytes": used(1073741824, { argv: ["/bin/sh", "-c", "ulimit -v"], limits: {} }),
      "limits.nice": used(7, { argv: ["/bin/sh", "-c", "nice"], limits: {} }),
      restart: used(again, fails),
      "restart.policy": used("never", { ...fails, restart: again }),
      "restart.maxRestarts": used(2, { ...fails, restart: again }),
      "restart.withinMs": shown(restarts, "ends that are further apart than withinMs are never too many"),
      "restart.backoffMs": shown(restarts, "each delay is twice the one before, up to maxBackoffMs"),
      "restart.maxBackoffMs": shown(restarts, "each delay is twice the one before, up to maxBackoffMs"),
      prepared: shown("test/process/ProcessSupervisor.test.ts", "allowPreparedExec: false refuses prepared requests")
    }
  },
  "process/read": {
    base: () => ({ processId: "p" }),
    observe: onProcess("process/read", "printf one; sleep 0.1; echo ready; exec cat", ({ client }) =>
      client.write("p", "more")
    ),
    rows: {
      session: otherSession,
      processId: used("q"),
      afterSeq: used(1),
      maxBytes: used(1),
      waitMs: used(30_000, { afterSeq: 2 })
    }
  },
  "process/write": {
    base: () => ({ processId: "p", chunk: bytes("x") }),
    observe: onProcess("process/write", "echo ready; exec cat", ({ client }, params) =>
      Effect.gen(function* () {
        // The same again, as a client does that has lost the answer.
        yield* client.call("process/write", params)
        yield* client.ask("process/closeStdin", { processId: "p" })
        yield* client.closed("p")
        return client.output("p").toString()
      })
    ),
    rows: { session: otherSession, processId: used("q"), chunk: used(bytes("y")), writeId: used("w") }
  },
  "process/closeStdin": {
    base: () => ({ processId: "p" }),
    observe: onProcess("process/closeStdin", "echo ready; exec cat", settled),
    rows: { session: otherSession, processId: used("q") }
  },
  "process/resize": {
    base: () => ({ processId: "p", rows: 10, cols: 20 }),
    observe: onProcess("process/resize", "echo ready; read line; stty size", ({ client }) =>
      Effect.gen(function* () {
        yield* client.write("p", "\n")
        yield* client.closed("p")
        return client.output("p", "pty").toString()
      })
    ),
    rows: { session: otherSession, processId: used("q"), rows: used(11), cols: used(21) }
  },
  "process/signal": {
    base: () => ({ processId: "p", signal: "SIGTERM" }),
    // A descendant holds the output open, unless it gets the signal as well.
    observe: onProcess("process/signal", "sleep 100 & echo ready; wait", settled),
    rows: { session: otherSession, processId: used("q"), signal: used("SIGKILL"), target: used("leader") }
  },
  "process/terminate": {
    base: () => ({ processId: "p" }),
    observe: onProcess("process/terminate", 'trap "exit 7" TERM; echo ready; while :; do sleep 0.02; done', settled),
    rows: {
      session: otherSession,
      processId: used("q"),
      mode: used({ type: "graceful", timeoutMs: 20_000 }),
      "mode.type": used("graceful", { mode: { type: "force", timeoutMs: 20_000 } }),
      "mode.timeoutMs": shown(
        "test/process/ProcessSupervisor.test.ts",
        "gracefully: SIGKILL to the tree when the time has run out"
      )
    }
  },
  "process/wait": {
    base: () => ({ processId: "p" }),
    observe: onProcess("process/wait", "echo ready; read line; sleep 0.5 & exit 3", ({ client }) =>
      client.write("p", "\n")
    ),
    rows: { session: otherSession, processId: used("q"), waitMs: used(0), until: used("closed") }
  },
  "process/snapshot": {
    base: () => ({ processId: "p" }),
    observe: onProcess("process/snapshot", "echo ready; exec cat"),
    rows: { session: otherSession, processId: used("q") }
  },
  "process/attach": {
    base: () => ({ processId: "p", from: { type: "live" }, window: 1 }),
    observe: onProcess("process/attach", "printf one; sleep 0.1; echo ready; exec cat"),
    rows: {
      session: otherSession,
      processId: used("q"),
      from: used({ type: "seq", afterSeq: 1 }),
      "from.type": used("seq", { from: { type: "live", afterSeq: 1 } }),
      "from.afterSeq": used(1, { from: { type: "seq", afterSeq: 0 } }),
      "from.scrollback": shown("test/session/screens.test.ts", "has as many lines above it as asked for"),
      window: shown(
        viewers,
        "gets no more than its window, and the rest as it acknowledges; the process is never held up"
      ),
      name: used("other"),
      size: used({ rows: 1, cols: 1 }),
      "size.rows": used(2, { size: { rows: 1, cols: 1 } }),
      "size.cols": used(2, { size: { rows: 1, cols: 1 } })
    }
  },
  "attachment/detach": { base: () => ({ attachmentId: 1 }), rows: { attachmentId: used(2) } },
  "attachment/screen": {
    base: () => ({ attachmentId: 1 }),
    rows: {
      attachmentId: used(2),
      scrollback: shown("test/session/screens.test.ts", "has as many lines above it as asked for")
    }
  },
  "attachment/drive": {
    base: () => ({ attachmentId: 1, take: true }),
    rows: {
      attachmentId: used(2),
      take: shown("test/client/watch.test.ts", "one viewer drives the size, where the process allows it"),
      size: shown("test/client/watch.test.ts", "one viewer drives the size, where the process allows it"),
      "size.rows": shown("test/client/watch.test.ts", "one viewer drives the size, where the process allows it"),
      "size.cols": shown("test/client/watch.test.ts", "one viewer drives the size, where the process allows it")
    }
  },
  "console/watch": { base: () => ({}), rows: {} },
  "process/usage": {
    base: () => ({ processId: "p" }),
    observe: onProcess("process/usage", "echo ready; exec cat"),
    rows: { session: otherSession, processId: used("q") }
  },
  "usage/watch": { base: () => ({ intervalMs: 500 }), rows: { intervalMs: checked(499) } },
  "recording/start": {
    base: () => ({ processId: "p" }),
    rows: {
      session: otherSession,
      processId: checked(1),
      input: shown(recordings, "has the input if that is asked for"),
      maxBytes: shown(recordings, "ends at its maxBytes, before the event that would exceed them; the process goes on")
    }
  },
  "recording/stop": { base: () => ({ recordingId }), rows: { recordingId: checked("..") } },
  "recording/list": {
    base: () => ({}),
    rows: {
      session: shown(recordings, "of an earlier run of the server are listed, read and removed by operators")
    }
  },
  "recording/read": {
    base: () => ({ recordingId, offset: 0 }),
    rows: {
      recordingId: checked(".."),
      offset: shown(recordings, "reads from an offset, at most maxBytes"),
      maxBytes: shown(recordings, "reads from an offset, at most maxBytes")
    }
  },
  "recording/remove": { base: () => ({ recordingId }), rows: { recordingId: checked("..") } },
  "share/create": {
    base: () => ({ processId: "p", role: "viewer", expiresInMs: 1000 }),
    rows: {
      session: otherSession,
      processId: used("q"),
      role: shown(shares, "of an operator uses the process as well"),
      expiresInMs: shown(shares, "that has expired ends its connections, and its token"),
      maxViewers: shown(shares, "has as many viewers as it permits"),
      label: shown(shares, "of a viewer reads one process, and nothing else")
    }
  },
  "share/list": { base: () => ({}), rows: {} },
  "share/revoke": {
    base: () => ({ shareId: "0" }),
    rows: {
      shareId: shown(shares, "that is revoked ends its connections, those without a handshake too, and its token")
    }
  },
  "session/grant": { base: () => ({}), rows: {} },
  "session/list": { base: () => ({}), rows: {} },
  "session/end": { base: () => ({ session: "s-00000000" }), rows: { session: checked(1) } },
  "process/list": { base: () => ({}), rows: { session: otherSession } },
  "fs/readFile": {
    base: onPath,
    rows: { path: used(({ dir }: World) => `${dir}/none`), ...limited, followSymlinks: noLinks }
  },
  "fs/writeFile": {
    base: (world) => ({ ...onPath(world), dataBase64: bytes("new") }),
    observe: changes("fs/writeFile"),
    rows: {
      path: used(({ dir }: World) => `${dir}/other`),
      ...limited,
      followSymlinks: noLinks,
      dataBase64: used(bytes("newer"))
    }
  },
  "fs/createDirectory": {
    base: ({ dir }) => ({ path: `${dir}/a/b` }),
    observe: changes("fs/createDirectory"),
    rows: {
      path: used(({ dir }: World) => `${dir}/c`),
      ...limited,
      followSymlinks: used(false, ({ dir }) => ({ path: `${dir}/links/b` })),
      recursive: used(false)
    }
  },
  "fs/getMetadata": {
    base: ({ dir }) => ({ path: `${dir}/folder` }),
    rows: { path: used(({ dir }: World) => `${dir}/file`), ...limited, followSymlinks: noLinks }
  },
  "fs/canonicalize": {
    base: onPath,
    rows: { path: used(({ dir }: World) => `${dir}/none`), ...limited }
  },
  "fs/readDirectory": {
    base: ({ dir }) => ({ path: dir }),
    rows: { path: used(({ dir }: World) => `${dir}/folder`), ...limited }
  },
  "fs/walk": {
    base: ({ dir }) => ({ path: dir, options: walking }),
    rows: {
      path: used(({ dir }: World) => `${dir}/folder`),
      ...limited,
      options: used({ ...walking, maxDepth: 0 }),
      "options.maxDepth": used(0),
      "options.maxDirectories": used(1),
      "options.maxEntries": used(1),
      "options.followDirectorySymlinks": used(true),
      "options.pruneHiddenDirectories": used(true)
    }
  },
  "fs/remove": {
    base: ({ dir }) => ({ path: `${dir}/folder` }),
    observe: changes("fs/remove"),
    rows: {
      path: used(({ dir }: World) => `${dir}/file`),
      ...limited,
      followSymlinks: used(false, ({ dir }) => ({ path: `${dir}/links/inner`, recursive: false })),
      recursive: used(false),
      force: used(false, ({ dir }) => ({ path: `${dir}/none` }))
    }
  },
  "fs/copy": {
    base: ({ dir }) => ({ sourcePath: `${dir}/folder`, destinationPath: `${dir}/copy`, recursive: true }),
    observe: changes("fs/copy"),
    rows: {
      sourcePath: used(({ dir }: World) => `${dir}/file`),
      destinationPath: used(({ dir }: World) => `${dir}/elsewhere`),
      ...limited,
      recursive: used(false)
    }
  },
  "fs/open": {
    base: (world) => ({ ...onPath(world), handleId: "a" }),
    observe: changes("fs/open"),
    rows: {
      path: used(({ dir }: World) => `${dir}/none`),
      ...limited,
      handleId: used("b"),
      mode: used("replace")
    }
  },
  "fs/readBlock": {
    base: () => ({ handleId: "read", offset: 0, len: 2 }),
    rows: { handleId: used("none"), offset: used(1), len: used(3) }
  },
  "fs/writeBlock": {
    base: () => ({ handleId: "write", offset: 0, chunk: bytes("x") }),
    observe: changes("fs/writeBlock"),
    rows: { handleId: used("none"), offset: used(1), chunk: used(bytes("y")) }
  },
  "fs/close": {
    base: () => ({ handleId: "none" }),
    observe: ({ client }, params) =>
      Effect.zipRight(
        client.call("fs/close", params),
        client.call("fs/readBlock", { handleId: "read", offset: 0, len: 1 })
      ),
    rows: { handleId: used("read") }
  },
  "fs/watchMissing": {
    base: ({ dir }) => ({ watchId: 1, missing: [`${dir}/none`] }),
    observe: ({ client, dir }, params) =>
      Effect.gen(function* () {
        const reply = yield* client.call("fs/watchMissing", params)
        if (reply.result?.watching !== true) return reply
        writeFileSync(`${dir}/file`, "changed")
        writeFileSync(`${dir}/none`, "")
        return [reply, yield* client.notified("fs/missingChanged")]
      }),
    rows: {
      watchId: used(2),
      missing: used([]),
      present: used(({ dir }: World) => `${dir}/gone`)
    }
  },
  "http/request": {
    base: ({ http }) => ({ method: "GET", url: `${http.url}/redirect`, requestId: "r" }),
    observe: ({ client, http }, params) =>
      Effect.gen(function* () {
        const reply = yield* client.call("http/request", params)
        const requestId = String(params["requestId"])
        if (params["streamResponse"] === true) yield* streamed(client, requestId)
        return [reply, deltas(client, requestId), http.arrived]
      }),
    rows: {
      method: used("POST"),
      url: used(({ http }: World) => `${http.url}/other`),
      headers: used([{ name: "x-a", value: "1" }]),
      "headers[].name": used("x-b", { headers: [{ name: "x-a", value: "1" }] }),
      "headers[].value": used("2", { headers: [{ name: "x-a", value: "1" }] }),
      "headers[].valueEnvVar": used("PATH", { headers: [{ name: "x-a", value: "1" }] }),
      bodyBase64: used(bytes("body"), { method: "POST" }),
      timeoutMs: used(1, ({ http }) => ({ url: `${http.url}/slow` })),
      requestId: used("s", { streamResponse: true }),
      streamResponse: used(true),
      redirectPolicy: used("stop")
    }
  },
  "http/cancel": {
    base: () => ({ requestId: "none" }),
    observe: ({ client, http }, params) =>
      Effect.gen(function* () {
        const id = client.post("http/request", httpParams(`${http.url}/slow`, { streamResponse: true }))
        return [yield* client.call("http/cancel", params), yield* client.reply(id)]
      }),
    rows: { requestId: used("r") }
  },
  "environmentConfig/read": {
    base: ({ dir }) => ({ cwd: dir, configPaths: [["a"]], requirementsPaths: [["b"]] }),
    rows: {
      cwd: ignored("configuration in a project counts only with a user's, and that is refused", "/"),
      configPaths: checked([[]]),
      requirementsPaths: checked([[]])
    }
  },
  "capabilityRoots/discoverV1": {
    base: ({ dir }) => ({ roots: [{ id: "a", path: dir }] }),
    rows: {
      roots: used([]),
      "roots[].id": used("b"),
      "roots[].path": used("/"),
      "roots[].sandbox": ignored("nothing of a root is read", box, null)
    }
  },
  "capabilities/discoverV2": {
    base: ({ dir }) => ({ cwd: dir }),
    rows: {
      cwd: ignored("the server has no plugins and skills, wherever", "/"),
      sandbox: ignored("no file is read", box, null)
    }
  }
}

// The table of methods with types of their own, of which only the schemas matter here.
const requests = ExecApi.requests as ReadonlyMap<string, Rpc.AnyWithProps>

/** The members of a request; those within a sandbox have a table of their own. */
const membersOfRequest = (method: string): ReadonlyArray<string> => {
  const ast = requests.get(method)?.payloadSchema.ast
  return ast === undefined ? [] : membersOf(ast).filter((path) => !/(^|\.)sandbox\./.test(path))
}

/** A server, a directory and an upstream that are the same each time. */
const world = Effect.gen(function* () {
  const dir = yield* directory
  mkdirSync(`${dir}/folder/.hidden`, { recursive: true })
  writeFileSync(`${dir}/folder/.hidden/deep`, "")
  writeFileSync(`${dir}/folder/inner`, "")
  writeFileSync(`${dir}/file`, "content")
  symlinkSync("file", `${dir}/link`)
  symlinkSync("folder", `${dir}/links`)
  writeFileSync(`${dir}/target`, "target")
  const http = yield* upstream((response, { url }) => {
    response.sendDate = false
    const answer = () => response.end(`this is ${url}`)
    if (url === "/slow") setTimeout(answer, 300)
    else if (url === "/redirect") response.writeHead(302, { location: "/landed" }).end()
    else answer()
  })
  const client = yield* Effect.provide(memoryClient, yield* Layer.build(memoryLayer))
  return { client, dir, http } satisfies World
})

/** The id of an answer, which is a number; others that are called so are texts. */
const isEnvelopeId = (key: string, value: unknown) => key === "id" && typeof value === "number"

/** What comes of a request, without what is different each time. */
const outcome = (method: string, make: (world: World) => unknown) =>
  Effect.scoped(
    Effect.gen(function* () {
      const here = yield* world
      const { client, dir, http } = here
      if (method !== "initialize") {
        yield* client.handshake()
        yield* client.ask("fs/open", { handleId: "read", path: `${dir}/file` })
        yield* client.ask("fs/open", { handleId: "write", path: `${dir}/target`, mode: "replace" })
      }
      const { observe = ({ client }: World, params: Params) => client.call(method, params) } = subjects[method] ?? {}
      const found = yield* observe(here, make(here) as Params)
      const volatile = new Set(["pid", "sessionId", "startedAtMs", "modifiedAtMs", "createdAtMs"])
      return JSON.stringify(found, (key, value) => (volatile.has(key) || isEnvelopeId(key, value) ? undefined : value))
        .replaceAll(dir, "DIR")
        .replaceAll(http.url.slice("http://".length), "UPSTREAM")
    })
  )

const root = fileURLToPath(new URL("../..", import.meta.url))

const baseOf = (subject: Subject, row: Row) => (here: World) => {
  const more = (row.is === "used" ? row.base : undefined) ?? {}
  return { ...subject.base(here), ...(typeof more === "function" ? more(here) : more) }
}

const plain = new Map<string, string>()

/** What comes of a method's base. */
const plainOf = (method: string) =>
  Effect.suspend(() => {
    const known = plain.get(method)
    if (known !== undefined) return Effect.succeed(known)
    return Effect.tap(
      outcome(method, (here) => subjects[method]?.base(here)),
      (found) => Effect.sync(() => plain.set(method, found))
    )
  })

/** Tries what a row says. */
const tries = (method: string, subject: Subject, member: string, row: Row) =>
  Effect.gen(function* () {
    const base = baseOf(subject, row)
    const changed = (value: From) => outcome(method, (here) => withMember(base(here), member, value(here)))
    if (row.is === "shown") {
      const text = readFileSync(`${root}${row.file}`, "utf8")
      assert.include(text, row.title)
      return assert.include(text, member.split(".").pop() ?? member)
    }
    if (row.is === "refused") {
      for (const value of row.values) {
        const refusal = yield* changed(() => value)
        assert.include(refusal, '"code":-32600', `${member} ${JSON.stringify(value)}`)
        assert.include(refusal, `\`${member}\``)
      }
    }
    const plain = row.is === "used" && row.base !== undefined ? yield* outcome(method, base) : yield* plainOf(method)
    if (row.is === "used") {
      const other = yield* changed(row.value)
      assert.notStrictEqual(other, plain)
      assert.notInclude(plain, '"code":-32602')
      assert.strictEqual(other.includes('"code":-32602'), row.invalid, other)
      return
    }
    const same = row.is === "refused" ? row.harmless : row.values
    for (const value of same) assert.strictEqual(yield* changed(() => value), plain, JSON.stringify(value))
  })

describe("every member of a request is used, refused, or ignored for a reason", () => {
  it("and every request has its table", () => {
    assert.sameMembers(Object.keys(subjects), Array.from(requests.keys()))
  })

  for (const [method, subject] of Object.entries(subjects)) {
    it(`${method}: all members have a row, and all rows a member`, () => {
      assert.sameMembers(Object.keys(subject.rows), [...membersOfRequest(method)])
    })

    for (const [member, row] of Object.entries(subject.rows)) {
      // Without bubblewrap sandboxes are refused, which is a difference as well.
      it.scopedLive(`${method}: ${member} is ${row.is}`, () => tries(method, subject, member, row))
    }
  }
})

describe("every member of a sandbox", () => {
  const minimal = entry(special("project_roots", "sub"), "read")
  const base = sandbox([minimal], { cwd: "/cwd", workspaceRoots: ["/ws"] })
  const glob = sandbox([entry({ type: "glob_pattern", pattern: "*.a" }, "read")])
  const contextual = { ...base, policyContext: { cwd: "/there", workspaceRoots: ["/other"] } }
  const atCwd = sandbox([entry(special("current_working_directory"), "read")], {
    policyContext: { cwd: "/there" }
  })
  const rows: Readonly<Record<string, readonly [value: unknown, base?: object] | string>> = {
    permissions: [{ type: "disabled" }],
    "permissions.type": ["disabled"],
    "permissions.network": ["enabled"],
    "permissions.file_system": [{ type: "unrestricted" }],
    "permissions.file_system.type": ["unrestricted"],
    "permissions.file_system.entries": [[]],
    "permissions.file_system.entries[].path": [at("/x")],
    "permissions.file_system.entries[].path.type": [
      "glob_pattern",
      sandbox([entry({ ...at("/x"), pattern: "a" }, "read")])
    ],
    "permissions.file_system.entries[].path.path": ["/y", sandbox([entry(at("/x"), "read")])],
    "permissions.file_system.entries[].path.pattern": ["*.b", glob],
    "permissions.file_system.entries[].path.value": [{ kind: "root" }],
    "permissions.file_system.entries[].path.value.kind": ["root"],
    "permissions.file_system.entries[].path.value.subpath": ["other"],
    "permissions.file_system.entries[].access": ["write"],
    cwd: ["/elsewhere", sandbox([minimal], { cwd: "/cwd" })],
    workspaceRoots: [["/a", "/b"]],
    policyContext: [{ workspaceRoots: ["/other"] }],
    "policyContext.cwd": ["/elsewhere", atCwd],
    "policyContext.workspaceRoots": [["/elsewhere"], contextual],
    windowsSandboxLevel: "it speaks of Windows"
  }

  const read = (json: unknown) =>
    JSON.stringify(
      Either.match(SandboxPolicy.policyOf(Schema.decodeUnknownSync(Sandbox.Sandbox)(json), undefined), {
        onLeft: ({ message }) => ({ message }),
        onRight: (policy) => ({ policy })
      })
    )

  it("has a row, and every row a member", () => {
    assert.sameMembers(Object.keys(rows), [...membersOf(Sandbox.Sandbox.ast)])
  })

  for (const [member, row] of Object.entries(rows)) {
    it(`${member} is ${typeof row === "string" ? "ignored" : "used"}`, () => {
      if (typeof row === "string") return assert.strictEqual(read(withMember(base, member, "elevated")), read(base))
      const [value, from = base] = row
      assert.notStrictEqual(read(withMember(from, member, value)), read(from))
    })
  }

  it("that the original has and this server does not read changes nothing", () => {
    const unread = {
      sandboxOverride: ["noOverride", "bypassSandboxFirstAttempt", "escalatedSandboxWithRestrictions"],
      useLegacyLandlock: [true],
      userHomeDir: ["file:///home"],
      temporaryDirectories: [["file:///tmp"]],
      windowsSandboxProxySettingsMode: ["preserve"],
      windowsSandboxPrivateDesktop: [true]
    }
    for (const [member, values] of Object.entries(unread)) {
      for (const value of values) assert.strictEqual(read({ ...base, [member]: value }), read(base), member)
    }
  })

  it("is the same in every request", () => {
    for (const [method, { payloadSchema }] of requests) {
      const all = membersOf(payloadSchema.ast)
      for (const place of all.filter((path) => /(^|\.)sandbox$/.test(path))) {
        const within = all.filter((path) => path.startsWith(`${place}.`)).map((path) => path.slice(place.length + 1))
        assert.sameMembers(within, [...membersOf(Sandbox.Sandbox.ast)], method)
      }
    }
  })
})
