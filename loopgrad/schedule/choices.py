"""What a user may choose of a schedule, in a few words: `"parallel t, vector k, rows 96, no products"`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from loopgrad.diagnostics import listing, suggestion

# The switches: what `no WORD` does without.
SWITCHES = {
    "fusion": "statements run in loops of their own",
    "products": "contractions run as loops, without the micro-kernel",
    "sharing": "nothing is computed once for several statements",
    "scan": "recurrences run step by step",
    "turning": "what is read across the lanes is read where it lies",
}
INDICES = {
    "parallel": "the index whose values threads share, where it can be",
    "vector": "the index that runs over lanes, where it can",
}
NUMBERS = {"rows": "of a product, worked on while they are in a cache: from 1 to 65536"}
MOST_ROWS = 65536


@dataclass(frozen=True, slots=True)
class Choices:
    """The schedule's own choices where nothing else is said.

    sizes: about how large extents are, where that is known: it decides which of two products is first.
    copies: the extents of indices that threads may share at the price of copies of what is added up over them
        (`copies.py`).
    few: the extents of rows of products that are few (`loops/few.py`).
    together: the tensors that products write whose images are small (`products/joining.py`).
    """

    fuse: bool = True
    products: bool = True
    share: bool = True
    scan: bool = True
    turn: bool = True
    parallel: str | None = None
    vector: str | None = None
    rows: int | None = None
    sizes: tuple[tuple[str, int], ...] = field(default=(), repr=False)
    copies: tuple[str, ...] = field(default=(), repr=False)
    few: tuple[str, ...] = field(default=(), repr=False)
    together: tuple[str, ...] = field(default=(), repr=False)


def choices_of(words: str) -> Choices:
    """The choices that a text makes; ValueError, with what there is, for what is none, and for another choice
    where there can be one.

    >>> choices_of("parallel t, rows 96, no products")
    Choices(fuse=True, products=False, share=True, scan=True, turn=True, parallel='t', vector=None, rows=96)
    """
    found = Choices()
    known: dict[str, str] = {}  # what each word that takes something stands with
    for phrase in filter(None, (part.strip() for part in words.split(","))):
        word, *_ = phrase.split()
        before = known.setdefault(word, phrase)
        if word != "no" and before.split() != phrase.split():
            raise ValueError(
                f"schedule: `{phrase}` comes after `{before}`, and there can be one `{word}`"
            )
        found = _chosen(found, phrase)
    return found


def _chosen(found: Choices, phrase: str) -> Choices:
    match phrase.split():
        case ["no", "fusion"]:
            return replace(found, fuse=False)
        case ["no", "products"]:
            return replace(found, products=False)
        case ["no", "sharing"]:
            return replace(found, share=False)
        case ["no", "scan"]:
            return replace(found, scan=False)
        case ["no", "turning"]:
            return replace(found, turn=False)
        case ["parallel", index]:
            return replace(found, parallel=index)
        case ["vector", index]:
            return replace(found, vector=index)
        case ["rows", number] if number.isdecimal() and 1 <= int(number) <= MOST_ROWS:
            return replace(found, rows=int(number))
        case [word, *_]:
            raise ValueError(f"schedule: {_wrong(word, phrase)}")
    raise AssertionError("phrases are not empty")


def _wrong(word: str, phrase: str) -> str:
    forms = [f"{w} INDEX" for w in INDICES] + [f"{w} N" for w in NUMBERS]
    forms += [f"no {w}" for w in SWITCHES]
    known = [*INDICES, *NUMBERS, "no", *SWITCHES]
    meant = suggestion(word, known)
    hint = f"; did you mean `{meant}`?" if meant and meant != word else ""
    return f"`{phrase}` is no choice{hint}; there are {listing(forms)}"
