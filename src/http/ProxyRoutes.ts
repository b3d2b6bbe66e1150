/**
 * Chooses the route of a request: direct, or through a proxy named in the environment.
 *
 * Not undici's `EnvHttpProxyAgent` (tried with 7.30): it ignores `all_proxy`; uses `http_proxy` for https too; asks the
 * proxy for 127.0.0.1, ::1 and localhost; matches no IPv6 address in `no_proxy`; and one malformed variable fails every
 * request. Its client refuses the headers `expect` and `upgrade`, which a caller may set.
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

/** How long an idle connection is kept, in milliseconds: less than most servers do. */
const idleMs = 4000

/** How long a proxy may take to open a tunnel, in milliseconds. */
const tunnelMs = 30000

/** The most idle connections to one origin. */
const maxIdle = 32

const pooling = { keepAlive: true, timeout: idleMs, maxFreeSockets: maxIdle } as const

/** The host of a URL, as sockets expect it. */
const hostOf = ({ hostname }: URL): string => withoutBrackets(hostname)

const portOf = (url: URL): number => Number(url.port) || (url.protocol === "https:" ? 443 : 80)

/** The server name for TLS; empty for an IP address. */
const servernameOf = (url: URL): string => (isIP(hostOf(url)) === 0 ? hostOf(url) : "")

/** The unspecified address in a URL. Connecting to it reaches this machine. */
const isUnspecified = (host: string) => /^(0\.0\.0\.0|::|::ffff:0:0)$/.test(host)

/** The names that RFC 6761 reserves for this machine. Good enough for bypassing a proxy, but not for trusting them. */
const isReservedName = (host: string) => /(^|\.)localhost\.?$/.test(host)

/** Whether a request stays on this machine. A proxy elsewhere could not reach it. */
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
 * The proxy for a URL, from `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, or their upper-case forms. This
 * machine is never reached through a proxy. The result may be an invalid URL.
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

/** Connections through one proxy, each in its own tunnel. */
class TunnelAgent extends Https.Agent {
  constructor(private readonly proxy: URL) {
    super(pooling)
  }

  override createConnection(
    options: Https.RequestOptions,
    callback?: (error: Error | null, stream: Duplex) => void
  ): undefined {
    const target = `${isIP(options.host ?? "") === 6 ? `[${options.host}]` : options.host}:${options.port}`
    // Node.js ignores the stream if there is an error.
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

/** The options of a request's route, and its target in the request line. */
export interface Route {
  readonly client: typeof Http | typeof Https
  readonly options: Https.RequestOptions
  /** Headers for the proxy. */
  readonly headers: Readonly<Record<string, string>>
}

/** The connections of a server. Idle ones are kept for a while. */
export class ProxyRoutes {
  private readonly http = new Http.Agent(pooling)
  private readonly https = new Https.Agent(pooling)
  private readonly tunnels = new Map<string, TunnelAgent>()

  constructor(private readonly environment: Environment) {}

  /** The route to a URL. Throws if the environment names an unusable proxy. */
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

  /** Closes all connections. */
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
