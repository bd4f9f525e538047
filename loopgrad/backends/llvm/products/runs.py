"""Tables of where columns and rows lie: how far their entries go up one by one."""

from __future__ import annotations

from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.text import I64


def entry(w: Writer, table: str, number: str) -> str:
    return w.body.load(I64, w.body.element(I64, table, number))


def run(w: Writer, table: str, begin: str, limit: str, step: int) -> str:
    """How many of the table's entries from `begin` on, of so many, go up by the step; 0 of none."""
    at = w.body
    mark = at.fresh("run")
    none = w.compare("slt", limit, 1)
    at.branch(none, f"{mark}.none", f"{mark}.start")
    at.start(f"{mark}.start")
    base = entry(w, table, begin)
    started = at.block
    at.jump(f"{mark}.next")
    at.start(f"{mark}.next")
    length, complete = at.phi_later(I64)
    more = w.compare("slt", length, limit)
    at.branch(more, f"{mark}.look", f"{mark}.end")
    at.start(f"{mark}.look")
    found = entry(w, table, w.integer("add", begin, length))
    expected = w.integer("add", base, w.integer("mul", length, step) if step > 1 else length)
    follows = w.compare("eq", found, expected)
    longer = w.integer("add", length, 1)
    at.branch(follows, f"{mark}.again", f"{mark}.end")
    at.start(f"{mark}.again")
    complete(("1", started), (longer, at.block))
    at.jump(f"{mark}.next")
    at.start(f"{mark}.none")
    at.jump(f"{mark}.end")
    at.start(f"{mark}.end")
    return at.phi(I64, (length, f"{mark}.next"), (length, f"{mark}.look"), ("0", f"{mark}.none"))
