"""Writes what pip here knows about indexes and certificates into a folder, for the build of the api.

pip.conf keeps what also holds inside a build; ca.pem is a copy of the certificates. Either may be empty.
"""

import configparser
import os
import pathlib
import subprocess
import sys

MAX_SECRET_BYTES = 500_000
KEPT = {"index-url", "extra-index-url", "trusted-host", "timeout", "default-timeout", "proxy"}


def pip_settings():
    """Every pip setting in force by its name; variables of the environment win over files."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    settings = {}
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = value.strip("'\"")
    return settings


def for_builds(value):
    """The words of a setting that do not name a file of this machine."""
    return " ".join(word for word in value.split() if not word.startswith(("file:", "/")))


def certificates(settings):
    candidates = [settings.get("cert"), os.environ.get("REQUESTS_CA_BUNDLE"), os.environ.get("SSL_CERT_FILE")]
    for path in [*candidates, "/etc/ssl/certs/ca-certificates.crt"]:
        if path and pathlib.Path(path).is_file() and pathlib.Path(path).stat().st_size < MAX_SECRET_BYTES:
            return pathlib.Path(path).read_bytes()
    return b""


def main(folder):
    settings = pip_settings()
    config = configparser.RawConfigParser()
    config["global"] = {k: for_builds(v) for k, v in settings.items() if k in KEPT and for_builds(v)}
    with (folder / "pip.conf").open("w") as file:
        config.write(file)
    (folder / "ca.pem").write_bytes(certificates(settings))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
