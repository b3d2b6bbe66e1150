/**
 * Recognizes hosts that are this machine.
 *
 * @since 0.1.0
 */
import { BlockList, isIP } from "node:net"

/** A host without the brackets that a URL puts around an IPv6 address. */
export const withoutBrackets = (host: string): string => host.replace(/^\[(.*)\]$/, "$1")

/** The loopback addresses as seen from IPv6; a rule for IPv4 covers the addresses mapped into IPv6 as well. */
const loopback6 = () => {
  const list = new BlockList()
  list.addAddress("::1", "ipv6")
  list.addSubnet("127.0.0.0", 8, "ipv4")
  return list
}

/**
 * Whether traffic to a host stays on this machine: 127.0.0.0/8, ::1, ::ffff:127.0.0.0/104 in any spelling, with or
 * without brackets, and the name `localhost`.
 *
 * Not `localhost.` and `a.localhost`: RFC 6761 reserves them, but the C library looks them up in DNS, and a credential
 * would go to the resulting host. Not 0.0.0.0 and :: either: a server that listens there is reachable from everywhere.
 */
export const isLoopback = (host: string): boolean => {
  const bare = withoutBrackets(host)
  switch (isIP(bare)) {
    case 4:
      return bare.startsWith("127.")
    case 6:
      return loopback6().check(bare, "ipv6")
    default:
      return bare.toLowerCase() === "localhost"
  }
}
