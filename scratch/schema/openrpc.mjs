/** Describes the protocol as an OpenRPC document, from the schemas of src/protocol and their doc comments. */
import { mkdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Context from "effect/Context"
import * as JSONSchema from "effect/JSONSchema"
import { build } from "esbuild"
import { reflowed, rewrite } from "./words.mjs"

const root = fileURLToPath(new URL("../..", import.meta.url))
const protocol = `${root}src/protocol`
const bundle = `${root}node_modules/.cache/schema.mjs`

const withWords = {
  name: "words",
  setup: ({ onLoad, onResolve }) => {
    onResolve({ filter: /^words$/ }, () => ({ path: `${root}scratch/schema/words.mjs` }))
    onLoad({ filter: /src\/protocol\/\w+\.ts$/ }, ({ path }) => ({
      contents: rewrite(path, readFileSync(path, "utf8")),
      loader: "ts"
    }))
  }
}

/** Loads the schemas of the protocol, with the words of their doc comments. */
const loadProtocol = async () => {
  mkdirSync(`${root}node_modules/.cache`, { recursive: true })
  await build({
    stdin: {
      contents: `
        export { ExecApi } from "./ExecApi.js"
        export { ExecNotifications } from "./ExecNotifications.js"
        export { classes, Code, codeOf } from "./Failure.js"
        export { MethodFacts } from "./MethodFacts.js"
        export { words } from "words"`,
      resolveDir: protocol
    },
    bundle: true,
    packages: "external",
    plugins: [withWords],
    platform: "node",
    format: "esm",
    outfile: bundle,
    logLevel: "warning"
  })
  return import(bundle)
}

/** What the document says first. */
const about = reflowed(readFileSync(`${root}scratch/schema/about.md`, "utf8"))

/** Where the document has its schemas. */
export const schemaPath = "#/components/schemas/"

/** Where a struct decodes members, Effect keeps the words of its other members on the decoded side alone. */
const copyWords = (ast) => {
  switch (ast._tag) {
    case "Transformation": {
      const words = new Map(ast.to.propertySignatures?.map(({ name, annotations }) => [name, annotations]))
      for (const member of ast.from.propertySignatures ?? []) {
        member.annotations = { ...words.get(member.name), ...member.annotations }
      }
      copyWords(ast.from)
      break
    }
    case "Refinement":
      copyWords(ast.from)
      break
    case "TypeLiteral":
      for (const { type } of ast.propertySignatures) copyWords(type)
      break
    case "Union":
      for (const type of ast.types) copyWords(type)
      break
    case "TupleType":
      for (const { type } of ast.rest) copyWords(type)
      break
  }
}

const mapValues = (members, f) => Object.fromEntries(Object.entries(members).map(([name, value]) => [name, f(value)]))

const hasMembers = (value) => value !== undefined && Object.keys(value).length > 0

/** Without what Effect adds to schemas that have no members: arrays, titles, empty lists, and ids that are not unique. */
const plain = (schema) => {
  if (Array.isArray(schema)) return schema.map(plain)
  if (typeof schema !== "object" || schema === null) return schema
  const { $id, title, $ref, properties, ...rest } = schema
  if ($id === "/schemas/%7B%7D") return { type: "object" }
  // What stands beside a reference does not count.
  if ($ref !== undefined) return Object.keys(rest).length === 0 ? { $ref } : { allOf: [{ $ref }], ...rest }
  if (rest.required?.length === 0) delete rest.required
  return { ...mapValues(rest, plain), ...(hasMembers(properties) ? { properties: mapValues(properties, plain) } : {}) }
}

/** A schema of what any of these describe. */
const anyOf = (schemas) => {
  const unique = [...new Map(schemas.map((schema) => [JSON.stringify(schema), schema])).values()]
  if (unique.every((schema) => schema.enum !== undefined)) {
    return { type: "string", enum: unique.flatMap((schema) => schema.enum) }
  }
  return unique.length === 1 ? unique[0] : { anyOf: unique }
}

/** `process/start` is `ProcessStart`. */
const pascal = (method) =>
  method.replaceAll(/(^|\/)(\w)/g, (_, _slash, letter) => letter.toUpperCase()).replaceAll("/", "")

/** The first sentence. */
const summaryOf = (text) => /^[\s\S]*?[.:](?=\s|$)/.exec(text)?.[0].replace(/:$/, ".") ?? text

/** The members of an object, or of all that it can be; required are those that all of them require. */
const membersOf = (schema, schemas) => {
  const name = schema.$ref?.slice(schemaPath.length)
  if (name !== undefined) return membersOf(schemas[name], schemas)
  const variants = schema.anyOf?.map((variant) => membersOf(variant, schemas))
  if (variants === undefined) {
    const { properties = {}, required = [] } = schema
    return Object.entries(properties).map(([name, schema]) => ({ name, schema, required: required.includes(name) }))
  }
  const names = new Set(variants.flatMap((members) => members.map(({ name }) => name)))
  return Array.from(names, (name) => {
    const found = variants.flatMap((members) => members.filter((member) => member.name === name))
    return {
      name,
      schema: anyOf(found.map(({ schema }) => schema)),
      required: found.length === variants.length && found.every(({ required }) => required)
    }
  })
}

/** The document. Throws if a method, a failure or an error code has no words, or a schema cannot be described. */
export const makeDocument = async () => {
  const { ExecApi, ExecNotifications, classes, Code, codeOf, MethodFacts, words } = await loadProtocol()
  const { version } = JSON.parse(readFileSync(`${root}package.json`, "utf8"))
  const schemas = {}

  const wordsOf = (name) => {
    const text = words.get(name) ?? ""
    if (text === "") throw new Error(`${name} has no doc comment in src/protocol`)
    return text
  }

  /** Describes a schema under its own name, or else under this one; returns a reference. */
  const refer = (ownName, { ast }) => {
    copyWords(ast)
    const schema = JSONSchema.fromAST(ast, {
      definitions: schemas,
      definitionPath: schemaPath,
      additionalPropertiesStrategy: "allow"
    })
    if (schema.$ref !== undefined) return schema
    const isEmpty = schema.properties === undefined && schema.anyOf !== undefined && schema.$id !== undefined
    const name = isEmpty ? "Empty" : ownName
    if (!isEmpty && schemas[name] !== undefined) throw new Error(`there are two schemas named ${name}`)
    schemas[name] = schema
    return { $ref: `${schemaPath}${name}` }
  }

  const errorName = (code) => Object.keys(Code).find((name) => Code[name] === code)
  const failures = classes.map(({ tag }) => [tag, { code: codeOf({ _tag: tag }), description: wordsOf(tag) }])
  const failing = new Set(failures.map(([, { code }]) => code))
  const errors = Object.fromEntries(
    Object.entries(Code).map(([name, code]) => [name, { code, message: wordsOf(String(code)) }])
  )

  /** What a request may fail with. */
  const errorsOf = ({ family, access }) =>
    [...failing]
      .filter((code) => family === "handshake" || code !== Code.sessionAttached)
      .filter((code) => access !== "open" || code !== Code.forbidden)
      .map((code) => ({ $ref: `#/components/errors/${errorName(code)}` }))

  const describe = (rpc, direction, kind) => {
    const { _tag: method } = rpc
    const text = wordsOf(`${kind} ${method}`)
    const whole = refer(`${pascal(method)}${kind === "request" ? "Params" : "Notification"}`, rpc.payloadSchema)
    // Names are unique in a document.
    const isTaken = kind === "notification" && ExecApi.requests.has(method)
    return {
      name: isTaken ? `${method}#notification` : method,
      ...(isTaken ? { "x-method": method } : {}),
      summary: summaryOf(text),
      description: text,
      paramStructure: "by-name",
      "x-direction": direction,
      "x-params": whole,
      whole
    }
  }

  const requests = Array.from(ExecApi.requests.values(), (rpc) => {
    const facts = Context.get(rpc.annotations, MethodFacts)
    const result = refer(`${pascal(rpc._tag)}Result`, rpc.successSchema)
    return {
      ...describe(rpc, "clientToServer", "request"),
      tags: [{ name: facts.family }],
      "x-access": facts.access,
      "x-repeatable": facts.repeatable,
      result: { name: "result", schema: result },
      errors: errorsOf(facts)
    }
  })
  const sentByClients = new Set(["initialized", "process/ack", "attachment/ack"])
  const notifications = Array.from(ExecNotifications.requests.values(), (rpc) =>
    describe(rpc, sentByClients.has(rpc._tag) ? "clientToServer" : "serverToClient", "notification")
  )

  const clean = mapValues(schemas, plain)
  const methods = [...requests, ...notifications].map(({ whole, ...method }) => ({
    ...method,
    params: membersOf(whole, clean).map(({ name, schema, required }) => {
      const { description } = schema
      return { name, ...(description === undefined ? {} : { description }), required, schema }
    })
  }))
  return {
    openrpc: "1.3.2",
    info: { title: "exec-server", version, description: about, license: { name: "MIT" } },
    servers: [{ name: "a server that listens at ws://127.0.0.1:8080", url: "ws://127.0.0.1:8080" }],
    methods,
    components: { schemas: clean, errors },
    "x-failures": Object.fromEntries(failures)
  }
}
