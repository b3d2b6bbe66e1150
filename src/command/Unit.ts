/**
 * The units of systemd that run a server: their text.
 *
 * @since 0.1.0
 */
import { posix } from "node:path"
import * as Either from "effect/Either"
import { isLoopback } from "../internal/Loopback.js"
import * as PlainText from "../internal/PlainText.js"
import type { ListenConfig } from "../server/ListenConfig.js"
import type { ServerConfig } from "../server/ServerConfig.js"
import type { Address } from "../transport/Listener.js"
import * as Upgradable from "../upgrade/Upgradable.js"

/** A unit, and the name of its file. */
export interface Unit {
  readonly file: string
  readonly text: string
}

/** What a unit is made of. */
export interface Options {
  readonly config: ServerConfig
  readonly listen: ListenConfig
  /** What starts this program: that of Node.js, and its own file. */
  readonly program: ReadonlyArray<string>
  /** The flags of the server, without `--listen`. */
  readonly flags: ReadonlyArray<string>
  /** The text of `--listen`; undefined for a server that dials out. */
  readonly listenText: string | undefined
  readonly user: string
  /** Whether systemd makes the socket. */
  readonly hasSocket: boolean
}

const name = "exec-server"

/** How long a server may take to end after it has killed everything, in seconds. */
const afterGraceSeconds = 10

/** A word of a command line. % and $ have a meaning in units. */
const word = (text: string): string =>
  /^[\w@+=:,./-]+$/.test(text)
    ? text
    : `"${text.replace(/[\\"]/g, "\\$&").replaceAll("%", "%%").replaceAll("$", "$$$$")}"`

const line = (words: ReadonlyArray<string>): string => words.map(word).join(" ")

/** The first folder of a path below a base that systemd makes for the service; undefined if it is elsewhere. */
const below = (base: string, path: string | undefined): string | undefined => {
  if (path === undefined || !path.startsWith(`${base}/`)) return undefined
  const [folder = "", ...rest] = path.slice(base.length + 1).split("/")
  return rest.length > 0 && folder !== "" ? folder : undefined
}

const setting = (key: string, value: string | undefined) => (value === undefined ? [] : [`${key}=${value}`])

/** Whether the server talks to other machines. */
const isPublic = (listen: ListenConfig) =>
  listen._tag !== "WebSocket" || !("path" in listen.address || isLoopback(listen.address.host))

const hardening = (isRoot: boolean, hasOwnTmp: boolean) => [
  "# What processes of a server seldom need. They inherit all of it.",
  ...(isRoot ? [] : ["NoNewPrivileges=yes", "CapabilityBoundingSet=", "AmbientCapabilities="]),
  "ProtectSystem=full",
  ...(hasOwnTmp ? ["PrivateTmp=yes"] : []),
  "PrivateDevices=yes",
  "ProtectClock=yes",
  "ProtectHostname=yes",
  "ProtectKernelModules=yes",
  "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
  "RestrictRealtime=yes",
  "RestrictSUIDSGID=yes",
  "LockPersonality=yes",
  "# Not set: RestrictNamespaces, ProtectProc, ProtectKernelTunables and ProtectKernelLogs would take from sandboxes the",
  "# namespaces and the /proc that they need, ProtectControlGroups the limits of processes, ProtectHome their files."
]

/** Replaces the server by the version that the link or the folder of the program has then. */
const reload = ({ config: { controlSocket }, program }: Options): ReadonlyArray<string> => {
  if (controlSocket === Upgradable.noSocket) return []
  const upgrade = [...program, "upgrade"]
  return controlSocket === Upgradable.inFolder
    ? [`ExecReload=${line([...upgrade, "--pid"])} $MAINPID`]
    : [`ExecReload=${line([...upgrade, "--control-socket", posix.resolve(controlSocket)])}`]
}

