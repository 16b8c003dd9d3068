"""Planted values in contexts, and innocent texts, from a seed: the same seed and size give the same samples."""

import random
from typing import NamedTuple

import contexts
import evasions
import innocent
import named
import personal
import tokens

EVADED = 0.4  # of the samples with a value
BASE64 = 0.15  # of those
SHORTEST_ENCODED = 15
INNOCENT = 0.2  # of all samples
CROWDS = 0.03
FLOODED = 0.003


class Sample(NamedTuple):
    """A text and what is known about it; `cls` is empty when everything must stay."""

    cls: str
    form: str
    context: str
    evasion: str
    text: str
    hidden: tuple = ()
    template: str = ""
    leak: int = 8
    numeric: bool = False
    is_json: bool = False


def plant(rng, value, evade=True):
    context = contexts.choose(rng, value)
    is_evaded = evade and rng.random() < EVADED
    around = is_evaded and rng.random() < BASE64 and not value.lines
    evasion = evasions.choose(rng, value, context) if is_evaded and not around else evasions.none
    template, text = write(rng, value, context, evasion)
    is_json = context.is_json
    # a shorter text in base64 is not told from a word
    around = around and len(text.encode()) >= SHORTEST_ENCODED
    if around:
        text, is_json = evasions.base64_around(rng, text)
    name = "base64_around" if around else evasion.__name__
    return Sample(value.cls, value.form, context.name, name, text, value.hidden, template, value.leak, value.numeric,
                  is_json)


def write(rng, value, context, evasion):
    """The template with nothing hidden in it, and with the value."""
    inner, escapes = str, context.escapes
    if evasions.replaces(evasion, escapes):
        inner, escapes = escapes[0], escapes[1:]
    text, around = "", ""
    for piece in parts(value):
        text += evasion(rng, piece) if piece in value.hidden else inner(piece)
        around += " " if piece in value.hidden else inner(piece)
    for escape in escapes:
        text, around = escape(text), escape(around)
    return context.template.replace(contexts.PLACE, around), context.template.replace(contexts.PLACE, text)


def crowd(rng, values):
    """Several values in one text."""
    values = [value for value in values if not value.lines and '"' not in value.text][-rng.randrange(2, 5) :]
    members = [(rng.choice(value.label.keys), value.text) for value in values]
    is_json = rng.random() < 0.5
    if is_json:
        text = contexts.dumps({f"{at}": {name: text} for at, (name, text) in enumerate(members)})
        template = contexts.dumps({f"{at}": {name: ""} for at, (name, _) in enumerate(members)})
    else:
        text = "".join(f'{name}="{text}"; ' for name, text in members)
        template = "".join(f'{name}=""; ' for name, _ in members)
    form = " + ".join(sorted({value.cls for value in values}))
    hidden = tuple(part for value in values for part in value.hidden)
    context = "json_crowd" if is_json else "crowd"
    return Sample("several", form, context, "none", text, hidden, template, is_json=is_json)


def flooded(rng, value):
    """A value behind much that is costly to read."""
    sample = plant(rng, value, evade=True)
    name, noise = evasions.flood(rng)
    return sample._replace(text=f"{noise}\n{sample.text}", evasion=f"{sample.evasion} behind {name}", is_json=False)


def parts(value):
    """The value's text, cut into what is hidden and what is not."""
    pieces = [value.text]
    for hidden in sorted(set(value.hidden), key=len, reverse=True):
        cut = []
        for piece in pieces:
            if piece in value.hidden:
                cut.append(piece)
                continue
            before, *after = piece.split(hidden)
            cut.append(before)
            for rest in after:
                cut += [hidden, rest]
        pieces = cut
    return pieces


def stay(rng):
    form, text = innocent.choose(rng)
    return Sample("", form, "as it is", "none", text)


def make(seed, count, evade=True):
    """`count` samples; every form comes before any comes again."""
    rng, made, values = random.Random(seed), [], []
    while len(made) < count:
        if rng.random() < INNOCENT:
            made.append(stay(rng))
            continue
        if not values:
            values = [value for room in (tokens, named, personal) for value in room.make(rng)]
            rng.shuffle(values)
        chance = rng.random() if evade else 1
        if chance < FLOODED:
            made.append(flooded(rng, values.pop()))
        elif chance < CROWDS:
            made.append(crowd(rng, values))
        else:
            made.append(plant(rng, values.pop(), evade))
    return made
