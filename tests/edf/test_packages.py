"""Packages of parameters: names, how they start, files, and the rules of learning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad import edf


def package() -> edf.Package:
    return edf.Package(
        W=[[1.0, 2.0]],
        b=edf.Parameter([0.5], "b"),
        one=edf.Package(W=np.eye(2), deep=edf.Package(c=3.0)),
        layers=[edf.Package(b=[1]), (np.zeros(2), np.ones((1, 2)))],
    )


def test_names() -> None:
    Phi = package()
    assert list(Phi.parameters()) == [
        "W", "b", "one.W", "one.deep.c", "layers[0].b", "layers[1][0]", "layers[1][1]",
    ]  # fmt: skip
    assert [p.name for p in Phi.parameters().values()] == list(Phi.parameters())
    assert (
        Phi.one.deep.c.value.shape == ()
        and Phi["b"] is Phi.b
        and Phi.layers[1][1].value.shape == (1, 2)
    )
    assert list(Phi) == ["W", "b", "one", "layers"] and len(Phi) == 4
    Phi.W = [[4.0]]
    assert Phi.W.value.tolist() == [[4.0]]
    with pytest.raises(AttributeError):
        Phi.missing  # noqa: B018


def test_a_name_that_was_given_stays() -> None:
    assert edf.Package(W=edf.Parameter([1.0], "weights")).W.name == "weights"


def test_packages_are_told_apart_by_what_they_are() -> None:
    one, other = package(), package()
    assert one != other and len({one, other}) == 2


def test_where_parameters_start() -> None:
    Phi = edf.initial(lg.lib.ugrnn_cell, 5, J=40, K=30, dtype=np.float32)
    shapes = {name: p.value.shape for name, p in Phi.parameters().items()}
    assert shapes == {
        "WhR": (40, 40), "WxR": (40, 30), "BR": (40,), "WhG": (40, 40), "WxG": (40, 30), "BG": (40,),
    }  # fmt: skip
    assert Phi.WxR.value.dtype == np.float32 and not Phi.BR.value.any()
    assert np.abs(Phi.WxR.value).max() <= np.sqrt(3 / 30)
    np.testing.assert_allclose(Phi.WxR.value.std() ** 2, 1 / 30, rtol=0.1)
    again = edf.initial(lg.lib.ugrnn_cell, np.random.default_rng(5), J=40, K=30, dtype=np.float32)
    np.testing.assert_array_equal(again.WhG.value, Phi.WhG.value)


@pytest.mark.parametrize(
    ("extents", "message"),
    [
        ({"I": 3}, "affine needs the extents `J` of its parameters"),
        ({"I": 3, "J": 2, "H": 3}, "affine has no extent `H`; it has `B`, `I` and `J`"),
    ],
)
def test_extents_that_are_missing_or_unknown(extents: dict[str, int], message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        edf.initial(lg.lib.affine, **extents)


@pytest.mark.parametrize("extent", [-1, 2.5, "3"])
def test_extents_that_are_no_sizes(extent: Any) -> None:
    with pytest.raises(ValueError, match="the extent `I` has to be an integer from 0, got"):
        edf.initial(lg.lib.affine, I=extent, J=2)


def test_what_a_package_cannot_hold() -> None:
    with pytest.raises(TypeError, match="the value of Parameter `W` has to hold real numbers"):
        edf.Package(W="abc")
    for name in ("items", "parameters"):
        with pytest.raises(ValueError, match=f"a package has a method `{name}`"):
            edf.Package(**{name: [1.0]})


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "phi.npz"
    one, other = package(), package()
    for p in one.parameters().values():
        p.value = p.value + 1
    edf.save(path, one)
    edf.load(path, other)
    for name, p in one.parameters().items():
        np.testing.assert_array_equal(other.parameters()[name].value, p.value)

    def fails(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", fails)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        edf.save(path, package())
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_files_of_another_package(tmp_path: Path) -> None:
    path = tmp_path / "phi.npz"
    edf.save(path, edf.Package(a=[1.0], b=[2.0]))
    kept = edf.Package(a=[5.0], b=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"`b` has shape \(2,\), and in .*phi.npz \(1,\)"):
        edf.load(path, kept)
    assert kept.a.value.tolist() == [5.0]
    with pytest.raises(ValueError, match="do not both have `b` and `c`"):
        edf.load(path, edf.Package(a=[1.0], c=[1.0]))


def steps_of(rule: Any, gradients: Any, dtype: Any = np.float64) -> Any:
    p = edf.Parameter(np.arange(6.0, dtype=dtype).reshape(2, 3))
    for gradient in gradients:
        p.grad = gradient.astype(dtype)
        p.value = rule(p)
    return p.value


def test_momentum() -> None:
    gradients = np.random.default_rng(0).normal(size=(5, 2, 3))
    w, v = np.arange(6.0).reshape(2, 3), np.zeros((2, 3))
    for g in gradients:
        v = 0.8 * v - 0.1 * g
        w = w + v
    np.testing.assert_allclose(steps_of(edf.Momentum(0.1, 0.8), gradients), w, rtol=1e-13)
    assert steps_of(edf.Momentum(0.1, 0.8), gradients, np.float32).dtype == np.float32


def test_adam() -> None:
    gradients = np.random.default_rng(0).normal(size=(5, 2, 3))
    w, m, v = np.arange(6.0).reshape(2, 3), np.zeros((2, 3)), np.zeros((2, 3))
    for t, g in enumerate(gradients, 1):
        m = 0.9 * m + 0.1 * g
        v = 0.99 * v + 0.01 * g * g
        w = w - 0.2 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
    np.testing.assert_allclose(steps_of(edf.Adam(0.2, beta2=0.99), gradients), w, rtol=1e-12)


RULES = ["sgd", "momentum_sgd", "nesterov_sgd", "adagrad", "rmsprop", "adadelta", "adam", "adamw", "nadam", "lion"]  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_every_optimiser_of_the_library_is_a_rule(name: str) -> None:
    """Its program by hand: the parameter, what it remembers, the number of the step."""
    program = lg.lib[name]
    gradients = np.random.default_rng(0).normal(size=(3, 2, 3))
    w = np.arange(6.0)
    names = [r.name.removesuffix("'") for r in program.results]
    state = {names[0]: w, **{memory: np.zeros(6) for memory in names[1:]}}
    counted = [i.name for i in program.inputs if i.kind == "int"]
    for step, g in enumerate(gradients, 1):
        found = program(**state, g=g.reshape(-1), **dict.fromkeys(counted, step), rate=0.5)
        state = dict(zip(names, found if len(names) > 1 else [found], strict=True))
    rule = edf.Rule(program, rate=0.5)
    np.testing.assert_array_equal(steps_of(rule, gradients), state[names[0]].reshape(2, 3))


def test_a_rate_may_change() -> None:
    rule = edf.Rule(lg.lib.sgd, rate=1.0)
    p = edf.Parameter(1.0)
    p.grad = np.array(1.0)
    p.value = rule(p)
    rule.constants["rate"] *= 0.5
    assert p.value == 0 and rule(p) == -0.5


def test_what_is_no_rule() -> None:
    with pytest.raises(
        ValueError, match=r"affine is no rule of learning: .* \(`x`\) it has to return `x'`"
    ):
        edf.Rule(lg.lib.affine)
    with pytest.raises(
        TypeError,
        match="adam has no constant `momentum`; it has `rate`, `beta1`, `beta2` and `eps`",
    ):
        edf.Rule(lg.lib.adam, momentum=0.9)


def test_adam_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    gradients = np.random.default_rng(0).normal(size=(6, 2, 3))
    w = torch.arange(6.0, dtype=torch.float64).reshape(2, 3).requires_grad_()
    optimizer = torch.optim.Adam([w], lr=0.05)
    for gradient in gradients:
        w.grad = torch.from_numpy(gradient)
        optimizer.step()
    np.testing.assert_allclose(steps_of(edf.Adam(0.05), gradients), w.detach().numpy(), rtol=1e-10)


def test_a_rule_remembers_each_parameter_apart() -> None:
    rule = edf.Momentum(1.0, 0.5)
    one, other = edf.Parameter([0.0]), edf.Parameter([0.0])
    for p, gradient in ((one, 1.0), (other, 2.0), (one, 0.0)):
        p.grad = np.array([gradient])
        p.value = rule(p)
    assert one.value.tolist() == [-1.5] and other.value.tolist() == [-2.0]
