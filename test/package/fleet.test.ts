/** docs/deploy/fleet: what the files name is there, and a fleet runs with their flags. Images are not pulled here. */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { isRecord } from "effect/Predicate"
import { parseAllDocuments } from "yaml"
import * as Cli from "../../src/command/Cli.js"
import * as Grammar from "../../src/command/Grammar.js"
import * as ServerFlags from "../../src/command/ServerFlags.js"
import * as ListenConfig from "../../src/server/ListenConfig.js"
import * as ServerConfig from "../../src/server/ServerConfig.js"
import { command } from "../support/command.js"
import { folder, gateway, host } from "../support/fleet.js"
import { root } from "../support/pages.js"
import type { Json } from "../support/TestClient.js"

const deploy = join(root, "docs/deploy/fleet")

/** The documents of a file, as tools of containers read them: octal modes and merged keys are those of YAML 1.1. */
const documents = (name: string): ReadonlyArray<Json> =>
  parseAllDocuments(readFileSync(join(deploy, name), "utf8"), { version: "1.1" }).map((document) => {
    assert.deepStrictEqual([...document.errors, ...document.warnings], [])
    return document.toJS()
  })

const isGateway = (args: ReadonlyArray<string>) => args[0] === "gateway"

/** The values of the flags of a gateway or a host, which are all valid. */
const flagsOf = (args: ReadonlyArray<string>): ReadonlyMap<string, string> => {
  for (const arg of args.slice(isGateway(args) ? 1 : 0)) assert.match(arg, /^--[a-z-]+(=.+)?$/)
  const call = Grammar.parse(Cli.root, args)
  assert.strictEqual(call._tag, "Run", JSON.stringify(call))
  if (call._tag !== "Run") return new Map()
  assert.deepStrictEqual(call.command.path, isGateway(args) ? ["gateway"] : [])
  const { values } = call.given
  for (const { name, read } of call.command.flags) assert.isTrue(Either.isRight(read(values.get(name) ?? [])), name)
  return new Map(Array.from(values, ([name, [value = ""]]) => [name, value]))
}

/** The variables that gateways and hosts read, apart from those of settings. */
const variables = new Set([
  ...ServerConfig.keys.flatMap(ServerConfig.variablesOf),
  "PGPASSWORD",
  "EXEC_SERVER_REMOTE_TOKEN",
  "EXEC_SERVER_EXECUTOR_TOKEN",
  "EXEC_SERVER_EXECUTOR_SECRET"
])

/** The settings of a host are complete. */
const assertHost = (args: ReadonlyArray<string>) => {
  const given = Option.getOrThrow(ServerFlags.readAlone(args.map((arg) => arg.replace("$(POD_NAME)", "host-0"))))
  // Its token may be in a variable.
  const texts = { remoteTokenFile: "host-token", ...given.texts }
  const config = Either.getOrThrow(ServerConfig.load(texts, {}, undefined))
  const endpoint = Either.getOrThrow(ListenConfig.parse(config))
  assert.strictEqual(endpoint._tag, "Fleet")
  assert.isDefined(config.capacity)
}

/** The arguments with files and addresses of this machine. */
const here = (args: ReadonlyArray<string>, files: string) => {
  const kept = args.filter((arg) => !/^--(listen|database|own-url|remote|environment-id|log-format)\b=/.test(arg))
  return kept.filter((arg) => arg !== "gateway").map((arg) => arg.replace(/=\/run\/secrets(\/fleet)?/, `=${files}`))
}

const httpOf = (url: string) => url.replace(/^ws/, "http")

/** A gateway and a host run with these arguments, serve a client with its token, and answer probes. */
const runs = (of: {
  readonly gateway: ReadonlyArray<string>
  readonly host: ReadonlyArray<string>
  readonly probes: ReadonlyArray<string>
}) =>
  Effect.gen(function* () {
    const files = yield* folder
    const token = (name: string) => `${name}-0123456789abcdef0123456789abcdef`
    for (const name of ["client-token", "host-token", "operator-token"]) {
      writeFileSync(join(files, name), token(name), { mode: 0o600 })
    }
    const door = yield* gateway(`file:${files}/db`, here(of.gateway, files))
    const args = here(of.host, files)
    const hasFile = args.some((arg) => arg.startsWith("--remote-token-file="))
    yield* host(door, "h1", { args, env: hasFile ? {} : { EXEC_SERVER_REMOTE_TOKEN: token("host-token") } })
    for (const path of of.probes) {
      const { status } = yield* Effect.promise(() => fetch(httpOf(door.url) + path))
      assert.strictEqual(status, 200, path)
    }
    const to = ["--url", door.url, "--token-file"]
    const ran = yield* command(["run", ...to, join(files, "client-token"), "--", "echo", "served"])
    assert.strictEqual(ran.stdout, "served\n", ran.stderr)
    const listed = yield* command(["fleet", "hosts", ...to, join(files, "operator-token")])
    assert.match(listed.stdout, /h1 +ready/)
    const refused = yield* command(["run", ...to, join(files, "host-token"), "--", "true"])
    assert.notStrictEqual(refused.code, 0)
  })

