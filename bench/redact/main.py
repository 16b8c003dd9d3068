"""`./x bench redact`: speed, precision and recall of the redactor beside its peers, written to a Markdown file.

usage: main.py PROGRAM RESULT [speed|quality]
PROGRAM is the built awooop-bench. AWOOOP_PRESIDIO_DATA may name presidio-research's synth_dataset_v2.json.
"""

import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import quality
import speed


def machine():
    load = Path("/proc/loadavg").read_text().split(" ")[0] if Path("/proc/loadavg").exists() else "unknown"
    return f"{os.cpu_count()} shared cores, {platform.machine()}, load average {load} at the start"


def main():
    program, result, *parts = sys.argv[1:]
    if len(parts) > 1 or parts not in ([], ["speed"], ["quality"]):
        sys.exit(__doc__)
    packages = ["presidio-analyzer", "detect-secrets"] + (["hyperscan"] if speed.peers.hyperscan else [])
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    text = [f"# The redactor beside its peers\n\nMade by `./x bench redact` on {machine()}. Peers: {versions}.\n"]
    started = time.time()
    if parts in ([], ["speed"]):
        measured, hyperscan = speed.run(program)
        text.append("## Speed\n\nMB/s of one core, CPU time. Planted: a secret or personal data in every 20th line.\n")
        text.append(speed.table(measured, hyperscan) + "\n")
    if parts in ([], ["quality"]):
        text.append("## Precision and recall\n\nThe rules were mended where both sets showed them to fail: neither is held out.\n")
        text.append(quality.run(program, os.environ.get("AWOOOP_PRESIDIO_DATA")) + "\n")
    answer = "\n".join(text)
    print(answer)
    print(f"measured in {time.time() - started:.0f} s")
    if not parts:
        Path(result).write_text(answer, encoding="utf-8")
        print(f"written to {result}")


if __name__ == "__main__":
    main()
