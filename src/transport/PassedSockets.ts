/**
 * Listening sockets that a service manager has made and passed to this process, as systemd does for a `.socket` unit.
 * What applies to an address applies to theirs: it is asked of the kernel, not of who passes them.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import type { ServiceVariables } from "../internal/ServiceVariables.js"
import * as OsError from "../protocol/OsError.js"
import * as Host from "../spawn/Host.js"
import type { Address } from "./Listener.js"

/** The descriptor of the first one. */
const first = 3

interface Passed {
  readonly fd: number
  readonly name: string
}

/** What `--listen` needs, for whoever has started the server differently. */
const needed = "it is for sockets that a service manager passes, as systemd does for a .socket unit"

const all = (variables: ServiceVariables, pid: number): Either.Either<ReadonlyArray<Passed>, string> => {
  const { LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES = "" } = variables
  if (LISTEN_FDS === undefined || LISTEN_PID === undefined) {
    const missing = LISTEN_FDS === undefined ? "LISTEN_FDS" : "LISTEN_PID"
    return Either.left(`${missing} is not set; ${needed}`)
  }
  if (LISTEN_PID !== String(pid)) {
    return Either.left(
      `LISTEN_PID is ${JSON.stringify(LISTEN_PID)}, but this is process ${pid}: the sockets are another one's; ` +
        "a program that starts the server must become it, by `exec`"
    )
  }
  if (!/^[1-9]\d{0,3}$/.test(LISTEN_FDS)) {
    return Either.left(`LISTEN_FDS is ${JSON.stringify(LISTEN_FDS)}, which is not a number of sockets; ${needed}`)
  }
  const names = LISTEN_FDNAMES.split(":")
  return Either.right(
    Array.from({ length: Number(LISTEN_FDS) }, (_, index) => ({ fd: first + index, name: names[index] || "unknown" }))
  )
}

const shown = (passed: ReadonlyArray<Passed>) => passed.map(({ fd, name }) => `${name} (fd://${fd})`).join(", ")

/** The only one, that of a name (`FileDescriptorName=`), or that of a number. */
const choose = (wanted: string, passed: ReadonlyArray<Passed>): Either.Either<Passed, string> => {
  const found = wanted === "" ? passed : passed.filter(({ name, fd }) => wanted === name || wanted === String(fd))
  const [one, another] = found
  if (one === undefined) return Either.left(`no socket of this name was passed: there is ${shown(passed)}`)
  return another === undefined
    ? Either.right(one)
    : Either.left(`${found.length} sockets were passed, and a server listens on one; choose it: ${shown(found)}`)
}

const describe = (error: unknown): string => {
  switch (OsError.codeOf(error)) {
    case "EBADF":
    case "ENOTSOCK":
      return "it is not a socket; LISTEN_FDS says it is"
    case "EINVAL":
      return "the socket does not listen; in a .socket unit, use Accept=no"
    case "EPROTOTYPE":
      return "the socket is not a stream; in a .socket unit, use ListenStream="
    case "EAFNOSUPPORT":
      return "the socket is neither of TCP nor a unix socket"
    default:
      return OsError.describe(error)
  }
}

/**
 * The socket that `--listen fd://`, `fd://NAME` or `fd://NUMBER` stands for. Left says why there is none. Children do not
 * inherit it.
 */
export const find = (listen: string, variables: ServiceVariables, pid: number): Either.Either<Address, string> =>
  Either.gen(function* () {
    const [, wanted] = /^fd:\/\/([^/:]*)$/.exec(listen) ?? []
    if (wanted === undefined) {
      return yield* Either.left(`invalid --listen ${listen}: expected fd://, fd://NAME or fd://NUMBER`)
    }
    const why = (reason: string) => `--listen ${listen}: ${reason}`
    const { fd } = yield* Either.flatMap(all(variables, pid), (passed) => choose(wanted, passed)).pipe(
      Either.mapLeft(why)
    )
    const [name, port] = yield* Either.try({
      try: () => Host.passedSocket(fd),
      catch: (error) => why(`descriptor ${fd}: ${describe(error)}`)
    })
    return port === -1 ? { path: name, fd } : { host: name, port, fd }
  })
