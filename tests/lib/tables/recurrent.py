"""Recurrent networks, a step at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit

from tests.lib.cases import Case, Values


def gate(v: Any, which: str, squash: Callable[[Any], Any], state: Any = None) -> Any:
    state = v.h if state is None else state
    return squash(state @ v[f"Wh{which}"].T + of_input(v, which))


def of_input(v: Any, which: str) -> Any:
    return v.x @ v[f"Wx{which}"].T - v[f"B{which}"]


def rnn_cell(v: Any) -> Any:
    return np.tanh(v.h @ v.Wh.T + v.x @ v.Wx.T - v.c)


def ugrnn_cell(v: Any) -> Any:
    R, G = gate(v, "R", np.tanh), gate(v, "G", expit)
    return G * v.h + (1 - G) * R


def gru_cell(v: Any) -> Any:
    R, Z = gate(v, "R", expit), gate(v, "Z", expit)
    N = np.tanh(R * (v.h @ v.WhN.T - v.CN) + of_input(v, "N"))
    return Z * v.h + (1 - Z) * N


def gru_cell_reset_before(v: Any) -> Any:
    R, Z = gate(v, "R", expit), gate(v, "Z", expit)
    return Z * v.h + (1 - Z) * gate(v, "N", np.tanh, R * v.h)


def lstm_cell(v: Any) -> Any:
    i, f, o = (gate(v, which, expit) for which in "IFO")
    c = f * v.c + i * gate(v, "G", np.tanh)
    return o * np.tanh(c), c


def lstm_peephole_cell(v: Any) -> Any:
    def peeping(which: str, c: Any) -> Any:
        return expit(gate(v, which, lambda a: a) + c * v[f"P{which}"])

    c = peeping("F", v.c) * v.c + peeping("I", v.c) * gate(v, "G", np.tanh)
    return peeping("O", c) * np.tanh(c), c


def mingru_cell(v: Any) -> Any:
    Z = expit(of_input(v, "Z"))
    return (1 - Z) * v.h + Z * of_input(v, "N")


def minlstm_cell(v: Any) -> Any:
    f, i = expit(of_input(v, "F")), expit(of_input(v, "I"))
    return (f * v.h + i * of_input(v, "N")) / (f + i)


def over_time(cell: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def run(v: Any) -> Any:
        h, states = v.h0, []
        for x in v.x:
            h = cell(Values({**v, "h": h, "x": x}))
            states.append(h)
        return np.array(states)

    return run


def lstm(v: Any) -> Any:
    h, c, states = v.h0, v.c0, []
    for x in v.x:
        h, c = lstm_cell(Values({**v, "h": h, "c": c, "x": x}))
        states.append((h, c))
    return tuple(np.array(found) for found in zip(*states, strict=True))


def lstm_and_its_end(v: Any) -> Any:
    h, c = lstm(v)
    return h, c[-1]


def packed(over: Callable[[Any], Any], starts: tuple[str, ...]) -> Callable[[Any], Any]:
    """Each sequence alone, cut to its length; what ends it, by the names of what begins it."""

    def run(v: Any) -> Any:
        h = np.zeros((*v.x.shape[:2], v.h0.shape[1]))
        last = [v[name].copy() for name in starts]
        for b, length in enumerate(v.length):
            one = slice(b, b + 1)
            alone = {**v, "x": v.x[:length, one]} | {name: v[name][one] for name in starts}
            if length:
                found = over(Values(alone))
                found = found if isinstance(found, tuple) else (found,)
                h[:length, b] = found[0][:, 0]
                for end, states in zip(last, found, strict=True):
                    end[b] = states[-1, 0]
        return h, *last

    return run


def linear_recurrence(v: Any) -> Any:
    h, states = v.get("h0", np.zeros_like(v.b[0])), []
    for a, b in zip(v.a, v.b, strict=True):
        h = b + a * h
        states.append(h)
    return np.array(states)


# PyTorch's operators: gates stacked, biases added, one of the two for each gate zero.


def stacked(v: Any, gates: str) -> tuple[Any, Any, Any]:
    import torch

    return tuple(torch.cat([v[f"{part}{g}"] for g in gates]) for part in ("Wx", "Wh", "B"))  # type: ignore[return-value]


def gru_weights(v: Any) -> list[Any]:
    import torch

    Wx, Wh, B = stacked(v, "RZN")
    return [Wx, Wh, -B, torch.cat([torch.zeros_like(v.CN), torch.zeros_like(v.CN), -v.CN])]


def lstm_weights(v: Any) -> list[Any]:
    import torch

    Wx, Wh, B = stacked(v, "IFGO")
    return [Wx, Wh, -B, torch.zeros_like(B)]


LAYERS = (True, 1, 0.0, False, False)  # with biases, one layer, no dropout, not training, one way


def torch_rnn_cell(F: Any, v: Any) -> Any:
    import torch

    return torch.rnn_tanh_cell(v.x, v.h, v.Wx, v.Wh, -v.c, torch.zeros_like(v.c))


def torch_rnn(F: Any, v: Any) -> Any:
    import torch

    weights = [v.Wx, v.Wh, -v.c, torch.zeros_like(v.c)]
    return torch.rnn_tanh(v.x, v.h0[None], weights, *LAYERS, False)[0]


def torch_gru_cell(F: Any, v: Any) -> Any:
    import torch

    return torch.gru_cell(v.x, v.h, *gru_weights(v))


def torch_gru(F: Any, v: Any) -> Any:
    import torch

    return torch.gru(v.x, v.h0[None], gru_weights(v), *LAYERS, False)[0]


def torch_lstm_cell(F: Any, v: Any) -> Any:
    import torch

    return torch.lstm_cell(v.x, (v.h, v.c), *lstm_weights(v))


def torch_lstm(F: Any, v: Any) -> Any:
    import torch

    start = [v.h0[None], v.c0[None]]
    h, _, memory = torch.lstm(v.x, start, lstm_weights(v), *LAYERS, False)
    return h, memory[0]


def torch_packed(run: Callable[[Any, Any], Any], memory: bool) -> Callable[[Any, Any], Any]:
    def packed(F: Any, v: Any) -> Any:
        import torch

        sequence = torch.nn.utils.rnn.pack_padded_sequence(v.x, v.length, enforce_sorted=False)
        order = sequence.sorted_indices
        starts = [v[n].index_select(0, order)[None] for n in (("h0", "c0") if memory else ("h0",))]
        h, *last = run([sequence.data, sequence.batch_sizes, *starts], v)
        output = torch.nn.utils.rnn.PackedSequence(
            h, sequence.batch_sizes, order, sequence.unsorted_indices
        )
        padded, _ = torch.nn.utils.rnn.pad_packed_sequence(output, total_length=len(v.x))
        return padded, *(end[0].index_select(0, sequence.unsorted_indices) for end in last)

    return packed


def run_gru(given: list[Any], v: Any) -> Any:
    import torch

    return torch.gru(*given, gru_weights(v), *LAYERS)


def run_lstm(given: list[Any], v: Any) -> Any:
    import torch

    data, sizes, *start = given
    return torch.lstm(data, sizes, start, lstm_weights(v), *LAYERS)


def lengths(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """The longest one among them, and short ones; at most EXTENTS' T."""
    return np.resize(np.array([2, 5, 1, 3]), shape)


