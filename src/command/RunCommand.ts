/**
 * The flags and the help of `run`. Apart from the other commands: a bundle of its own has only this one.
 *
 * @since 0.1.0
 */
import { how, json, lazily, serverFlags, session, targetOf, where } from "./CommonFlags.js"
import * as Flag from "./Flag.js"
import { typed } from "./Grammar.js"

const limits = "What it may use"

/** `exec-server run`. */
export const run = typed(
  ["run"],
  {
    summary: "Runs a command on this machine or on a server, as if it were local.",
    note: "Exits with the status of the command, 128+n if signal n killed it, 127 if it was not found, 126 if it could not be executed, and 124 after --timeout.",
    rest: "COMMAND [ARGUMENTS]",
    flags: {
      ...serverFlags,
      session,
      label: Flag.text("label", "TEXT", where, "what the host must have, if the server is a fleet: gpu,eu"),
      tty: Flag.toggle("tty", how, "allocate a terminal, and forward keys, window size and signals", { short: "t" }),
      cwd: Flag.text("cwd", "DIR", how, "the working directory", { defaultText: "the current one, or the server's" }),
      timeout: Flag.duration("timeout", how, "terminate it after this time: 90, 90s, 1.5m, 200ms"),
      set: Flag.texts("set", "NAME=VALUE", how, "set a variable, in addition to the server's"),
      memory: Flag.text("memory", "SIZE", limits, "memory with its descendants: 512m, 2g; needs a cgroup", {
        short: "m"
      }),
      cpus: Flag.text("cpus", "N", limits, "processors with its descendants, such as 1.5; needs a cgroup"),
      pidsLimit: Flag.text("pids-limit", "N", limits, "processes and threads with its descendants; needs a cgroup"),
      ulimit: Flag.texts(
        "ulimit",
        "NAME=VALUE",
        limits,
        "a limit of each process: nofile=N, fsize=SIZE, core=SIZE, cpu=SECONDS, as=SIZE"
      ),
      nice: Flag.text("nice", "N", limits, "its priority, from 0 to 19, the lowest"),
      detach: Flag.toggle("detach", how, "leave it running, and print the id of its session", {
        short: "d"
      }),
      name: Flag.text("name", "NAME", how, "a name for the session that --detach leaves"),
      keep: Flag.toggle("keep", how, "keep the session that --detach leaves until it is ended"),
      id: Flag.text("id", "ID", how, "the id of the process in the session", { defaultText: "p1, p2, ..." }),
      json
    },
    examples: [
      ["exec-server run -- make test", "on this machine"],
      ["exec-server run --tty --url ws://127.0.0.1:8080 -- bash", "a shell on a server"],
      ["exec-server run --ulimit nofile=64 --nice 10 -- make test", "with limits"],
      ["exec-server run --detach --url ws://127.0.0.1:8080 -- make all", "left running on a server"]
    ]
  },
  ({ timeout, memory, cpus, pidsLimit, ulimit, nice, label, ...flags }, { rest }) =>
    lazily(async () => {
      const { run } = await import("./Run.js")
      const limits = { memory, cpus, pidsLimit, ulimit, nice }
      const target = targetOf({ ...flags, labels: label?.split(",") })
      return run({ ...flags, timeoutMs: timeout, limits, target, argv: rest })
    })
)
