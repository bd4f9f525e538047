"""Mistakes of notation in a claim's text, as findings: what kind each of them is."""

from __future__ import annotations

import re

from loopgrad.checking.findings import Finding, Kind
from loopgrad.diagnostics import Diagnostic

# What a diagnostic says of a mistake -> its kind; the first that fits.
PHRASES: tuple[tuple[str, Kind], ...] = (
    (r"is neither an index of the `for`", "unbound index"),
    (r"is not bound by a loop", "unbound index"),
    (r"there is no tensor", "unknown name"),
    (r"has (no axes|\d+ ax[ei]s),? .*subscript", "wrong rank"),
    (r"stands without subscripts", "wrong rank"),
    (r"which has no subscripts", "wrong rank"),
    (r"is (read before it is complete|changed after it was read)", "read before complete"),
    (r"while this statement is still writing", "read before complete"),
    (r"while later turns of `[^`]*` still change it", "read before complete"),
    (r"(reads|writes) axis \d+ of", "out of range"),
    (r"writes .* more than once", "written twice"),
    (r"has two extents", "wrong subscript"),
    (r"is updated with", "wrong operation"),
    (r"the range of index", "wrong range"),
    (r"no statement computes", "missing term"),
    (r"(input|param) .* is never written|is an input", "wrong tensor"),
)


def kind_of(diagnostic: Diagnostic) -> Kind:
    for phrase, kind in PHRASES:
        if re.search(phrase, diagnostic.found):
            return kind
    return "notation"


def finding_of(diagnostic: Diagnostic) -> Finding:
    """The mistake as a finding without a mend, which the statements around it may yet give."""
    return Finding(
        kind_of(diagnostic), diagnostic.found, diagnostic.span, None, note=diagnostic.help
    )
