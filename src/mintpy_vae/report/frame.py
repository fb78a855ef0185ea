"""Frame of the report's maps: the coordinates of their pixels, and the hillshade of the height below them."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Floats

STEEP = 0.9
"""Quantile of the slopes that is drawn at 45 degrees: heights are exaggerated to a common steepness."""
DARK, RANGE = 150, 70
"""Grey of ground in the shade, and what full light adds."""


@dataclass(frozen=True)
class Frame:
    """Frame of maps (length, width).

    Attributes
    ----------
    axes : dict
        ``north`` and ``degrees`` (of a geocoded grid, and of one in degrees); ``x`` and ``y``, each with ``title``,
        ``first`` (middle of the first pixel), ``step``, and ``metres`` per unit.
    ground : str
        Hillshade as the URI of a PNG.
    """

    axes: dict[str, Any]
    ground: str

    def at(self, row: float, column: float) -> tuple[float, float]:
        """Coordinates x, y of a pixel."""
        x, y = self.axes["x"], self.axes["y"]
        return x["first"] + column * x["step"], y["first"] + row * y["step"]


@dataclass(frozen=True)
class Mark:
    """A warning at its places on the maps.

    Attributes
    ----------
    number : int
        Shown on the maps and before the warning at the head of the page.
    text : str
        The warning in lines, for the pointer.
    places : list of (x, y)
        In the coordinates of a :class:`Frame`.
    """

    number: int
    text: str
    places: list[tuple[float, float]]


def frame(
    attributes: Mapping[str, str], factor: float, pixel: tuple[float, float], height: Floats, step: int = 1
) -> Frame:
    """Frame of every `step`-th pixel of a multilooked grid, beginning with the one in the middle of the first `step`.

    Parameters
    ----------
    attributes : mapping
        Of the stack at full resolution; empty if they are not known.
    factor : float
        Looks along both axes.
    pixel : (float, float)
        Size of a pixel of the grid on the ground, metres, along rows and columns.
    height : (length, width)
        Metres, of the chosen pixels; NaN where unknown.
    step : int
    """
    geocoded = "Y_FIRST" in attributes
    degrees = geocoded and attributes.get("Y_UNIT", "degrees").startswith("deg")
    names = ("latitude", "longitude") if degrees else ("northing [m]", "easting [m]")
    if not geocoded:
        names = ("azimuth [pixel]", "range [pixel]") if attributes else ("row", "column")
    axes: dict[str, Any] = {"north": geocoded, "degrees": degrees}
    for letter, name, metres in zip("yx", names, pixel, strict=True):
        first, spacing = (float(attributes[f"{letter.upper()}_{k}"]) for k in ("FIRST", "STEP")) if geocoded else (0, 1)
        each = spacing * factor
        axes[letter] = {"title": name, "first": first + each * (step // 2 + 0.5), "step": each * step,
                        "metres": float(metres) / abs(each)}  # fmt: skip
    return Frame(axes, hillshade(height))


def hillshade(height: Floats) -> str:
    """Light from the upper left, the north-west of a map, on heights (length, width), as the URI of a PNG.

    It is transparent where the height is unknown.
    """
    around = np.pad(height, 1, mode="edge")
    down = np.nan_to_num((around[2:, 1:-1] - around[:-2, 1:-1]) / 2)
    right = np.nan_to_num((around[1:-1, 2:] - around[1:-1, :-2]) / 2)
    steep = max(float(np.quantile(np.hypot(down, right), STEEP)), 1.0)
    down, right = down / steep, right / steep
    light = (1 + (down + right) / 2) / np.sqrt(1 + down**2 + right**2)
    grey = np.rint(DARK + RANGE * np.clip(light, 0, 1.5)).clip(0, 255).astype(np.uint8)
    image = np.dstack([grey, np.where(np.isfinite(height), 255, 0).astype(np.uint8)])
    return "data:image/png;base64," + base64.b64encode(_png(image)).decode()


def _png(image: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """An image (length, width, 2) of grey and opacity as a PNG."""
    length, width, _ = image.shape
    lines = b"".join(b"\0" + row.tobytes() for row in image)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, length, 8, 4, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
