/** Makes the Python client: fills the types and the methods of the OpenRPC document into the template client.py. */
import { schemaPath } from "./openrpc.mjs"

const width = 100

/** Breaks text into lines of at most `width` characters. */
const wrapped = (text, indent) => {
  const lines = []
  for (const paragraph of text.split("\n\n")) {
    let line = ""
    for (const word of paragraph.split(" ")) {
      if (line !== "" && indent.length + line.length + word.length >= width) {
        lines.push(line)
        line = ""
      }
      line = line === "" ? word : `${line} ${word}`
    }
    lines.push(line, "")
  }
  return lines.slice(0, -1)
}

const comment = (text, indent) =>
  text === undefined ? [] : wrapped(text, `${indent}# `).map((line) => `${indent}# ${line}`.trimEnd())

const docstring = (text, indent) => {
  const [first = "", ...more] = wrapped(text.replaceAll("\\", "\\\\"), `${indent}"""`)
  if (more.length === 0) return [`${indent}"""${first}"""`]
  return [`${indent}"""${first}`, ...more.map((line) => `${indent}${line}`.trimEnd()), `${indent}"""`]
}

/** `session.opened` is `SessionOpened`. */
const pascal = (name) =>
  name.replaceAll(/(?:^|[^A-Za-z0-9]+)([A-Za-z0-9])/g, (_, letter) => letter.toUpperCase()).replaceAll(/[^\w]/g, "")

/** `process/closeStdin` is `process_close_stdin`. */
const snake = (method) => method.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replaceAll("/", "_")

const keywords = new Set(["from", "class", "def", "global", "import", "in", "is", "pass", "return", "with"])

/** Adds the declaration of each schema to `lines`, after those it is made of. */
class Types {
  lines = []
  #declared = new Set()

  constructor(schemas) {
    this.schemas = schemas
  }

  /** The Python type of a schema. What has to be declared for it is called `name`. */
  of(schema, name) {
    const { $ref, allOf, anyOf, type, properties, additionalProperties } = schema
    if ($ref !== undefined) return this.named($ref.slice(schemaPath.length))
    if (allOf !== undefined) return this.of(allOf[0], name)
    if (anyOf !== undefined) {
      const types = anyOf.map((variant) => {
        const [kind] = variant.properties?.type?.enum ?? []
        return this.of(variant, kind === undefined ? name : name + pascal(kind))
      })
      return [...new Set(types)].join(" | ")
    }
    if (schema.enum !== undefined) return `Literal[${schema.enum.map((value) => JSON.stringify(value)).join(", ")}]`
    switch (type) {
      case "string":
        return "str"
      case "integer":
        return "int"
      case "boolean":
        return "bool"
      case "null":
        return "None"
      case "array":
        return `list[${this.of(schema.items, `${name}Item`)}]`
      case "object":
        if (properties !== undefined) return this.struct(name, schema)
        return `dict[str, ${typeof additionalProperties === "object" ? this.of(additionalProperties, `${name}Value`) : "Any"}]`
      default:
        return schema.not === undefined ? "Any" : "Never"
    }
  }

  /** A schema of the document: a TypedDict, or another name of a type. */
  named(name) {
    if (this.#declared.has(name)) return name
    const schema = this.schemas[name]
    if (schema.properties !== undefined) return this.struct(name, schema)
    this.#declared.add(name)
    const type = this.of(schema, name)
    this.lines.push(...comment(schema.description, ""), `${name}: TypeAlias = ${JSON.stringify(type)}`, "", "")
    return name
  }

  struct(name, { description, properties, required = [] }) {
    if (this.#declared.has(name)) return name
    this.#declared.add(name)
    const members = Object.entries(properties).map(([member, schema]) => {
      const type = this.of(schema, name + pascal(member))
      return { member, words: schema.description, type: required.includes(member) ? type : `NotRequired[${type}]` }
    })
    if (members.some(({ member }) => keywords.has(member))) {
      this.lines.push(...comment(description, ""), `${name} = TypedDict(`, `    "${name}",`, "    {")
      for (const { member, words, type } of members) {
        this.lines.push(...comment(words, "        "), `        "${member}": ${JSON.stringify(type)},`)
      }
      this.lines.push("    },", ")", "", "")
      return name
    }
    this.lines.push(`class ${name}(TypedDict):`, ...(description === undefined ? [] : docstring(description, "    ")))
    if (description !== undefined && members.length > 0) this.lines.push("")
    for (const { member, words, type } of members) {
      this.lines.push(...comment(words, "    "), `    ${member}: ${type}`)
    }
    this.lines.push("", "")
    return name
  }
}

/** The types of all parameters, results and notifications of the server. */
const typesOf = (methods, types) => {
  for (const { name, result, ...method } of methods) {
    types.of(method["x-params"], name)
    if (result !== undefined) types.of(result.schema, name)
  }
  const received = methods.filter((method) => method["x-direction"] === "serverToClient")
  const messages = received.map((method) => {
    const wireName = method["x-method"] ?? method.name
    const name = `${pascal(wireName)}Message`
    types.lines.push(`class ${name}(TypedDict):`, ...docstring(method.description, "    "), "")
    types.lines.push(`    method: Literal["${wireName}"]`, `    params: ${types.of(method["x-params"], name)}`, "", "")
    return name
  })
  types.lines.push(
    "# What a server sends on its own; compare `method` to know its `params`.",
    "Notification: TypeAlias = Union[",
    ...messages.map((name) => `    ${name},`),
    "]",
    ""
  )
  return types.lines.join("\n")
}

/** A method of the class for what a client sends. */
const methodOf = (types) => (method) => {
  const { name, description, params, result } = method
  const type = types.of(method["x-params"], name)
  const isOptional = params.every(({ required }) => !required)
  const parameter = params.length === 0 ? "" : `, params: ${type}${isOptional ? " = {}" : ""}`
  const value = params.length === 0 ? "{}" : "params"
  const head = `    def ${snake(name)}(self${parameter}`
  const words = docstring(description, "        ")
  if (result === undefined) return [`${head}) -> None:`, ...words, `        self.notify("${name}", ${value})`, ""]
  const resultType = types.of(result.schema, name)
  return [
    `${head}, *, timeout: float | None = DEFAULT) -> ${resultType}:`,
    ...words,
    `        return cast(${JSON.stringify(resultType)}, self.call("${name}", ${value}, timeout=timeout))`,
    ""
  ]
}

/** The client: the template, with the types in place of `# <types>` and the methods in place of `# <methods>`. */
export const pythonOf = ({ info, methods, components }, template) => {
  const types = new Types(components.schemas)
  const sent = methods.filter((method) => method["x-direction"] === "clientToServer")
  const parts = {
    "# <version>": `# The protocol of exec-server ${info.version}.`,
    "# <types>": typesOf(methods, types),
    "    # <methods>": sent.flatMap(methodOf(types)).join("\n")
  }
  return template.replaceAll(/^ *# <\w+>$/gm, (place) => parts[place])
}
