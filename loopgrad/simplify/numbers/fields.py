"""Exact arithmetic in which `exp` and `log` exist: a chain of finite fields.

The primes are `p[i] = 2 * p[i+1] + 1`. The squares modulo `p[i]` (0 apart) form a group of prime order
`p[i+1]`, so that `x -> g[i]**x`, from the integers modulo `p[i+1]` onto those squares, turns sums into
products: it is `exp`, and its inverse `log`. A number is a residue for each level i; `exp` reads
level i+1 to give level i, `log` the other way round. On squares `x**r` is exact for every rational r.

A residue is *unknown* (-1) where there is none: at the end of the chain, after a division by zero,
a root or logarithm of a non-square. What is computed from an unknown residue is unknown.

Two formulas that are equal by algebra have equal residues wherever both are known; two that are
not differ for almost all random inputs (docs/decisions/0005).

Arrays of residues are int64, of shape (rows, *shape): a row for each level and *copy*, an independent
draw of the inputs, level by level. Operations broadcast along the shapes of two arrays, which have as
many axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Residues: TypeAlias = NDArray[np.int64]

CHAIN = (71850239, 35925119, 17962559, 8981279, 4490639, 2245319, 1122659)
LONGEST = len(CHAIN)
UNKNOWN = -1

HALF = 1 << 13  # exponents are below 2**26: two digits of 13 bits
BABY = 1 << 16  # baby steps of a logarithm
SLOTS = 1 << 18  # by which they are found
FEW = 64  # up to so many, Python raises faster than NumPy
SMALL = 4  # powers that are products


class Fields:
    """The last `levels` fields of the chain, each in `copies` copies.

    >>> from loopgrad.simplify.numbers.fields import Fields
    >>> import numpy as np
    >>> field = Fields(levels=3, copies=2)
    >>> x, y = field.random((4,), np.random.default_rng(1)), field.random((4,), np.random.default_rng(2))
    >>> bool(np.all(field.exp(field.add(x, y)) == field.multiply(field.exp(x), field.exp(y))))
    True
    """

    def __init__(self, levels: int, copies: int = 1):
        if not 1 <= levels <= LONGEST:
            raise ValueError(f"the chain has 1 to {LONGEST} levels, got {levels}")
        self.primes = CHAIN[LONGEST - levels :]
        self.levels, self.copies = levels, copies
        self.rows = levels * copies
        self.modulus = np.repeat(np.array(self.primes, np.int64), copies)[:, None]
        self._moduli = [self._column(self.modulus, axes) for axes in range(1, 9)]

    @staticmethod
    def _column(rows: Residues, axes: int) -> Residues:
        """A value for each row, for arrays with that many axes."""
        return rows.reshape(-1, *[1] * (axes - 1))

    def _modulus(self, a: Residues) -> Residues:
        return self._moduli[a.ndim - 1] if a.ndim < 9 else self._column(self.modulus, a.ndim)

    # ------------------------------------------------------------------------------- numbers

    def number(self, value: Fraction | int) -> Residues:
        """A rational number, of shape (rows, 1)."""
        value = Fraction(value)
        level = [self._quotient(value, p) for p in self.primes]
        return np.repeat(np.array(level, np.int64), self.copies)[:, None]

    @staticmethod
    def _quotient(value: Fraction, p: int) -> int:
        if value.denominator % p == 0:
            return UNKNOWN
        return value.numerator * pow(value.denominator, -1, p) % p

    def integers(self, values: NDArray[np.int64]) -> Residues:
        whole = np.asarray(values, np.int64)[None]
        return whole % self._modulus(whole)

    def unknown(self, count: int) -> Residues:
        return np.full((self.rows, count), UNKNOWN, np.int64)

    def random(
        self,
        shape: tuple[int, ...],
        rng: np.random.Generator,
        squares: NDArray[np.bool_] | bool = False,
    ) -> Residues:
        """Residues other than 0, of shape (rows, *shape); where `squares`, squares, as exps are."""
        modulus = self._column(self.modulus, 1 + len(shape))
        drawn = rng.integers(1, modulus, (self.rows, *shape))
        return np.where(squares, drawn * drawn % modulus, drawn)

    # ---------------------------------------------------------------------------- operations

    def add(self, a: Residues, b: Residues) -> Residues:
        return _spread((a + b) % self._modulus(a), a, b)

    def subtract(self, a: Residues, b: Residues) -> Residues:
        return _spread((a - b) % self._modulus(a), a, b)

    def multiply(self, a: Residues, b: Residues) -> Residues:
        return _spread(a * b % self._modulus(a), a, b)

    def negate(self, a: Residues) -> Residues:
        return _spread(-a % self._modulus(a), a)

    def total(self, a: Residues, axes: tuple[int, ...]) -> Residues:
        """The sums along these axes of the shape, which stay, with extent 1."""
        along = tuple(axis + 1 for axis in axes)
        sums = np.add.reduce(a, axis=along, keepdims=True) % self._modulus(a)
        least = np.minimum.reduce(a, axis=along, keepdims=True, initial=0)
        return _spread(sums, least)

    def inverse(self, a: Residues) -> Residues:
        """1/a; unknown for 0. One inverse a row: of the product, and from it back to the factors."""
        flat = a.reshape(self.rows, -1)
        units = np.where(flat > 0, flat, 1)
        width = 1 << max(flat.shape[1] - 1, 0).bit_length()
        product = np.ones((self.rows, width), np.int64)
        product[:, : flat.shape[1]] = units
        halves = []
        while product.shape[1] > 1:
            middle = product.shape[1] // 2
            left, right = product[:, :middle], product[:, middle:]
            halves.append((left, right))
            product = left * right % self.modulus
        rows = zip(product[:, 0].tolist(), self.modulus[:, 0].tolist(), strict=True)
        inverse = np.array([[pow(x, -1, p)] for x, p in rows], np.int64)
        for left, right in reversed(halves):
            inverse = np.concatenate([inverse * right, inverse * left], axis=1) % self.modulus
        inverse = inverse[:, : flat.shape[1]]
        return np.where(flat > 0, inverse, UNKNOWN).reshape(a.shape)

    def divide(self, a: Residues, b: Residues) -> Residues:
        return self.multiply(a, self.inverse(b))

    def integer_power(self, a: Residues, exponents: NDArray[np.int64]) -> Residues:
        """a**n for integers n, which may be negative; 0**0 is 1."""
        n = exponents[None]
        if exponents.size == 1 and 0 < (once := int(exponents.flat[0])) <= SMALL:
            raised = a.copy()
            for _ in range(once - 1):
                raised = self.multiply(raised, a)
            return raised
        if np.any(n < 0):
            a = np.where(n < 0, self.inverse(a), a)
        # A unit's powers repeat after p - 1; 0**n must not become 0**0.
        size = np.abs(n)
        reduced = np.where(size > 0, (size - 1) % (self._modulus(a) - 1) + 1, 0)
        raised = self._raise(a, reduced)
        return _spread(raised, np.broadcast_to(a, raised.shape))

    def rational_power(self, a: Residues, exponent: Fraction) -> Residues:
        """a**exponent for squares, the root being a square too; 0 of 0 to a positive exponent."""
        if exponent.denominator == 1:
            return self.integer_power(a, np.array([exponent.numerator], np.int64))
        if exponent.denominator == 2:
            numerator = np.full((1,) * (a.ndim - 1), exponent.numerator, np.int64)
            return self.integer_power(self.root(a), numerator)
        reduced = [self._quotient(exponent, (p - 1) // 2) for p in self.primes]
        powers = np.repeat(np.array(reduced, np.int64), self.copies)
        return self.power(a, self._column(powers, a.ndim), positive=exponent > 0)

    def power(self, a: Residues, exponent: Residues, positive: bool = False) -> Residues:
        """a**exponent, with exponents modulo the order of the squares of the same row.

        For squares alone; where `positive`, 0 gives 0.
        """
        shape = np.broadcast_shapes(a.shape, exponent.shape)
        known = np.broadcast_to((exponent >= 0) & self.is_square(a), shape)
        raised = np.where(known, self._raise(a, np.maximum(exponent, 0)), UNKNOWN)
        return np.where(np.broadcast_to(a == 0, shape), 0, raised) if positive else raised

    def root(self, a: Residues) -> Residues:
        """The square root that is itself a square; unknown of what is no square, 0 of 0."""
        modulus = self._modulus(a)
        raised = self._raise(a, (modulus + 1) // 4)
        return np.where(raised * raised % modulus == a, raised, UNKNOWN)

    def is_square(self, a: Residues) -> NDArray[np.bool_]:
        """Whether each residue is known, and a square other than 0."""
        square: NDArray[np.bool_] = (a > 0) & (self._raise(a, self._modulus(a) // 2) == 1)
        return square

    def character(self, a: Residues) -> NDArray[np.int64]:
        """The sign: 1 for squares, -1 for non-squares, 0 for 0 (and for unknown residues).

        -1 is a non-square, so that the sign of a product is the product of signs, and that of -x
        the negative of that of x. Sums know nothing of it.
        """
        return np.where(a > 0, np.where(self.is_square(a), 1, -1), 0)

    def exp(self, a: Residues) -> Residues:
        """g**a: level i from level i+1; the last level is lost."""
        result = np.full(a.shape, UNKNOWN, np.int64)
        for p, here, below in self._neighbours():
            low, high = _powers(p)
            exponent = a[below]
            value = low[exponent & (HALF - 1)] * high[exponent >> HALF.bit_length() - 1] % p
            result[here] = np.where(exponent >= 0, value, UNKNOWN)
        return result

    def log(self, a: Residues) -> Residues:
        """The x of g**x = a: level i+1 from level i; the first level is lost.

        Unknown for 0 and for non-squares.
        """
        result = np.full(a.shape, UNKNOWN, np.int64)
        for p, here, below in self._neighbours():
            result[below] = _discrete_log(p, a[here])
        return result

    def shifted(self, a: Residues) -> Residues:
        """Level i+1 in the place of level i: exponents to the order of the squares there."""
        result = np.full(a.shape, UNKNOWN, np.int64)
        for _, here, below in self._neighbours():
            result[here] = a[below]
        return result

    def opaque(self, name: str, a: Residues) -> Residues:
        """A function of which nothing is known but that equal operands give equal values."""
        seed = sum(ord(letter) * 257**place for place, letter in enumerate(name))
        # A permutation of high degree, other for every name; no identity of `sin` holds for it.
        modulus = self._modulus(a)
        raised = shifted = (a + seed % 1000003 + 1) % modulus
        for _ in range(8):
            raised = raised * raised % modulus
        raised = raised * shifted % modulus
        return _spread((raised * (seed % 999983 + 2) + seed % 7919) % modulus, a)

    def constant(self, name: str) -> Residues:
        """A positive number of which nothing is known, such as pi; of shape (rows, 1)."""
        value = self.opaque(name, self.number(1))
        return value * value % self.modulus

    # ------------------------------------------------------------------------------- helpers

    def _neighbours(self) -> Iterator[tuple[int, slice, slice]]:
        """(p, the rows of its level, those of the next)."""
        step = self.copies
        for level in range(self.levels - 1):
            yield (
                self.primes[level],
                slice(level * step, (level + 1) * step),
                slice((level + 1) * step, (level + 2) * step),
            )

    def _raise(self, a: Residues, exponents: Residues) -> Residues:
        """a**exponents, not negative; what it gives for unknown a means nothing."""
        modulus = self._modulus(a)
        if a.size <= FEW and a.shape[0] == self.rows:
            shape = np.broadcast_shapes(a.shape, exponents.shape)
            each = np.broadcast_arrays(np.maximum(a, 0), exponents, modulus)
            powers = [
                pow(x, n, p) for x, n, p in zip(*(e.ravel().tolist() for e in each), strict=True)
            ]
            return np.array(powers, np.int64).reshape(shape)
        square = np.where(a < 0, 0, a)
        result = np.ones(np.broadcast_shapes(a.shape, exponents.shape), np.int64)
        largest = int(exponents.max(initial=0))
        smallest = int(exponents.min()) if exponents.size else 0
        for bit in range(largest.bit_length()):
            if largest == smallest:
                if largest >> bit & 1:
                    result = result * square % modulus
            else:
                result = np.where(exponents >> bit & 1, result * square % modulus, result)
            if largest >> bit + 1:
                square = square * square % modulus
        return result


def _spread(result: Residues, *operands: Residues) -> Residues:
    """The result, unknown where an operand is."""
    signs = operands[0] if len(operands) == 1 else operands[0] | operands[1]
    if signs.size and np.minimum.reduce(signs, axis=None) < 0:
        result[np.broadcast_to(signs < 0, result.shape)] = UNKNOWN
    return result


@cache
def fields(levels: int, copies: int) -> Fields:
    return Fields(levels, copies)


# ---------------------------------------------------------------------------------- tables, when used


def generator(p: int) -> int:
    """A square modulo p that generates all of them, as their number is prime."""
    return pow(1234577, 2, p)


@cache
def _powers(p: int) -> tuple[Residues, Residues]:
    """g**n and g**(HALF * n) modulo p, for n below HALF."""
    g = generator(p)
    return _table(g, HALF, p), _table(pow(g, HALF, p), HALF, p)


def _table(base: int, count: int, p: int) -> Residues:
    """base**n modulo p for n < count, by doubling; count is a power of 2."""
    table = np.ones(count, np.int64)
    known = 1
    while known < count:
        table[known : 2 * known] = table[:known] * pow(base, known, p) % p
        known *= 2
    return table


@cache
def _steps(p: int) -> tuple[Residues, NDArray[np.int32], Residues]:
    """For logarithms: powers g**n, the n of most of them by their last bits, and the giant steps
    g**(-BABY * k)."""
    g = generator(p)
    small = _table(g, BABY, p)
    slots = np.zeros(SLOTS, np.int32)
    slots[small & (SLOTS - 1)] = np.arange(
        BABY, dtype=np.int32
    )  # the last of those that share a slot
    count = (p - 1) // 2 // BABY + 1
    giant = [1]
    step = pow(g, -BABY, p)
    for _ in range(count - 1):
        giant.append(giant[-1] * step % p)
    return small, slots, np.array(giant, np.int64)


def _discrete_log(p: int, a: Residues) -> Residues:
    """The n of g**n = a, below the order of g; unknown where there is none. By baby and giant steps."""
    small, slots, giant = _steps(p)
    order, g = (p - 1) // 2, generator(p)
    found = np.full(a.size, UNKNOWN, np.int64)
    flat = a.ravel()
    wanted = np.flatnonzero(_squares(p, flat))
    some = max(1, (1 << 16) // len(giant))  # at a time, for memory's sake
    ahead = 0  # of what is looked up: a step that has no slot is passed over
    while len(wanted):
        missing = []
        for start in range(0, len(wanted), some):
            at = wanted[start : start + some]
            candidates = flat[at][:, None] * giant % p
            steps = slots[candidates & (SLOTS - 1)]
            hits = small[steps] == candidates
            k = hits.argmax(axis=1)
            every = np.arange(len(at))
            hit = hits[every, k]
            found[at[hit]] = (k * BABY + steps[every, k] - ahead)[hit] % order
            missing.append(at[~hit])
        wanted = np.concatenate(missing)
        flat, ahead = flat * g % p, ahead + 1
    return found.reshape(a.shape)


def _squares(p: int, a: Residues) -> NDArray[np.bool_]:
    """Which of them are known, and squares other than 0: their power of the squares' number is 1."""
    raised, square = np.ones_like(a), np.maximum(a, 0)
    exponent = (p - 1) // 2
    while exponent:
        if exponent & 1:
            raised = raised * square % p
        square = square * square % p
        exponent >>= 1
    squares: NDArray[np.bool_] = (a > 0) & (raised == 1)
    return squares
