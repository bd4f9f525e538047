"""What one thread gets of an interval that all share: contiguous parts, as equal as they can be."""

from __future__ import annotations

from loopgrad.backends.llvm.text import Body


def share(
    body: Body, count: str, thread: str = "%thread", threads: str = "%threads"
) -> tuple[str, str]:
    """The first that the thread gets of `count` values, of which there may be none, and the end of these."""
    following = body.value(f"add i64 {thread}, 1")
    ends = []
    for number in (thread, following):
        part = body.value(f"mul i64 {count}, {number}")
        ends.append(body.value(f"udiv i64 {part}, {threads}"))
    return ends[0], ends[1]
