"""A character model of a text, trained by truncated backpropagation through time.

The model is `text.loops`; its loss, the gradients and the states to go on from are one compiled call.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.examples import information
from loopgrad.examples.corpora import Corpus, CorpusError
from loopgrad.examples.information import Judgement
from loopgrad.examples.optimisers import Adam
from loopgrad.examples.packing import Layout
from loopgrad.examples.workers import Alone, Group
from loopgrad.frontend.library import Module, lib, load
from loopgrad.functions import value_and_grad

FOLDER = Path(__file__).parent
MODEL = "character_model"
WEIGHTS = ("ER", "WR", "BR", "EG", "WG", "BG", "U", "c")
LAST_RATE = 0.1  # of the rate, at the end
STREAMS = 32  # into which the held-out part is cut, each read from an empty state
CHUNK = 64

Array = NDArray[Any]


@dataclass(frozen=True)
class Settings:
    """batch: rows, each a stretch of the text of its own. length: characters a step reads of each."""

    epochs: int = 8
    hidden: int = 256
    batch: int = 32
    length: int = 64
    rate: float = 3e-3
    clip: float = 1.0
    seed: int = 0
    dtype: str = "float32"


@cache
def programs() -> Module:
    return load(FOLDER / "text.loops")


def layout(hidden: int, characters: int) -> Layout:
    J, V = hidden, characters
    shapes = {"ER": (V, J), "WR": (J, J), "BR": (J,), "EG": (V, J), "WG": (J, J), "BG": (J,)}
    return Layout({**shapes, "U": (V, J), "c": (V,)})


def initial(settings: Settings, characters: int) -> Array:
    """The parameters at the start, in one vector: weights of variance 1 / fan-in, gates half open to h."""
    rng = np.random.default_rng(settings.seed)
    J, V = settings.hidden, characters
    weights = {
        "ER": rng.normal(0, 0.5, (V, J)),
        "WR": rng.normal(0, J**-0.5, (J, J)),
        "BR": np.zeros(J),
        "EG": rng.normal(0, 0.5, (V, J)),
        "WG": rng.normal(0, J**-0.5, (J, J)),
        "BG": np.full(J, -1.0),  # subtracted: a gate that remembers, at first
        "U": rng.normal(0, J**-0.5, (V, J)),
        "c": np.zeros(V),
    }
    return layout(J, V).packed([weights[name] for name in WEIGHTS]).astype(settings.dtype)


class Batches:
    """The training part as `batch` rows of text, `length` characters a step; the last may be shorter.

    Raises CorpusError where the part is shorter than one batch.
    """

    def __init__(self, corpus: Corpus, batch: int, length: int):
        codes = corpus.codes[: corpus.held_out]
        if len(codes) < batch * length + 1:
            raise CorpusError(
                f"{corpus.name} is too short: {len(codes):,} characters to train on, where one batch "
                f"of {batch} rows of {length} takes {batch * length + 1:,}"
            )
        columns = (len(codes) - 1) // batch
        self.x = codes[: batch * columns].reshape(batch, columns).T
        self.y = codes[1 : batch * columns + 1].reshape(batch, columns).T
        self.length = length
        self.in_epoch = -(-columns // length)

    def at(self, step: int, rows: slice) -> tuple[Array, Array, bool]:
        """Characters x[T,B], those that come y[T,B], and whether the text begins anew."""
        place = step % self.in_epoch
        times = slice(place * self.length, (place + 1) * self.length)
        return (
            np.ascontiguousarray(self.x[times, rows]),
            np.ascontiguousarray(self.y[times, rows]),
            place == 0,
        )


class TextJob:
    """The training of a character model, as `training.Job`.

    Raises CorpusError for a text that is too short.
    """

    kind = "text"

    def __init__(self, corpus: Corpus, settings: Settings, group: Group | None = None):
        self.corpus, self.settings = corpus, settings
        self.group = group or Alone()
        self.data = corpus.fingerprint
        self.batches = Batches(corpus, settings.batch, settings.length)
        self.in_epoch = self.batches.in_epoch
        self.steps = settings.epochs * self.in_epoch
        self.held_out = np.zeros(settings.epochs)  # the loss after each epoch
        self.layout = layout(settings.hidden, len(corpus.alphabet))
        self.optimiser = Adam(initial(settings, len(corpus.alphabet)), settings.clip)
        self.rows = self.group.rows(settings.batch)
        count = len(range(*self.rows.indices(settings.batch)))
        self.h = np.zeros((count, settings.hidden), settings.dtype)
        self.loss = value_and_grad(programs().character_model, wrt=WEIGHTS, has_aux=True)

    def settings_as_numbers(self) -> Mapping[str, Any]:
        return asdict(self.settings)

    def step(self, number: int) -> float:
        g, loss = self._gradient(number)
        self.optimiser.update(g, self.rate(number), number + 1)
        if (number + 1) % self.in_epoch == 0 and self.group.rank == 0:
            self.held_out[number // self.in_epoch] = held_out_loss(self.corpus, self.weights())
        return loss

    def _gradient(self, number: int) -> tuple[Array, float]:
        """Averaged over the rows of all processes."""
        x, y, anew = self.batches.at(number, self.rows)
        if anew:
            self.h = np.zeros_like(self.h)
        if not len(self.h):  # more processes than rows
            return self.group.mean(np.zeros_like(self.optimiser.w), 0.0, 0)
        (loss, h), gradients = self.loss(x, y, self.h, *self.weights().values())
        self.h = h[-1].copy()
        return self.group.mean(self.layout.packed(gradients), float(loss.mean()), len(self.h))

    def rate(self, number: int) -> float:
        falling = 0.5 * (1 + math.cos(math.pi * number / self.steps))
        return self.settings.rate * (LAST_RATE + (1 - LAST_RATE) * falling)

    def arrays(self) -> dict[str, Array]:
        self.group.same("parameters", self.optimiser.w)
        return {
            **self.optimiser.arrays(),
            "h": self.group.gathered(self.h),
            "held_out": self.held_out,
        }

    def restore(self, arrays: Mapping[str, Array]) -> None:
        self.optimiser.restore(arrays)
        self.h = np.ascontiguousarray(arrays["h"][self.rows])
        self.held_out = arrays["held_out"]

    def curves(self) -> dict[str, Array]:
        """After each epoch."""
        return {"held-out loss (nats)": self.held_out}

    def weights(self) -> dict[str, Array]:
        return self.layout.views(self.optimiser.w)


# ------------------------------------------------------------------------------------- afterwards


def judged(job: TextJob) -> Judgement:
    """The model on the held-out part, beside what the text's counts say."""
    corpus = job.corpus
    scores = held_out_scores(corpus, job.weights())
    return information.judged(corpus.codes, corpus.held_out, len(corpus.alphabet), scores)


