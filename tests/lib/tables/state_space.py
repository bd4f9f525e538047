"""State space models: a step at a time, or as a convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.lib.cases import Case, Values


def selective_scan_cell(v: Any) -> Any:
    Δ = np.log1p(np.exp(v.δ))
    h = np.exp(-Δ[:, :, None] * np.exp(v.logA)) * v.h + (Δ * v.x)[:, :, None] * v.U[:, None]
    return h, np.einsum("bn,bjn->bj", v.C, h) + v.D * v.x


def selective_scan(v: Any) -> Any:
    h, found = v.h0, []
    for t in range(len(v.x)):
        now = {name: v[name][t] for name in ("x", "δ", "U", "C")}
        h, y = selective_scan_cell(Values({**v, **now, "h": h}))
        found.append(y)
    return np.array(found)


def torch_selective_scan(F: Any, v: Any) -> Any:
    """After selective_scan_ref of Mamba's code."""
    import torch

    Δ, h, found = F.softplus(v.δ), v.h0, []
    decay = torch.exp(torch.einsum("tbj,jn->tbjn", Δ, -torch.exp(v.logA)))
    given = torch.einsum("tbj,tbn,tbj->tbjn", Δ, v.U, v.x)
    for t in range(len(v.x)):
        h = decay[t] * h + given[t]
        found.append(torch.einsum("bjn,bn->bj", h, v.C[t]))
    return torch.stack(found) + v.x * v.D


def s4d(v: Any) -> Any:
    """As the authors' code: a convolution with the kernel 2 Re Σ K exp(l dt Λ)."""
    T = len(v.x)
    Λ, dt = v.λ + 1j * v.ω, v.dt[:, None]
    K = (v.Cr + 1j * v.Ci) * (np.exp(dt * Λ) - 1) / Λ
    powers = np.exp(np.arange(T + 1)[:, None, None] * dt * Λ)  # [T + 1, J, N]
    kernel = 2 * (K * powers[:T]).sum(2).real
    y = np.einsum("tjn,bjn->tbj", 2 * K * powers[1:], v.p0 + 1j * v.q0).real
    for t in range(T):
        y[t] += np.einsum("sj,sbj->bj", kernel[: t + 1][::-1], v.x[: t + 1])
    return y + v.D * v.x


CASES = {
    "selective_scan_cell": Case(selective_scan_cell),
    "selective_scan": Case(selective_scan, torch_selective_scan),
    "s4d": Case(s4d),
}
