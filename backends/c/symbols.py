"""What an emitted network calls itself: the names that it adds to a program it is linked into.

Every name at file scope, public or static, begins with the prefix. After it public names go on
with ``net``, ``reset``, ``step``, ``set_``, ``get_`` or ``size_``, static ones with other words, so
that whatever a network calls its parts, no two names meet; and networks of different
prefixes can share a program, a folder and even a source file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from spikec.compiler.errors import Diagnostic, UsageError

__all__ = ["KEYWORDS", "Symbols", "symbols"]

#: The keywords of C.
KEYWORDS = frozenset(
    """asm auto bool break case char const continue default do double else enum extern false float
    for goto if inline int long register restrict return short signed sizeof static struct
    switch true typedef union unsigned void volatile while""".split()  # noqa: SIM905 - readable
)
#: Words that are none of C's but keywords of C++, or of a newer C.
_MORE_KEYWORDS = frozenset(
    """alignas alignof and and_eq bitand bitor catch class compl concept const_cast consteval
    constexpr constinit co_await co_return co_yield decltype delete dynamic_cast explicit export
    friend mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected
    public reinterpret_cast requires static_assert static_cast template this thread_local throw
    try typeid typename typeof typeof_unqual using virtual wchar_t xor
    xor_eq""".split()  # noqa: SIM905 - readable
)
#: Files that a prefix must not be called after: another header is found in their place, or
#: (``main.c``, devices of Windows) there is such a file already.
_FILES = frozenset(
    """assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal
    stdalign stdarg stdatomic stdbit stdbool stdckdint stddef stdint stdio stdlib stdnoreturn
    string tgmath threads time uchar wchar wctype main aux con nul prn
    com1 com2 com3 com4 com5 com6 com7 com8 com9
    lpt1 lpt2 lpt3 lpt4 lpt5 lpt6 lpt7 lpt8 lpt9""".split()  # noqa: SIM905 - readable
)
#: C99 tells names apart by at least their first 63 letters.
_LONGEST = 63


@dataclass(frozen=True, kw_only=True)
class Symbols:
    """The ``prefix`` of names, and the ``stem`` of the header and of the source file."""

    prefix: str = "spk"
    stem: str = "network"

    @property
    def macro(self) -> str:
        """The prefix of macros and of the include guard."""
        return self.prefix.upper()


def symbols(prefix: str | None) -> Symbols:
    """Return what a network of ``prefix`` calls itself; None stands for what is usual.

    Raises :class:`UsageError` for a prefix that C, or a folder, has no place for.
    """
    if prefix is None:
        return Symbols()
    wrong = _wrong(prefix)
    if wrong:
        raise UsageError(
            Diagnostic(
                code="U131",
                where=f"prefix {prefix!r}",
                message=wrong,
                hint="take a letter and then letters, digits and underscores, such as 'keyword'",
            )
        )
    return Symbols(prefix=prefix, stem=prefix)


def _wrong(prefix: str) -> str:
    """Return what is wrong with a prefix, or nothing."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", prefix):
        reserved = " (C keeps names that begin with an underscore)" if prefix[:1] == "_" else ""
        return f"it is no identifier of C{reserved}"
    if len(prefix) > _LONGEST:
        return f"it has {len(prefix)} letters, more than {_LONGEST}"
    if prefix in KEYWORDS | _MORE_KEYWORDS:
        return "it is a keyword of C or C++"
    if prefix.lower() in _FILES:
        return f"'{prefix}.h' or '{prefix}.c' would stand in the place of another file"
    return ""
