"""Print a script that completes commands in your shell.

source <(runner completion bash)                                # in ~/.bashrc
source <(runner completion zsh)                                 # in ~/.zshrc, after compinit
runner completion fish > ~/.config/fish/completions/runner.fish
"""

from __future__ import annotations

import argparse
import sys

from runner.errors import ExitCode

COMMANDS = ("runner", "runner-launch", "runner-status")
SHELLS = ("bash", "zsh", "fish")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=list(SHELLS), help="the shell")


def execute(arguments: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    # Nothing but what we offer: bash would put files in the place of an id that isn't there.
    sys.stdout.write(shellcode(COMMANDS, shell=arguments.shell, complete_arguments=["-o nospace"]))
    return ExitCode.DONE
