/**
 * Ends a process that serves: the server's, or that of a command that serves this machine to itself.
 *
 * @since 0.1.0
 */
import * as Posix from "../spawn/Posix.js"

/**
 * Exits even if threads hang, and without taking the heap apart, which is a twentieth of `run -- true`. `process.exit`
 * calls exit(3), whose destructors join libuv's four threads, and a thread in a system call on a dead file system never
 * returns. Output to stdout and stderr was written already: they are synchronous.
 */
export const exit = (status: number): never => {
  process.once("exit", (code) => {
    try {
      Posix.exitNow(code)
    } catch {
      // Without the native part, which whoever needed it has reported.
    }
  })
  return process.exit(status)
}
