"""What printed C says before its functions: error codes, and small functions that it uses."""

from __future__ import annotations

# Codes that a printed function returns, and what they mean.
ERRORS = {
    "LOOPGRAD_OK": "all results are written",
    "LOOPGRAD_MEMORY": "no memory for what is computed on the way",
    "LOOPGRAD_EXTENT": "extents are negative, or do not fit each other",
    "LOOPGRAD_TOO_LARGE": "an extent is 2^40 or more, or an integer constant 2^20",
    "LOOPGRAD_CONSTANT": "a constant is less than 1, and must not be",
    "LOOPGRAD_OUT_OF_RANGE": "a subscript is out of range",
    "LOOPGRAD_INCOMPLETE": "an element is read before it is complete, or written twice",
    "LOOPGRAD_NO_INTEGER": "floor of NaN or of what does not fit int64, or a negative exponent",
    "LOOPGRAD_DIVISION_BY_ZERO": "an integer is divided by zero",
    "LOOPGRAD_OVERFLOW": "an integer does not fit int64",
}


def code(error: str) -> int:
    """The number of a code: a bit, so that several may stand together."""
    number = list(ERRORS).index(error)
    return 1 << number - 1 if number else 0


# Name -> its text; `real` stands for the floating type, F for the end of its library functions.
HELPERS = {
    "maximum": """
static real maximum(real a, real b) /* NaN where one is */
{
    return a >= b || a != a ? a : b;
}
""",
    "minimum": """
static real minimum(real a, real b)
{
    return a <= b || a != a ? a : b;
}
""",
    "sign": """
static real sign(real x)
{
    return x > 0 ? 1 : x < 0 ? -1 : x;
}
""",
    "square": """
static real square(real x)
{
    return x * x;
}
""",
    "sigmoid": """
static real sigmoid(real x) /* exp never overflows */
{
    return x >= 0 ? 1 / (1 + expF(-x)) : expF(x) / (1 + expF(x));
}
""",
    "softplus": """
static real softplus(real x)
{
    return (x >= 0 || x != x ? x : 0) + log1pF(expF(-fabsF(x)));
}
""",
    "within": """
static int within(int64_t subscript, int64_t extent, int *error)
{
    if (subscript >= 0 && subscript < extent)
        return 1;
    *error = LOOPGRAD_OUT_OF_RANGE;
    return 0;
}
""",
    "done": """
static int done(int64_t *state, int64_t step, int *error) /* what is read must not change any more */
{
    if (*state == step)
        *error = LOOPGRAD_INCOMPLETE;
    *state = -1;
    return 1;
}
""",
    "begin": """
static void begin(int64_t *state, int64_t step, int once, int *error)
{
    if (*state == -1 || (once && *state != 0))
        *error = LOOPGRAD_INCOMPLETE;
    *state = step;
}
""",
    "whole": """
static int64_t whole(double x, int *error) /* floor */
{
    if (x >= -9223372036854775808.0 && x < 9223372036854775808.0)
        return (int64_t)floor(x);
    *error = LOOPGRAD_NO_INTEGER;
    return 0;
}
""",
    "add": """
static int64_t add(int64_t a, int64_t b, int *error)
{
    if (b > 0 ? a <= INT64_MAX - b : a >= INT64_MIN - b)
        return a + b;
    *error = LOOPGRAD_OVERFLOW;
    return 0;
}
""",
    "subtract": """
static int64_t subtract(int64_t a, int64_t b, int *error)
{
    if (b < 0 ? a <= INT64_MAX + b : a >= INT64_MIN + b)
        return a - b;
    *error = LOOPGRAD_OVERFLOW;
    return 0;
}
""",
    "negate": """
static int64_t negate(int64_t a, int *error)
{
    if (a != INT64_MIN)
        return -a;
    *error = LOOPGRAD_OVERFLOW;
    return 0;
}
""",
    "multiply": """
static int64_t multiply(int64_t a, int64_t b, int *error)
{
    if (a == 0 || b == 0)
        return 0;
    if (a > 0 ? (b > 0 ? a <= INT64_MAX / b : b >= INT64_MIN / a)
              : (b > 0 ? a >= INT64_MIN / b : a >= INT64_MAX / b))
        return a * b;
    *error = LOOPGRAD_OVERFLOW;
    return 0;
}
""",
    "floor_divide": """
static int64_t floor_divide(int64_t a, int64_t b) /* rounded down, b > 0 */
{
    return a / b - (a % b < 0);
}
""",
    "floor_modulo": """
static int64_t floor_modulo(int64_t a, int64_t b) /* from 0 to b - 1 */
{
    return a % b < 0 ? a % b + b : a % b;
}
""",
    "divide": """
static int64_t divide(int64_t a, int64_t b, int *error) /* rounded down */
{
    if (b == 0 || (a == INT64_MIN && b == -1)) {
        *error = b == 0 ? LOOPGRAD_DIVISION_BY_ZERO : LOOPGRAD_OVERFLOW;
        return 0;
    }
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}
""",
    "modulo": """
static int64_t modulo(int64_t a, int64_t b, int *error) /* of the sign of b */
{
    if (b == 0)
        *error = LOOPGRAD_DIVISION_BY_ZERO;
    if (b == 0 || b == -1)
        return 0;
    return a % b != 0 && (a < 0) != (b < 0) ? a % b + b : a % b;
}
""",
    "power": """
static int64_t power(int64_t base, int64_t exponent, int *error)
{
    int64_t found = 1;

    if (exponent < 0)
        *error = LOOPGRAD_NO_INTEGER;
    if (base == 0 || base == 1 || base == -1)
        return exponent == 0 ? 1 : base == -1 && exponent % 2 == 0 ? 1 : base;
    for (; exponent > 0 && *error == 0; exponent--)
        found = multiply(found, base, error);
    return found;
}
""",
    "times": """
static int64_t times(int64_t a, int64_t b) /* of what is not negative; what does not fit is large */
{
    return b != 0 && a > INT64_MAX / b ? INT64_MAX : a * b;
}
""",
    "allocate": """
static void *allocate(int64_t elements, size_t size)
{
    if ((uint64_t)elements >= SIZE_MAX / 2 / size)
        return NULL;
    return malloc(((size_t)elements + 1) * size);
}
""",
}
NEEDS = {"power": ("multiply",)}
FLOATING = frozenset("maximum minimum sign square sigmoid softplus".split())
