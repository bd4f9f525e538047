"""Names of the notation as identifiers of C: `s.grad` -> `s_grad`, `x'` -> `x_prime`, `γ` -> `gamma`."""

from __future__ import annotations

import unicodedata

# What a name of the program may not be: words of C and C++, what the printed text says itself, and what
# the standard library, or a system's math.h, has by that name. One that is gets a `_`.
_KEYWORDS = """alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const
    const_cast constexpr continue decltype default delete do double dynamic_cast else enum
    explicit export extern false float for friend goto if inline int long mutable namespace new
    noexcept not not_eq nullptr operator or or_eq private protected public register
    reinterpret_cast restrict return short signed sizeof static static_assert static_cast struct
    switch template this thread_local throw true try typedef typeid typename typeof union
    unsigned using virtual void volatile wchar_t while xor xor_eq"""
_OURS = """error end add subtract multiply negate floor_divide floor_modulo divide modulo power whole
    within begin done maximum minimum sign square sigmoid softplus allocate times step value
    size_t NULL INFINITY PARALLEL PARALLEL_CHECKED PRAGMA"""
_LIBRARY = """abort abs accept access acos acosf acosh alarm asin asinf asinh assert atan atan2 atan2f atanf
    atanh atexit atof atoi atol bind brk bsearch calloc cbrt ceil ceilf clock close connect
    copysign cos cosf cosh creat ctime daemon div dprintf drem dup erf erfc erff exec execl exit
    exp exp2 expf expm1 expm1f fabs fabsf fclose fdim fflush finite floor floorf fma fmax fmaxf
    fmin fminf fmod fopen fork fprintf fputs fread free frexp fseek fwrite gamma getc getenv
    getopt gets getpid hypot ilogb index int32_t int64_t intptr_t isatty isinf isnan j0 j1 jn
    kill labs ldexp lgamma link listen llabs log log10 log1p log1pf log2 logb logf longjmp lseek
    main malloc memchr memcmp memcpy memmove memset mktime modf nan nearbyint nice offsetof open
    pause perror pipe poll pow powf printf putc puts qsort raise rand random read realloc recv
    remainder remove rename rewind rindex rint round scalb scanf select send setjmp signal
    significand sin sinf sinh sleep socket sprintf sqrt sqrtf srand sscanf stat stderr stdin
    stdout strcat strchr strcmp strcpy strlen sync system tan tanf tanh tanhf tgamma time times
    trunc truncate uint8_t umask unlink usleep utime va_arg wait write y0 y1 yn"""
TAKEN = frozenset(f"{_KEYWORDS} {_OURS} {_LIBRARY}".split())


class Names:
    """A legal and distinct identifier for each (kind, name), given out on first use."""

    def __init__(self, taken: frozenset[str] = frozenset()) -> None:
        self._of: dict[tuple[str, str], str] = {}
        self._used = set(TAKEN | taken)

    def of(self, kind: str, name: str) -> str:
        if (kind, name) not in self._of:
            self._of[kind, name] = self.fresh(legal(name))
        return self._of[kind, name]

    def fresh(self, wanted: str) -> str:
        """`wanted`, with as many `_` behind it as make it a name that nothing else has."""
        while wanted in self._used:
            wanted += "_"
        self._used.add(wanted)
        return wanted

    def renamed(self) -> list[tuple[str, str]]:
        """The (name, identifier) pairs that differ."""
        return [(name, found) for (_, name), found in self._of.items() if name != found]


def legal(name: str) -> str:
    """The name in the letters that every C has. Different names may become the same.

    >>> from loopgrad.printers.c_names import legal
    >>> legal("γ.grad"), legal("x'"), legal("Δ2"), legal("größe")
    ('gamma_grad', 'x_prime', 'Delta2', 'gro_u0308_u00dfe')
    """
    text = name.replace(".", "_").replace("'", "_prime")
    found = "".join(_spelled(c) for c in unicodedata.normalize("NFKD", text))
    return found if not found[:1].isdigit() and not found.startswith("_") else f"v{found}"


def _spelled(character: str) -> str:
    if character.isascii():
        return character if character.isalnum() else "_"
    words = unicodedata.name(character, "").split()
    if words[:1] == ["GREEK"] and words[2:3] == ["LETTER"]:
        letter = words[-1].lower()
        return letter.capitalize() if words[1] == "CAPITAL" else letter
    return f"_u{ord(character):04x}"
