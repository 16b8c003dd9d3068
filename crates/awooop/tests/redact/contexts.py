"""The texts that values are planted in: prose, documents, logs, code.

A context gives a template in which `PLACE` stands for the value, and the escapes that the value takes on its way
in, innermost first. A JSON context must be a document before and after.
"""

import json
import urllib.parse
from typing import Callable, NamedTuple
from xml.sax.saxutils import escape as xml_escape

PLACE = "\ue000"


class Context(NamedTuple):
    """A template for one value, and how the value is written in it."""

    name: str
    template: str
    escapes: tuple = ()
    is_json: bool = False


def json_escape(text):
    return json.dumps(text, ensure_ascii=False)[1:-1]


def shell_escape(text):
    return text.replace("'", "'\\''")


def python_escape(text):
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")


def csv_escape(text):
    return text.replace('"', '""')


def quote(text):
    return urllib.parse.quote(text, safe="")


def dumps(document, indent=None):
    separators = (",", ":") if indent is None else None
    return json.dumps(document, ensure_ascii=False, separators=separators, indent=indent)


def chinese_prose(rng, label):
    noun, lead = rng.choice(label.chinese), rng.choice(["您好，", "客戶來電表示", "請協助處理：", "附上"])
    tail = rng.choice(["，請於三日內回覆，謝謝。", "。訂單金額為 1,280 元。", "，再麻煩確認。", "）"])
    return lead + f"{noun}{rng.choice(['：', '是', '為', ' ', '（'])}{PLACE}{tail}", ()


def english_prose(rng, label):
    noun = rng.choice(label.english)
    return rng.choice([
        f"Hello, the customer wrote that the {noun} is {PLACE}, and asked for a refund of 12.50 EUR.",
        f"{noun}: {PLACE}\nThank you for your patience.",
        f"We have noted ({noun} {PLACE}). The order leaves tomorrow.",
        f"Their {noun} - {PLACE} - was added yesterday.",
    ]), ()


def json_string(rng, label):
    document = {"id": rng.randrange(1000, 9999), rng.choice(label.keys): PLACE, "tags": ["a", "b"], "ok": True}
    return dumps(document, rng.choice([None, 2])), (json_escape,)


def json_text(rng, label):
    text = f"{rng.choice(label.keys)}: {PLACE}"
    return dumps({"role": "user", "content": [{"type": "text", "text": text}]}), (json_escape,)


def json_nested(rng, label):
    inner = dumps({"order": 17, rng.choice(label.keys): PLACE, "open": None})
    return dumps({"event": "call", "arguments": inner, "n": 3}), (json_escape, json_escape)


def json_nested_twice(rng, label):
    inner = dumps({"body": dumps({rng.choice(label.keys): PLACE, "n": 1})})
    return dumps([{"log": inner}]), (json_escape,) * 3


def json_key(rng, label):
    return dumps({rng.choice(label.keys): {PLACE: {"count": 2}}, "x": [1.5]}), (json_escape,)


def json_array(rng, label):
    return dumps({rng.choice(label.keys): [PLACE, "spare"], "n": 2}), (json_escape,)


def json_number(rng, label):
    return f'{{"{rng.choice(label.keys)}":{PLACE},"amount":12.5,"n":[1,2]}}', ()


def yaml(rng, label):
    key = rng.choice(label.keys)
    return f"server:\n  port: 8080\n  {key}: {rng.choice([PLACE, chr(34) + PLACE + chr(34)])}\n  debug: false\n", (
        python_escape,
    )


def toml(rng, label):
    return f'[server]\nport = 8080\n{rng.choice(label.keys)} = "{PLACE}"\n', (python_escape,)


def logfmt(rng, label):
    key = rng.choice(label.keys)
    return (f"ts=2026-05-01T10:00:07.123Z level=info msg=\"order placed\" {key}={PLACE} elapsed_ms=12 status=200",
            ())


def syslog(rng, label):
    return f"<34>1 2026-05-01T10:00:07Z host shop 4711 ID47 - {rng.choice(label.keys)}={PLACE} done", ()


def access_log(rng, label):
    key = rng.choice(label.keys)
    return f'shop-1 - - [01/May/2026:10:00:07 +0000] "GET /orders HTTP/1.1" 200 512 "-" "{key}={PLACE}"', ()


