"""Steps of optimisers, several after each other, beside those of PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg

STATE = {
    "sgd": "",
    "momentum_sgd": "v",
    "nesterov_sgd": "v",
    "adagrad": "s",
    "rmsprop": "s",
    "adadelta": "s u",
    "adam": "m s",
    "adamw": "m s",
}
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"weight_decay": 0.1}),
    "momentum_sgd": ("SGD", {"momentum": 0.8, "weight_decay": 0.1}),
    "nesterov_sgd": ("SGD", {"momentum": 0.8, "weight_decay": 0.1, "nesterov": True}),
    "adagrad": ("Adagrad", {}),
    "rmsprop": ("RMSprop", {"alpha": 0.9}),
    "adadelta": ("Adadelta", {"rho": 0.95}),
    "adam": ("Adam", {"betas": (0.8, 0.95)}),
    "adamw": ("AdamW", {"betas": (0.8, 0.95), "weight_decay": 0.2}),
}
NAMES = {"weight_decay": "decay", "momentum": "momentum", "alpha": "alpha", "rho": "rho"}


@pytest.mark.parametrize("name", STATE)
def test_steps_are_those_of_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    θ = rng.normal(size=7)
    state = {n: np.zeros(7) for n in STATE[name].split()}
    kind, options = THEIRS[name]
    given = torch.tensor(θ, requires_grad=True)
    optimizer = getattr(torch.optim, kind)([given], lr=0.1, **options)
    constants = {NAMES[k]: v for k, v in options.items() if k in NAMES} | {"rate": 0.1}
    if "betas" in options:
        constants |= dict(zip(("beta1", "beta2"), options["betas"], strict=True))
    counts = any(i.name == "t" for i in lg.lib[name].inputs)
    for t in range(1, 6):
        g = rng.normal(size=7)
        more = {"t": t} if counts else {}
        new = lg.lib[name](θ=θ, g=g, **state, **more, **constants)
        θ, *rest = new if isinstance(new, tuple) else (new,)
        state = dict(zip(state, rest, strict=True))
        given.grad = torch.tensor(g)
        optimizer.step()
        np.testing.assert_allclose(θ, given.detach(), rtol=1e-12)


def test_clipping_by_the_norm_of_all_parameters() -> None:
    """The norm is over all of them; PyTorch adds 1e-6 to it."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    gradients = [rng.normal(size=5), rng.normal(size=3)]
    norm = np.sqrt(sum(lg.lib.squared_norm(g) for g in gradients))
    parameters = [torch.zeros(len(g), dtype=torch.float64) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_norm_(parameters, 0.5)
    for p, g in zip(parameters, gradients, strict=True):
        np.testing.assert_allclose(lg.lib.clip_by_norm(g, norm, limit=0.5), p.grad, rtol=1e-6)


def test_gradients_of_zeros_are_clipped_to_zeros() -> None:
    clipped, norm = lg.lib.clip_by_own_norm(np.zeros(3))
    assert norm == 0 and (clipped == 0).all()
    _, pullback = lg.vjp(lg.lib.clip_by_own_norm, np.zeros(3))
    assert np.isfinite(pullback(np.ones(3), 1.0)[0]).all()
