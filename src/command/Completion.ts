/**
 * Shell completion scripts. A script contains everything it needs: completing starts no process.
 *
 * Each script determines the command from the words before the cursor, then completes that command's flags and
 * arguments, or the values of the flag before the cursor.
 *
 * @since 0.1.0
 */
import type { Flag } from "./Flag.js"
import { all, type Command, flagsOf, type Word } from "./Grammar.js"

/** The supported shells. */
export const shells = ["bash", "zsh", "fish"] as const
type Shell = (typeof shells)[number]

const pathOf = ({ path }: Command) => path.join(" ")
const names = ({ name, short }: Flag) => [`--${name}`, ...(short === undefined ? [] : [`-${short}`])]

/** The subcommands and fixed arguments of a command. */
const wordsOf = (command: Command): ReadonlyArray<string> => [
  ...command.commands.map(({ path }) => path.at(-1) ?? ""),
  ...command.words.flatMap(({ choices = [] }) => choices.flatMap((choice) => choice.split(" ")))
]

const takesPaths = (command: Command) => command.words.some(({ isPath }) => isPath === true)

/** The names of flags whose value has this placeholder, such as FILE. */
const withPlaceholder = (flags: ReadonlyArray<Flag>, placeholder: string) =>
  flags.filter((flag) => flag.placeholder === placeholder).flatMap(names)

/** The names of flags that take a value. */
const withValues = (root: Command) =>
  flagsOf(root)
    .filter(({ isSwitch }) => !isSwitch)
    .flatMap(names)

const pathsBelow = (root: Command) =>
  all(root)
    .map(pathOf)
    .filter((path) => path !== "")

const bash = (root: Command): string => {
  const flags = flagsOf(root)
  const chosen = flags.filter(({ choices }) => choices.length > 0)
  const commands = all(root)
  return `# Completes exec-server in bash: source <(exec-server completion bash)
_exec_server() {
  local IFS=$' \\t\\n' cur=\${COMP_WORDS[COMP_CWORD]} command= flag= words= after=0 i word
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ -n $flag ]]; then
      # Bash splits words at "=".
      [[ $word == = ]] || flag=
      continue
    fi
    case $word in
      --) after=$((i + 1)); break ;;
      ${withValues(root).join("|")}) flag=$word ;;
      -*) ;;
      *)
        case "$command\${command:+ }$word" in
          ${pathsBelow(root)
            .map((path) => `"${path}"`)
            .join("|")}) command="$command\${command:+ }$word" ;;
        esac
        ;;
    esac
  done
  if ((after > 0)); then
    if [[ $command == run ]]; then
      compopt -o filenames 2>/dev/null
      IFS=$'\\n'
      if ((after == COMP_CWORD)); then
        COMPREPLY=($(compgen -c -- "$cur"))
      else
        COMPREPLY=($(compgen -f -- "$cur"))
      fi
    fi
    return
  fi
  [[ $cur == = ]] && cur=
  if [[ -n $flag ]]; then
    case $flag in
${chosen.map((flag) => `      ${names(flag).join("|")}) words="${flag.choices.join(" ")}" ;;`).join("\n")}
      ${withPlaceholder(flags, "FILE").join("|")})
        compopt -o filenames 2>/dev/null
        IFS=$'\\n'
        COMPREPLY=($(compgen -f -- "$cur"))
        return
        ;;
      ${withPlaceholder(flags, "DIR").join("|")})
        compopt -o filenames 2>/dev/null
        IFS=$'\\n'
        COMPREPLY=($(compgen -d -- "$cur"))
        return
        ;;
    esac
  elif [[ $cur == -* ]]; then
    case $command in
${commands.map((one) => `      "${pathOf(one)}") words="${one.flags.flatMap(names).join(" ")}" ;;`).join("\n")}
    esac
  else
    case $command in
${commands
  .filter((one) => wordsOf(one).length > 0)
  .map((one) => `      "${pathOf(one)}") words="${wordsOf(one).join(" ")}" ;;`)
  .join("\n")}
      ${commands
        .filter(takesPaths)
        .map((one) => `"${pathOf(one)}"`)
        .join("|")})
        compopt -o filenames 2>/dev/null
        IFS=$'\\n'
        COMPREPLY=($(compgen -f -- "$cur"))
        return
        ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _exec_server exec-server
`
}

