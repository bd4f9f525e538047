"""A module's text as several, whose code is generated at the same time and is the same."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.backends.llvm.compiling import ahead, engine, objects, parts
from loopgrad.backends.llvm.compiling.generating import APART
from loopgrad.backends.llvm.compiling.passes import EXPLICIT, LITERAL, Passes
from loopgrad.peers.problem import draw

LONG = "".join(f"  %v{n} = add i64 %v{n - 1}, {n}\n" for n in range(1, parts.LEAST))
PHASE = "define internal i64 @{name}(i64 %v0) noinline {{\n" + LONG + "{more}  ret i64 %v9\n}}\n"
HELPER = "define internal i64 @helper(i64 %n) alwaysinline {\n  ret i64 %n\n}\n"
CALL = "  %h = call i64 @helper(i64 %v1)\n"
ENTRY = """define i64 @entry(i64 %n) {
  %f = load ptr, ptr @table
  %a = call i64 %f(i64 %n)
  %b = call i64 @second(i64 %a)
  ret i64 %b
}
"""
TABLE = "@table = internal constant [1 x ptr] [ptr @first]\n"
PIECES = [
    "declare i64 @elsewhere(i64)",
    TABLE,
    HELPER,
    PHASE.format(name="first", more=CALL),
    PHASE.format(name="second", more=CALL),
    ENTRY,
]
TEXT = "\n".join(PIECES)


def test_phases_go_to_one_module_each_and_what_is_shared_to_both() -> None:
    first, second = parts.Parts().rest(PIECES, 2, {})
    assert [text.count("@helper(i64 %n)") for text in (first, second)] == [1, 1]
    assert first.count("declare i64 @elsewhere") == second.count("declare i64 @elsewhere") == 1
    assert "define i64 @entry" in first and "@entry" not in second
    moved = "first" if "define i64 @first" in second else "second"
    assert f"declare i64 @{moved}(i64 %v0) noinline \n" in first
    assert f"define i64 @{moved}(" in second and f"define internal i64 @{moved}(" not in first
    kept = "second" if moved == "first" else "first"
    assert f"define internal i64 @{kept}(" in first and f"@{kept}(" not in second
    assert "@table" in first and "@table" not in second


def test_a_phase_may_be_gone_before_the_entry_is_there() -> None:
    growing = parts.Parts()
    assert growing.begun([HELPER], {}) is None  # too short
    so_far = [HELPER, PHASE.format(name="first", more=CALL)]
    begun = growing.begun(so_far, {})
    assert begun is not None and "define i64 @first(" in begun and "@helper(i64 %n)" in begun
    assert growing.begun(so_far, {}) is None  # no more has come
    (rest,) = growing.rest(PIECES, 2, {})
    assert "declare i64 @first(i64 %v0) noinline \n" in rest and "define i64 @first" not in rest
    assert "define internal i64 @second(" in rest and "@helper(i64 %n)" in rest


RARE = """define internal i64 @rare(i64 %n) nounwind noinline optnone {
  ret i64 %n
}
"""
RUN = """define internal i64 @run(i64 %n) nounwind noinline optnone {
  %r = call i64 @first(i64 %n)
  ret i64 %r
}
"""


def test_what_is_not_optimised_is_with_the_entry() -> None:
    """Phases that are elsewhere call it there; what calls phases is no phase."""
    growing = parts.Parts()
    call = "  %r = call i64 @rare(i64 %v1)\n"
    so_far = [RARE, PHASE.format(name="first", more=call), RUN]
    begun = growing.begun(so_far, {})
    assert begun is not None and "define i64 @first(" in begun and "@run(" not in begun
    assert "declare i64 @rare(i64 %n)" in begun
    entry = "define i64 @entry(i64 %n) {\n  %a = call i64 @run(i64 %n)\n  ret i64 %a\n}\n"
    (own,) = growing.rest([*so_far, entry], 2, {})
    assert "define i64 @rare(" in own and "define i64 @run(" in own
    assert "declare i64 @first(" in own and "define i64 @first(" not in own


def test_what_is_optimised_otherwise_is_in_parts_of_its_own() -> None:
    kinds = {"second": "thoroughly"}
    plain, own = parts.Parts().rest(PIECES, 2, kinds)
    assert parts.defines(own, "second") and not parts.defines(own, "first")
    assert parts.defines(plain, "first") and not parts.defines(plain, "second")
    growing = parts.Parts()
    short = "define internal i64 @second(i64 %n) noinline {\n  ret i64 %n\n}\n"
    begun = growing.begun([HELPER, PHASE.format(name="first", more=CALL), short], kinds)
    assert begun is not None and parts.defines(begun, "second") and "@first" not in begun
    begun = growing.begun([HELPER, PHASE.format(name="first", more=CALL), short], kinds)
    assert begun is not None and parts.defines(begun, "first") and "@second" not in begun


@pytest.mark.skipif(not APART, reason="this LLVM has one context for all modules")
def test_one_phase_without_lanes_has_others_optimised_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[str, Passes]] = []
    ready = objects.ready

    def noted(part: str, passes: Passes, *others: object) -> objects.Ready:
        made.append((part, passes))
        return ready(part, passes, *others)

    monkeypatch.setattr(objects, "ready", noted)
    program = lg.program("""f(x[N], int w[N], size M) -> y[N], z[M]:
    for n:  y[n] = tanh(x[n])
    for n:  z[w[n]] += x[n]""")
    x, w = np.linspace(-1, 1, 9), np.arange(9) % 4
    before = lg.get_num_threads()
    lg.set_num_threads(2)
    try:
        y, z = program(x, w, M=4)
    finally:
        lg.set_num_threads(before)
    np.testing.assert_allclose(y, np.tanh(x), rtol=1e-15)
    np.testing.assert_allclose(z, np.bincount(w, x, 4), rtol=1e-15)
    own = {passes for part, passes in made if re.search(r"^define .*@phase\d", part, re.MULTILINE)}
    assert own == {EXPLICIT, LITERAL}


def test_there_are_not_many_more_parts_than_threads() -> None:
    names = [f"phase{n}" for n in range(20)]
    calls = "".join(f"  %r{n} = call i64 @{name}(i64 %n)\n" for n, name in enumerate(names))
    entry = f"define i64 @entry(i64 %n) {{\n{calls}  ret i64 %n\n}}\n"
    pieces = [*(PHASE.format(name=name, more="") for name in names), entry]
    for threads in (1, 2, 3, 8, 100):
        found = parts.Parts().rest(pieces, threads, {})
        assert 1 < len(found) <= 2 * threads + 1
        for name in names:
            assert (
                sum(f" @{name}(" in each and f"declare i64 @{name}(" not in each for each in found)
                == 1
            )


@pytest.mark.parametrize(
    "text",
    [
        HELPER + ENTRY.replace("@second", "@helper"),
        TEXT.replace(PHASE.format(name="second", more=CALL), HELPER.replace("helper", "second")),
        TEXT + "@counter = internal global i64 0\n",
    ],
    ids=["short", "one phase", "a variable"],
)
def test_what_stays_one(text: str) -> None:
    assert parts.Parts().rest([text], 2, {}) == (text,)


def test_pieces_or_one_text_make_the_same_parts() -> None:
    def words(found: tuple[str, ...]) -> list[list[str]]:
        return [text.split() for text in found]

    assert words(parts.Parts().rest(PIECES, 2, {})) == words(parts.Parts().rest([TEXT], 2, {}))


def test_what_runs_once_is_told_from_loops_and_from_what_is_short() -> None:
    once = PHASE.format(name="first", more="").replace("noinline", "noinline optnone")
    assert parts.runs_once("declare void @elsewhere()\n" + once)
    assert not parts.runs_once(once + HELPER)
    assert not parts.runs_once(PHASE.format(name="first", more=""))
    assert not parts.runs_once(ENTRY.replace("{", "noinline optnone {"))


def test_parts_are_made_by_whoever_is_free_and_in_their_order() -> None:
    crew = ahead.Crew()
    crew.add(lambda: b"a", threads=0)
    crew.add(*[lambda n=n: b"%d" % n for n in range(20)], threads=2)
    assert crew.codes() == (b"a", *(b"%d" % n for n in range(20)))


def test_why_a_part_failed_is_told() -> None:
    crew = ahead.Crew()
    crew.add(lambda: b"a", lambda: b"%d" % (1 // 0), threads=1)
    with pytest.raises(ZeroDivisionError):
        crew.codes()


@pytest.mark.skipif(not APART, reason="one context for all modules")
@pytest.mark.parametrize("name", ["batchnorm", "ugrnn"])
def test_the_same_is_computed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit; from the disk too."""
    monkeypatch.setenv("LOOPGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("LOOPGRAD_CACHE", raising=False)
    text = str(getattr(lg.lib, name))
    codes: list[int] = []
    read = engine.in_memory
    monkeypatch.setattr(
        engine, "in_memory", lambda found: (codes.append(len(found.codes)), read(found))[1]
    )

    def run() -> list[np.ndarray]:
        engine.forget()
        program = lg.program(text)
        problem = draw(program, dict.fromkeys(infer(program).extents, 5), dtype="float32")
        arrays = problem.inputs.values()
        results, pullback = lg.vjp(program, *arrays, **problem.keywords)
        seeds = [problem.seeds.get(n) for n in problem.results]
        found = results if isinstance(results, tuple) else (results,)
        return [a for a in (*found, *pullback(*seeds)) if a is not None]

    before = lg.get_num_threads()
    try:
        lg.set_num_threads(2)
        apart, kept = run(), run()
        assert max(codes) > 1
        with monkeypatch.context() as patch:
            patch.setattr(parts, "LEAST", 10**9)
            patch.setenv("LOOPGRAD_CACHE", "0")
            whole = run()
    finally:
        lg.set_num_threads(before)
    for found in (kept, whole):
        for one, other in zip(apart, found, strict=True):
            np.testing.assert_array_equal(one, other)
