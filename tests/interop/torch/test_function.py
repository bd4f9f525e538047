"""`lg.torch.function`: what calls take, what they return, what gradients are."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.interop.operators import plain, reversal
from tests.interop.torch.cases import GROUP_NORM, gradients, seeded

torch = pytest.importorskip("torch")

SOFTMAX = lg.torch.function(lg.lib.softmax)
AFFINE = """affine(x[B,I], param W[J,I], param c[J]) batch B -> y[B,J]:
    for b, j:     y[b,j] += c[j]
    for b, j, i:  y[b,j] += W[j,i] * x[b,i]"""
LARGEST = "largest(x[B,J]) -> m[B]:\n    for b, j:  m[b] max= x[b,j]"
MIXED = """mixed(x[N], scale, int k[N], bool m[N], shift = 0.5, times = 2) -> y[N], count, w[N]:
    for n:  y[n] += scale * x[n] ** times + shift   if m[n]
    for n:  count += k[n]
    for n:  w[n] += x[n] * k[n]"""


class TestCalls:
    def test_tensors_in_tensors_out(self) -> None:
        s = seeded(3, 5)
        p = SOFTMAX(s)
        assert isinstance(p, torch.Tensor) and not p.requires_grad
        torch.testing.assert_close(p, s.softmax(-1))

    def test_by_name(self) -> None:
        affine = lg.torch.function(AFFINE)
        x, W, c = seeded(2, 4), seeded(3, 4, seed=1), seeded(3, seed=2)
        torch.testing.assert_close(affine(c=c, W=W, x=x), affine(x, W, c), rtol=0, atol=0)
        torch.testing.assert_close(affine(x, W, c), x @ W.T + c)

    def test_several_results_integers_and_constants(self) -> None:
        mixed = lg.torch.function(MIXED)
        x, k, m = seeded(4), torch.tensor([3, 0, 2, 7]), torch.tensor([True, False, True, True])
        y, count, w = mixed(x, 2.0, k, m, shift=1, times=3)
        torch.testing.assert_close(y, torch.where(m, 2 * x**3 + 1, 0.0))
        assert count.shape == () and count.item() == 12 and count.dtype == torch.int64
        torch.testing.assert_close(w, x * k)

    def test_an_integer_result_has_no_gradient(self) -> None:
        mixed = lg.torch.function(MIXED)
        x = seeded(4).requires_grad_()
        k, m = torch.tensor([3, 0, 2, 7]), torch.tensor([True, False, True, True])
        y, count, w = mixed(x, torch.tensor(2.0, dtype=torch.float64), k, m)
        assert y.requires_grad and w.requires_grad and not count.requires_grad
        w.backward(seeded(4, seed=5))
        torch.testing.assert_close(x.grad, k * seeded(4, seed=5))  # y has no seed

    @pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64])
    def test_any_integers_may_be_labels(self, dtype: Any) -> None:
        embedding = lg.torch.function(lg.lib.embedding)
        w, E = torch.tensor([[0, 3], [3, 1]], dtype=dtype), seeded(5, 2).requires_grad_()
        embedding(w, E).backward(seeded(2, 2, 2, seed=1))
        wanted = torch.zeros(5, 2, dtype=torch.float64)
        wanted.index_add_(0, w.flatten().long(), seeded(2, 2, 2, seed=1).reshape(4, 2))
        torch.testing.assert_close(E.grad, wanted)

    def test_sizes(self) -> None:
        norm = lg.torch.function(GROUP_NORM)
        x, γ, β = (seeded(*shape).requires_grad_() for shape in [(2, 6, 5), (6,), (6,)])
        y = norm(x, γ, β, G=3, eps=1e-3)
        torch.testing.assert_close(y, torch.nn.functional.group_norm(x, 3, γ, β, 1e-3))
        wanted = torch.autograd.grad(y, (x, γ, β), seeded(2, 6, 5, seed=1))
        native = torch.nn.functional.group_norm(x, 3, γ, β, 1e-3)
        got = torch.autograd.grad(native, (x, γ, β), seeded(2, 6, 5, seed=1))
        torch.testing.assert_close(got, wanted)

    def test_names_that_pytorch_cannot_have(self) -> None:
        function = lg.torch.function(
            "θ2(θ[N], θ2[N], class[N], x'[N], _[N]) -> β[N], β2[N]:\n    α2[n] = exp(θ[n])\n"
            "    β[n] = α2[n] * θ2[n] + class[n] * x'[n] ** 2\n    β2[n] = β[n] * θ[n] * _[n]"
        )
        tensors = [seeded(2, seed=n).requires_grad_() for n in range(5)]
        for way in (function, function.operator):
            assert torch.autograd.gradgradcheck(way, tensors, fast_mode=True)

    def test_constants_of_different_bits_are_different(self) -> None:
        sign = lg.torch.function("f(x[N], a = 1.0) -> y[N]:\n    y[n] = x[n] / a")
        x = torch.ones(1)
        signs = [sign(x, a=a).item() for a in (0.0, -0.0, 0.0)]
        assert signs == [np.inf, -np.inf, np.inf]

    @pytest.mark.parametrize(("B", "J"), [(0, 3), (2, 0), (1, 1), (1, 7)])
    def test_sizes_of_none_and_one(self, B: int, J: int) -> None:
        s, seed = seeded(B, J), seeded(B, J, seed=1)
        (got,) = gradients(SOFTMAX, [s], seed)
        (wanted,) = gradients(lambda s: s.softmax(-1), [s], seed)
        torch.testing.assert_close(got, wanted)

    def test_a_float32_call_computes_in_float32(self) -> None:
        s = seeded(3, 5, dtype=torch.float32).requires_grad_()
        p = SOFTMAX(s)
        assert p.dtype == torch.float32
        p.backward(seeded(3, 5, dtype=torch.float32, seed=1))
        assert s.grad.dtype == torch.float32

    def test_types_promote_and_gradients_have_the_type_of_their_input(self) -> None:
        affine = lg.torch.function(AFFINE)
        x = seeded(2, 4, dtype=torch.float32).requires_grad_()
        W, c = seeded(3, 4).requires_grad_(), seeded(3).requires_grad_()
        y = affine(x, W, c)
        assert y.dtype == torch.float64
        y.sum().backward()
        assert x.grad.dtype == torch.float32 and W.grad.dtype == torch.float64

    def test_a_number_is_weak(self) -> None:
        scale = lg.torch.function("f(x[N], a) -> y[N]:\n    y[n] = a * x[n]")
        assert scale(torch.ones(3), 2.0).dtype == torch.float32
        assert scale(torch.ones(3, dtype=torch.float64), 2).dtype == torch.float64

    def test_what_lies_otherwise(self) -> None:
        whole = seeded(7, 6, 5)
        for s in (
            whole[2].T,
            whole[:, 1, ::2],
            whole[3].flip(0),
            whole[0, 0].expand(4, 5),
            whole[1, 1:3, 1:],
            torch.view_as_complex(whole[..., :4].reshape(-1, 2))
            .conj()
            .imag[None],  # lazily negated
        ):
            seed = seeded(*reversed(s.shape), seed=4).T
            torch.testing.assert_close(SOFTMAX(s), s.softmax(-1))
            leaf = s.detach().requires_grad_()
            (got,) = torch.autograd.grad(SOFTMAX(leaf), leaf, seed)
            (wanted,) = torch.autograd.grad(leaf.softmax(-1), leaf, seed)
            torch.testing.assert_close(got, wanted)

    def test_results_are_pytorchs_and_share_nothing(self) -> None:
        s = seeded(3, 5)
        first, second = SOFTMAX(s), SOFTMAX(s)
        before = first.clone()
        second.zero_()
        assert torch.equal(first, before) and first.data_ptr() != second.data_ptr()
        first.resize_(40)  # its memory is its own

    def test_the_same_bits_each_time(self) -> None:
        s = seeded(40, 300, dtype=torch.float32)
        assert all(torch.equal(SOFTMAX(s), SOFTMAX(s)) for _ in range(5))

    def test_pytorchs_number_of_threads(self) -> None:
        """It is PyTorch's, not loopgrad's, that the results depend on."""
        total = lg.torch.function("total(x[N]) -> y:\n    y += x[n] ** 2")
        x = seeded(200_001, dtype=torch.float32)
        before, ours = torch.get_num_threads(), lg.get_num_threads()
        try:
            found = {}
            for number in (1, 2):
                torch.set_num_threads(number)
                lg.set_num_threads(number)
                found[number] = total(x).item()
                wanted = lg.program("total(x[N]) -> y:\n    y += x[n] ** 2")(x.numpy())
                assert found[number] == wanted
                lg.set_num_threads(3 - number)
                assert total(x).item() == found[number]
                assert lg.get_num_threads() == 3 - number
        finally:
            torch.set_num_threads(before)
            lg.set_num_threads(ours)


class TestGradients:
    def test_only_what_is_asked_for(self) -> None:
        affine = lg.torch.function(AFFINE)
        x, W, c = seeded(2, 4), seeded(3, 4).requires_grad_(), seeded(3)
        affine(x, W, c).backward(seeded(2, 3, seed=1))
        torch.testing.assert_close(W.grad, seeded(2, 3, seed=1).T @ x)
        assert x.grad is None and c.grad is None

    def test_a_batch_is_summed_over_as_everywhere_in_pytorch(self) -> None:
        x, W, c = seeded(5, 4), seeded(3, 4, seed=1), seeded(3, seed=2)
        seed = seeded(5, 3, seed=3)
        got = gradients(lg.torch.function(AFFINE), (x, W, c), seed)
        wanted = gradients(torch.nn.functional.linear, (x, W, c), seed)
        torch.testing.assert_close(got, wanted)

    def test_it_is_averaged_over_where_asked(self) -> None:
        x, W, c = seeded(5, 4), seeded(3, 4, seed=1), seeded(3, seed=2)
        seed = seeded(5, 3, seed=3)
        got = gradients(lg.torch.function(AFFINE, average=True), (x, W, c), seed)
        _, pullback = lg.vjp(lg.program(AFFINE), *(t.numpy() for t in (x, W, c)))
        for g, wanted in zip(got, pullback(seed.numpy()), strict=True):
            np.testing.assert_allclose(g, wanted, rtol=1e-12)
        plain = gradients(torch.nn.functional.linear, (x, W, c), seed)
        torch.testing.assert_close(got, [plain[0], plain[1] / 5, plain[2] / 5])

    def test_a_graph_may_be_used_again(self) -> None:
        s = seeded(3, 5).requires_grad_()
        p = SOFTMAX(s)
        for n in range(3):
            (got,) = torch.autograd.grad(p, s, seeded(3, 5, seed=n), retain_graph=True)
            (wanted,) = torch.autograd.grad(s.softmax(-1), s, seeded(3, 5, seed=n))
            torch.testing.assert_close(got, wanted)

    def test_a_change_of_what_the_backward_reads_is_noticed(self) -> None:
        for function in (SOFTMAX, SOFTMAX.operator):
            s = seeded(3, 5).requires_grad_() * 1
            p = function(s)
            with torch.no_grad():
                s.zero_()
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                p.backward(seeded(3, 5))

    def test_a_change_of_what_it_does_not_read_is_harmless(self) -> None:
        for function in (SOFTMAX, SOFTMAX.operator):
            s, seed = seeded(3, 5).requires_grad_(), seeded(3, 5, seed=1)
            p = function(s)
            with torch.no_grad():
                p.zero_()
            (got,) = torch.autograd.grad(p, s, seed)
            torch.testing.assert_close(got, torch.autograd.grad(s.softmax(-1), s, seed)[0])

    def test_a_result_that_the_backward_reads_is_saved_as_such(self) -> None:
        largest = lg.torch.function(LARGEST)
        assert "m" in reversal(plain(largest.program), ["x"]).saved
        for function in (largest, largest.operator):
            x, seed = seeded(3, 5).requires_grad_(), seeded(3, seed=1)
            m = function(x)
            (got,) = torch.autograd.grad(m, x, seed, retain_graph=True)
            torch.testing.assert_close(got, torch.autograd.grad(x.amax(1), x, seed)[0])
            with torch.no_grad():
                m.zero_()
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                m.backward(seed)

    @pytest.mark.parametrize("shape", [(3, 5), (400, 5), (2000, 5), (0, 5), (3, 0)])
    def test_what_a_node_keeps_may_be_small_or_large(self, shape: tuple[int, int]) -> None:
        """Below 16 kB it is the node's own; also where it is differentiated again."""
        s, seed = seeded(*shape).requires_grad_(), seeded(*shape, seed=1)
        along = seeded(*shape, seed=2)
        found = []
        for function in (SOFTMAX, SOFTMAX.operator, lambda s: s.softmax(-1)):
            p = function(s)
            (first,) = torch.autograd.grad(p, s, seed, retain_graph=True)
            (again,) = torch.autograd.grad(p, s, seed, create_graph=True)
            (second,) = torch.autograd.grad(again, s, along)
            found.append((first, again, second))
        torch.testing.assert_close(found[0], found[2])
        torch.testing.assert_close(found[1], found[2])

    @pytest.mark.parametrize(
        "other",
        [
            lambda t: t.half().float(),
            lambda t: t.t().contiguous().t(),
        ],
    )
    def test_hooks_may_give_back_other_tensors(self, other: Any) -> None:
        seed = seeded(3, 5, dtype=torch.float32, seed=1)
        found = []
        for function in (SOFTMAX, lambda s: s.softmax(-1)):
            s = (torch.arange(15).view(3, 5) / 8).requires_grad_()
            with torch.autograd.graph.saved_tensors_hooks(other, lambda t: t):
                p = function(s)
            found.append(torch.autograd.grad(p, s, seed)[0].float())
        torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)

    def test_what_does_not_fit_any_more_is_refused(self) -> None:
        for other, error in [(lambda t: t[:1], ValueError), (lambda t: t.half(), TypeError)]:
            s = seeded(3, 5).requires_grad_()
            with torch.autograd.graph.saved_tensors_hooks(other, lambda t: t):
                p = SOFTMAX(s)
            with pytest.raises(error, match="softmax"):
                p.backward(seeded(3, 5))

    def test_an_input_that_is_used_twice(self) -> None:
        product = lg.torch.function("f(x[N], y[N]) -> z[N]:\n    z[n] = x[n] * y[n] ** 2")
        x = seeded(4).requires_grad_()
        (got,) = torch.autograd.grad(product(x, x), x, seeded(4, seed=1))
        torch.testing.assert_close(got, 3 * x.detach() ** 2 * seeded(4, seed=1))

    def test_no_graph_where_none_is_wanted(self) -> None:
        s = seeded(3, 5).requires_grad_()
        with torch.no_grad():
            assert not SOFTMAX(s).requires_grad
        with torch.inference_mode():
            assert SOFTMAX(s).is_inference()

    def test_tensors_of_inference_mode_are_inputs_elsewhere(self) -> None:
        with torch.inference_mode():
            s = seeded(3, 5)
        torch.testing.assert_close(SOFTMAX(s), s.softmax(-1))

    def test_second_and_third_derivatives(self) -> None:
        s = seeded(2, 3).requires_grad_()

        def thrice(function: Any) -> Any:
            value = (function(s) ** 2 * seeded(2, 3, seed=7)).sum()
            for n in range(3):
                (g,) = torch.autograd.grad(value, s, create_graph=True)
                value = (g * seeded(2, 3, seed=n)).sum()
            return value

        torch.testing.assert_close(thrice(SOFTMAX), thrice(lambda s: s.softmax(-1)))

    def test_what_would_be_much_to_keep_is_computed_again(self) -> None:
        """Attention at its edge: 2**22 scores against little else."""
        attention = lg.torch.function(lg.lib.attention)
        q, k, v = (
            seeded(1, 1, 2049, 2, dtype=torch.float32, seed=n).requires_grad_() for n in range(3)
        )
        y = attention(q, k, v)
        held = sum(t.numel() for t in y.grad_fn.saved_tensors)
        assert held < 5 * y.numel()
        seed = seeded(*y.shape, dtype=torch.float32, seed=5)
        got = torch.autograd.grad(y, (q, k, v), seed)
        native = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        wanted = torch.autograd.grad(native, (q, k, v), seed)
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)


