"""Texts to measure throughput on: English, source code, Chinese, JSON records, logs; each plain and planted.

English and source code are this repository's own; the others are made. A planted text has one more line after every
twenty, out of the generator of the attack in `crates/awooop/tests/redact`. Everything follows from one seed.
"""

import itertools
import json
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "crates/awooop/tests/redact"))

import samples  # noqa: E402  the generator

SEED = 20260501
EVERY = 20  # lines between two planted ones
NAMES = ["english", "source", "chinese", "json", "log"]
SUBJECTS = ["客戶", "門市", "倉庫", "會計部門", "物流商", "店長", "採購人員", "系統"]
VERBS = ["已確認", "正在處理", "退回了", "完成了", "查詢了", "更新了", "延後了", "取消了"]
OBJECTS = ["這筆訂單", "本月的報表", "第三季的庫存", "新的報價單", "退貨申請", "出貨排程", "會員資料的格式", "促銷活動"]
TAILS = ["，預計明天下午回覆。", "，金額與上週相同。", "，請主管核准後再繼續。", "，目前沒有其他問題。", "，共 {n} 件，平均 {m} 元。"]


def lines_of(pattern, below="."):
    """Lines of the repository's files, in the order of their paths."""
    for path in sorted((ROOT / below).glob(pattern)):
        if "target" not in path.parts:
            yield from path.read_text(encoding="utf-8").splitlines()


def chinese(rng):
    while True:
        clauses = [rng.choice(SUBJECTS) + rng.choice(VERBS) + rng.choice(OBJECTS) for _ in range(3)]
        yield "，".join(clauses) + rng.choice(TAILS).format(n=rng.randrange(900), m=rng.randrange(9000))


def records(rng):
    for n in itertools.count():
        yield json.dumps({
            "order_id": n, "customer": f"C{rng.randrange(99999):05}", "sku_key": f"AB-{rng.randrange(65536):04x}",
            "amount": rng.randrange(30000) / 100, "placed_at": f"2026-05-{n % 28 + 1:02}T10:{n % 60:02}:07Z",
            "note": rng.choice(["left at the door", "請按電鈴", "call before delivery", ""]), "paid": n % 3 == 0,
        }, ensure_ascii=False, separators=(",", ":"))


def log(rng):
    for n in itertools.count():
        yield (f"2026-05-{n % 28 + 1:02}T10:{n % 60:02}:07.{rng.randrange(1000):03}Z INFO gateway::call{{run=0197-{n:08x} "
               f"tool=shop__top_customers}} answered in {rng.randrange(97)} ms, {rng.randrange(4096)} tokens, status 200")


def lines(name, rng):
    """Endless lines of one kind."""
    made = {"chinese": chinese, "json": records, "log": log}
    if name in made:
        return made[name](rng)
    return itertools.cycle(list(lines_of("*.md") if name == "english" else lines_of("crates/**/*.rs")) + (
        list(lines_of("docs/**/*.md")) if name == "english" else []))


def planted(name):
    """Endless lines with a secret or personal data in each."""
    for seed in itertools.count(SEED):
        for sample in samples.make(seed, 2000, evade=False):
            if sample.cls and "\n" not in sample.text:
                yield json.dumps({"note": sample.text}, ensure_ascii=False) if name == "json" else sample.text


def text(name, is_planted, size):
    """About `size` bytes of whole lines."""
    source, secrets = lines(name, random.Random(SEED)), planted(name)
    out, length = [], 0
    for at in itertools.count(1):
        line = next(source)
        out.append(line)
        length += len(line.encode()) + 1
        if is_planted and at % EVERY == 0:
            out.append(next(secrets))
            length += len(out[-1].encode()) + 1
        if length >= size:
            return "\n".join(out) + "\n"


def write(directory, size):
    """One file a corpus; their paths by name."""
    paths = {}
    for name in NAMES:
        for is_planted in (False, True):
            path = Path(directory, f"{name}{'-planted' if is_planted else ''}")
            path.write_text(text(name, is_planted, size), encoding="utf-8")
            paths[path.name] = path
    return paths
