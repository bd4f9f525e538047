"""What is derived of a program is found again by the next process, and changes nothing."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.compiling import engine, known
from loopgrad.backends.llvm.writing.layout import Layout, Variant
from loopgrad.cache import answers, files
from loopgrad.frontend.library import StandardLibrary, standard_library
from loopgrad.frontend.parser import parse
from loopgrad.frontend.unfold import unfold
from loopgrad.ir.deferred import PACKED
from loopgrad.ir.memo import FINAL
from loopgrad.ir.nodes import Statement
from loopgrad.pipeline import compile_returning, stable

SOFTMAX = """softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
"""
GATHER = """gather(x[N], int at[M]) -> y[M]:
    # taken
    y[m] = 2 * x[at[m]]
"""
PRODUCT = """product(A[I,K], B[K,J]) -> C[I,J]:
    C[i,j] += A[i,k] * B[k,j]
"""

# Derives, compiles and calls; prints what came out, what the cache said, and what was imported.
CHILD = """
import json, sys
import numpy as np, loopgrad as lg
from loopgrad.cache import files
found = []
for text, inputs in (({softmax!r}, (np.arange(6.0).reshape(2, 3),)), ({product!r}, (np.ones((2, 3)), np.ones((3, 5)))),
                     ({gather!r}, (np.ones(3), [2]))):
    program = lg.program(text)
    result, pullback = lg.vjp(program, *inputs)
    found += [result.tolist(), pullback(result)[0].tolist(), program(*inputs).tolist()]
heavy = [
    name for name in sys.modules
    if name.startswith(tuple("loopgrad." + part for part in (
        "stable", "grad", "simplify", "schedule", "frontend.", "analysis.", "backends.llvm.emit",
        "backends.llvm.products.modules", "backends.llvm.products.kernel",
    ))) and name not in ("loopgrad.frontend.library", "loopgrad.analysis.facts")
]
try:
    program(np.ones(3), [5])
except IndexError as error:
    found.append(str(error))
print(json.dumps([found, dict(files.counts), heavy]))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LOOPGRAD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("LOOPGRAD_CACHE", raising=False)
    for thread in threading.enumerate():
        if thread.name.startswith("loopgrad"):  # what a test before began is kept here, too
            thread.join()
    engine.forget()
    files.counts.clear()
    yield tmp_path / "cache"
    files.counts.clear()


def run(seed: int) -> tuple[list[object], dict[str, int], list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(softmax=SOFTMAX, product=PRODUCT, gather=GATHER)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
    )
    found, counts, heavy = json.loads(done.stdout)
    return found, counts, heavy


def test_the_second_process_derives_and_compiles_nothing(folder: Path) -> None:
    """Whatever the order in its sets; also an error names its place as before."""
    found, counts, _ = run(1)
    assert counts["stored pair"] == 3
    again, counts, heavy = run(2)
    assert again == found
    assert "line 3" in str(found[-1])
    assert [name for name in counts if not name.startswith("hit")] == []
    kinds = "text stable pair shaping origin object".split()
    assert {f"hit {kind}" for kind in kinds} <= set(counts)
    assert heavy == []


def test_a_form_from_the_disk_is_the_form(folder: Path) -> None:
    made, read = (stable(lg.program(SOFTMAX)) for _ in range(2))
    assert {files.counts[f"{what} stable"] for what in ("miss", "stored", "hit")} == {1}
    assert validate(made) == validate(read)
    assert infer(made).tensors == infer(read).tensors
    assert made == read
    assert made is not read
    assert str(made) == str(read)


def test_a_simplified_program_from_the_disk_tells_its_steps(folder: Path) -> None:
    backwards = [lg.program(SOFTMAX).backward() for _ in range(2)]
    made, read = (backward.simplify() for backward in backwards)
    assert {files.counts[f"{what} simplified"] for what in ("miss", "stored", "hit")} == {1}
    assert made == read
    assert made is not read
    assert read.primal is backwards[1].primal
    assert made.derivation
    assert str(made.derivation) == str(read.derivation)


def test_a_program_that_is_the_simplest_is_known_to_be(folder: Path) -> None:
    for _ in range(2):
        program = lg.program("double(x[N]) -> y[N]:\n    for n:  y[n] += 2 * x[n]")
        assert program.simplify() is program
        assert not program.derivation
    assert files.counts["hit simplified"] == 1


def test_what_code_is_there_for_is_not_looked_at(folder: Path) -> None:
    """The statements of a program whose code is there stay packed."""
    for _ in range(2):
        program = lg.program(PRODUCT)
        program(np.ones((2, 3)), np.ones((3, 5)))
        engine.forget()
    assert PACKED in stable(program).__dict__
    assert "statements" not in stable(program).__dict__


def test_places_are_part_of_what_is_asked(folder: Path) -> None:
    """A program that stands a line lower has errors that say so."""
    lower = lg.program("\n\n" + GATHER)
    for program, line in ((lg.program(GATHER), 3), (lower, 5)):
        with pytest.raises(IndexError, match=f"line {line}: "):
            program(np.ones(2), [7])
    # And the code is the same: the fast one, and the literal one that says what is wrong.
    assert files.counts["hit code"] == 2


