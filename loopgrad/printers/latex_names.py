r"""Names of the notation in LaTeX: `μ` is `\mu`, `s.grad` is `s^{\mathrm{grad}}`."""

from __future__ import annotations

import unicodedata

_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρςστυφχψωΓΔΘΛΞΠΣΥΦΨΩϑϕϖϱϵ",
        [
            "alpha",
            "beta",
            "gamma",
            "delta",
            "varepsilon",
            "zeta",
            "eta",
            "theta",
            "iota",
            "kappa",
            "lambda",
            "mu",
            "nu",
            "xi",
            "pi",
            "rho",
            "varsigma",
            "sigma",
            "tau",
            "upsilon",
            "varphi",
            "chi",
            "psi",
            "omega",
            "Gamma",
            "Delta",
            "Theta",
            "Lambda",
            "Xi",
            "Pi",
            "Sigma",
            "Upsilon",
            "Phi",
            "Psi",
            "Omega",
            "vartheta",
            "phi",
            "varpi",
            "varrho",
            "epsilon",
        ],
        strict=True,
    )
)
# Greek capitals that look like Latin ones have no macro.
_LOOKALIKES = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))
_SYMBOLS = {"ℓ": r"\ell", "ℵ": r"\aleph", "ℏ": r"\hbar", "ı": r"\imath", "ȷ": r"\jmath"}
_ACCENTS = {
    "\u0300": "grave",
    "\u0301": "acute",
    "\u0302": "hat",
    "\u0303": "tilde",
    "\u0304": "bar",
    "\u0306": "breve",
    "\u0307": "dot",
    "\u0308": "ddot",
    "\u030c": "check",
    "\u20d7": "vec",
}
_SPECIAL = {"_": r"\_", "·": r"\cdot "}


def tensor_name(name: str) -> tuple[str, bool]:
    """The name in LaTeX, and whether it carries a superscript (a dotted part or a prime).

    >>> tensor_name("x'.grad")
    ("{x'}^{\\\\mathrm{grad}}", True)
    """
    text, raised = "", False
    for part in name.split("."):
        core = part.rstrip("'")
        primes = part[len(core) :]
        if not text:
            text = word(core)
        elif core == "dot" and not raised:
            text = rf"\dot{{{text}}}"
        else:
            text = rf"{_closed(text, raised)}^{{\mathrm{{{_escaped(core)}}}}}"
            raised = True
        if primes:
            text, raised = f"{_closed(text, raised)}{primes}", True
    return text, raised


def _closed(text: str, raised: bool) -> str:
    """A second superscript has to go onto a group, not onto the first one's base."""
    return f"{{{text}}}" if raised else text


def word(name: str) -> str:
    """One undotted, unprimed part of a name, in mathematics."""
    letters = _letters(name)
    if len(letters) == 1:
        return letters[0]
    foreign = [c.startswith(r"\text") for c in letters]
    if any(foreign) and all(f or c.isalnum() for f, c in zip(foreign, letters, strict=True)):
        return rf"\text{{{name}}}"
    if any(c.startswith("\\") and c not in _SPECIAL.values() for c in letters):
        return "{" + " ".join(letters) + "}"
    return rf"\mathit{{{''.join(letters)}}}"


def upright(name: str) -> str:
    r"""A program's name, as an operator: `\operatorname{softmax}`."""
    return rf"\operatorname{{{_escaped(name)}}}"


def _letters(name: str) -> list[str]:
    letters: list[str] = []
    for c in unicodedata.normalize("NFD", name):
        if unicodedata.combining(c):
            accent = _ACCENTS.get(c)
            if accent and letters:
                letters[-1] = rf"\{accent}{{{letters[-1]}}}"
        else:
            letters.append(_letter(c))
    return letters


def _letter(c: str) -> str:
    if c in _GREEK:
        return rf"\{_GREEK[c]}"
    if c in _SYMBOLS:
        return _SYMBOLS[c]
    plain = _LOOKALIKES.get(c) or unicodedata.normalize("NFKC", c)
    if plain.isascii():
        return "".join(_SPECIAL.get(p, p) for p in plain)
    if plain != c and all(p in _GREEK for p in plain):
        return " ".join(rf"\{_GREEK[p]}" for p in plain)
    return rf"\text{{{plain}}}"


def _escaped(name: str) -> str:
    """The name in a text-like font: Latin letters as they are, Greek ones by their macros."""
    pieces = (
        letter + " " if letter[:1] == "\\" and letter[-1:].isalpha() else letter
        for letter in _letters(name)
    )
    return "".join(pieces).strip()
