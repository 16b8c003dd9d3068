"""Attacks `awooop redact`: plants secrets and personal data in texts, and lists what survives.

usage: main.py check BINARY [--seed N] [--count N] [--personal WORD] [--show N] [--only CLASS …]
       main.py print [--seed N] [--count N]
`check` runs BINARY once over all samples, each a file of its own, and exits with 1 when a planted value is left, an
innocent text was changed, or a document is none any more. `print` writes the samples as JSON lines. The same seed
and count give the same samples.
"""

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import judge
import samples

SEED, COUNT = 20260501, 5000
BORDER = "\x00--- the border between two samples ---\x00"


def redact(binary, texts, personal):
    """What the program makes of each text."""
    with tempfile.TemporaryDirectory() as directory:
        border = Path(directory, "border")
        border.write_text(BORDER, encoding="utf-8")
        paths = []
        for at, text in enumerate(texts):
            path = Path(directory, str(at))
            path.write_bytes(text.encode())
            paths += [str(path), str(border)]
        command = [binary, "redact", "--personal", personal, *paths]
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=300)
    if done.returncode != 0:
        sys.exit(f"{binary} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    answers = done.stdout.decode().split(BORDER)
    if len(answers) != len(texts) + 1 or answers[-1]:
        sys.exit(f"{len(texts)} texts went in, {len(answers) - 1} came out")
    return answers[:-1]


def fault(sample, answer):
    """What is wrong with an answer; `None` if nothing is."""
    if not sample.cls:
        return None if answer == sample.text else "innocent text was masked"
    if judge.survivor(sample, answer) is not None:
        return "survived" if answer == sample.text else "survived in part"
    if sample.is_json:
        broken = judge.broken_document(sample.text, answer)
        return broken and f"document {broken}"
    return None


def report(made, faults, show):
    """Faults by class and evasion, with how many of the samples alike they are."""
    alike = collections.Counter((sample.cls, sample.evasion, sample.form) for sample in made)
    groups = collections.defaultdict(list)
    for sample, answer, what in faults:
        groups[what, sample.cls or "innocent", sample.evasion].append((sample, answer))
    for (what, cls, evasion), group in sorted(groups.items()):
        print(f"{what}: {cls}, evasion {evasion}: {len(group)}")
        forms = collections.defaultdict(list)
        for sample, answer in group:
            forms[sample.form].append((sample, answer))
        for form, members in sorted(forms.items(), key=lambda item: -len(item[1])):
            contexts = ", ".join(sorted({sample.context for sample, _ in members}))
            of = alike[members[0][0].cls, evasion, form]
            print(f"  {form}: {len(members)} of {of}, in {contexts}")
            for sample, answer in members[:show]:
                print(f"      from {sample.text[:400]!r}\n      to   {answer[:400]!r}")


def check(options):
    made = samples.make(options.seed, options.count)
    if options.only:
        made = [sample for sample in made if sample.cls in options.only]
    answers = redact(options.binary, [sample.text for sample in made], options.personal)
    faults = [(s, a, what) for s, a in zip(made, answers) if (what := fault(s, a)) is not None]
    report(made, faults, options.show)
    planted = sum(1 for sample in made if sample.cls)
    innocent = len(made) - planted
    masked = sum(1 for sample, _, _ in faults if not sample.cls)
    print(f"seed {options.seed}: {planted} planted, {len(faults) - masked} at fault; "
          f"{innocent} innocent, {masked} masked")
    return 1 if faults else 0


def show(options):
    for sample in samples.make(options.seed, options.count):
        print(json.dumps(sample._asdict(), ensure_ascii=False))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="run a program over the samples and judge its answers")
    checking.add_argument("binary", help="the built awooop")
    checking.add_argument("--personal", default="mask", help="what is done with personal data")
    checking.add_argument("--only", nargs="*", metavar="CLASS", help="only samples of these classes")
    checking.add_argument("--show", type=int, default=1, help="examples of each group of faults")
    checking.set_defaults(run=check)
    printing = commands.add_parser("print", help="write the samples as JSON lines")
    printing.set_defaults(run=show)
    for command in (checking, printing):
        command.add_argument("--seed", type=int, default=SEED, help="the samples' seed")
        command.add_argument("--count", type=int, default=COUNT, help="how many samples")
    options = parser.parse_args()
    sys.exit(options.run(options))


if __name__ == "__main__":
    main()
