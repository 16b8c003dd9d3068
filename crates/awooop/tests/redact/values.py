"""What a planted value is, and the random material that values are made of.

A `Value` knows its text, which parts of it must not survive, and how much of a part may: a run of `leak`
characters of a hidden part in the answer is a survivor. `Label` is how a context may name the value; a value
that cannot be known without its name says so with `needs_label`.
"""

import string
from typing import NamedTuple

LOWER = string.ascii_lowercase
UPPER = string.ascii_uppercase
DIGITS = string.digits
ALNUM = string.ascii_letters + DIGITS
HEX = DIGITS + "abcdef"
BASE32 = UPPER + "234567"
BASE62 = DIGITS + UPPER + LOWER  # the order of GitHub's checksum
BASE64 = ALNUM + "+/"
URLSAFE = ALNUM + "-_"


class Label(NamedTuple):
    """Names of a value: in code, in English prose, in Chinese prose."""

    keys: tuple
    english: tuple
    chinese: tuple


NEUTRAL = Label(("note", "value", "ref", "memo", "field1"), ("value", "entry"), ("內容", "備註"))


class Value(NamedTuple):
    """A text to plant, with the parts that must be masked."""

    cls: str
    form: str
    text: str
    hidden: tuple
    label: Label = NEUTRAL
    needs_label: bool = False
    leak: int = 8
    lines: bool = False  # spans lines that a context has to carry
    numeric: bool = False  # compared without separators and case
    number: bool = False  # may stand as a JSON number


def pick(rng, alphabet, count):
    """`count` random characters; with letters and digits in the alphabet there are two kinds in the result."""
    while True:
        text = "".join(rng.choice(alphabet) for _ in range(count))
        kinds = [set(text) & set(kind) for kind in (LOWER, UPPER, DIGITS) if set(alphabet) & set(kind)]
        if count < 8 or all(kinds):
            return text


def token(cls, form, text, **more):
    """A value that is hidden whole."""
    return Value(cls, form, text, (text,), **more)


def phrase(cls, form, text, *hidden, **more):
    """A value whose hidden parts stand in a text of their own."""
    assert all(part in text for part in hidden), form
    return Value(cls, form, text, hidden, leak=min(8, *(len(part) for part in hidden)), **more)


def base62(number, width):
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits.rjust(width, "0")


def luhn_digit(body):
    """The digit that makes `body` pass ISO/IEC 7812-1."""
    total = 0
    for at, char in enumerate(reversed(body)):
        digit = int(char) * (2 if at % 2 == 0 else 1)
        total += digit - 9 if digit > 9 else digit
    return str(-total % 10)


def grouped(text, sizes, separator):
    """`text` in groups; the last size repeats."""
    groups, at, sizes = [], 0, list(sizes)
    while at < len(text):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        groups.append(text[at : at + size])
        at += size
    return separator.join(groups)