/** A gateway, a host and five commands start on a busy machine. */
const withinMs = 120_000

describe("docs/deploy/fleet/compose.yaml", () => {
  const [compose = {}, ...more] = documents("compose.yaml")
  const services: ReadonlyArray<readonly [string, Json]> = Object.entries(compose.services)
  const ours = services.filter(([, { image }]) => image === "exec-server")
  const argsOf = (name: string): ReadonlyArray<string> => compose.services[name].command
  const gateways = ours.filter(([name]) => isGateway(argsOf(name))).map(([name]) => name)
  const hosts = ours.filter(([name]) => !isGateway(argsOf(name))).map(([name]) => name)

  it("has a database, two gateways, two hosts, and one address for clients", () => {
    assert.deepStrictEqual(more, [])
    assert.deepStrictEqual(
      [gateways, hosts],
      [
        ["gateway1", "gateway2"],
        ["host1", "host2"]
      ]
    )
    const published = services.flatMap(([name, { ports = [] }]) => ports.map((port: string) => `${name} ${port}`))
    assert.deepStrictEqual(published, ["balancer 127.0.0.1:9010:9010"])
    for (const [, service] of ours) {
      assert.isTrue(existsSync(join(deploy, service.build.context, service.build.dockerfile)))
    }
  })

  it("declares what services name: secrets, configurations, volumes, and other services", () => {
    for (const [name, service] of services) {
      for (const secret of service.secrets ?? []) assert.property(compose.secrets, secret, name)
      for (const { source } of service.configs ?? []) assert.property(compose.configs, source, name)
      for (const volume of service.volumes ?? []) assert.property(compose.volumes, volume.split(":")[0], name)
      const needed = service.depends_on ?? []
      for (const other of Array.isArray(needed) ? needed : Object.keys(needed)) {
        assert.property(compose.services, other, name)
      }
      for (const [other, { condition }] of isRecord(needed) ? Object.entries<Json>(needed) : []) {
        if (condition === "service_healthy") assert.property(compose.services[other], "healthcheck")
      }
    }
  })

  it("has valid flags, whose files are secrets of the service, and known variables", () => {
    for (const [name, { secrets, environment = {} }] of ours) {
      for (const [flag, value] of flagsOf(argsOf(name))) {
        if (flag.endsWith("-file")) assert.include(secrets, value.replace("/run/secrets/", ""), `${name} ${flag}`)
      }
      for (const variable of Object.keys(environment)) assert.isTrue(variables.has(variable), variable)
    }
    for (const name of hosts) assertHost(argsOf(name))
    const ids = hosts.map((name) => flagsOf(argsOf(name)).get("environment-id"))
    assert.lengthOf(new Set(ids), hosts.length)
  })

  it("has addresses that are those of its services", () => {
    const addresses = gateways.map((name) => {
      const flags = flagsOf(argsOf(name))
      const { port } = new URL(flags.get("listen") ?? "")
      assert.strictEqual(flags.get("own-url"), `ws://${name}:${port}`)
      const database = new URL(flags.get("database") ?? "")
      const { POSTGRES_USER, POSTGRES_DB, POSTGRES_PASSWORD } = compose.services[database.hostname].environment
      assert.deepStrictEqual([database.username, database.pathname], [POSTGRES_USER, `/${POSTGRES_DB}`])
      assert.strictEqual(compose.services[name].environment.PGPASSWORD, POSTGRES_PASSWORD)
      assert.include(compose.services[name].healthcheck.test.join(" "), `http://127.0.0.1:${port}/livez`)
      return `${name}:${port}`
    })
    const balancer: string = compose.configs.balancer.content
    assert.deepStrictEqual(
      Array.from(balancer.matchAll(/^ *server \S+ (\S+)$/gm), ([, address]) => address),
      addresses
    )
    assert.include(balancer, "option httpchk GET /readyz")
    const [, bound] = /^ *bind :(\d+)$/m.exec(balancer) ?? []
    for (const name of hosts) {
      const { hostname, port } = new URL(flagsOf(argsOf(name)).get("remote") ?? "")
      assert.deepStrictEqual([hostname, port], ["balancer", bound])
    }
  })

  it.scopedLive(
    "runs",
    () => runs({ gateway: argsOf("gateway1"), host: argsOf("host1"), probes: ["/readyz", "/livez"] }),
    withinMs
  )
})