class TestIdentity:
    def test_one_program_one_function(self) -> None:
        assert lg.torch.function(lg.lib.softmax) is SOFTMAX
        assert lg.torch.function(AFFINE) is lg.torch.function(AFFINE)
        assert lg.torch.function(AFFINE) is not lg.torch.function(AFFINE, average=True)

    def test_equal_programs_are_one_operator(self) -> None:
        again = lg.program(str(lg.lib.softmax))
        assert lg.torch.function(again).operator is SOFTMAX.operator
        assert lg.torch.function(lg.lib.tanh_layer).operator is not SOFTMAX.operator

    def test_it_is_copied_and_pickled(self) -> None:
        assert copy.deepcopy(SOFTMAX) is SOFTMAX
        for average in (False, True):
            affine = lg.torch.function(AFFINE, average=average)
            again = pickle.loads(pickle.dumps(affine))
            assert again.average is average and again.program == affine.program

    def test_a_program_that_calls_another_is_pickled_with_it(self) -> None:
        both = lg.program(
            "twice(x[N]) -> y[N]:\n    y[n] = 2 * x[n]\n\n"
            "four(x[N]) -> z[N]:\n    y = twice(x)\n    z = twice(y)"
        )
        again = pickle.loads(pickle.dumps(lg.torch.function(both)))
        assert again(torch.ones(2)).tolist() == [4, 4]

    def test_what_it_says(self) -> None:
        assert repr(SOFTMAX) == "<loopgrad function of `softmax` for PyTorch>"

    def test_the_operators_name_is_that_of_the_program(self) -> None:
        assert SOFTMAX.operator.name().startswith("loopgrad::softmax_")


class TestMemory:
    """Large results lie in pages that are used again once nobody has them."""

    def test_living_results_share_nothing(self) -> None:
        s = seeded(600, 700, dtype=torch.float32)
        first = SOFTMAX(s)
        kept = first.clone()
        others = [SOFTMAX(s + n) for n in range(3)]
        view = others[0][3:5]
        address = others[0].data_ptr()
        del others[0]
        again = [SOFTMAX(s * n) for n in range(4)]
        assert all(t.data_ptr() != address for t in again)  # a view keeps it alive
        torch.testing.assert_close(view, s[3:5].softmax(-1))
        assert torch.equal(first, kept)

    def test_what_has_died_is_used_again(self) -> None:
        s = seeded(600, 700, dtype=torch.float32)
        places = set()
        for _ in range(6):
            places.add(SOFTMAX(s).data_ptr())
        assert len(places) <= 2
