/**
 * The commands besides the server: their flags, arguments and help. Their implementations are loaded when called.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as PrivateFile from "../internal/PrivateFile.js"
import * as RendezvousConfig from "../remote/RendezvousConfig.js"
import * as Logging from "../server/Logging.js"
import * as ServerConfig from "../server/ServerConfig.js"
import { announce } from "./Announce.js"
import { how, json, lazily, output, serverFlags, session, targetOf, what, where } from "./CommonFlags.js"
import { eraseSecrets } from "./EraseSecrets.js"
import * as Flag from "./Flag.js"
import type { List as FleetList } from "./Fleet.js"
import { type Command, make, typed } from "./Grammar.js"
import * as MemoryTuning from "./MemoryTuning.js"
import { run } from "./RunCommand.js"

const reference = {
  name: "SESSION[/PROCESS]",
  help: "a session by name, handle or id, and a process of it; with --session, only PROCESS"
}

const ps = typed(
  ["ps"],
  {
    summary: "Lists the processes of a session, or those of all sessions that the token may see.",
    flags: { ...serverFlags, session, json },
    examples: [
      ["exec-server ps --url ws://127.0.0.1:8080 --session ID", "the processes left running"],
      ["exec-server ps --url ws://127.0.0.1:8080 --token-file operator", "the processes of everybody"]
    ]
  },
  (flags) =>
    lazily(async () => {
      const { ps } = await import("./Ps.js")
      return ps({ target: targetOf(flags), json: flags.json })
    })
)

const ls = typed(
  ["ls"],
  {
    summary: "Lists the sessions of a server that the token may see, with their processes.",
    flags: {
      ...serverFlags,
      watch: Flag.toggle("watch", output, "print the list again whenever it changes", { short: "w" }),
      json
    },
    examples: [["exec-server ls --url ws://127.0.0.1:8080 --token-file operator", "everything on a server"]]
  },
  (flags) =>
    lazily(async () => {
      const { ls } = await import("./Ls.js")
      return ls({ target: targetOf(flags), json: flags.json, watch: flags.watch })
    })
)

const top = typed(
  ["top"],
  {
    summary: "Shows what the processes of a server use, the busiest first; q quits.",
    note: "If the output is not a terminal, prints one table and exits. PROCESSES are those of the whole tree that are alive.",
    flags: {
      ...serverFlags,
      session,
      interval: Flag.duration("interval", output, "the time between samples, half a second or more: 2s, 500ms"),
      json: Flag.toggle("json", output, "print each sample as JSON on a line, until interrupted")
    },
    examples: [["exec-server top --url ws://127.0.0.1:8080 --token-file operator", "everything on a server"]]
  },
  (flags) =>
    lazily(async () => {
      const { top } = await import("./Top.js")
      return top({ target: targetOf(flags), intervalMs: flags.interval, json: flags.json })
    })
)

const attach = typed(
  ["attach"],
  {
    summary: "Attaches to a running process; ^] detaches, if the process has a terminal.",
    note: "A session given by its id is resumed. One given by its name or handle is joined beside its client, which a token of a viewer or an operator permits.",
    words: [reference],
    flags: {
      ...serverFlags,
      session,
      readOnly: Flag.toggle("read-only", how, "join beside the client of the session, and type nothing")
    },
    examples: [
      ["exec-server attach p1 --url ws://127.0.0.1:8080 --session ID", "back to the first process"],
      ["exec-server attach build/p1 --url ws://127.0.0.1:8080 --token-file operator", "join another client"]
    ]
  },
  (flags, { words: [reference = ""] }) =>
    lazily(async () => {
      const { attach } = await import("./Attach.js")
      return attach({ target: targetOf(flags), reference, readOnly: flags.readOnly })
    })
)

const logs = typed(
  ["logs"],
  {
    summary: "Prints the retained output of a process.",
    words: [reference],
    flags: {
      ...serverFlags,
      session,
      follow: Flag.toggle("follow", output, "follow the output until the process ends", { short: "f" }),
      json
    },
    examples: [
      ["exec-server logs -f p1 --url ws://127.0.0.1:8080 --session ID", "follow the output"],
      ["exec-server logs -f build/p1 --url ws://127.0.0.1:8080 --token-file viewer", "that of another client"]
    ]
  },
  (flags, { words: [reference = ""] }) =>
    lazily(async () => {
      const { logs } = await import("./Logs.js")
      return logs({ target: targetOf(flags), reference, follow: flags.follow, json: flags.json })
    })
)

const record = typed(
  ["record"],
  {
    summary: "Records a running process into a file that `play` and asciinema play.",
    note: "The server must have a folder for recordings (--recordings-dir). It ends with the process, or by ^C.",
    words: [
      { name: "SESSION/PROCESS", help: "the process; with --session, only PROCESS" },
      { name: "FILE", help: "the new file, in the format asciicast v3", isPath: true }
    ],
    flags: {
      ...serverFlags,
      session,
      input: Flag.toggle("input", what, "record what is typed as well, passwords included")
    },
    examples: [["exec-server record build/p1 out.cast --url ws://127.0.0.1:8080", "with a token in EXEC_SERVER_TOKEN"]]
  },
  (flags, { words: [reference = "", file = ""] }) =>
    lazily(async () => {
      const { record } = await import("./Record.js")
      return record({ target: targetOf(flags), reference, file, input: flags.input })
    })
)

const play = typed(
  ["play"],
  {
    summary: "Plays a recording in this terminal: space pauses, q ends.",
    note: "Requests to the terminal and what acts outside of the screen, such as on the clipboard, are left out. If the output is not a terminal, prints the text at once, without control sequences.",
    words: [{ name: "FILE", help: "a recording in the format asciicast v2 or v3", isPath: true }],
    flags: {
      speed: Flag.text("speed", "N", how, "how many times faster to play", { defaultText: "1" }),
      idleLimit: Flag.duration("idle-limit", how, "the longest pause: 2s, 500ms")
    },
    examples: [["exec-server play --speed 2 --idle-limit 2s build.cast", "faster, without long pauses"]]
  },
  (flags, { words: [file = ""] }) =>
    lazily(async () => {
      const { play } = await import("./Play.js")
      return play({ file, speed: flags.speed, idleLimitMs: flags.idleLimit })
    })
)

const share = typed(
  ["share"],
  {
    summary: "Prints a token for one process, for somebody else to watch or to use it.",
    words: [{ name: "SESSION/PROCESS", help: "the process; with --session, only PROCESS; with --revoke, a share" }],
    flags: {
      ...serverFlags,
      session,
      role: Flag.choice("role", "ROLE", ["viewer", "operator"], what, "viewer: read it; operator: also use it", {
        defaultText: "viewer"
      }),
      expiresIn: Flag.duration("expires-in", what, "how long the token is valid: 90, 90s, 1.5m, 2h (default: 1h)"),
      label: Flag.text("label", "TEXT", what, "a label, for lists of shares"),
      revoke: Flag.toggle("revoke", what, "end the share of this id, and close its connections"),
      json
    },
    examples: [["exec-server share build/p1 --expires-in 8h --url ws://127.0.0.1:8080", "with an operator's token"]]
  },
  ({ expiresIn, ...flags }, { words: [reference = ""] }) =>
    lazily(async () => {
      const { share, revoke } = await import("./Share.js")
      const { role, label, json } = flags
      if (flags.revoke) return revoke({ target: targetOf(flags), shareId: reference })
      return share({ target: targetOf(flags), reference, role, expiresInMs: expiresIn, label, json })
    })
)

const kill = typed(
  ["kill"],
  {
    summary: "Sends a signal to a process, or ends a session.",
    words: [reference],
    flags: {
      ...serverFlags,
      session,
      signal: Flag.text("signal", "NAME", what, "the signal for the process and its descendants", {
        short: "s",
        defaultText: "SIGTERM"
      })
    },
    examples: [
      ["exec-server kill -s INT p1 --url ws://127.0.0.1:8080 --session ID", "like ^C"],
      ["exec-server kill build --url ws://127.0.0.1:8080 --token-file operator", "end a session by its name"]
    ]
  },
  (flags, { words: [reference = ""] }) =>
    lazily(async () => {
      const { kill } = await import("./Kill.js")
      return kill({ target: targetOf(flags), reference, signal: flags.signal })
    })
)

const cp = typed(
  ["cp"],
  {
    summary: "Copies files to or from a server.",
    words: [
      { name: "SOURCE", help: "what to copy; :PATH is on the server", isPath: true },
      { name: "DESTINATION", help: "where to copy it; :PATH is on the server", isPath: true }
    ],
    flags: {
      ...serverFlags,
      recursive: Flag.toggle("recursive", what, "copy a directory and everything in it", { short: "r" }),
      json
    },
    examples: [
      ["exec-server cp --url ws://127.0.0.1:8080 notes.txt :/tmp", "to the server"],
      ["exec-server cp -r --url ws://127.0.0.1:8080 :/var/log logs", "a directory from the server"]
    ]
  },
  (flags, { words: [source = "", destination = ""] }) =>
    lazily(async () => {
      const { copy } = await import("./Cp.js")
      return copy({ target: targetOf(flags), source, destination, recursive: flags.recursive, json: flags.json })
    })
)

const doctor = typed(
  ["doctor"],
  {
    summary: "Checks what works here, and how to fix what does not.",
    flags: { ...serverFlags, json },
    examples: [["exec-server doctor --url ws://127.0.0.1:8080", "check this machine and a server"]]
  },
  (flags) =>
    lazily(async () => {
      const { doctor } = await import("./Doctor.js")
      return doctor({ target: targetOf(flags), json: flags.json })
    })
)

const upgrade = typed(
  ["upgrade"],
  {
    summary: "Replaces a running server of this user by another version; its processes and sessions go on.",
    note: "The new version is the one that this command belongs to, or that of --command. If it fails, the running one serves on.",
    flags: {
      command: Flag.text("command", "PATH", what, "the new version: its folder, or its dist/bin.js", {
        defaultText: "the version of this command"
      }),
      node: Flag.text("node", "PATH", what, "the Node.js program that runs it", {
        defaultText: "the one that runs this command"
      }),
      dryRun: Flag.toggle("dry-run", what, "only check whether the new version can take over"),
      timeout: Flag.duration(
        "timeout",
        how,
        "how long the new version may take to start, before the running one comes back; 10 s by default"
      ),
      pid: Flag.text("pid", "PID", where, "the server with this process id"),
      socket: Flag.text("control-socket", "PATH", where, "the server with this control socket", {
        defaultText: "the only server of this user"
      }),
      json
    },
    examples: [
      ["exec-server upgrade --dry-run", "whether this version can replace the running server"],
      ["exec-server upgrade --command /opt/exec-server/0.2.0", "replace it by the version in that folder"]
    ]
  },
  ({ timeout, ...flags }) =>
    lazily(async () => {
      const { upgrade } = await import("./Upgrade.js")
      return upgrade({ ...flags, timeoutMs: timeout ?? 10_000 })
    })
)

const listening = "Where it listens"
const access = "Who may connect"
const logging = "Logs"

const tls = {
  tlsCert: Flag.text("tls-cert", "FILE", listening, "a certificate in PEM format, to serve TLS"),
  tlsKey: Flag.text("tls-key", "FILE", listening, "the certificate's key in PEM format")
}

const e2b = typed(
  ["e2b"],
  {
    summary: "Serves the interface of E2B sandboxes, for programs that use its SDKs.",
    note: "Runs on this machine, or on the server of --url or --env. All sandboxes are that one machine. What they have started ends with them, and with this command.",
    flags: {
      ...serverFlags,
      listen: Flag.withDefault(
        Flag.text("listen", "URL", listening, "where to listen: http://IP:PORT, https://IP:PORT or unix:///PATH"),
        "http://127.0.0.1:49983"
      ),
      ...tls,
      accessTokenFile: Flag.text(
        "access-token-file",
        "FILE",
        access,
        "a file with the token of clients, their E2B_API_KEY, instead of EXEC_SERVER_E2B_TOKEN",
        { defaultText: "no token: programs of the same user on this machine" }
      )
    },
    examples: [
      ["exec-server e2b", "with E2B_DEBUG=true in the environment of the SDK"],
      ["exec-server e2b --url wss://build.example.com --token-file token", "in front of a server"]
    ]
  },
  ({ listen, tlsCert, tlsKey, accessTokenFile, ...flags }) =>
    lazily(async () => {
      const { e2b } = await import("./E2b.js")
      return e2b({ target: targetOf(flags), listen, tlsCert, tlsKey, accessTokenFile })
    })
)

const mcp = typed(
  ["mcp"],
  {
    summary: "Offers commands and files to an agent, as tools of the Model Context Protocol on stdin and stdout.",
    note: "Runs on this machine, on the server of --url or --env, or on each environment of the file of --environments. Everything that the agent has started ends with its connection.",
    flags: {
      ...serverFlags,
      tools: Flag.withDefault(
        Flag.choice("tools", "TOOLS", ["exec", "all"], what, "exec: commands alone; all: files as well"),
        "all"
      ),
      login: Flag.toggle("login", how, "run commands in a login shell, which reads the user's profile")
    },
    examples: [
      ["exec-server mcp --tools exec", "commands on this machine"],
      ["exec-server mcp --url wss://build.example.com --token-file token", "on a server"]
    ]
  },
  (flags) =>
    lazily(async () => {
      const { mcp } = await import("./Mcp.js")
      return mcp({ target: targetOf(flags), tools: flags.tools, login: flags.login })
    })
)

const schema = typed(
  ["schema"],
  {
    summary: "Prints the description of the protocol for machines, or a client made from it.",
    flags: {
      format: Flag.choice(
        "format",
        "FORMAT",
        ["openrpc", "jsonschema"],
        output,
        "an OpenRPC document or a JSON Schema",
        {
          defaultText: "openrpc"
        }
      ),
      client: Flag.choice("client", "LANGUAGE", ["python"], output, "instead, a client: Python, in one file")
    },
    examples: [
      ["exec-server schema > openrpc.json", "every method with its parameters and its result"],
      ["exec-server schema --client python > exec_client.py", "for Python 3.11 or later, without dependencies"]
    ]
  },
  (flags) =>
    Effect.gen(function* () {
      const { schema } = yield* Effect.promise(() => import("./Schema.js"))
      yield* schema(flags)
    })
)

/** Said at the start. */
const sharedToken =
  "the executors of all environments share one token, so that each can come in the place of any other; " +
  "--executor-secret-file makes a token for each environment"

