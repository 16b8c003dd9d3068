"""Megabytes a second a core of AwoooP's redactor and of its peers, over the same texts in the same run.

All are measured in CPU time of one thread, in turn, corpus by corpus. The slow ones read the beginning of a text only.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path

import corpora
import peers

SIZE = 4 << 20  # bytes of a corpus
SLOW = 96 << 10  # bytes that a slow peer reads of it
SECONDS = 0.7  # CPU time of a fast contender on a corpus, at least


def measure(scan, text, seconds):
    """Megabytes (10^6) a second of CPU, and what was found."""
    scan(text[:1000])
    rounds, started = 0, time.process_time()
    while True:
        found = scan(text)
        rounds += 1
        spent = time.process_time() - started
        if spent >= seconds:
            return rounds * len(text.encode()) / spent / 1e6, found


def beginning(text, size):
    """Whole lines of the text, about `size` bytes."""
    cut = text.encode()[:size].decode(errors="ignore")
    return cut[: cut.rfind("\n") + 1]


def ours(program, path):
    """Mode -> (MB/s, findings), by the bench program itself; a mode it fails in is left out."""
    done = subprocess.run([program, "redact", str(path), str(SECONDS)], stdout=subprocess.PIPE, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["name"]: (row["mb_s"], row["findings"]) for row in rows}


def contenders():
    presidio = peers.Presidio()
    slow = [presidio, peers.DetectSecrets()]
    fast = [peers.Hyperscan(presidio)] if peers.hyperscan else []
    return slow, fast


def run(program):
    """Corpus -> contender -> (MB/s, findings)."""
    slow, fast = contenders()
    results = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, path in corpora.write(directory, SIZE).items():
            text = path.read_text(encoding="utf-8")
            results[name] = ours(program, path)
            for peer in fast:
                results[name][peer.name] = measure(peer.scan, text, SECONDS)
            for peer in slow:
                results[name][peer.name] = measure(peer.scan, beginning(text, SLOW), 0)
            print(name, {who: f"{speed:.3g} MB/s" for who, (speed, _) in results[name].items()}, flush=True)
    return results, fast[0] if fast else None


def shown(speed):
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.3f}"


OURS = ["credentials", "all classes", "streamed, 16 bytes"]


def table(results, hyperscan):
    """The results as Markdown."""
    names = [name for name in [*OURS, "Hyperscan", "Presidio", "detect-secrets"]
             if any(name in row for row in results.values())]
    rows = ["| corpus | " + " | ".join(names) + " | all classes : Presidio | all classes : detect-secrets |",
            "| --- |" + " --- |" * (len(names) + 2)]
    for corpus, row in results.items():
        cells = [shown(row[name][0]) if name in row else "failed" for name in names]
        ratios = [f"{row['all classes'][0] / row[peer][0]:,.0f}" for peer in ("Presidio", "detect-secrets")]
        rows.append(f"| {corpus.replace('-', ', ')} | " + " | ".join(cells + ratios) + " |")
    if hyperscan is not None:
        rows += ["", f"Hyperscan has {len(hyperscan.compiled)} regular expressions of the two other peers; "
                 f"{hyperscan.left_out} more it cannot compile."]
    else:
        rows += ["", "Hyperscan: SKIPPED, there is no wheel of it for this machine."]
    return "\n".join(rows)
