/**
 * A listening server that can stop accepting without closing its socket: what connects meanwhile waits in the kernel,
 * and is accepted by whoever gets the descriptor.
 *
 * @since 0.1.0
 */
import { closeSync } from "node:fs"
import type { Server } from "node:net"

/** The part of Node's handle of a listening socket that it has no API for. */
interface Handle {
  readonly fd: number
  readonly close: () => void
}

const handleOf = (server: Server) => server as unknown as { _handle: Handle | null }

/** A listening server. */
export class HeldServer {
  private held: number | undefined

  constructor(private readonly server: Server) {}

  /** The descriptor of its socket. Throws if it does not listen. */
  get fd(): number {
    const fd = this.held ?? handleOf(this.server)._handle?.fd
    if (fd === undefined || fd < 0) throw new Error("the server does not listen")
    return fd
  }

  /** Stops accepting. `duplicate` duplicates a descriptor; it may throw. */
  hold(duplicate: (fd: number) => number): void {
    const server = handleOf(this.server)
    if (this.held !== undefined || server._handle === null) return
    this.held = duplicate(server._handle.fd)
    // `server.close` would also close the connections, and could not be undone.
    server._handle.close()
    server._handle = null
  }

  /** Accepts again. */
  release(): void {
    if (this.held === undefined) return
    this.server.listen({ fd: this.held })
    this.held = undefined
  }

  /** Closes the socket of a server that was held until its end. */
  close(): void {
    if (this.held !== undefined) closeSync(this.held)
    this.held = undefined
  }
}