/** The flag for the secret that the tokens of one role are made of. */
const secretFile = (role: "executor" | "client", whose: string, more = "") =>
  Flag.text(
    `${role}-secret-file`,
    "FILE",
    access,
    `a file with the secret, of 32 bytes or more, that the token of each environment's ${whose} is made of${more}`
  )

const rendezvousToken = typed(
  ["rendezvous", "token"],
  {
    summary: "Prints the token of one environment, for its executor or for its clients.",
    words: [{ name: "ENVIRONMENT", help: "the id of the environment" }],
    flags: {
      executorSecretFile: secretFile("executor", "executor"),
      clientSecretFile: secretFile("client", "clients")
    },
    examples: [
      ["exec-server rendezvous token my-env --executor-secret-file secret", "for --remote-token-file"],
      ["exec-server rendezvous token my-env --client-secret-file secret", "for --token-file"]
    ]
  },
  (flags, { words: [environmentId = ""] }) =>
    Effect.gen(function* () {
      const { printToken } = yield* Effect.promise(() => import("./RendezvousToken.js"))
      yield* printToken({ ...flags, environmentId })
    })
)

const rendezvous = typed(
  ["rendezvous"],
  {
    summary: "Runs a rendezvous server for clients and executors behind a firewall.",
    flags: {
      listen: Flag.withDefault(
        Flag.text("listen", "URL", listening, "where to listen: ws://IP:PORT"),
        "ws://127.0.0.1:0"
      ),
      publicUrl: Flag.text(
        "public-url",
        "URL",
        listening,
        "the public address for executors, if it is behind a proxy: wss://HOST"
      ),
      ...tls,
      executorSecretFile: secretFile("executor", "executor", ", instead of EXEC_SERVER_EXECUTOR_SECRET"),
      clientSecretFile: secretFile("client", "clients", ", instead of EXEC_SERVER_CLIENT_SECRET"),
      executorTokenFile: Flag.text(
        "executor-token-file",
        "FILE",
        access,
        "a file with one token for the executors of all environments, instead of EXEC_SERVER_EXECUTOR_TOKEN",
        { defaultText: "no authentication" }
      ),
      clientTokenFile: Flag.text(
        "client-token-file",
        "FILE",
        access,
        "a file with one token for the clients of all environments, instead of EXEC_SERVER_CLIENT_TOKEN",
        { defaultText: "no authentication" }
      ),
      encrypted: Flag.toggle(
        "encrypted",
        access,
        "serve those alone that encrypt from end to end: executors with --remote-profile auto or noise, noise:// clients"
      ),
      insecure: Flag.toggle("insecure", access, "allow a public address without authentication"),
      logFormat: Flag.withDefault(
        Flag.choice("log-format", "FORMAT", ServerConfig.logFormats, logging, "the log format: text or json"),
        "text"
      ),
      logLevel: Flag.withDefault(
        Flag.choice(
          "log-level",
          "LEVEL",
          ServerConfig.logLevels,
          logging,
          `the log level on stderr: ${ServerConfig.logLevels.join(", ")}`
        ),
        "info"
      )
    },
    examples: [
      ["exec-server rendezvous --listen ws://127.0.0.1:9000", "without tokens, on this machine only"],
      ["exec-server rendezvous --executor-secret-file secret", "a token for each environment's executor"]
    ]
  },
  ({ logFormat, logLevel, ...flags }) =>
    Effect.gen(function* () {
      // Loaded here only: servers do not need it.
      const { Rendezvous } = yield* Effect.promise(() => import("../remote/Rendezvous.js"))
      const config = yield* RendezvousConfig.load(flags, process.env)
      // Before anything else: whatever starts later must not inherit them.
      yield* eraseSecrets
      const { executorTokenFile, clientTokenFile, executorSecretFile, clientSecretFile } = flags
      const readable = (what: string, ...files: ReadonlyArray<string | undefined>) =>
        Effect.forEach(
          files.filter((file) => file !== undefined),
          (file) => PrivateFile.warn(what, file),
          { discard: true }
        )
      const warnings = Effect.all(
        [
          readable("the token in", executorTokenFile, clientTokenFile),
          readable("the secret in", executorSecretFile, clientSecretFile),
          typeof config.executorToken === "string" ? Effect.logWarning(sharedToken) : Effect.void
        ],
        { discard: true }
      )
      yield* Effect.flatMap(Rendezvous, ({ address }) => announce("exec-server rendezvous", address)).pipe(
        Effect.zipRight(warnings),
        Effect.zipRight(MemoryTuning.tuneServer),
        Effect.zipRight(Effect.never),
        Effect.provide(Rendezvous.layer(config)),
        Effect.provide(Logging.layer({ logFormat, logLevel }))
      )
    }),
  [rendezvousToken]
)