@pytest.mark.parametrize(
    "contents", [b"", b"no pickle", pickle.dumps(os.getcwd), pickle.dumps(3)[:-1]]
)
def test_what_cannot_be_read_is_made_anew(
    folder: Path, contents: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "read", lambda kind, key: contents)
    assert answers.kept("test", (1, "a"), lambda: "made") == "made"
    assert files.counts["unreadable test"] == 1


@pytest.mark.parametrize(
    "value", [os.getcwd, lg.compile, Path(), np.ones(2)], ids=lambda v: type(v).__name__
)
def test_only_records_are_read(value: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="is no record"):
        answers.read(pickle.dumps(value))


def test_equal_values_are_spelled_alike() -> None:
    """Whether two parts are one object does not count."""
    name = "".join(["sha", "red"])
    assert answers.spelled((name, name)) == answers.spelled((name, "".join(["shar", "ed"])))
    [first], [second], [lower] = parse(SOFTMAX), parse(SOFTMAX), parse("\n" + SOFTMAX)
    assert answers.spelled(first) == answers.spelled(pickle.loads(pickle.dumps(second)))
    assert answers.spelled(first) != answers.spelled(lower)


def test_a_hash_is_remembered_and_not_kept() -> None:
    """Another process has others."""
    [program] = parse(SOFTMAX)
    value = program.statements[1].value  # type: ignore[union-attr]
    known = hash(value)
    for copied in (pickle.loads(pickle.dumps(value)), answers.read(answers.written(value))):
        assert not hasattr(copied, "_hash")
        assert (copied, hash(copied)) == (value, known)


def test_a_program_of_a_text_is_named_by_it() -> None:
    """Which is shorter than it is. What is made of it has no such name."""
    program, same = lg.program(SOFTMAX), lg.program(SOFTMAX)
    assert program.__dict__[answers.ORIGIN] == same.__dict__[answers.ORIGIN]
    assert len(answers.spelled(program)) < 200 < len(answers.spelled(program.returning("Z")))


def test_what_goes_along_with_a_program_is_what_is_known_of_it() -> None:
    program = lg.program(SOFTMAX)
    functions = (unfold, infer, validate)
    names = {f"_{f.__module__}.{f.__name__}" for f in functions} | {FINAL, answers.ORIGIN}
    assert names == set(answers.KNOWN)
    assert names - {FINAL} <= set(program.__dict__)
    again = answers.read(answers.written(program))
    assert again == program
    assert set(again.__dict__) >= names - {FINAL}
    assert infer(again).program is again or infer(again).program == infer(program).program


def test_warnings_are_given_again(folder: Path) -> None:
    text = "f(x[N], y[N]) -> z[N]:\n    z[n] = x[n]"
    for _ in range(2):
        with pytest.warns(lg.ProgramWarning, match="`y`"):
            lg.program(text)
    assert "stored text" not in files.counts


def test_mistakes_are_found_again(folder: Path) -> None:
    for _ in range(2):
        with pytest.raises(lg.ProgramError):
            lg.program("f(x[N]) -> z[N]:\n    z[n] = y[n]")
    assert "stored text" not in files.counts


def test_programs_that_call_others(folder: Path) -> None:
    twice = "twice(x[B,J]) -> y[B,J]:\n    y[b,j] = 2 * x[b,j]"
    text = twice + "\n\nf(x[B,J]) -> z[B,J]:\n    y = twice(x)\n    z = gelu(y)"
    made, read = (lg.program(text) for _ in range(2))
    assert files.counts["hit text"] == 1
    assert made == read
    assert str(made) == str(read)
    inputs = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(made(inputs), read(inputs))


def test_a_file_without_the_code_it_names_is_no_loss(folder: Path) -> None:
    inputs = np.arange(6.0).reshape(2, 3)
    expected = lg.program(SOFTMAX)(inputs)
    engine.forget()
    for file in folder.glob("object-*"):
        file.unlink()
    np.testing.assert_array_equal(lg.program(SOFTMAX)(inputs), expected)
    assert files.counts["hit code"] == 1
    assert files.counts["stored object"] == 2


def test_the_key_of_code_holds_all_that_its_text_depends_on() -> None:
    def key(text: str, variant: Variant, optimize: bool = True) -> str:
        return known.key_of(lg.compile(lg.program(text), optimize=optimize).task, variant)

    usual = Variant("float", False, False)
    found = [key(SOFTMAX, usual), key(SOFTMAX, usual, optimize=False), key(GATHER, usual)]
    found += [
        key(SOFTMAX, Variant("double", False, False)),
        key(SOFTMAX, Variant("float", True, False)),
    ]
    found += [key(SOFTMAX, Variant("float", False, True)), key(SOFTMAX.replace("/", "*"), usual)]
    assert len(set(found)) == len(found)
    assert key("\n" + SOFTMAX, usual) == found[0]