def held_out_loss(corpus: Corpus, weights: Mapping[str, Array]) -> float:
    """In nats per character."""
    total, count = 0.0, 0
    for places, s in held_out_scores(corpus, weights):
        loss = lib.softmax_cross_entropy(s.astype(np.float64), corpus.codes[places])
        total, count = total + float(loss.sum()), count + len(places)
    return total / count


def held_out_scores(corpus: Corpus, weights: Mapping[str, Array]) -> Iterator[tuple[Array, Array]]:
    """Places in the text, and the scores s[N,V] of the characters there, given those before.

    The held-out part is read in streams, each from an empty state; its first character is given.
    """
    codes, begin = corpus.codes, corpus.held_out
    count = len(codes) - 1 - begin
    streams = max(1, min(STREAMS, count // CHUNK))
    columns = -(-count // streams)
    places = begin + np.arange(streams * columns).reshape(streams, columns).T
    there = places < begin + count  # the last stream may be shorter
    x = codes[np.where(there, places, begin)]
    h = np.zeros((streams, weights["WR"].shape[0]), weights["WR"].dtype)
    for t in range(0, columns, CHUNK):
        times = slice(t, t + CHUNK)
        s, states = programs().scores(np.ascontiguousarray(x[times]), h, **weights)
        h = states[-1]
        kept = there[times]
        yield places[times][kept] + 1, s[kept]


def sample(
    corpus: Corpus, weights: Mapping[str, Array], length: int, temperature: float, seed: int
) -> str:
    """Characters drawn from the model one by one, after a line's end; 0 takes the likeliest each time."""
    rng = np.random.default_rng(seed)
    h = np.zeros((1, weights["WR"].shape[0]), weights["WR"].dtype)
    code = max(corpus.alphabet.find("\n"), 0)
    text = []
    for _ in range(length):
        s, states = programs().scores(np.array([[code]]), h, **weights)
        h = states[-1]
        code = drawn(s[0, 0], temperature, float(rng.random()))
        text.append(corpus.alphabet[code])
    return "".join(text)


def drawn(s: Array, temperature: float, u: float) -> int:
    """The class that softmax(s / temperature) gives to u in 0 .. 1."""
    if temperature == 0:
        return int(s.argmax())
    scaled = (s.astype(np.float64) - s.max()) / temperature
    mass = np.exp(scaled).cumsum()
    return min(int(np.searchsorted(mass, u * mass[-1], side="right")), len(s) - 1)
