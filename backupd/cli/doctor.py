"""`backupd doctor`."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import asdict

from backupd import doctor
from backupd.cli.output import print_json, say, speak
from backupd.settings import Settings

_MARKS = {"good": "✓", "note": "!", "bad": "✗"}
_PLAIN_MARKS = {"good": "ok", "note": "note", "bad": "BAD"}


def run(arguments: Namespace, settings: Settings) -> int:
    """Examine the set-up; 1 where something does not work."""
    speak(settings)
    findings = []
    for finding in doctor.examine(settings, say):
        findings.append(finding)
        if not arguments.json:
            _print(finding)
    if arguments.json:
        print_json([asdict(finding) for finding in findings])
    return int(any(finding.verdict == "bad" for finding in findings))


def _print(finding: doctor.Finding) -> None:
    marks = _MARKS if (sys.stdout.encoding or "").lower().startswith("utf") else _PLAIN_MARKS
    sys.stdout.write(f"{marks[finding.verdict]:<2}{finding.subject:<11} {finding.text}\n")
    if finding.hint:
        sys.stdout.write(f"{'':<13} hint: {finding.hint}\n")
    sys.stdout.flush()