const forward = typed(
  ["forward"],
  {
    summary: "Registers an existing server as a remote environment, and passes its clients on to it.",
    note: "Needs --connect, --remote and --environment-id. While the server is down, clients are turned away; the environment stays registered.",
    flags: {
      connect: Flag.text("connect", "URL", where, "the server to pass clients on to: ws://, wss:// or unix:///PATH"),
      tokenFile: serverFlags.tokenFile,
      insecure: Flag.toggle("insecure", where, "send tokens over plain ws:// and http:// to another machine as well"),
      remote: Flag.ofSetting("remote"),
      environmentId: Flag.ofSetting("environmentId"),
      remoteTokenFile: Flag.ofSetting("remoteTokenFile"),
      remoteProfile: Flag.ofSetting("remoteProfile"),
      remoteIdentity: Flag.ofSetting("remoteIdentity"),
      remoteTransport: Flag.ofSetting("remoteTransport"),
      awsSigv4: Flag.ofSetting("awsSigv4"),
      awsProfile: Flag.ofSetting("awsProfile"),
      awsRegion: Flag.ofSetting("awsRegion"),
      awsService: Flag.ofSetting("awsService"),
      exitOnStdinClose: Flag.ofSetting("exitOnStdinClose"),
      logFormat: Flag.ofSetting("logFormat"),
      logLevel: Flag.ofSetting("logLevel")
    },
    examples: [
      [
        "exec-server forward --connect URL --remote URL --environment-id my-env",
        "with the registry's token in EXEC_SERVER_REMOTE_TOKEN"
      ]
    ]
  },
  ({ connect, tokenFile, insecure, ...texts }) =>
    Effect.gen(function* () {
      const { forward } = yield* Effect.promise(() => import("./Forward.js"))
      yield* forward({ connect, tokenFile, insecure, texts })
    })
)

