"""Ways to write a value so that a plain search does not see it, while a reader or a program still does.

An evasion writes the hidden part anew; `None` means that it does not apply. Those of the whole text are in
`base64_around`. All are undone by `judge.plain`, which decides whether anything survived.
"""

import base64
import json

import contexts

INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"


def none(_rng, text):
    return text


def json_unicode(_rng, text):
    """Every character of a JSON string as `\\uXXXX`."""
    return "".join(f"\\u{ord(char):04x}" for char in text)


def json_unicode_some(rng, text):
    """A third of the characters as `\\uXXXX`, in upper case."""
    return "".join(f"\\u{ord(c):04X}" if rng.random() < 0.34 else contexts.json_escape(c) for c in text)


def percent(_rng, text):
    """Every byte as `%XX`."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


def percent_some(rng, text):
    """A third of the bytes as `%xx`, and all that a URL does not take."""
    return "".join(
        f"%{byte:02x}" if rng.random() < 0.34 or not chr(byte).isalnum() else chr(byte) for byte in text.encode()
    )


def invisible(rng, text):
    """One to four characters without a width inside."""
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(1, len(text))
        text = text[:at] + rng.choice(INVISIBLE) + text[at:]
    return text


def full_width(_rng, text):
    """Every ASCII character in its full-width form."""
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


def full_width_digits(_rng, text):
    return "".join(chr(ord(char) + 0xFEE0) if char.isdigit() and char.isascii() else char for char in text)


def typographic(rng, text):
    """Blanks and hyphens as a word processor sets them."""
    return text.replace(" ", rng.choice("\u00a0\u202f\u2009")).replace("-", rng.choice("\u2010\u2011\u2013"))


JSON_ONLY = {json_unicode, json_unicode_some}
PERCENT = {percent, percent_some}
PERSONAL_ONLY = {full_width_digits}
ALL = [json_unicode, json_unicode_some, percent, percent_some, invisible, full_width, full_width_digits,
       typographic]
PERSONAL = {"EMAIL", "PHONE", "NATIONAL_ID", "COMPANY_NUMBER", "CARD", "IBAN", "IP_ADDRESS"}


def choose(rng, value, context):
    """An evasion that the value and its context allow."""
    allowed = [
        evasion for evasion in ALL
        if (evasion not in JSON_ONLY or context.escapes[:1] == (contexts.json_escape,))
        and (evasion not in PERSONAL_ONLY or value.cls in PERSONAL)
        and (evasion is not typographic or (value.numeric and not value.text.isalnum()))
        and not (value.lines and evasion not in JSON_ONLY)
        and context.name != "json_number"
    ]
    return rng.choice(allowed) if allowed else none


def replaces(evasion, escapes):
    """Whether the evasion takes the place of the innermost escape."""
    return evasion in JSON_ONLY or (evasion in PERCENT and escapes[:1] == (contexts.quote,))


def base64_around(rng, text):
    """The whole text in base64, in an envelope; whether that is JSON."""
    data = text.encode()
    if rng.random() < 0.2:
        return f"Content-Transfer-Encoding: base64\r\n\r\n{base64.encodebytes(data).decode()}", False
    if rng.random() < 0.3:
        encoded = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    else:
        encoded = base64.b64encode(data).decode()
    return rng.choice([
        (json.dumps({"encoding": "base64", "content": encoded}), True),
        (f"payload: {encoded}\n", False),
        (f"data:text/plain;base64,{encoded}", False),
        (f"echo {encoded} | base64 -d", False),
    ])


def flood(rng):
    """A hundred kilobytes and more of what costs a decoder most: a value behind it must be found all the same."""
    noise = base64.b64encode(rng.randbytes(3000)).decode()
    return rng.choice([
        ("base64", "\n".join(base64.b64encode(rng.randbytes(90)).decode() for _ in range(1500))),
        ("one base64 run", noise * 60), ("percent", "%41%20" * 30_000), ("escapes", "\\u0041 \\u4e2d" * 10_000),
        ("invisible", "a\u200b" * 40_000), ("full width", "ＡＢＣ１２３ " * 8_000),
        ("token heads", "eyJhbGciOiJIUzI1NiJ9. " * 6_000),
        ("names", "password= token: " * 8_000), ("digits", "4111 1111 1111 1112 " * 6_000),
        ("at signs", "a@b.c " * 20_000),
    ])