def test_sites_are_numbered_alike_when_the_text_is_written_again() -> None:
    runner = lg.compile(lg.program(GATHER), optimize=False).runner
    first, second = (Layout(runner.task, Variant("double", False, False)) for _ in range(2))
    from loopgrad.backends.llvm import _emit

    assert _emit(runner.task, first) == _emit(runner.task, second)
    assert len(first.sites) == len(second.sites) > 0


def test_what_is_nested_too_deeply_is_not_kept(folder: Path) -> None:
    nested: tuple[object, ...] = ()
    for _ in range(100_000):
        nested = (nested,)
    assert answers.kept("test", nested, lambda: "made") == "made"
    assert answers.kept("test", "given", lambda: nested) is nested
    assert files.counts == {"miss test": 1}
    while nested:  # let go of it level by level: all at once is too deep
        nested = nested[0]  # type: ignore[assignment]


def test_the_library_from_the_disk_is_the_library(folder: Path) -> None:
    made, read = StandardLibrary(), StandardLibrary()
    for name in ("softmax", "lstm_cell", "ugrnn"):
        assert made[name] == read[name]
        assert str(made[name]) == str(read[name])
        assert read[name].__dict__["is_library"]
    assert files.counts["hit library"] == files.counts["miss library"]


def test_a_program_of_the_library_is_read_without_the_others_of_its_file() -> None:
    """And stands where it stands in the file."""
    for family in ("recurrent", "losses"):
        texts = standard_library._texts
        whole = parse(texts[f"{family}.loops"], "file", library=standard_library)
        assert len(whole) > 5
        for one in whole:
            found = StandardLibrary()[one.name]
            assert found == one
            assert [_place(s) for s in found.statements] == [_place(s) for s in one.statements]


def _place(statement: Statement) -> tuple[int, int]:
    assert statement.span is not None
    return statement.span.start, statement.span.end


def test_statements_are_read_when_they_are_asked_for(folder: Path) -> None:
    made = lg.program(GATHER)
    validate(made)
    read = lg.program(GATHER)
    safety = read.__dict__["_loopgrad.analysis.validity.validate"]
    assert "statements" not in vars(read)
    assert "in_range" not in vars(safety)
    assert (read.name, read.inputs, read.results) == (made.name, made.inputs, made.results)
    assert "statements" not in vars(read)
    assert read == made
    assert safety == validate(made)
    span = read.statements[0].span
    assert span is not None
    assert span.source.text == GATHER
    assert read.__getstate__().keys() == made.__getstate__().keys()  # type: ignore[attr-defined]
    for record in (made, read, safety):
        with pytest.raises(AttributeError, match="nothing"):
            record.nothing  # noqa: B018


def test_a_program_from_the_disk_can_be_copied_before_it_is_looked_at(folder: Path) -> None:
    made = lg.program(GATHER)
    for copied in (copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p)), replace):
        assert copied(lg.program(GATHER)) == made


def test_a_code_is_found_by_where_its_program_comes_from(folder: Path) -> None:
    """Also where there is no such file yet; and one that names what is not there is no loss."""
    inputs = np.arange(6.0).reshape(2, 3)
    expected = lg.program(SOFTMAX)(inputs)
    for file in folder.glob("origin-*"):
        file.unlink()
    for _ in range(2):
        engine.forget()
        np.testing.assert_array_equal(lg.program(SOFTMAX)(inputs), expected)
    assert files.counts["hit origin"] == files.counts["hit code"] == 1
    for file in folder.glob("object-*"):
        file.unlink()
    engine.forget()
    np.testing.assert_array_equal(lg.program(SOFTMAX)(inputs), expected)


def test_other_results_of_one_program_are_other_code(folder: Path) -> None:
    """What is kept for a pullback is no result, and its code is not that of the program alone."""
    inputs = np.arange(6.0).reshape(2, 3)
    for _ in range(2):
        program = lg.program(SOFTMAX)
        widened = compile_returning(program, ["p"], ["Z"])
        plain = compile_returning(program.returning("p", "Z"), ["p", "Z"], [])
        *_, p, z = widened.execute([inputs], {})
        found = plain(inputs)
        engine.forget()
        np.testing.assert_allclose(p, found[0], rtol=1e-14)
        np.testing.assert_allclose(z, np.exp(inputs).sum(1), rtol=1e-14)
        assert found[1].shape == z.shape == (2,)


def test_proofs_of_a_derived_program_are_found_again(folder: Path) -> None:
    first, second = (lg.program(GATHER).backward() for _ in range(2))
    for one in (first, second):
        lg.compile(one)
    assert files.counts["stored proved"] == files.counts["hit proved"] == 1
    assert infer(first).tensors == infer(second).tensors
    assert validate(first) == validate(second)


def test_a_derived_program_that_breaks_a_rule_is_refused_each_time(folder: Path) -> None:
    [parsed] = parse("f(x[N]) -> y[N]:\n    y[n] = x[n + N]")
    for _ in range(2):
        with pytest.raises(lg.ProgramError):
            lg.compile(replace(parsed))
    assert "stored proved" not in files.counts