const fleet = "The fleet"

const gateway = typed(
  ["gateway"],
  {
    summary: "Runs a gateway of a fleet: one address for the sessions of many machines.",
    note: "Hosts are servers with --remote, --environment-id and --labels or --capacity. Gateways with the same database are one fleet.",
    flags: {
      listen: Flag.withDefault(
        Flag.text("listen", "URL", listening, "where to listen: ws://IP:PORT, or wss:// with a certificate"),
        "ws://127.0.0.1:0"
      ),
      ownUrl: Flag.text(
        "own-url",
        "URL",
        listening,
        "where hosts reach this gateway and no other one: ws://HOST:PORT; needed with several gateways on 0.0.0.0",
        { defaultText: "the address it listens on" }
      ),
      ...tls,
      database: Flag.withDefault(
        Flag.text(
          "database",
          "URL",
          fleet,
          "the directory: postgres://USER@HOST/NAME for any number of gateways, or file:DIR for one"
        ),
        "file:exec-server-fleet"
      ),
      quota: Flag.text("quota", "N", fleet, "most sessions of a subject that has no quota of its own", {
        defaultText: "any number"
      }),
      wait: Flag.duration("wait", fleet, "how long a client waits for a place, such as 8s (the default)"),
      grace: Flag.duration(
        "grace",
        fleet,
        "how long clients are served after SIGTERM, such as 10s, while /readyz says 503 and no others are taken"
      ),
      lease: Flag.duration(
        "lease",
        fleet,
        "a host that was not heard for so long is lost, such as 15s (the default); the same for all gateways"
      ),
      executorSecretFile: secretFile("executor", "host", ", instead of EXEC_SERVER_EXECUTOR_SECRET"),
      executorTokenFile: Flag.text(
        "executor-token-file",
        "FILE",
        access,
        "a file with one token for all hosts, instead of EXEC_SERVER_EXECUTOR_TOKEN",
        { defaultText: "no authentication" }
      ),
      wsAuth: Flag.choice(
        "ws-auth",
        "MODE",
        ServerConfig.authModes,
        access,
        `how clients authenticate, with a bearer token: ${ServerConfig.authModes.join(" or ")}`,
        { defaultText: "not at all: programs of the same user on this machine" }
      ),
      wsTokenFile: Flag.text("ws-token-file", "FILE", access, "a file with the capability token"),
      wsSharedSecretFile: Flag.text("ws-shared-secret-file", "FILE", access, "the secret of signed bearer tokens"),
      wsIssuer: Flag.text("ws-issuer", "TEXT", access, "the required issuer of signed bearer tokens"),
      wsAudience: Flag.text("ws-audience", "TEXT", access, "the required audience of signed bearer tokens"),
      consoleTokenFile: Flag.text(
        "console-token-file",
        "FILE",
        access,
        "a file with the token of operators, for `exec-server fleet` and the page of the fleet"
      ),
      consoleViewerTokenFile: Flag.text(
        "console-viewer-token-file",
        "FILE",
        access,
        "a file with the token of viewers, who may look at the fleet and change nothing"
      ),
      insecure: Flag.toggle("insecure", access, "allow a public address without authentication"),
      logFormat: Flag.withDefault(
        Flag.choice("log-format", "FORMAT", ServerConfig.logFormats, logging, "the log format: text or json"),
        "text"
      ),
      logLevel: Flag.withDefault(
        Flag.choice(
          "log-level",
          "LEVEL",
          ServerConfig.logLevels,
          logging,
          `the log level on stderr: ${ServerConfig.logLevels.join(", ")}`
        ),
        "info"
      )
    },
    examples: [
      ["exec-server gateway --listen ws://127.0.0.1:8000", "alone, with its directory in a folder"],
      ["exec-server gateway --database postgres://fleet@db/fleet", "one of several"]
    ]
  },
  (flags) =>
    Effect.gen(function* () {
      // Loaded here only: servers do not need it.
      const { gateway } = yield* Effect.promise(() => import("./Gateway.js"))
      yield* gateway(flags)
    })
)

