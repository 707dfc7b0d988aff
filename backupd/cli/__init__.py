"""The command line: one module a verb, and errors become exit codes here."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module

from backupd.cli import guarded
from backupd.cli.guarded import passed_on
from backupd.cli.parser import build_parser
from backupd.errors import BackupdError, Interrupted


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (by default the process's own arguments) names; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if passed := passed_on(words):
            return guarded.run(*passed)
        return _run(words)
    except KeyboardInterrupt:
        return _failed(Interrupted("interrupted"), "--json" in words)
    except BackupdError as error:
        return _failed(error, "--json" in words)
    except BrokenPipeError:
        # The reader of our output is gone. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(words: Sequence[str]) -> int:
    parser = build_parser()
    arguments = parser.parse_args(words)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    code = _dispatch(arguments)
    sys.stdout.flush()
    return code


def _dispatch(arguments: Namespace) -> int:
    if arguments.command == "health":
        # Containers ask for it every few seconds: it does without the settings, which take longest to come.
        from backupd.cli import health

        return health.run(arguments, os.environ)
    # A verb's module brings docker or rich along: only the one that runs is imported.
    from backupd.settings import load

    settings = load(arguments.config, os.environ)
    verb = import_module(f"backupd.cli.{arguments.command}")
    code: int = verb.run(arguments, settings)
    return code


def _failed(error: BackupdError, as_json: bool) -> int:
    if as_json:
        facts = {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}
        sys.stderr.write(json.dumps(facts) + "\n")
        return error.exit_code
    sys.stderr.write(f"backupd: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
    return error.exit_code
