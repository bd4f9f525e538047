"""Tables of where columns and rows lie: how far their entries go up one by one."""

from __future__ import annotations

from loopgrad.backends.llvm.products.tiling import SUFFIX, Tiling
from loopgrad.backends.llvm.products.writer import Writer
from loopgrad.backends.llvm.writing.text import I64, Module


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


def all_run(w: Writer, n: str) -> str:
    """Whether every vector of a full panel from column n on is a run in memory."""
    lanes, found = w.tiling.lanes, "true"
    for v in range(w.tiling.vectors):
        length = run(w, "%at_n", w.integer("add", n, v * lanes), str(lanes), 1)
        found = w.body.value(f"and i1 {found}, {w.compare('eq', length, lanes)}")
    return found


def emit_runs(module: Module, tiling: Tiling) -> None:
    """`loopgrad_runs_*(N, at_n, found)`: how many of the first columns stand in panels of which every
    vector is a run in memory.
    """
    table = module.pointer(I64)
    parameters = f"i64 %N, {table} %at_n, {table} %found"
    w = Writer(module, tiling, f"loopgrad_runs_{SUFFIX[tiling.real]}", parameters, inner=False)
    w.body.store(I64, "0", "%found")
    whole = w.integer("mul", w.integer("sdiv", "%N", tiling.width), tiling.width)

    def panel(n: str) -> None:
        known = w.compare("eq", w.body.load(I64, "%found"), n)
        w.where(
            known,
            lambda: w.where(
                all_run(w, n),
                lambda: w.body.store(I64, w.integer("add", n, tiling.width), "%found"),
            ),
        )

    w.loop(whole, panel, step=tiling.width)
    w.finish()
