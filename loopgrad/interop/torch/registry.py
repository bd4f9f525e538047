"""The operators that PyTorch has of ours, each defined when first it is asked for."""

from __future__ import annotations

import threading
from typing import Any

from loopgrad import forks
from loopgrad.interop.operators import Operator
from loopgrad.interop.torch.running import Runner

_registered: dict[str, Any] = {}
_runners: dict[str, Runner] = {}
_lock = threading.RLock()
forks.hold("defining", _lock)


def registered(operator: Operator) -> Any:
    """PyTorch's operator; it takes tensors in the order of `inputs`, then all `numbers`."""
    known = _registered.get(operator.key)
    if known is None:
        from loopgrad.interop.torch.defining import define  # which asks for derivatives here

        with _lock:
            known = _registered.get(operator.key)
            if known is None:
                known = _registered[operator.key] = define(operator)
    return known


def runner_of(operator: Operator) -> Runner:
    """What runs the operator, beside PyTorch's dispatcher."""
    known = _runners.get(operator.key)
    return _runners.setdefault(operator.key, Runner(operator)) if known is None else known
