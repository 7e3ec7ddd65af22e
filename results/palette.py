"""The look of every method, in figures and on the page: colour, mark and dash.

Any one of the three tells a method from its neighbours, so that print in grey and colour-blind readers lose nothing. A
method has the same look wherever it is shown.
"""

import re
from collections.abc import Iterable
from itertools import chain, count

# On white and on the page's dark ground, dark to light in grey; each has a contrast of 4.5 and more (WCAG AA for text).
COLOURS = (
    ("#15206b", "#7f9cff"),
    ("#6b0f1a", "#ff6f61"),
    ("#0b4f45", "#2fb59e"),
    ("#7a1c8c", "#c99bff"),
    ("#9c3a0c", "#ffc59a"),
    ("#1b5fc4", "#7fd3ff"),
    ("#d0107a", "#ff8fd0"),
    ("#6f7a10", "#d8ef6a"),
)
REFERENCE = ("#6b6e73", "#a2a6ac")

# matplotlib's marker, and the same as an SVG path.
MARKS = (
    ("o", "M0-4.2A4.2 4.2 0 1 1 0 4.2A4.2 4.2 0 1 1 0-4.2Z"),
    ("s", "M-3.8-3.8H3.8V3.8H-3.8Z"),
    ("^", "M0-4.8L4.6 3.6H-4.6Z"),
    ("D", "M0-5.2L5.2 0L0 5.2L-5.2 0Z"),
    ("v", "M0 4.8L4.6-3.6H-4.6Z"),
    ("P", "M-1.6-5H1.6V-1.6H5V1.6H1.6V5H-1.6V1.6H-5V-1.6H-1.6Z"),
    ("p", "M0-4.9L4.7-1.5L2.9 4H-2.9L-4.7-1.5Z"),
)

# In widths of the line; a solid line first.
DASHES: tuple[tuple[float, ...], ...] = ((), (4.5, 1.6), (1.4, 1.2), (5, 1.5, 1.2, 1.5), (3, 1.2, 1, 1.2, 1, 1.2))

# Whose place in the palette is fixed; what is left takes the places that are free.
_PLACES = {
    "sfrik, l = 3": 0,
    "spectral contrastive": 1,
    "alignment and uniformity": 2,
    "barlow twins": 3,
    "simclr": 4,
    "sfrik, l = 2": 5,
    "vicreg": 6,
}
# The order in which places are free for others: hues that lie apart come first.
ORDER = (0, 4, 2, 6, 5, 1, 3, 7)
_PREFIX = re.compile("^(kernel|wide network,) ")


def places(names: Iterable[str]) -> dict[str, int]:
    """Each name's place: colour, mark and dash are these of its place modulo their number, so that no two are the same.

    ``Kernel VICReg`` and ``VICReg, lr=0.1`` stand where ``VICReg`` does; of several variants only the first.
    """
    names, found = list(names), dict[str, int]()
    for name in names:
        own = _PREFIX.sub("", name.casefold())
        fixed = next((place for known, place in _PLACES.items() if f"{own},".startswith(f"{known},")), None)
        if fixed is not None and fixed not in found.values():
            found[name] = fixed
    taken = {*found.values()}
    free = (place for place in chain(ORDER, count(len(ORDER))) if place not in taken)
    return {name: found[name] if name in found else next(free) for name in names}
