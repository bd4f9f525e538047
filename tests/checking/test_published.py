"""Backwards that were published and wrong are found wrong, at the line, with a mend that mends."""

from __future__ import annotations

import pytest

import loopgrad as lg
from tests.checking.published import PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_faults_are_found_and_mended(name: str) -> None:
    case = PUBLISHED[name]
    answer = lg.check(case.forward, case.claimed)
    assert not answer
    for finding in answer.findings:
        assert finding.line in case.lines, str(finding)
        assert not case.kinds or finding.kind in case.kinds
        assert finding.right is not None and finding.counterexample is not None
        assert finding.counterexample.claimed != finding.counterexample.right
    assert case.right in "\n".join(f.right or "" for f in answer.findings) or not case.right
    assert answer.mended is not None and lg.check(case.forward, answer.mended), answer.mended
