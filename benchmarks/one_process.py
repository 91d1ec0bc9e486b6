"""Run a command, and print its seconds, its peak memory and its exit status as JSON: `one_process.py LIMIT WORD...`.

A small program of its own: the peak that Linux tells of a process is at least the size of the one that started it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from threading import Timer


def main(limit: float, words: list[str]) -> None:
    """Run the command with this process's stderr, and without stdout; kill it after `limit` seconds."""
    begun = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    timer = Timer(limit, os.kill, (process.pid, signal.SIGKILL))
    timer.start()
    _, status, used = os.wait4(process.pid, 0)
    timer.cancel()
    seconds = time.perf_counter() - begun
    code = os.waitstatus_to_exitcode(status)
    stopped = code == -signal.SIGKILL and seconds >= limit
    found = {"seconds": seconds, "peak_gb": used.ru_maxrss / 2**20, "code": None if stopped else code}
    print(json.dumps(found))


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