const service = (options: Options): Unit => {
  const { config, listen, program, flags, listenText, user, hasSocket } = options
  const { shutdownGracePeriodMs, auditLog, recordingsDir } = config
  const path = listen._tag === "WebSocket" && "path" in listen.address ? listen.address.path : undefined
  const listening = listenText === undefined ? [] : ["--listen", hasSocket ? "fd://" : listenText]
  const runtime = hasSocket ? undefined : below("/run", path)
  const network = isPublic(listen) ? "network-online.target" : "network.target"
  const isRoot = user === "root"
  return {
    file: `${name}.service`,
    text: [
      "[Unit]",
      "Description=exec-server: starts and controls processes for its clients",
      ...(hasSocket ? [`Requires=${name}.socket`] : []),
      ...(isPublic(listen) ? [`Wants=${network}`] : []),
      `After=${network}${hasSocket ? ` ${name}.socket` : ""}`,
      "",
      "[Service]",
      "Type=notify",
      "NotifyAccess=main",
      `ExecStart=${line([...program, ...listening, ...flags])}`,
      ...reload(options),
      ...(isRoot ? [] : [`# useradd --system --create-home --shell /usr/sbin/nologin ${user}`, `User=${user}`]),
      "WorkingDirectory=~",
      ...setting("RuntimeDirectory", runtime),
      ...setting("LogsDirectory", below("/var/log", auditLog)),
      ...setting("StateDirectory", below("/var/lib", recordingsDir)),
      "",
      "# An event loop that stands still for so long does not come back.",
      "WatchdogSec=60",
      "Restart=on-failure",
      "# Its flags are wrong.",
      "RestartPreventExitStatus=2",
      "# The server ends its processes itself, with their grace period; what is left then is killed.",
      "KillMode=mixed",
      `TimeoutStopSec=${Math.ceil(shutdownGracePeriodMs / 1000) + afterGraceSeconds}`,
      "# One process that uses too much memory must not end all others.",
      "OOMPolicy=continue",
      "# The server may make a control group for each process.",
      "Delegate=yes",
      "LimitNOFILE=65536",
      "",
      // Others could not reach a socket in a /tmp that is not theirs.
      ...hardening(isRoot, hasSocket || path === undefined || !/^\/(?:var\/)?tmp\//.test(path)),
      "",
      "[Install]",
      "WantedBy=multi-user.target",
      ...(hasSocket ? [`Also=${name}.socket`] : []),
      ""
    ].join("\n")
  }
}

const streamOf = (address: Address): ReadonlyArray<string> =>
  "path" in address
    ? [`ListenStream=${address.path.replaceAll("%", "%%")}`, "SocketMode=0600"]
    : [`ListenStream=${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`]

const socket = ({ user }: Options, address: Address): Unit => ({
  file: `${name}.socket`,
  text: [
    "[Unit]",
    "Description=The address of exec-server",
    "",
    "[Socket]",
    ...streamOf(address),
    ...("path" in address && user !== "root" ? [`SocketUser=${user}`] : []),
    `FileDescriptorName=${name}`,
    "",
    "[Install]",
    "WantedBy=sockets.target",
    ""
  ].join("\n")
})

/** The service, and its socket if systemd is to make it. Left says why there can be none. */
export const make = (options: Options): Either.Either<ReadonlyArray<Unit>, string> => {
  const { listen, program, flags, user, hasSocket } = options
  if (listen._tag === "Stdio") {
    return Either.left("a service serves many clients: give --listen ws://IP:PORT or unix:///PATH, or --remote")
  }
  if (!/^[a-z_][a-z0-9_-]{0,30}$/i.test(user))
    return Either.left(`--run-as: ${JSON.stringify(user)} is not a user name`)
  const odd = [...program, ...flags].find((text) => PlainText.plain(text) !== text)
  if (odd !== undefined) return Either.left(`a unit cannot hold this argument: ${JSON.stringify(odd)}`)
  const relative = program.find((text) => !posix.isAbsolute(text))
  if (relative !== undefined) return Either.left(`a unit needs an absolute path, not ${relative}`)
  if (listen._tag !== "WebSocket") {
    return hasSocket
      ? Either.left("--socket is for servers that listen, and --remote dials out")
      : Either.right([service(options)])
  }
  const { address } = listen
  if ("port" in address && address.port === 0) {
    return Either.left("a service needs an address that stays: give a port other than 0 in --listen")
  }
  return Either.right([service(options), ...(hasSocket ? [socket(options, address)] : [])])
}