const watch = Flag.toggle("watch", output, "print the list again whenever it changes", { short: "w" })

const hostId = { name: "HOST", help: "the id of the host" }

/** A list of the fleet: `fleet hosts`. */
const fleetList = (what: FleetList, summary: string) =>
  typed(["fleet", what], { summary, flags: { ...serverFlags, watch, json } }, (flags) =>
    lazily(async () => {
      const { list } = await import("./Fleet.js")
      return list({ target: targetOf(flags), json: flags.json, watch: flags.watch, what, query: {} })
    })
  )

/** A change of one host: `fleet cordon HOST`. */
const fleetHost = (action: "cordon" | "ready" | "forget", summary: string) =>
  typed(
    ["fleet", action],
    { summary, words: [hostId], flags: { ...serverFlags, json } },
    (flags, { words: [host = ""] }) =>
      lazily(async () => {
        const { changeHost } = await import("./Fleet.js")
        return changeHost({ target: targetOf(flags), json: flags.json, host, action, deadlineMs: undefined })
      })
  )

const fleetSessions = typed(
  ["fleet", "sessions"],
  {
    summary: "Lists the sessions of a fleet, or those that were lost in the last hour.",
    flags: {
      ...serverFlags,
      host: Flag.text("host", "ID", what, "those of one host"),
      subject: Flag.text("subject", "TEXT", what, "those of one subject"),
      lost: Flag.toggle("lost", what, "those that were lost, with the reason"),
      watch,
      json
    }
  },
  ({ host, subject, lost, ...flags }) =>
    lazily(async () => {
      const { list } = await import("./Fleet.js")
      const query = { host, subject, lost: lost ? "true" : undefined }
      return list({ target: targetOf(flags), json: flags.json, watch: flags.watch, what: "sessions", query })
    })
)

