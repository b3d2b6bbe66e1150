/**
 * `doctor`: checks this machine and a server, and says how to fix what does not work.
 *
 * @since 0.1.0
 */
import { accessSync, constants, existsSync, readFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import { bytesOf } from "../client/HeadTail.js"
import { fromVariables } from "../environment/EnvironmentConfig.js"
import { version } from "../internal/Package.js"
import * as PlainText from "../internal/PlainText.js"
import * as OsError from "../protocol/OsError.js"
import * as Wire from "../protocol/Wire.js"
import * as ExecServer from "../server/ExecServer.js"
import * as NodeServices from "../server/NodeServices.js"
import * as Cgroups from "../spawn/Cgroups.js"
import { guardProgram } from "../spawn/Posix.js"
import * as Memory from "../transport/Memory.js"
import { Exited } from "./CommandExit.js"
import { probes } from "./ServerProbes.js"
import * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"
import * as UrlVariable from "./UrlVariable.js"

/** The result of one check. */
interface Finding {
  readonly name: string
  readonly status: "ok" | "warning" | "failed"
  readonly detail: string
  /** How to fix it; undefined if there is nothing to fix. */
  readonly advice?: string
}

type Check = Effect.Effect<Finding>

/** The deadline of each check, in milliseconds. */
const checkMs = 15000

/** Below this limit of open files, a few hundred processes with pipes exhaust it. */
const fewFiles = 4096

const minNode = 20

const ok = (name: string, detail: string): Finding => ({ name, status: "ok", detail })
const warning = (name: string, detail: string, advice: string): Finding => ({ name, status: "warning", detail, advice })
const failed = (name: string, detail: string, advice: string): Finding => ({ name, status: "failed", detail, advice })

const inTime = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.timeoutFail(effect, {
    duration: checkMs,
    onTimeout: () => ({ message: `no answer within ${checkMs} ms` })
  })

/** Makes a check that reports its failure or timeout as a finding. */
const check = <E extends { readonly message: string }>(
  name: string,
  advice: string,
  effect: Effect.Effect<Finding, E>,
  severity: "warning" | "failed" = "failed"
): Check =>
  inTime(effect).pipe(
    Effect.catchAll(({ message }) =>
      Effect.succeed(severity === "failed" ? failed(name, message, advice) : warning(name, message, advice))
    )
  )

const node: Check = Effect.sync(() =>
  Number(process.versions.node.split(".")[0]) >= minNode
    ? ok("node", process.version)
    : failed("node", process.version, `install Node.js ${minNode} or later`)
)

/** This machine, regardless of the configuration: the file of environments is empty. */
const localTarget: Target.Target = {
  url: undefined,
  env: "local",
  environments: "/dev/null",
  tokenFile: undefined,
  insecure: false,
  session: undefined
}

/** Checks that a program runs on this machine, by its output. */
const runs = (name: string, tty: boolean, advice: string) =>
  check(
    name,
    advice,
    Effect.scoped(
      Effect.gen(function* () {
        const { processes } = yield* Target.connect(localTarget)
        const argv = ["/bin/sh", "-c", tty ? "test -t 0 && stty size" : "echo works"]
        const size = { rows: 31, cols: 97 }
        const env = { PATH: process.env["PATH"] ?? "/usr/bin:/bin" }
        const remote = yield* processes.start({ argv, cwd: "/", env, tty, ...(tty ? { size } : {}) })
        const { exit, stdout, terminal } = yield* remote.communicate()
        const said = bytesOf(tty ? terminal : stdout)
          .toString()
          .trim()
        return exit.exitCode === 0 && said === (tty ? "31 97" : "works")
          ? ok(name, tty ? "a terminal of the right size" : "a shell runs")
          : failed(name, `status ${exit.exitCode}, ${JSON.stringify(said)}`, advice)
      })
    )
  )

const contained = check(
  "bubblewrap",
  "install bubblewrap and allow user namespaces; only --contain namespace and restricted sandboxes need it",
  Effect.scoped(
    Effect.as(Layer.build(NodeServices.layerContained), ok("bubblewrap", "processes can be contained in namespaces"))
  ),
  "warning"
)

/** Whether each process gets a cgroup here, and which limits that allows. */
const cgroups: Check = Effect.sync(() =>
  Either.match(Cgroups.locate("auto"), {
    onLeft: (why) =>
      warning("cgroups", why, "delegate one to the server: only limits of memory, cpus and pids need it"),
    onRight: (folder) => {
      const missing = Cgroups.missingIn(folder)
      return missing.length === 0
        ? ok("cgroups", `in ${folder}: daemons end with their process; memory, cpus and pids can be limited`)
        : warning(
            "cgroups",
            `in ${folder}: daemons end with their process, but it lacks the controllers ${missing.join(", ")}`,
            "let the system give them to cgroup v2: only limits of memory, cpus and pids need them"
          )
    }
  })
)

/** What ends processes here if the server is killed. */
const killed: Check = Effect.map(contained, (namespaces) => {
  if (!existsSync(guardProgram())) {
    return failed(
      "killed server",
      "the guard is missing: processes live on",
      "run npm rebuild in the package's directory"
    )
  }
  const ways = [
    ...(Either.isRight(Cgroups.locate("auto")) ? ["the next server ends them by their cgroups"] : []),
    ...(namespaces.status === "ok" ? ["with --contain namespace the kernel ends them"] : [])
  ]
  const both = ways.length === 0 ? "they live on" : ways.join("; ")
  return ok("killed server", `its guard ends all processes; if that is killed with it, ${both}`)
})

const readNumber = (path: string, pattern: RegExp): number | undefined => {
  try {
    const found = pattern.exec(readFileSync(path, "utf8"))?.[1]
    return found === "unlimited" ? Number.POSITIVE_INFINITY : found === undefined ? undefined : Number(found)
  } catch {
    // Not Linux, or no /proc.
    return undefined
  }
}

const openFiles: Check = Effect.sync(() => {
  const limit = readNumber("/proc/self/limits", /^Max open files\s+(\S+)/m)
  if (limit === undefined) return ok("open files", "no limit is known")
  return limit >= fewFiles
    ? ok("open files", `at most ${limit}`)
    : warning("open files", `at most ${limit}`, `ulimit -n ${fewFiles} before the server starts, or LimitNOFILE=`)
})

const terminals: Check = Effect.sync(() => {
  const max = readNumber("/proc/sys/kernel/pty/max", /(\d+)/)
  const used = readNumber("/proc/sys/kernel/pty/nr", /(\d+)/)
  if (max === undefined || used === undefined) return ok("terminals", "no limit is known")
  return used < max * 0.9
    ? ok("terminals", `${used} of ${max} in use`)
    : warning("terminals", `${used} of ${max} in use`, "sysctl kernel.pty.max=8192, or close some terminals")
})

const temporary: Check = Effect.sync(() => {
  try {
    accessSync(tmpdir(), constants.W_OK)
    return ok("temp directory", tmpdir())
  } catch (error) {
    return failed("temp directory", `${tmpdir()}: ${OsError.describe(error)}`, "set TMPDIR to a directory of your own")
  }
})

/**
 * The first parameters of a client of each generation, and the response it expects to a write to an unknown process.
 */
const generations = [
  { name: "the first design", params: {}, refusal: "Error" },
  { name: "May 2026 to 0.169", params: { resumeSessionId: null }, refusal: "Result" }
] as const

/** Talks to an in-process server like a client of one generation; returns the kinds of both responses. */
const converse = (params: object) =>
  Effect.flatMap(Memory.Connector, ({ connect }) =>
    Effect.async<ReadonlyArray<string>, { readonly message: string }>((resume) => {
      const answers: Array<string> = []
      const link = connect({
        onMessage: (text) => {
          const message = Wire.parse(text)
          if (message._tag === "Response") answers.push(message.body._tag)
          if (answers.length === 2) resume(Effect.succeed(answers))
        },
        onEnd: () => resume(Effect.fail({ message: "the server closed the connection" }))
      })
      const initialize = { id: 1, method: "initialize", params: { clientName: "doctor", ...params } }
      const write = { id: 2, method: "process/write", params: { processId: "none", chunk: "", writeId: "1" } }
      for (const message of [initialize, { method: "initialized" }, write]) link.send(JSON.stringify(message))
      return Effect.sync(link.close)
    })
  )

/** An in-process server and a connector to it. */
const conversing = ExecServer.layer.pipe(Layer.provideMerge(Memory.layer), Layer.provide(NodeServices.layer))

const clients = check(
  "clients",
  "this is a bug in exec-server: install another version",
  Effect.gen(function* () {
    for (const { name, params, refusal } of generations) {
      const [initialized, written] = yield* converse(params)
      if (initialized !== "Result" || written !== refusal) {
        return yield* Effect.fail({
          message: `a client of ${name} gets the wrong responses: ${initialized}, ${written}`
        })
      }
    }
    return ok("clients", `${generations.map(({ name }) => name).join("; ")}: all are supported`)
  }).pipe(Effect.provide(conversing))
)

const environments: Check = Effect.sync(() =>
  Either.match(fromVariables(process.env), {
    onLeft: ({ message }) => failed("environments", message, "correct the file or the variable"),
    onRight: ({ entries, includeLocal, defaultId }) => {
      const ids = [...(includeLocal ? ["local"] : []), ...entries.map(({ id }) => id)]
      return ok("environments", `${ids.join(", ") || "none"}; default ${defaultId ?? "none"}`)
    }
  })
)

/** Connects to the server that the flags or EXEC_SERVER_URL name, if any, and checks what the commands need. */
const server = (target: Target.Target): Effect.Effect<ReadonlyArray<Finding>> =>
  Effect.suspend(() => {
    if (target.url === undefined && target.env === undefined && UrlVariable.read() === undefined) {
      return Effect.succeed([])
    }
    const advice = "check the address, the token, and the server's log"
    const asked = Effect.gen(function* () {
      const startedAt = yield* Clock.currentTimeMillis
      const connected = yield* Effect.either(inTime(Target.connect(target)))
      if (Either.isLeft(connected)) return [failed("server", connected.left.message, advice)]
      const { info, client } = connected.right
      const ms = (yield* Clock.currentTimeMillis) - startedAt
      const { executorVersion, platformOs } = info
      const version = executorVersion === null ? client.features.server : `version ${executorVersion} on ${platformOs}`
      const findings = yield* Effect.forEach(probes, ({ name, served, unserved, advice, isServed }) =>
        check(
          name,
          advice,
          Effect.map(isServed(client), (works) => (works ? ok(name, served) : failed(name, unserved, advice)))
        )
      )
      return [ok("server", `${version}, in ${ms} ms`), ...findings]
    })
    return Effect.scoped(asked)
  })

const marks = { ok: "ok", warning: "!!", failed: "XX" }

/**
 * Prints each finding on a line, with `json` as an object. Exits with status 1 if a check failed; fails at once if its
 * own flags are wrong.
 */
export const doctor = ({ target, json }: { readonly target: Target.Target; readonly json: boolean }) =>
  Effect.gen(function* () {
    if (target.url !== undefined || target.env !== undefined) yield* Target.check(target)
    const checks = [
      node,
      runs("processes", false, "run npm rebuild in the package's directory: its native part may be missing"),
      runs("terminal", true, "run npm rebuild in the package's directory, and check that /dev/pts is mounted"),
      contained,
      cgroups,
      killed,
      openFiles,
      terminals,
      temporary,
      clients,
      environments
    ]
    const here = yield* Effect.forEach(checks, (one) => one)
    const findings = [...here, ...(yield* server(target))]
    const lines = json
      ? findings.map((finding) => `${PlainText.json(finding)}\n`)
      : [
          `exec-server ${version}\n`,
          ...findings.flatMap(({ name, status, detail, advice }) => [
            `${marks[status]} ${name.padEnd(14)} ${PlainText.plain(detail)}\n`,
            ...(advice === undefined ? [] : [`   ${"".padEnd(14)} -> ${advice}\n`])
          ])
        ]
    yield* Terminal.write("stdout", lines.join(""))
    if (findings.some(({ status }) => status === "failed")) return yield* new Exited({ code: 1 })
  })
