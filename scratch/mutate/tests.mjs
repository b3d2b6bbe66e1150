/**
 * The tests of each file. They run its code in their own process: tests that start the built command cannot notice a
 * mutant. A mutant gets those of them that reach it.
 */
import { existsSync } from "node:fs"

/** Processes with fake children. Their time is the test clock's, so they are fast. */
const actors = ["process/ManagedProcess", "process/ProcessSupervisor", "process/restart", "races/exit", "races/spawn"]
/** The same with sessions and clients. */
const connections = ["races/termination", "races/stdin", "races/backPressure", "races/resume"]
/** With real children. */
const children = ["spawn/PipeSpawner", "spawn/PtySpawner", "spawn/Launcher", "spawn/ProcessTrees"]
/** Whole in-process servers. */
const servers = ["testing/FaultyMemory", "client/InProcess"]
/** In-process servers on sockets. */
const sockets = ["transport/access", "transport/UnixSocket", "transport/WebSocket", "transport/Tls"]

/** Requests on files. */
const files = ["filesystem/methods", "filesystem/missing", "filesystem/order", "filesystem/walk", "filesystem/handles"]

/** Tests of a file in addition to the one of the same name. */
const tests = {
  "process/ProcessSupervisor": [...actors, "races/termination", "process/ProcessMetrics"],
  "process/ManagedProcess": [...actors, ...connections],
  "process/ProcessState": [...actors],
  "process/ProcessFibers": [...actors, "races/termination"],
  "process/ProcessReport": ["process/ManagedProcess", "process/OutputBuffer"],
  "process/Waiters": ["process/ManagedProcess"],
  "process/OutputRing": ["process/OutputBuffer", "process/ManagedProcess"],
  "process/OutputBuffer": ["process/ManagedProcess"],
  "process/StdinQueue": ["process/ManagedProcess"],
  "internal/Immediate": ["process/ManagedProcess", "session/Dispatcher"],
  "process/Allowance": ["process/ManagedProcess", "process/ProcessSupervisor", "process/StdinQueue", "session/bounds"],
  "process/SkipGrace": ["process/ProcessSupervisor"],
  "internal/WebSocketChannel": ["transport/WebSocketPeer", "transport/SmallMessages"],
  "internal/FiberGroup": ["process/ProcessSupervisor"],
  "process/RestartPolicy": ["process/restart"],
  "process/ProcessMetrics": actors,
  "spawn/ProcessTree": ["spawn/ProcessTrees"],
  "spawn/ProcessTrees": ["spawn/PipeSpawner"],
  "spawn/Guard": [],
  "spawn/SlowMounts": [],
  "spawn/SlowStarts": ["spawn/SlowMounts", "spawn/PipeSpawner"],
  "spawn/SocketOwner": [],
  "spawn/PipeSpawner": ["spawn/PipeReader", "spawn/Launcher"],
  "spawn/PipeReader": ["spawn/PipeSpawner"],
  "spawn/ReadBuffer": ["spawn/PipeReader", "spawn/PipeSpawner", "e2e"],
  "spawn/PtySpawner": [],
  "spawn/InputWriter": ["spawn/PtySpawner", "e2e"],
  "spawn/Posix": [
    ...children,
    "spawn/PipeReader",
    "spawn/InputWriter",
    "spawn/SlowStarts",
    "spawn/SlowMounts",
    "spawn/SocketOwner"
  ],
  "spawn/Child": children,
  "spawn/Launcher": children,
  "sandbox/Denial": ["process/ManagedProcess", "e2e"],
  "sandbox/MountPlan": ["sandbox/policy"],
  "sandbox/SandboxPolicy": ["sandbox/policy"],
  "sandbox/Seccomp": ["sandbox/policy"],
  "transport/Memory": ["races/backPressure", "testing/FaultyMemory"],
  "transport/WebSocket": [...sockets, "transport/limits", "transport/localUsers"],
  "transport/PendingConnections": [],
  "transport/WebSocketPeer": [
    "transport/WebSocket",
    "transport/SmallMessages",
    "transport/HttpUpgrade",
    "transport/UnfinishedMessages"
  ],
  "transport/SmallMessages": ["transport/WebSocket"],
  "transport/TransportLimits": sockets,
  "transport/HttpUpgrade": [],
  "transport/Traffic": [],
  "transport/ListenUrl": ["server/ListenConfig"],
  "transport/LocalClient": [],
  "transport/UnfinishedMessages": [],
  "transport/Tls": ["server/ListenConfig"],
  "transport/Listener": ["transport/Tls"],
  "transport/UnixSocket": [],
  "transport/Stdio": [],
  "transport/Authenticator": [],
  "session/Handlers": ["session/Connection", ...connections, "e2e"],
  "session/FileSystemHandlers": [...files, "session/slowFiles"],
  "session/DiscoveryHandlers": ["session/discovery"],
  "session/RequestReport": [],
  "session/Grant": [],
  "session/ResponseBudget": ["session/Outbox", "races/backPressure"],
  "session/Outbox": ["session/Connection", "races/backPressure", "session/FramePool"],
  "session/FramePool": ["session/Notifier"],
  "session/AuditLog": ["process/ProcessSupervisor", "session/SessionRegistry", "session/Handlers"],
  "session/HttpExchanges": ["http/HttpRunner", "testing/ScriptedHttp"],
  "session/HttpHandlers": ["http/HttpRunner", "testing/ScriptedHttp"],
  "session/MissingWatches": [],
  "session/Notifier": ["session/FramePool", "session/Connection", "races/backPressure"],
  "session/Dispatcher": ["session/Connection"],
  "session/SessionRegistry": ["races/resume", "races/termination", "races/spawn"]
}

/** Tests of a whole folder, for files not in the table above. */
const rooms = {
  process: actors,
  spawn: children,
  session: ["session/Connection", ...connections, ...servers],
  transport: sockets
}

/** The paths of the tests of a file. */
export const testsOf = (file) => {
  const name = file.replace(/\.ts$/, "")
  const others = tests[name] ?? rooms[name.split("/", 1)[0]] ?? []
  return [...new Set([name, ...others])].map((test) => `test/${test}.test.ts`).filter((path) => existsSync(path))
}

const quick =
  /^test\/races\/|^test\/session\/(?!Connection)|^test\/process\/(ManagedProcess|OutputBuffer|ProcessMetrics|ProcessSupervisor|restart|StdinQueue|\w*Limits|EnvPolicy)\.|^test\/(?:internal|testing)\/|^test\/spawn\/Program\./

/** The time limit of one of these tests, in milliseconds. Each hanging mutant costs this much. */
export const timeoutOf = (paths) => (paths.every((path) => quick.test(path)) ? 1500 : 5000)
