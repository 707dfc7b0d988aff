"""Runs a command in a container and says on its last line of stderr what command and children used."""

import json
import resource
import subprocess
import sys
import time

began = time.monotonic()
status = subprocess.run(sys.argv[1:], check=False).returncode
seconds = time.monotonic() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
report = {
    "seconds": seconds,
    "cpu_seconds": used.ru_utime + used.ru_stime,
    # of the largest process; Linux counts in KiB
    "peak_bytes": used.ru_maxrss * 1024,
}
print("\n" + json.dumps(report), file=sys.stderr)
sys.exit(status)
