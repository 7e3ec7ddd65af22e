"""The palette: contrast on either ground, grey, and one look a method wherever it is shown."""

from itertools import pairwise

import pytest
from matplotlib.colors import to_rgb

from results import palette, style

GROUNDS = ("#ffffff", "#15171a")  # the page's, light and dark


def luminance(color: object) -> float:
    """Relative luminance as WCAG 2 has it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]  # type: ignore[arg-type]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1])
def test_names_in_every_colour_can_be_read_on_their_ground(scheme: int) -> None:
    ground = luminance(GROUNDS[scheme])
    for pair in [*palette.COLOURS, palette.REFERENCE]:
        low, high = sorted((ground, luminance(pair[scheme])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, pair


def test_colours_grow_lighter_in_grey() -> None:
    levels = [luminance(light) for light, _ in palette.COLOURS]
    assert all(dark < light for dark, light in pairwise(levels))
    shades = [luminance(look.color) for look in style.shades(["64", "256", "1024", "4096"]).values()]
    assert all(light > 1.5 * dark for dark, light in pairwise(shades))


def test_a_method_looks_the_same_among_others() -> None:
    digits = ["Alignment and uniformity", "Barlow Twins", "SFRIK, L = 2", "SFRIK, L = 3", "SimCLR", "VICReg"]
    places = palette.places(digits)
    assert len({place % len(palette.COLOURS) for place in places.values()}) == len(digits)
    for name in digits:
        assert palette.places(["Another", name, "And another"])[name] == places[name]
        assert palette.places([f"Kernel {name}"]) == {f"Kernel {name}": places[name]}
        assert palette.places([f"{name}, lr=0.1"]) == {f"{name}, lr=0.1": places[name]}


def test_no_two_lines_of_a_figure_look_the_same() -> None:
    names = [f"SFRIK, L = 3, lr={rate}" for rate in range(20)] + [f"Method {place}" for place in range(30)] + ["VICReg"]
    looks = style.looks(names)
    assert list(looks) == names
    assert len({(look.color, look.marker, look.dash) for look in looks.values()}) == len(names)
    eight = list(style.looks(names[:8]).values())
    assert len({look.color for look in eight}) == 8
    assert len({look.marker for look in eight}) == len(palette.MARKS)