describe("docs/deploy/fleet/kubernetes.yaml", () => {
  const all = documents("kubernetes.yaml")
  const ofKind = (kind: string) => all.filter((one) => one.kind === kind)
  const named = (kind: string, name: string) => {
    const found = ofKind(kind).filter(({ metadata }) => metadata.name === name)
    assert.lengthOf(found, 1, `${kind} ${name}`)
    return found[0]
  }
  const workloads = all.filter(({ spec }) => spec?.template !== undefined)
  const containerOf = ({ spec }: Json) => {
    assert.lengthOf(spec.template.spec.containers, 1)
    return spec.template.spec.containers[0]
  }
  const [deployment] = ofKind("Deployment")
  const [set] = ofKind("StatefulSet")

  it("has gateways as a Deployment, hosts as a StatefulSet, and what they need", () => {
    const kinds = all.map(({ kind }) => kind).sort()
    const wanted = ["Deployment", "PodDisruptionBudget", "Secret", "Service", "Service", "StatefulSet"]
    assert.deepStrictEqual(kinds, wanted)
    for (const { apiVersion, metadata } of all) {
      assert.match(apiVersion, /^(v1|apps\/v1|policy\/v1)$/)
      assert.match(metadata.name, /^[a-z0-9-]+$/)
    }
    assert.isTrue(isGateway(containerOf(deployment).args))
    assert.isAtLeast(deployment.spec.replicas, 2)
    assertHost(containerOf(set).args)
  })

  it("has selectors that select", () => {
    for (const { spec } of workloads) assert.deepStrictEqual(spec.selector.matchLabels, spec.template.metadata.labels)
    const labels = workloads.map(({ spec }) => JSON.stringify(spec.template.metadata.labels))
    for (const { spec } of ofKind("Service")) assert.include(labels, JSON.stringify(spec.selector))
    for (const { spec } of ofKind("PodDisruptionBudget")) {
      assert.deepStrictEqual(spec.selector, deployment.spec.selector)
    }
    const headless = named("Service", set.spec.serviceName)
    assert.strictEqual(headless.spec.clusterIP, "None")
    assert.deepStrictEqual(headless.spec.selector, set.spec.selector.matchLabels)
  })

  it("declares the secrets, volumes and ports that pods name", () => {
    for (const workload of workloads) {
      const container = containerOf(workload)
      const volumes: ReadonlyArray<Json> = workload.spec.template.spec.volumes
      const claims: ReadonlyArray<Json> = workload.spec.volumeClaimTemplates ?? []
      const names = [...volumes.map(({ name }) => name), ...claims.map(({ metadata }) => metadata.name)]
      assert.deepStrictEqual(container.volumeMounts.map(({ name }: Json) => name).sort(), names.sort())
      for (const { secret } of volumes) {
        if (secret === undefined) continue
        const { stringData } = named("Secret", secret.secretName)
        for (const { key } of secret.items) assert.property(stringData, key)
        // Readable by the group of the pod, and nobody else.
        assert.strictEqual(secret.defaultMode, 0o440)
      }
      for (const { valueFrom } of container.env) {
        const { secretKeyRef } = valueFrom
        if (secretKeyRef !== undefined) {
          assert.property(named("Secret", secretKeyRef.name).stringData, secretKeyRef.key)
        }
      }
    }
    const ports = containerOf(deployment).ports.map(({ name }: Json) => name)
    const [{ targetPort }] = named("Service", "exec-server-fleet").spec.ports
    assert.include(ports, targetPort)
    for (const value of Object.values(ofKind("Secret")[0].stringData)) assert.strictEqual(value, "", "a known secret")
  })

  it("has valid flags, whose files are mounted, and variables that are known or used in them", () => {
    for (const workload of workloads) {
      const container = containerOf(workload)
      const args: ReadonlyArray<string> = container.args
      const flags = flagsOf(args)
      const { secret } = workload.spec.template.spec.volumes.find((volume: Json) => volume.secret !== undefined) ?? {}
      for (const [flag, value] of flags) {
        if (!flag.endsWith("-file")) continue
        const [mount] = container.volumeMounts.filter(({ mountPath }: Json) => value.startsWith(`${mountPath}/`))
        const paths = secret.items.map(({ path }: Json) => `${mount.mountPath}/${path}`)
        assert.include(paths, value, flag)
      }
      const used = args.flatMap((arg) => Array.from(arg.matchAll(/\$\((\w+)\)/g), ([, name = ""]) => name))
      const given: ReadonlyArray<string> = container.env.map(({ name }: Json) => name)
      for (const name of used) assert.include(given, name)
      for (const name of given) assert.isTrue(variables.has(name) || used.includes(name), name)
    }
    const flags = flagsOf(containerOf(deployment).args)
    const [{ containerPort }] = containerOf(deployment).ports
    assert.strictEqual(flags.get("listen"), `ws://0.0.0.0:${containerPort}`)
    assert.strictEqual(flags.get("own-url"), `ws://$(POD_IP):${containerPort}`)
    const { hostname, port } = new URL(flagsOf(containerOf(set).args).get("remote") ?? "")
    assert.strictEqual(named("Service", hostname).spec.ports[0].port, Number(port))
    const grace = set.spec.template.spec.terminationGracePeriodSeconds * 1000
    assert.isAbove(grace, ServerConfig.settings.shutdownGracePeriodMs.default)
  })

  it.scopedLive(
    "runs, and serves what is probed",
    () => {
      const container = containerOf(deployment)
      const probes = ["readinessProbe", "startupProbe", "livenessProbe"].map((name) => container[name].httpGet)
      assert.strictEqual(probes[0].path, "/readyz")
      for (const { port } of probes) assert.strictEqual(port, container.ports[0].name)
      return runs({ gateway: container.args, host: containerOf(set).args, probes: probes.map(({ path }) => path) })
    },
    withinMs
  )
})
