"""Print a script that completes commands in your shell, or what could come next on a line.

source <(runner completion bash)                                # in ~/.bashrc
source <(runner completion zsh)                                 # in ~/.zshrc, after compinit
runner completion fish > ~/.config/fish/completions/runner.fish
"""

from __future__ import annotations

import argparse
import sys

from runner.errors import ExitCode

COMMANDS = ("runner", "runner-launch", "runner-status")
_BASH = """\
_runner() {
    local line words=("${COMP_WORDS[@]:0:COMP_CWORD+1}")
    COMPREPLY=()
    while read -r line; do
        case $line in
            :files) compopt -o default ;;
            :folders) compopt -o dirnames ;;
            *) COMPREPLY+=("$line") ;;
        esac
    done < <(printf '%s\\n' "${words[@]}" | command runner completion bash --line 2>/dev/null)
}
complete -F _runner COMMANDS
"""
_ZSH = """\
_runner() {
    local line
    local -a found
    while read -r line; do
        case $line in
            :files) _files ;;
            :folders) _files -/ ;;
            *) found+=("$line") ;;
        esac
    done < <(print -rl -- "${(@)words[1,CURRENT]}" |
        command runner completion zsh --line 2>/dev/null)
    (( $#found )) && _describe runner found
}
compdef _runner COMMANDS
"""
_FISH = """\
function __runner_next
    set -l words (commandline -opc) (commandline -ct)
    for line in (printf '%s\\n' $words | command runner completion fish --line 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path (commandline -ct)
            case :folders
                __fish_complete_directories (commandline -ct)
            case '*'
                echo $line
        end
    end
end
for name in COMMANDS
    complete -c $name -f -a '(__runner_next)'
end
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=list(_SCRIPTS), help="the shell")
    parser.add_argument(
        "--line",
        action="store_true",
        help="for the script: what could come next; the words so far are lines on stdin",
    )


def execute(arguments: argparse.Namespace) -> int:
    if not arguments.line:
        sys.stdout.write(_SCRIPTS[arguments.shell].replace("COMMANDS", " ".join(COMMANDS)))
        return ExitCode.DONE
    from runner.cli.completion import Completion, candidates

    def shown(found: Completion) -> str:
        match arguments.shell:
            case "zsh" if not found.value.startswith(":"):
                value = found.value.replace(":", "\\:")
                return f"{value}:{found.what}" if found.what else value
            case "fish" if found.what:
                return f"{found.value}\t{found.what}"
            case _:
                return found.value

    for found in candidates(sys.stdin.read().split("\n")[:-1], splits=arguments.shell == "bash"):
        print(shown(found))
    return ExitCode.DONE