const fleetDrain = typed(
  ["fleet", "drain"],
  {
    summary: "Places nothing more on a host, and shuts it down when its sessions have ended, or at a deadline.",
    words: [hostId],
    flags: {
      ...serverFlags,
      deadline: Flag.duration("deadline", what, "end what is left after this time, such as 30m"),
      json
    },
    examples: [["exec-server fleet drain h7 --deadline 30m --url wss://fleet", "before maintenance"]]
  },
  ({ deadline, ...flags }, { words: [host = ""] }) =>
    lazily(async () => {
      const { changeHost } = await import("./Fleet.js")
      return changeHost({ target: targetOf(flags), json: flags.json, host, action: "drain", deadlineMs: deadline })
    })
)

const fleetQuota = typed(
  ["fleet", "quota"],
  {
    summary: "Lists the quotas of subjects, or sets that of one.",
    words: [{ name: "SUBJECT", help: "the subject, as `fleet sessions` lists it", isRepeated: true }],
    flags: {
      ...serverFlags,
      sessions: Flag.text("sessions", "N", what, "its most sessions, or `default` for that of the gateways"),
      watch,
      json
    },
    examples: [["exec-server fleet quota jwt:alice@idp --sessions 20 --url wss://fleet", "set a quota"]]
  },
  (flags, { words }) =>
    lazily(async () => {
      const { quota } = await import("./Fleet.js")
      const { json, watch, sessions } = flags
      return quota({ target: targetOf(flags), json, watch, subjects: words, sessions })
    })
)

