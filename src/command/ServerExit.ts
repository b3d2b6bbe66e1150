/**
 * How a server's process ends.
 *
 * @since 0.1.0
 */
import * as Posix from "../spawn/Posix.js"

/**
 * Ends the process, whatever its threads wait for. `process.exit` alone does not: after the listeners of "exit" it calls
 * exit(3), whose destructors join the four threads of libuv, and a thread in a system call on a file system that does not
 * answer never comes back. What was written to stdout and stderr has been written: they are synchronous.
 */
export const exit = (status: number): never => {
  process.once("exit", (code) => Posix.exitNow(code))
  return process.exit(status)
}