/** Quotes a word for zsh. */
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`

/** Escapes text in a specification for `_arguments`, where colons and brackets are special. */
const escaped = (text: string) => text.replace(/[[\]:\\]/g, "\\$&")

const zshValue = ({ placeholder, choices }: Flag): string => {
  const action = choices.length > 0 ? `(${choices.join(" ")})` : { FILE: "_files", DIR: "_files -/" }[placeholder]
  return `:${escaped(placeholder)}:${action ?? ""}`
}

const zshFlag = (flag: Flag): string => {
  const all = names(flag)
  const rest = `[${escaped(flag.help)}]${flag.isSwitch ? "" : zshValue(flag)}`
  // Several names of one flag exclude each other.
  return all
    .map((name) => {
      const spec = `${name}${flag.isSwitch ? "" : name.startsWith("--") ? "=" : "+"}${rest}`
      return quoted(flag.isRepeated ? `*${spec}` : `(${all.join(" ")})${spec}`)
    })
    .join(" ")
}

const zshWord = ({ name, isRepeated = false, isPath = false, choices = [] }: Word, index: number): string =>
  quoted(
    `${isRepeated ? "*" : index + 1}:${name}:${isPath ? "_files" : choices.length > 0 ? `(${choices.flatMap((choice) => choice.split(" ")).join(" ")})` : ""}`
  )

const zshCommands = ({ commands }: Command): string =>
  quoted(
    `1:command:((${commands.map(({ path, summary }) => `${path.at(-1)}\\:${JSON.stringify(escaped(summary))}`).join(" ")}))`
  )

const zsh = (root: Command): string => `#compdef exec-server
# Completes exec-server in zsh: source <(exec-server completion zsh)
_exec_server() {
  local -a path_
  local word skip= i=2 last=1
  while ((i < CURRENT)); do
    word=$words[i]
    if [[ -n $skip ]]; then
      skip=
    else
      case $word in
        --) break ;;
        ${withValues(root).join("|")}) skip=1 ;;
        -*) ;;
        *)
          case "$path_ $word" in
            ${pathsBelow(root)
              .map((path) => (path.includes(" ") ? `"${path}"` : `" ${path}"`))
              .join("|")}) path_+=($word); last=$i ;;
          esac
          ;;
      esac
    fi
    ((i++))
  done
  # Leave only the words of the subcommand.
  words=(exec-server "\${(@)words[last + 1,-1]}")
  ((CURRENT -= last - 1))
  case "$path_" in
${all(root)
  .map((command) => {
    const specs = [
      ...command.flags.map(zshFlag),
      ...(command.commands.length > 0 ? [zshCommands(command)] : []),
      ...command.words.map(zshWord),
      ...(command.rest === undefined ? [] : ["'(-)1:command:_command_names -e'", "'*::arguments:_normal'"])
    ]
    return `    ${JSON.stringify(pathOf(command))})\n      _arguments -s -S ${specs.join(" \\\n        ")}\n      ;;`
  })
  .join("\n")}
  esac
}
if [[ $funcstack[1] == _exec_server ]]; then
  _exec_server "$@"
else
  compdef _exec_server exec-server
fi
`

const fishQuoted = (text: string) => `'${text.replace(/[\\']/g, "\\$&")}'`

const fishFlag = (path: string, { name, short, help, isSwitch, placeholder, choices }: Flag): string => {
  const values =
    choices.length > 0 ? choices.join(" ") : placeholder === "DIR" ? "(__fish_complete_directories)" : undefined
  return [
    `complete -c exec-server -n '__exec_server_is "${path}"' -l ${name}`,
    ...(short === undefined ? [] : [`-s ${short}`]),
    // Complete files for FILE, and nothing for other values.
    ...(isSwitch ? [] : [placeholder === "FILE" ? "-rF" : "-x"]),
    ...(values === undefined ? [] : [`-a ${fishQuoted(values)}`]),
    `-d ${fishQuoted(help)}`
  ].join(" ")
}

const fish = (root: Command): string => `# Completes exec-server in fish: exec-server completion fish | source
function __exec_server_command
    set -l command
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case --
                echo "$command --"
                return
            case ${withValues(root).join(" ")}
                set skip 1
            case '-*'
            case '*'
                switch "$command $word"
                    case ${pathsBelow(root)
                      .map((path) => `'${path.includes(" ") ? path : ` ${path}`}'`)
                      .join(" ")}
                        set command (string trim -- "$command $word")
                end
        end
    end
    echo "$command"
end
function __exec_server_is
    set -l command (__exec_server_command)
    test "$command" = "$argv[1]"
end
# Completes the command line after --.
function __exec_server_program
    set -l words (commandline -opc)
    set -e words[1..(contains -i -- -- $words)]
    complete -C (string join ' ' -- (string escape -- $words) (commandline -ct))
end
complete -c exec-server -f
complete -c exec-server -n '__exec_server_is "run --"' -a '(__exec_server_program)'
${all(root)
  .flatMap((command) => [
    ...command.commands.map(
      (one) =>
        `complete -c exec-server -n '__exec_server_is "${pathOf(command)}"' -a ${one.path.at(-1)} -d ${fishQuoted(one.summary)}`
    ),
    ...(command.words.some(({ choices = [] }) => choices.length > 0)
      ? [
          `complete -c exec-server -n '__exec_server_is "${pathOf(command)}"' -a ${fishQuoted(wordsOf(command).join(" "))}`
        ]
      : []),
    ...(takesPaths(command) ? [`complete -c exec-server -n '__exec_server_is "${pathOf(command)}"' -F`] : []),
    ...command.flags.map((flag) => fishFlag(pathOf(command), flag))
  ])
  .join("\n")}
`

const scripts: { readonly [S in Shell]: (root: Command) => string } = { bash, zsh, fish }

/** The completion script of a shell. */
export const script = (shell: Shell, root: Command): string => scripts[shell](root)