const fleetEnd = typed(
  ["fleet", "end"],
  {
    summary: "Ends a session of a fleet, and the processes in it.",
    words: [{ name: "SESSION", help: "the session, as `fleet sessions` lists it" }],
    flags: { ...serverFlags, json }
  },
  (flags, { words: [session = ""] }) =>
    lazily(async () => {
      const { end } = await import("./Fleet.js")
      return end({ target: targetOf(flags), json: flags.json, session })
    })
)

const fleetGroup = make(
  ["fleet"],
  { summary: "Shows and operates a fleet, with the token of an operator.", flags: [] },
  undefined,
  [
    fleetList("hosts", "Lists the hosts of a fleet, with their load."),
    fleetSessions,
    fleetList("waiting", "Lists the clients that wait for a place, in their order."),
    fleetList("gateways", "Lists the gateways of a fleet."),
    fleetHost("cordon", "Places nothing more on a host; its sessions go on."),
    fleetDrain,
    fleetHost("ready", "Places sessions on a host again."),
    fleetHost("forget", "Removes a host that has left or was lost."),
    fleetQuota,
    fleetEnd
  ]
)

/** All commands except those of `Cli`. */
export const all: ReadonlyArray<Command> = [
  run,
  ls,
  ps,
  top,
  attach,
  logs,
  record,
  play,
  share,
  kill,
  cp,
  doctor,
  upgrade,
  mcp,
  schema,
  e2b,
  rendezvous,
  forward,
  gateway,
  fleetGroup
]