def python_code(rng, label):
    name = rng.choice(label.keys).replace("-", "_")
    return f'def main():\n    {name} = "{PLACE}"  # from the old system\n    return {name}\n', (python_escape,)


def javascript(rng, label):
    return f'const settings = {{ port: 8080, "{rng.choice(label.keys)}": "{PLACE}" }};\nexport default settings;', (
        python_escape,
    )


def rust_code(rng, label):
    name = rng.choice(label.keys).replace("-", "_")
    return f'fn main() {{\n    let {name} = "{PLACE}";\n    run({name}).unwrap();\n}}\n', (python_escape,)


def shell(rng, label):
    name = rng.choice(label.keys).replace("-", "_").replace(".", "_").upper()
    return f"#!/bin/sh\nset -e\n{name}='{PLACE}'\n./deploy \"${name}\"\n", (shell_escape,)


def env_file(rng, label):
    name = rng.choice(label.keys).replace("-", "_").replace(".", "_").upper()
    return f"PORT=8080\n{name}={PLACE}\nDEBUG=0\n", ()


def xml(rng, label):
    key = rng.choice(label.keys)
    return f'<?xml version="1.0"?>\n<order id="17"><{key}>{PLACE}</{key}><total>12.50</total></order>', (xml_escape,)


def markdown(rng, label):
    noun = rng.choice(label.english)
    return rng.choice([
        f"## Setup\n\n- {noun}: `{PLACE}`\n- port: 8080\n",
        f"| name | value |\n|---|---|\n| {noun} | {PLACE} |\n| port | 8080 |\n",
        f"The **{noun}** is **{PLACE}**.\n",
    ]), ()


def fenced(rng, label):
    return f"Run this:\n\n```\n{rng.choice(label.keys)}: {PLACE}\n```\n\nThen wait.\n", ()


def csv(rng, label):
    return f'id,{rng.choice(label.keys)},amount\n17,"{PLACE}",12.50\n18,"none",8.00\n', (csv_escape,)


def csv_bare(rng, label):
    return f"id,{rng.choice(label.keys)},amount\n17,{PLACE},12.50\n", ()


def url_query(rng, label):
    return f"GET https://shop.example.org/orders?page=2&{rng.choice(label.keys)}={PLACE}&sort=asc HTTP/1.1", (quote,)


def sql(rng, label):
    name = rng.choice(label.keys).replace("-", "_").replace(".", "_")
    return f"INSERT INTO orders (id, {name}) VALUES (17, '{PLACE}');", (lambda text: text.replace("'", "''"),)


def diff(rng, label):
    return f"@@ -1,3 +1,3 @@\n port: 8080\n-debug: true\n+{rng.choice(label.keys)}: {PLACE}\n", ()


def alone(_rng, _label):
    return PLACE, ()


# context, whether its value carries a name, whether it takes several lines
ALL = [
    (chinese_prose, True, True), (english_prose, True, True), (json_string, True, True), (json_text, True, True),
    (json_nested, True, True), (json_nested_twice, True, True), (json_key, False, True), (json_array, True, True),
    (yaml, True, True), (toml, True, True), (logfmt, True, False), (syslog, True, False), (access_log, True, False),
    (python_code, True, True), (javascript, True, True), (rust_code, True, True), (shell, True, True),
    (env_file, True, False), (xml, True, True), (markdown, True, True), (fenced, True, True), (csv, False, True),
    (csv_bare, False, False), (url_query, True, True), (sql, False, True), (diff, True, False), (alone, False, True),
]
# a value with one of these cannot stand bare in a context that has no quotes of its own
BARE = {logfmt: ' "', syslog: ' "', env_file: " \"'#", csv_bare: ',"', access_log: '"', diff: "", csv: ""}


def choose(rng, value):
    """A context that fits the value."""
    if value.number and rng.random() < 0.15:
        template, escapes = json_number(rng, value.label)
        return Context("json_number", template, escapes, is_json=True)
    while True:
        make, is_named, takes_lines = rng.choice(ALL)
        if (value.lines and not takes_lines) or (value.needs_label and not is_named):
            continue
        if any(char in value.text for char in BARE.get(make, "")):
            continue
        template, escapes = make(rng, value.label)
        return Context(make.__name__, template, escapes, is_json=make.__name__.startswith("json"))
