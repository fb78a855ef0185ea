"""Cells whose size is no whole number of pixels."""

import numpy as np
import pytest

from mintpy_vae.method.upsampling import cell_centres
from mintpy_vae.multilooking import (
    cell_edges,
    cell_of,
    cell_sums,
    number_of_cells,
    on_cells,
    on_pixels,
    parts_of,
    pixels_of,
    strips,
)

AXES = [(1, 1.0), (7, 2.0), (51, 1.0), (56, 1.07), (181, 3.55), (181, 4.0), (100, 2.5), (5, 20.0), (8, 2.5)]
AXES += [(1600, 4.4444), (54, 1.0588235294117647)]


@pytest.mark.parametrize(("size", "looks"), AXES)
def test_each_pixel_is_shared_among_its_cells_and_each_cell_is_of_one_size(size, looks):
    parts, edges = parts_of(size, looks), cell_edges(size, looks)
    np.testing.assert_allclose(np.bincount(parts.pixel, parts.share), 1.0)
    of_cells = np.bincount(parts.cell, parts.share)
    assert len(of_cells) == number_of_cells(size, looks) == len(edges) - 1
    np.testing.assert_allclose(of_cells[:-1], looks, rtol=1e-6)
    assert min(0.5, size) <= of_cells[-1] <= looks + 0.5 and edges[-1] == size
    assert (len(parts.pixel) > size) == (looks % 1 > 0 and size > looks)


@pytest.mark.parametrize(("size", "looks"), AXES)
def test_the_mean_of_a_ramp_in_a_cell_is_its_value_at_the_centre(size, looks):
    ramp = 3.0 + 2.0 * np.arange(size)
    area = np.diff(cell_edges(size, looks))
    # a pixel is constant over its width: at most an eighth of the slope at each edge of a cell
    off = cell_sums(ramp[None], looks)[0] / area - (3.0 + 2.0 * cell_centres(size, looks))
    assert (np.abs(off) <= 2.0 * 2 / 8 / area + 1e-6).all()


def test_whole_looks_are_plain_sums():
    maps = np.random.default_rng(0).normal(size=(3, 8, 12))
    np.testing.assert_allclose(cell_sums(maps, 4), maps.reshape(3, 2, 4, 3, 4).sum(axis=(2, 4)))


@pytest.mark.parametrize(("size", "looks"), AXES)
@pytest.mark.parametrize("pixels", [1, 10, 64])
def test_strips_give_what_the_whole_gives(size, looks, pixels):
    maps = np.random.default_rng(1).normal(size=(2, size, 5))
    whole, stripped = cell_sums(maps, looks), []
    for cells, rows, parts in strips(size, looks, pixels):
        stripped.append(cell_sums(maps[:, rows], looks, parts))
        assert stripped[-1].shape[1] == cells.stop - cells.start and rows.stop - rows.start <= max(pixels, looks) + 2
    np.testing.assert_array_equal(np.concatenate(stripped, axis=1), whole)


@pytest.mark.parametrize(("size", "looks"), AXES)
def test_the_cell_of_a_pixel_holds_it(size, looks):
    for pixel in range(0, size, 3):
        cell = cell_of(pixel, looks)
        here = pixels_of(cell, size, looks)
        assert here.start <= pixel < here.stop <= size
        assert abs(on_cells(pixel, looks) - cell) <= 0.5 + 1e-6


@pytest.mark.parametrize(("size", "looks"), AXES)
def test_places_on_cells_and_on_pixels_are_the_same_places(size, looks):
    cells = np.arange(float(number_of_cells(size, looks)))
    np.testing.assert_allclose(on_cells(on_pixels(cells, looks), looks), cells, atol=1e-9)
    middle = (cell_edges(size, looks)[:-1] + cell_edges(size, looks)[1:] - 1) / 2
    np.testing.assert_allclose(on_pixels(cells, looks)[:-1], middle[:-1], atol=1e-6)  # the last may be cut off


def test_cells_of_cells_are_the_cells_of_so_many_pixels():
    """Also where an axis ends in the middle of its last pixel but for rounding."""
    for pixel in np.r_[10.0, 48:200:4, 92.6]:
        for resolution in (0.2, 0.25, 0.3, 0.4, 1.0):
            looks = max(1000 * resolution / pixel, 1.0)
            sizes = np.unique(np.rint(looks * np.arange(1, 400, 7) + 0.5).astype(int))
            for size in (int(size) for size in sizes if size > 1):
                cells = number_of_cells(size, looks)
                for ratio in (2, 3, 7):
                    assert number_of_cells(cells, ratio) == number_of_cells(size, looks * ratio)
                    assert number_of_cells(size, looks * ratio / ratio) == cells
                assert len(cell_edges(size, looks)) == cells + 1 == len(np.unique(parts_of(size, looks).cell)) + 1
