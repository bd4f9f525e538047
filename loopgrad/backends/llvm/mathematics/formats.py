"""What the functions need to know of a floating type: its layout, and coefficients.

benchmarks/derive_coefficients.py derives the polynomials; those of the logarithm are fdlibm's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from loopgrad.backends.llvm.writing.lanes import Lanes


@dataclass(frozen=True)
class Format:
    """A floating type. Coefficients are those of lowest order first.

    magic: adding it rounds to a whole number, kept in the low bits.
    ln2: for exp: leading part, rest. The fused multiply-add makes products exact.
    log_ln2: for log: the leading part times an exponent is exact.
    pi: three parts, for fused multiply-adds.
    exp_range: beyond it exp is 0, inf.
    expm1_least: below it expm1 is -1.
    tanh_greatest: of 2|x|, above it tanh is 1.
    huge: from |x| on, the C library does sin and cos.
    erf_split, erf_greatest: the two formulas of erf meet at one, it is 1 from the other on.

    exp: exp(r) = 1 + r + r**2 exp(r), |r| <= ln(2) / 2.
    log: log((1+s)/(1-s)) = 2s + s R(s**2), R from its linear term on, |s| <= 0.1716.
    atanh: 2 atanh(s) = 2s + s**3 atanh(s**2), |s| <= 1/3.
    sine: sin(r) = r + r**3 sine(r**2), |r| <= pi/2.
    erf_small: erf(x) = x + x erf_small(x**2).
    erf_large: 1 - erf(x) = exp(erf_large(x)).
    """

    mantissa: int
    bias: int
    magic: float
    least_normal: float
    ln2: tuple[float, float]
    log_ln2: tuple[float, float]
    pi: tuple[float, float, float]
    exp_range: tuple[float, float]
    expm1_least: float
    tanh_greatest: float
    huge: float
    erf_split: float
    erf_greatest: float
    exp: tuple[float, ...]
    log: tuple[float, ...]
    atanh: tuple[float, ...]
    sine: tuple[float, ...]
    erf_small: tuple[float, ...]
    erf_large: tuple[float, ...]

    @property
    def exp_normal(self) -> float:
        """exp of what is no larger, of either sign, is a normal number: 87 or 708."""
        return float(math.floor(-math.log(self.least_normal)))

    @property
    def negligible(self) -> float:
        """x**2 does not count beside x, below it."""
        return 2.0 ** -(self.mantissa + 2)


DOUBLE = Format(
    mantissa=52,
    bias=1023,
    magic=1.5 * 2.0**52,
    least_normal=2.0**-1022,
    ln2=(0.6931471805599453, 2.3190468138462996e-17),
    log_ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
    pi=(3.141592653589793, 1.2246467991473532e-16, -2.9947698097183397e-33),
    exp_range=(-746.0, 710.0),
    expm1_least=-50.0,
    tanh_greatest=44.0,
    huge=2.0**40,
    erf_split=0.895,
    erf_greatest=5.93,
    exp=(
        0.5000000000000001,
        0.16666666666666669,
        0.041666666666624115,
        0.008333333333329994,
        0.0013888888917216978,
        0.0001984126986322524,
        2.4801521292272954e-05,
        2.7557268282460348e-06,
        2.762008989525303e-07,
        2.51004502742788e-08,
    ),
    log=(
        6.666666666666735130e-01,
        3.999999999940941908e-01,
        2.857142874366239149e-01,
        2.222219843214978396e-01,
        1.818357216161805012e-01,
        1.531383769920937332e-01,
        1.479819860511658591e-01,
    ),
    atanh=(
        0.6666666666666631,
        0.4000000000015609,
        0.28571428547974487,
        0.22222223963560211,
        0.18181744100854388,
        0.15386556979935379,
        0.1330100248453661,
        0.12105929299847755,
        0.08340494571597364,
        0.17018356560449438,
    ),
    sine=(
        -0.16666666666666666,
        0.008333333333333201,
        -0.00019841269841209533,
        2.755731921094447e-06,
        -2.5052106839252188e-08,
        1.605893742005191e-10,
        -7.642919768629621e-13,
        2.7203153665961137e-15,
    ),
    erf_small=(
        0.1283791670955126,
        -0.3761263890318411,
        0.11283791670972039,
        -0.026866170648260555,
        0.005223977655077372,
        -0.0008548328652285487,
        0.00012055388224743206,
        -1.4926829982452577e-05,
        1.6477635091606726e-06,
        -1.6479700335412648e-07,
        1.5098296508243527e-08,
        -1.0825029983440736e-09,
    ),
    erf_large=(
        5.167837953642738e-09,
        -1.1283792586770875,
        -0.6366190663341247,
        -0.1027758551026121,
        0.01913864849560999,
        0.00018579817171052428,
        -0.001655254852870335,
        0.000533887825191349,
        3.579607924686424e-05,
        -0.0001190508173818802,
        6.875913867076126e-05,
        -2.5839597136181127e-05,
        7.272617367872376e-06,
        -1.5915249142750334e-06,
        2.719734081348699e-07,
        -3.5769883898973704e-08,
        3.504658542872209e-09,
        -2.411226238961986e-10,
        1.0394462417616347e-11,
        -2.1117750552126023e-13,
    ),
)

SINGLE = Format(
    mantissa=23,
    bias=127,
    magic=1.5 * 2.0**23,
    least_normal=2.0**-126,
    ln2=(0.693147182464599609375, -1.904654323148236017e-09),
    log_ln2=(6.9313812256e-01, 9.0580006145e-06),
    pi=(3.1415927410125732, -8.742277657347586e-08, -3.4302490200117637e-15),
    exp_range=(-104.0, 89.0),
    expm1_least=-30.0,
    tanh_greatest=24.0,
    huge=2.0**17,
    erf_split=0.835,
    erf_greatest=3.925,
    exp=(
        0.5,
        0.16666576266288757,
        0.041666556149721146,
        0.008363178931176662,
        0.0013926184037700295,
    ),
    log=(0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841),
    atanh=(
        0.6666667461395264,
        0.3999894857406616,
        0.286152184009552,
        0.21443718671798706,
        0.24246343970298767,
    ),
    sine=(
        -0.1666666716337204,
        0.008333350531756878,
        -0.00019843093468807638,
        2.76270588983607e-06,
        -2.550310895799157e-08,
    ),
    erf_small=(
        0.12837916612625122,
        -0.37612593173980713,
        0.11282918602228165,
        -0.026810063049197197,
        0.005063159856945276,
        -0.0006384575390256941,
    ),
    erf_large=(
        0.00014826525875832886,
        -1.1293840408325195,
        -0.6336190104484558,
        -0.10797266662120819,
        0.02491571195423603,
        -0.004091924522072077,
        0.00041778082959353924,
        -1.962408896361012e-05,
    ),
)


def format_of(w: Lanes) -> Format:
    return DOUBLE if w.element == "double" else SINGLE
