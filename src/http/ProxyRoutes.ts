/**
 * Which way a request goes: straight, or through a proxy that the environment names.
 *
 * Not `EnvHttpProxyAgent` of undici (tried with 7.30): it does not know `all_proxy`; it takes `http_proxy` for https as
 * well; it asks the proxy for 127.0.0.1, ::1 and localhost; it finds no IPv6 address in `no_proxy`; and one malformed
 * variable fails every request. The client below it refuses the headers `expect` and `upgrade`, which a caller may set.
 *
 * @since 0.1.0
 */
import * as Http from "node:http"
import * as Https from "node:https"
import { isIP, type Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as Tls from "node:tls"
import { isLoopback, withoutBrackets } from "../internal/Loopback.js"
import { basicAuthorization, type Environment } from "./HttpRequest.js"

/** How long an idle connection is kept for the next request, in milliseconds: less than servers commonly do. */
const idleMs = 4000

/** How long a proxy may take to open a tunnel, in milliseconds. */
const tunnelMs = 30000

/** Idle connections kept for one origin. */
const maxIdle = 32

const pooling = { keepAlive: true, timeout: idleMs, maxFreeSockets: maxIdle } as const

/** The name of a host as the socket needs it. */
const hostOf = ({ hostname }: URL): string => withoutBrackets(hostname)

const portOf = (url: URL): number => Number(url.port) || (url.protocol === "https:" ? 443 : 80)

/** The name a certificate is asked for; an IP address is none. */
const servernameOf = (url: URL): string => (isIP(hostOf(url)) === 0 ? hostOf(url) : "")

/** The unspecified address, as a URL spells it. To connect to it is to connect to this machine. */
const isUnspecified = (host: string) => /^(0\.0\.0\.0|::|::ffff:0:0)$/.test(host)

/** The names that RFC 6761 reserves for this machine. Enough to leave a proxy out, not enough to trust them. */
const isReservedName = (host: string) => /(^|\.)localhost\.?$/.test(host)

/** Whether a request stays on this machine: a proxy elsewhere could only send it to its own. */
const isLocal = (host: string) => isLoopback(host) || isUnspecified(host) || isReservedName(host)

const isExempt = (url: URL, list: string): boolean => {
  const host = hostOf(url)
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => {
      if (entry === "*") return true
      const [, name, port] = isIP(entry) === 0 ? (/^(.+?)(?::(\d+))?$/.exec(entry) ?? []) : [entry, entry]
      if (name === undefined || (port !== undefined && Number(port) !== portOf(url))) return false
      const wanted = name.replace(/^\*?\.|^\[|\]$/g, "")
      return host === wanted || host.endsWith(`.${wanted}`)
    })
}

/**
 * The proxy for a URL, by the variables `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, or the same in upper
 * case. The machine itself is never reached through a proxy. What a variable says may turn out not to be a URL.
 */
export const proxyFor = (url: URL, environment: Environment): string | undefined => {
  const variable = (name: string) => environment[name] || environment[name.toUpperCase()] || undefined
  const proxy = variable(url.protocol === "https:" ? "https_proxy" : "http_proxy") ?? variable("all_proxy")
  if (proxy === undefined || isLocal(hostOf(url)) || isExempt(url, variable("no_proxy") ?? "")) return undefined
  return proxy
}

const parseProxy = (text: string): URL => {
  const proxy = new URL(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`)
  if (proxy.protocol === "http:" || proxy.protocol === "https:") return proxy
  throw new Error(`a proxy of the kind ${proxy.protocol.slice(0, -1)} is not supported`)
}

const authorizationOf = (proxy: URL): Record<string, string> =>
  proxy.username === "" && proxy.password === "" ? {} : { "proxy-authorization": basicAuthorization(proxy) }

const clientOf = (url: URL) => (url.protocol === "https:" ? Https : Http)

/** Connections to servers behind one proxy, each through a tunnel of its own. */
class TunnelAgent extends Https.Agent {
  constructor(private readonly proxy: URL) {
    super(pooling)
  }

  override createConnection(
    options: Https.RequestOptions,
    callback?: (error: Error | null, stream: Duplex) => void
  ): undefined {
    const target = `${isIP(options.host ?? "") === 6 ? `[${options.host}]` : options.host}:${options.port}`
    // The stream beside an error is not looked at.
    const fail = (error: Error) => callback?.(error, undefined as never)
    const connect = clientOf(this.proxy).request({
      host: hostOf(this.proxy),
      port: portOf(this.proxy),
      servername: servernameOf(this.proxy),
      method: "CONNECT",
      path: target,
      agent: false,
      headers: { host: target, ...authorizationOf(this.proxy) }
    })
    const timer = setTimeout(() => connect.destroy(new Error("the proxy did not answer")), tunnelMs)
    connect.once("close", () => clearTimeout(timer))
    connect.once("error", fail)
    connect.once("connect", ({ statusCode }, socket: Socket, head) => {
      clearTimeout(timer)
      if (statusCode === 200 && head.length === 0) {
        return callback?.(null, Tls.connect({ ...(options as Tls.ConnectionOptions), socket }))
      }
      socket.destroy()
      fail(new Error(`the proxy answered ${statusCode}`))
    })
    connect.end()
    return undefined
  }
}

/** Where a request is sent, and how its target is written there. */
export interface Route {
  readonly client: typeof Http | typeof Https
  readonly options: Https.RequestOptions
  /** What the proxy on the way needs to see. */
  readonly headers: Readonly<Record<string, string>>
}

/** The connections of a server, kept for a while when they are idle. */
export class ProxyRoutes {
  private readonly http = new Http.Agent(pooling)
  private readonly https = new Https.Agent(pooling)
  private readonly tunnels = new Map<string, TunnelAgent>()

  constructor(private readonly environment: Environment) {}

  /** The way to a URL. Throws if the environment names a proxy that cannot be used. */
  to(url: URL): Route {
    const named = proxyFor(url, this.environment)
    const path = url.pathname + url.search
    const straight = { host: hostOf(url), port: portOf(url), path, servername: servernameOf(url) }
    if (named === undefined) {
      const agent = url.protocol === "https:" ? this.https : this.http
      return { client: clientOf(url), options: { ...straight, agent }, headers: {} }
    }
    const proxy = parseProxy(named)
    if (url.protocol === "https:") {
      return { client: Https, options: { ...straight, agent: this.tunnel(proxy) }, headers: {} }
    }
    return {
      client: clientOf(proxy),
      options: {
        host: hostOf(proxy),
        port: portOf(proxy),
        servername: servernameOf(proxy),
        path: url.href,
        agent: proxy.protocol === "https:" ? this.https : this.http
      },
      headers: authorizationOf(proxy)
    }
  }

  /** Ends the idle connections, and all others. */
  destroy(): void {
    for (const agent of [this.http, this.https, ...this.tunnels.values()]) agent.destroy()
  }

  private tunnel(proxy: URL): TunnelAgent {
    const found = this.tunnels.get(proxy.href)
    if (found !== undefined) return found
    const agent = new TunnelAgent(proxy)
    this.tunnels.set(proxy.href, agent)
    return agent
  }
}
