"""What one thread gets of an interval that all share: contiguous parts, as equal as they can be."""

from __future__ import annotations

from loopgrad.backends.llvm.writing.text import Body


def share(
    body: Body, count: str, thread: str = "%thread", threads: str = "%threads", grows: bool = False
) -> tuple[str, str]:
    """The first that the thread gets of `count` values, of which there may be none, and the end of these.

    grows: whether the work for a value grows with it. Of a triangle the first n rows are (n / count)**2.
    """
    following = body.value(f"add i64 {thread}, 1")
    before = _of_triangle if grows else _evenly
    return before(body, count, thread, threads), before(body, count, following, threads)


def _evenly(body: Body, count: str, thread: str, threads: str) -> str:
    part = body.value(f"mul i64 {count}, {thread}")
    return body.value(f"udiv i64 {part}, {threads}")


def _of_triangle(body: Body, count: str, thread: str, threads: str) -> str:
    body.module.declare("declare double @llvm.sqrt.f64(double)")
    part, whole, rows = (
        body.value(f"uitofp i64 {number} to double") for number in (thread, threads, count)
    )
    part = body.value(f"fdiv double {part}, {whole}")
    part = body.value(f"call double @llvm.sqrt.f64(double {part})")
    return body.value(f"fptoui double {body.value(f'fmul double {rows}, {part}')} to i64")