CASES = {
    "rnn_cell": Case(rnn_cell, torch_rnn_cell),
    "rnn": Case(over_time(rnn_cell), torch_rnn),
    "ugrnn_cell": Case(ugrnn_cell),
    "ugrnn": Case(over_time(ugrnn_cell)),
    "gru_cell": Case(gru_cell, torch_gru_cell),
    "gru_cell_reset_before": Case(gru_cell_reset_before),
    "gru": Case(over_time(gru_cell), torch_gru),
    "gru_packed": Case(
        packed(over_time(gru_cell), ("h0",)),
        torch_packed(run_gru, memory=False),
        draws={"length": lengths},
    ),
    "gru_packed: empty sequences": Case(packed(over_time(gru_cell), ("h0",))),
    "lstm_cell": Case(lstm_cell, torch_lstm_cell),
    "lstm_peephole_cell": Case(lstm_peephole_cell),
    "lstm": Case(lstm_and_its_end, torch_lstm),
    "lstm_packed": Case(
        packed(lstm, ("h0", "c0")), torch_packed(run_lstm, memory=True), draws={"length": lengths}
    ),
    "linear_recurrence": Case(linear_recurrence),
    "linear_recurrence_from": Case(linear_recurrence),
    "mingru_cell": Case(mingru_cell),
    "mingru": Case(over_time(mingru_cell)),
    "minlstm_cell": Case(minlstm_cell),
    "minlstm": Case(over_time(minlstm_cell)),
}
