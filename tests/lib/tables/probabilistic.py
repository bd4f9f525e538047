"""Densities, by SciPy; samples with their noise given."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp
from scipy.stats import multivariate_normal, norm

from tests.lib.cases import Case, Values, uniform


def gaussian_kl(v: Any) -> Any:
    return (v.μ**2 + np.exp(v.logvar) - v.logvar - 1).sum(1) / 2


def vae_loss(v: Any) -> Any:
    h = np.tanh(v.x @ v.W1.T + v.c1)
    μ, logvar = h @ v.Wμ.T + v.cμ, h @ v.Wv.T + v.cv
    s = np.tanh((μ + np.exp(logvar / 2) * v.ε) @ v.W2.T + v.c2) @ v.W3.T + v.c3
    p = 1 / (1 + np.exp(-s))
    likelihood = (v.x * np.log(p) + (1 - v.x) * np.log(1 - p)).sum(1)
    return gaussian_kl(Values(μ=μ, logvar=logvar)) - likelihood


def torch_vae_loss(F: Any, v: Any) -> Any:
    import torch

    h = torch.tanh(F.linear(v.x, v.W1, v.c1))
    q = torch.distributions.Normal(F.linear(h, v.Wμ, v.cμ), torch.exp(F.linear(h, v.Wv, v.cv) / 2))
    z = q.loc + q.scale * v.ε
    s = F.linear(torch.tanh(F.linear(z, v.W2, v.c2)), v.W3, v.c3)
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    return kl.sum(1) + F.binary_cross_entropy_with_logits(s, v.x, reduction="none").sum(1)


def gaussian_mixture(v: Any) -> Any:
    l = norm(v.μ, np.exp(v.logσ)).logpdf(v.x[:, None]).sum(2)
    return logsumexp(l + log_softmax(v.logit), axis=1)


def gaussian_mixture_full(v: Any) -> Any:
    l = [
        multivariate_normal(μ, np.tril(C) @ np.tril(C).T).logpdf(v.x)
        for μ, C in zip(v.μ, v.C, strict=True)
    ]
    return logsumexp(np.stack(l, 1) + log_softmax(v.logit), axis=1)


def torch_gaussian_mixture_full(F: Any, v: Any) -> Any:
    import torch

    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=v.logit),
        torch.distributions.MultivariateNormal(v.μ, scale_tril=torch.tril(v.C)),
        validate_args=False,
    )
    return mixture.log_prob(v.x)


def torch_gaussian_mixture(F: Any, v: Any) -> Any:
    import torch

    normal = torch.distributions.Normal(v.μ, torch.exp(v.logσ))
    return torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=v.logit),
        torch.distributions.Independent(normal, 1),
    ).log_prob(v.x)


def kalman_step(v: Any) -> Any:
    """All measurements at once, with the inverse."""
    x, P = v.A @ v.x, v.A @ v.P @ v.A.T + v.Q
    S = v.C @ P @ v.C.T + np.diag(v.r)
    K = P @ v.C.T @ np.linalg.inv(S)
    L = multivariate_normal(v.C @ x, S).logpdf(v.y)
    return x + K @ (v.y - v.C @ x), P - K @ v.C @ P, L


def covariance(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    A = rng.normal(size=shape)
    return A @ A.T + np.eye(len(A))


def factors(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Lower triangles with a diagonal away from 0; above it what must not be read."""
    C = rng.normal(size=shape)
    C[..., range(shape[-1]), range(shape[-1])] = rng.uniform(0.5, 1.5, shape[:-1])
    return np.where(np.tri(shape[-1], dtype=bool), C, 0)


CASES = {
    "gaussian_kl": Case(
        gaussian_kl,
        lambda F, v: -0.5 * (1 + v.logvar - v.μ**2 - v.logvar.exp()).sum(1),
    ),
    "reparameterize": Case(lambda v: v.μ + np.exp(v.logvar / 2) * v.ε),
    "vae_loss": Case(
        vae_loss,
        torch_vae_loss,
        extents={"H": 4, "D": 2, "I": 5, "J": 3, "B": 3},
        draws={"x": uniform(0.1, 0.9)},
    ),
    "gaussian_mixture": Case(gaussian_mixture, torch_gaussian_mixture, extents={"K": 3}),
    "gaussian_mixture_full": Case(
        gaussian_mixture_full,
        torch_gaussian_mixture_full,
        extents={"K": 2, "B": 3},
        draws={"C": factors},
    ),
    "kalman_step": Case(
        kalman_step,
        extents={"N": 3, "M": 2},
        draws={"P": covariance, "Q": covariance, "r": uniform(0.5, 1.5)},
    ),
}
