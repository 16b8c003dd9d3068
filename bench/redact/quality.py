"""Precision and recall of AwoooP's redactor and of its peers.

On presidio-research's sentences: a find counts when it overlaps a marked span of its class. On the generator's samples,
plain and disguised: a value counts as masked when nothing of it can be read once the finds are blacked out; an innocent
text counts as a false alarm when anything is found in it. A peer is judged on the classes it knows.
"""

import collections
import json
import subprocess
import sys
from pathlib import Path

import corpora
import peers

sys.path.insert(0, str(corpora.ROOT / "crates/awooop/tests/redact"))

import judge  # noqa: E402
import samples  # noqa: E402

COUNT = 4000  # generated samples
PERSONAL = ["EMAIL", "PHONE", "CARD", "IBAN", "IP_ADDRESS"]
BLACK = "\u2588"


class Ours:
    name = "AwoooP"

    def __init__(self, program):
        self.program = program

    def find_all(self, texts):
        """Spans of characters for each text."""
        lines = "\n".join(json.dumps(text) for text in texts) + "\n"
        done = subprocess.run([self.program, "redact-spans"], input=lines, capture_output=True, text=True, check=True)
        return [in_characters(text, json.loads(line)) for text, line in zip(texts, done.stdout.splitlines(), strict=True)]


def in_characters(text, spans):
    data = text.encode()
    count = lambda at: len(data[:at].decode(errors="ignore"))
    return [(name, count(start), count(end)) for name, start, end in spans]


def find_all(contender, texts):
    if isinstance(contender, Ours):
        return contender.find_all(texts)
    return [contender.find(text) for text in texts]


def overlap(one, other):
    return one[1] < other[2] and other[1] < one[2]


def research(path):
    """Texts and their marked spans, in our names of classes."""
    rows = json.loads(Path(path).read_text(encoding="utf-8"))
    texts = [row["full_text"] for row in rows]
    marked = [
        [(peers.ENTITIES[s["entity_type"]], s["start_position"], s["end_position"])
         for s in row["spans"] if s["entity_type"] in peers.ENTITIES]
        for row in rows
    ]
    return texts, marked


def score(marked, found):
    """Class -> (marked, of them found, finds, of them right)."""
    scores = {}
    for name in PERSONAL:
        wanted = [[span for span in spans if span[0] == name] for spans in marked]
        given = [[span for span in spans if span[0] == name] for spans in found]
        hit = sum(any(overlap(w, g) for g in gs) for ws, gs in zip(wanted, given) for w in ws)
        right = sum(any(overlap(w, g) for w in ws) for ws, gs in zip(wanted, given) for g in gs)
        scores[name] = (sum(map(len, wanted)), hit, sum(map(len, given)), right)
    scores["all five"] = tuple(map(sum, zip(*scores.values())))
    return scores


def share(part, whole):
    return f"{part / whole:.3f}" if whole else "-"


def research_table(path, contenders):
    texts, marked = research(path)
    scores = {one.name: score(marked, find_all(one, texts)) for one in contenders}
    head = [f"{name} {what}" for name in scores for what in ("recall", "precision")]
    rows = ["| class | marked | " + " | ".join(head) + " |", "| --- |" + " --- |" * (len(head) + 1)]
    for name in [*PERSONAL, "all five"]:
        cells = []
        for one in scores.values():
            wanted, hit, given, right = one[name]
            cells += [share(hit, wanted), share(right, given)]
        rows.append(f"| {name} | {wanted} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def is_masked(sample, spans):
    """Whether nothing hidden can be read when the spans are blacked out."""
    chars = list(sample.text)
    for _, start, end in spans:
        chars[start:end] = BLACK * (end - start)
    return judge.survivor(sample, "".join(chars)) is None


def knows(contender, cls):
    if contender.name == "Presidio":
        return cls in PERSONAL
    return contender.name == "AwoooP" or cls not in samples.evasions.PERSONAL


def generated_table(contenders, seed):
    made = [s for s in samples.make(seed, COUNT) if s.cls != "several" and "behind" not in s.evasion]
    texts = [sample.text for sample in made]
    kinds = ("plain", "disguised")
    tallies = {}
    for one in contenders:
        tally = tallies[one.name] = collections.Counter()
        for sample, spans in zip(made, find_all(one, texts)):
            if not sample.cls:
                tally["innocent"] += bool(spans)
            elif is_masked(sample, spans):
                tally[sample.cls, kinds[sample.evasion != "none"]] += 1
    counts = collections.Counter((s.cls, kinds[s.evasion != "none"]) for s in made if s.cls)
    head = [f"{one.name} {kind}" for kind in kinds for one in contenders]
    rows = ["| class | plain / disguised | " + " | ".join(head) + " |", "| --- |" + " --- |" * (len(head) + 1)]
    for cls in sorted({cls for cls, _ in counts}):
        cells = [share(tallies[one.name][cls, kind], counts[cls, kind]) if knows(one, cls) else ""
                 for kind in kinds for one in contenders]
        rows.append(f"| {cls} | {counts[cls, 'plain']} / {counts[cls, 'disguised']} | " + " | ".join(cells) + " |")
    innocent = sum(1 for sample in made if not sample.cls)
    alarms = ", ".join(f"{one.name} {tallies[one.name]['innocent']}" for one in contenders)
    return "\n".join(rows + ["", f"Of {innocent} innocent texts something was found in: {alarms}."])


def run(program, data):
    """The tables as Markdown; without `data` the first is left out, and it says so."""
    ours, presidio, secrets = Ours(program), peers.Presidio(), peers.DetectSecrets()
    parts = ["### presidio-research, 1,500 sentences", ""]
    if data:
        parts.append(research_table(data, [ours, presidio]))
    else:
        parts.append("SKIPPED: AWOOOP_PRESIDIO_DATA does not name the data set (synth_dataset_v2.json).")
    parts += ["", f"### {COUNT:,} generated samples", "", generated_table([ours, presidio, secrets], corpora.SEED)]
    return "\n".join(parts)
