import errno
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from mintpy.objects import timeseries
from mintpy.utils import readfile

from mintpy_vae.errors import InputError
from mintpy_vae.stack import (
    COMPLETE,
    EarlierLayers,
    file_hash,
    open_stack,
    pool_components,
    pool_map,
    pool_pairs,
    write_corrected_stack,
    write_delay_file,
    write_std_file,
)
from mintpy_vae.stack.hdf5 import slabs
from tiny import NO_DATA_ROW, REF_YX, VARIANT, WAVELENGTH, delays, make_project

SIZE = (30, 40)
N_DATES = 9
REAL = Path(__file__).parents[3] / "shared" / "data" / "mexico_city_s1"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real stack is not here: {REAL}")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project") / "tiny")


@pytest.fixture
def stack(project):
    return open_stack(project / "inputs" / "ifgramStack.h5")


def rows_of(array):
    return lambda rows: array[:, rows]


def read(file, name="unwrapPhase"):
    with h5py.File(file) as f:
        return f[name][:]


# ------------------------------------------------------------------------------------------------------------- opening
def test_open_stack_reads_what_is_there(stack):
    assert stack.shape == SIZE
    assert len(stack.dates) == N_DATES and stack.dates == sorted(stack.dates)
    assert stack.dates[0] == "20200105"
    assert stack.pairs.shape == (len(stack.keep), 2) and (stack.pairs[:, 0] < stack.pairs[:, 1]).all()
    assert stack.keep.sum() == len(stack.keep) - 1
    assert stack.wavelength == pytest.approx(WAVELENGTH)
    assert stack.ref_yx == REF_YX
    assert stack.phase_name == "unwrapPhase"
    assert stack.geometry_file.name == "geometryGeo.h5"
    assert stack.height.dtype == np.float32 and stack.land is None
    assert stack.attributes["PLATFORM"] == "Sen"


def test_radar_stack_takes_its_own_geometry_and_water_mask(tmp_path):
    stack = open_stack(make_project(tmp_path / "p", coord="radar", water=True) / "inputs" / "ifgramStack.h5")
    assert stack.geometry_file.name == "geometryRadar.h5"
    assert stack.land is not None and not stack.land[:, 0].any() and stack.land[:, 10].all()


def test_a_stack_without_reference_point_opens(tmp_path):
    assert open_stack(make_project(tmp_path / "p", reference=False) / "inputs" / "ifgramStack.h5").ref_yx is None


@pytest.mark.parametrize("method", ["bridging", "phase_closure", "Bridging", " phase_closure"])
def test_the_phase_is_the_one_that_mintpy_would_invert(tmp_path, method):
    plain = method.strip().lower()
    file = make_project(tmp_path / "p", unwrap_method=plain) / "inputs" / "ifgramStack.h5"
    assert open_stack(file, template={"mintpy.unwrapError.method": method}).phase_name == VARIANT[plain]
    for off in ("no", "auto", False, None):
        assert open_stack(file, template={"mintpy.unwrapError.method": off}).phase_name == "unwrapPhase"


def test_unknown_heights_become_nan(tmp_path):
    root = make_project(tmp_path / "p", coord="radar")
    with h5py.File(root / "inputs" / "geometryRadar.h5", "r+") as f:
        f["height"][0, 0] = -32768
        f["height"][0, 1] = np.nan
        f["latitude"][0, 2] = 0
    height = open_stack(root / "inputs" / "ifgramStack.h5").height
    assert np.isnan(height[0, :3]).all() and np.isfinite(height[0, 3:]).all()


def test_a_date_without_kept_pairs_opens(tmp_path):
    file = make_project(tmp_path / "p") / "inputs" / "ifgramStack.h5"
    last = open_stack(file).pairs[:, 1] == N_DATES - 1
    change(file, dropIfgram=lambda keep: keep & ~last)
    assert len(open_stack(file).dates) == N_DATES


def test_a_symlink_and_a_path_with_spaces_and_letters_open(project, tmp_path):
    place = tmp_path / "Köln a b"
    place.mkdir()
    (place / "ifgramStack.h5").symlink_to(project / "inputs" / "ifgramStack.h5")
    (place / "geometryGeo.h5").symlink_to(project / "inputs" / "geometryGeo.h5")
    assert open_stack(place / "ifgramStack.h5").shape == SIZE


# ----------------------------------------------------------------------------------------------------------- bad input
def change(file, **datasets):
    """Replace datasets by a function of their values; None deletes."""
    with h5py.File(file, "r+") as f:
        for name, function in datasets.items():
            old = f[name][:]
            del f[name]
            if function is not None:
                f[name] = function(old)


def test_bad_choices_are_refused(project, tmp_path):
    file = project / "inputs" / "ifgramStack.h5"
    with pytest.raises(InputError, match="geometry file .* does not exist"):
        open_stack(file, tmp_path / "none.h5")
    with pytest.raises(InputError, match="not a method of MintPy"):
        open_stack(file, template={"mintpy.unwrapError.method": "magic"})
    with pytest.raises(InputError, match="correct_unwrap_error first"):
        open_stack(file, template={"mintpy.unwrapError.method": "bridging"})


def test_a_stack_open_for_writing_elsewhere_is_refused(project, tmp_path):
    root = Path(shutil.copytree(project, tmp_path / "p"))
    file = root / "inputs" / "ifgramStack.h5"
    hold = f"import h5py; f = h5py.File({str(file)!r}, 'r+'); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(InputError, match="cannot be read"):
            open_stack(file)
        other.communicate("\n")
    assert open_stack(file).shape == SIZE


def test_a_damaged_chunk_is_reported(tmp_path):
    file = make_project(tmp_path / "p", compression="gzip") / "inputs" / "ifgramStack.h5"
    stack = open_stack(file)
    with h5py.File(file) as f:
        where = f["unwrapPhase"].id.get_chunk_info(5).byte_offset
    with open(file, "r+b") as f:
        f.seek(where)
        f.write(b"\xff" * 40)
    with pytest.raises(InputError, match="is damaged"):
        pool_pairs(stack, 3, 1)
    with pytest.raises(InputError, match="is damaged"):
        write_corrected_stack(stack, tmp_path / "out.h5", rows_of(delays(N_DATES, SIZE)), {}, 1)
    assert not list(tmp_path.glob("out*"))


# ------------------------------------------------------------------------------------------------------------- pooling
def pooled_by_hand(stack, factor):
    phase, coherence = read(stack.file), read(stack.file, "coherence")
    valid = np.isfinite(phase) & (phase != 0) & np.isfinite(coherence)
    if stack.land is not None:
        valid &= stack.land
    weight = np.where(valid, np.clip(coherence, 0, 1), 0).astype(float) ** 2
    phase = np.where(valid, phase, 0)
    h, w = -(-SIZE[0] // factor), -(-SIZE[1] // factor)
    out = np.zeros((2, len(phase), h, w))
    for i in range(h):
        for j in range(w):
            box = np.s_[:, i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
            total = weight[box].sum((1, 2))
            out[1, :, i, j] = total / factor**2
            out[0, :, i, j] = (weight[box] * phase[box]).sum((1, 2)) / np.where(total > 0, total, 1)
    return out


@pytest.mark.parametrize("factor", [1, 3, 7, 50])
@pytest.mark.parametrize("water", [False, True])
def test_pooling_is_the_weighted_mean(tmp_path, factor, water):
    stack = open_stack(make_project(tmp_path / "p", water=water) / "inputs" / "ifgramStack.h5")
    phase, weight = pool_pairs(stack, factor, 1.0)
    expected = pooled_by_hand(stack, factor)
    assert phase.dtype == weight.dtype == np.float32
    np.testing.assert_allclose(phase, expected[0], atol=1e-5)
    np.testing.assert_allclose(weight, expected[1], atol=1e-6)
    assert np.isfinite(phase).all() and (phase[weight == 0] == 0).all()


def test_pooling_survives_infinite_values(tmp_path):
    file = make_project(tmp_path / "p") / "inputs" / "ifgramStack.h5"
    with h5py.File(file, "r+") as f:
        f["coherence"][0, 0, 0:3] = np.inf, -np.inf, 7
        f["unwrapPhase"][0, 1, 0] = np.inf
    phase, weight = pool_pairs(open_stack(file), 2, 1.0)
    assert np.isfinite(phase).all() and np.isfinite(weight).all() and weight.max() <= 1


LAYOUTS = [
    ((4, 7, 9), None),
    ((16, 13, 17), "gzip"),
    ((1, 30, 40), "lzf"),
    ((21, 30, 40), None),
    (None, None),
]


def test_pooling_depends_neither_on_memory_nor_on_chunks(tmp_path):
    results = set()
    for k, (chunks, compression) in enumerate(LAYOUTS):
        root = make_project(tmp_path / str(k), chunks=chunks, compression=compression)
        stack = open_stack(root / "inputs" / "ifgramStack.h5")
        for max_memory in (1e-6, 2e-4, 5e-4, 4.0):
            done = []
            phase, weight = pool_pairs(stack, 4, max_memory, lambda rows, n, _, done=done: done.append((rows, n)))
            results.add((phase.tobytes(), weight.tobytes()))
            assert done[-1] == (30, 30) and done == sorted(set(done))
    assert len(results) == 1


def test_a_date_is_new_even_if_an_earlier_file_has_an_empty_layer_of_it(stack, tmp_path):
    """Before, all pairs with it were dropped."""
    file, delay = tmp_path / "VAE.h5", delays(N_DATES, SIZE)
    write_delay_file(stack, file, rows_of(delay), 1.0)
    dates = np.array(stack.dates, "S")
    late = stack.dates[-1:]
    layers = EarlierLayers.of(file, "timeseries", dates, late)
    assert layers.new.tolist() == [False] * (N_DATES - 1) + [True]
    values = layers.put(np.full((N_DATES, *SIZE), 7.0, np.float32), slice(0, SIZE[0]))
    assert (values[-1] == 7).all()
    np.testing.assert_array_equal(values[:-1], read(file, "timeseries")[:-1])
    of_pairs = EarlierLayers.of(file, "timeseries", dates[stack.pairs], late)
    assert of_pairs.new.all()  # the file has none of them


def test_components_may_be_floats_with_nan(tmp_path):
    """As MintPy writes those of NISAR."""
    file = make_project(tmp_path / "p", connect=True) / "inputs/ifgramStack.h5"
    found = []
    for as_written in (lambda parts: parts, lambda parts: np.where(parts > 0, parts, np.nan).astype(np.float32)):
        with h5py.File(file, "r+") as f:
            parts = f["connectComponent"][:]
            parts[:, 10:20, 5:15] = 2
            del f["connectComponent"]
            f["connectComponent"] = as_written(parts)
        found.append(pool_components(open_stack(file), 4, 1.0))
    assert {1, 2} <= set(np.unique(found[0]))
    np.testing.assert_array_equal(found[1], found[0])


@pytest.mark.parametrize("which", ["kept", "last", "none of the first chunk", "alternating"])
def test_some_pairs_are_pooled_as_all_are(tmp_path, which):
    root = make_project(tmp_path / "p", chunks=(4, 7, 9), connect=True)
    with h5py.File(root / "inputs/ifgramStack.h5", "r+") as f:
        f["connectComponent"][:, 10:20, 5:15] = 2
    stack = open_stack(root / "inputs/ifgramStack.h5")
    number = np.arange(len(stack.pairs))
    choices = {"kept": stack.keep, "last": number == number[-1], "none of the first chunk": number > 4}
    some = choices.get(which, number % 2 == 1)
    parts, own = pool_components(stack, 4, 1.0), pool_components(stack, 4, 1.0, some)
    np.testing.assert_array_equal(own, parts[some])
    for memory in (1e-6, 1.0):
        of_all = pool_pairs(stack, 4, memory, components=parts)
        of_some = pool_pairs(stack, 4, memory, components=own, some=some)
        for a, b in zip(of_all, of_some, strict=True):
            np.testing.assert_array_equal(b, a[some])


def test_pool_map_skips_unknown_heights():
    height = np.arange(20, dtype=np.float32).reshape(4, 5)
    height[:2, :2] = np.nan
    height[0, 2] = np.nan
    pooled = pool_map(height, 2)
    assert pooled.shape == (2, 3) and np.isnan(pooled[0, 0])
    assert pooled[0, 1] == pytest.approx((3 + 7 + 8) / 3)
    assert pooled[1, 2] == pytest.approx((14 + 19) / 2)


# ------------------------------------------------------------------------------------------------------------- writing
def test_the_difference_of_the_dates_is_subtracted(stack, tmp_path):
    delay, before = delays(N_DATES, SIZE), file_hash(stack.file)
    out = tmp_path / "out.h5"
    write_corrected_stack(stack, out, rows_of(delay), {"version": "1", "vae.seed": "2"}, 1.0)
    old, new = read(stack.file), read(out)
    i, j = stack.pairs.T
    valid = np.isfinite(old) & (old != 0)
    np.testing.assert_array_equal(new[valid], (old - (delay[j] - delay[i]))[valid])
    np.testing.assert_array_equal(np.isnan(new), np.isnan(old))
    np.testing.assert_array_equal(new == 0, old == 0)
    assert np.isnan(new[1, NO_DATA_ROW]).any()
    assert file_hash(stack.file) == before and os.listdir(tmp_path) == ["out.h5"]
    with h5py.File(out) as f, h5py.File(stack.file) as source:
        assert set(f) == set(source)
        for name in set(source) - {"unwrapPhase"}:
            np.testing.assert_array_equal(f[name][:], source[name][:])
            assert f[name].chunks == source[name].chunks and f[name].dtype == source[name].dtype
            assert dict(f[name].attrs) == dict(source[name].attrs)
        assert f["unwrapPhase"].chunks == source["unwrapPhase"].chunks
        assert dict(f.attrs) == {**dict(source.attrs), "atmos_correct_method": "VAE"}
        marks = dict(f["unwrapPhase"].attrs)
        assert marks["vae.version"] == "1" and marks["vae.seed"] == "2" and marks[COMPLETE] == "yes"
        assert float(marks["MODIFICATION_TIME"]) > 1.7e9


def test_writing_depends_neither_on_memory_nor_on_chunks(tmp_path):
    delay, results = delays(N_DATES, SIZE), set()
    for k, (chunks, compression) in enumerate(LAYOUTS):
        root = make_project(tmp_path / str(k), chunks=chunks, compression=compression)
        stack = open_stack(root / "inputs" / "ifgramStack.h5")
        for max_memory in (1e-6, 3e-4, 6e-4, 4.0):
            done = []
            progress = lambda rows, n, _, done=done: done.append((rows, n))  # noqa: E731
            write_corrected_stack(stack, tmp_path / "out.h5", rows_of(delay), {}, max_memory, progress)
            results.add(read(tmp_path / "out.h5").tobytes())
            assert done[-1] == (30, 30)
            with h5py.File(tmp_path / "out.h5") as f:
                assert f["unwrapPhase"].chunks == chunks and f["unwrapPhase"].compression == compression
    assert len(results) == 1


@pytest.mark.parametrize("chunks", [(4, 7, 9), (16, 13, 17), (2, 5, 40)])
def test_slabs_end_at_chunks_where_memory_allows(tmp_path, chunks):
    stack = open_stack(make_project(tmp_path / "p", chunks=chunks) / "inputs" / "ifgramStack.h5")
    asked = []

    def atmosphere(rows):
        asked.append(rows)
        return np.zeros((N_DATES, rows.stop - rows.start, SIZE[1]), np.float32)

    memory = 4e-9 * 40 * chunks[1] * (6 * chunks[0] + 2 * N_DATES) * 1.01  # of one row of chunks, one chunk of pairs
    write_corrected_stack(stack, tmp_path / "out.h5", atmosphere, {}, memory)
    assert all(rows.start % chunks[1] == 0 for rows in asked)
    assert asked[0].stop == chunks[1] and asked[-1].stop == SIZE[0]


@pytest.mark.parametrize("max_memory", [0.1, 1, 4, 64])
def test_slabs_of_a_large_stack_are_small_however_much_memory_there_is(tmp_path, max_memory):
    with h5py.File(tmp_path / "large.h5", "w") as f:  # nothing of it is on the disk
        phase = f.create_dataset("unwrapPhase", (500, 2000, 3000), "f4", chunks=True, maxshape=(None, 2000, 3000))
        cut = list(slabs(phase, max_memory, other_layers=128))
        chunk = phase.chunks
    assert [rows.stop for rows, _ in cut[:-1]] == [rows.start for rows, _ in cut[1:]]
    assert (cut[0][0].start, cut[-1][0].stop) == (0, 2000)
    for rows, blocks in cut:
        height = rows.stop - rows.start
        assert sum(block.stop - block.start for block in blocks) == 500
        assert 4 * 3000 * height * (128 + blocks[0].stop) <= min(max_memory, 0.5) * 1e9
        if max_memory >= 1:
            assert rows.start % chunk[1] == 0 and all(block.start % chunk[0] == 0 for block in blocks)


def test_a_valid_pixel_never_becomes_no_data(stack, tmp_path):
    """An atmosphere that explains all of the phase leaves almost nothing, but not nothing."""
    old = read(stack.file)
    delay = np.zeros((N_DATES, *SIZE), np.float32)
    k = int(np.flatnonzero((stack.pairs == (0, 1)).all(axis=1))[0])
    delay[1] = np.nan_to_num(old[k])
    write_corrected_stack(stack, tmp_path / "out.h5", rows_of(delay), {}, 1.0)
    new = read(tmp_path / "out.h5")
    valid = np.isfinite(old[k]) & (old[k] != 0)
    assert (new[k][valid] != 0).all() and np.abs(new[k][valid]).max() <= 1.1e-6
    assert not new[k][~valid & (old[k] == 0)].any()


def test_uncorrected_is_the_same_phase_bit_for_bit(tmp_path):
    root = make_project(tmp_path / "p", unwrap_method="bridging")
    stack = open_stack(root / "inputs" / "ifgramStack.h5", template={"mintpy.unwrapError.method": "bridging"})

    def never(rows):
        raise AssertionError("nothing is to be corrected")

    write_corrected_stack(stack, tmp_path / "out.h5", never, {"status": "uncorrected", "reason": "few dates"}, 1.0)
    with h5py.File(tmp_path / "out.h5") as f, h5py.File(stack.file) as source:
        assert set(f) == set(source) and "atmos_correct_method" not in f.attrs
        for name in source:
            assert f[name][()].tobytes() == source[name][()].tobytes()
        assert f[stack.phase_name].attrs["vae.reason"] == "few dates"
        assert float(f[stack.phase_name].attrs["MODIFICATION_TIME"]) > 1.7e9


@pytest.mark.parametrize("method", VARIANT)
def test_another_phase_becomes_the_main_one_under_both_names(tmp_path, method):
    root = make_project(tmp_path / "p", unwrap_method=method, connect=True)
    stack = open_stack(root / "inputs" / "ifgramStack.h5", template={"mintpy.unwrapError.method": method})
    delay = delays(N_DATES, SIZE)
    write_corrected_stack(stack, tmp_path / "out.h5", rows_of(delay), {}, 1.0)
    old = read(stack.file, VARIANT[method])
    with h5py.File(tmp_path / "out.h5") as f:
        assert f["unwrapPhase"] == f[VARIANT[method]]  # one dataset, two names
        assert f.attrs["mintpy.unwrapError.waterMaskFile"] == "waterMask.h5"
        assert f["connectComponent"].dtype == np.int16
        new = f["unwrapPhase"][:]
    y, x = REF_YX
    assert not old[:, y, x].any() and (new[:, y, x] != 0).all(), "the reference pixel is valid, its 0 a value"
    i, j = stack.pairs.T
    expected = old - (delay[j] - delay[i])
    valid = np.isfinite(old) & (old != 0)
    np.testing.assert_array_equal(new[valid], expected[valid])
    np.testing.assert_array_equal(new[:, y, x], expected[:, y, x])
    new[:, y, x] = 0
    np.testing.assert_array_equal(new == 0, old == 0)


def test_the_pairs_of_the_correction_close(stack, tmp_path):
    write_corrected_stack(stack, tmp_path / "out.h5", rows_of(delays(N_DATES, SIZE)), {}, 1.0)
    change_of = dict(zip(map(tuple, stack.pairs), read(stack.file) - read(tmp_path / "out.h5"), strict=True))
    misfit = [change_of[0, 1] + change_of[1, 2] - change_of[0, 2], change_of[3, 4] + change_of[4, 6] - change_of[3, 6]]
    assert np.nanmax(np.abs(misfit)) < 1e-4


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError(errno.EIO, "gone")])
def test_interruption_leaves_nothing(stack, tmp_path, error):
    def fail(rows):
        if rows.start > 0:
            raise error
        return np.zeros((N_DATES, rows.stop - rows.start, SIZE[1]), np.float32)

    before = file_hash(stack.file)
    for write in (write_corrected_stack, write_delay_file):
        arguments = ({}, 1e-4) if write is write_corrected_stack else (1e-4,)
        with pytest.raises(InputError if isinstance(error, OSError) else error):
            write(stack, tmp_path / "out.h5", fail, *arguments)
    assert os.listdir(tmp_path) == [] and file_hash(stack.file) == before


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_atmosphere_that_is_not_finite_or_misshapen_is_refused(stack, tmp_path, bad):
    delay = delays(N_DATES, SIZE)
    delay[3, 20, 7] = bad
    with pytest.raises(ValueError, match="not finite"):
        write_corrected_stack(stack, tmp_path / "out.h5", rows_of(delay), {}, 1.0)
    with pytest.raises(ValueError, match="shape"):
        write_corrected_stack(stack, tmp_path / "out.h5", rows_of(delay[1:]), {}, 1.0)
    assert os.listdir(tmp_path) == []


def test_an_old_output_stays_until_the_new_one_is_whole(stack, tmp_path):
    out = tmp_path / "out.h5"
    out.write_text("older")
    with pytest.raises(ValueError, match="shape"):
        write_corrected_stack(stack, out, lambda rows: np.zeros(3), {}, 1.0)
    assert out.read_text() == "older"
    write_corrected_stack(stack, out, rows_of(delays(N_DATES, SIZE)), {}, 1.0)
    assert read(out).shape == (len(stack.pairs), *SIZE)


def test_the_input_is_never_the_output(project, stack, tmp_path):
    before = file_hash(stack.file)
    (tmp_path / "link.h5").symlink_to(stack.file)
    for out in (stack.file, tmp_path / "link.h5"):
        with pytest.raises(InputError, match="is the input file"):
            write_corrected_stack(stack, out, rows_of(delays(N_DATES, SIZE)), {}, 1.0)
    assert file_hash(stack.file) == before


def test_a_disk_that_is_too_small_is_seen_before(stack, tmp_path, monkeypatch):
    atmosphere = rows_of(delays(N_DATES, SIZE))
    with monkeypatch.context() as m:
        m.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
        with pytest.raises(InputError, match=r"needs .* GB, but its disk has only"):
            write_corrected_stack(stack, tmp_path / "out.h5", atmosphere, {}, 1.0)
    assert os.listdir(tmp_path) == []


FILL_A_DISK = """
import os, shutil, sys
from tiny import delays
from mintpy_vae import InputError, stack as s
shutil.disk_usage = lambda path: shutil._ntuple_diskusage(1e12, 0, 1e12)
stack = s.open_stack(sys.argv[1])
delay = delays(9, (30, 40))
for write in (s.write_corrected_stack, s.write_delay_file):
    arguments = ({}, 1e-4) if write is s.write_corrected_stack else (1e-4,)
    try:
        write(stack, sys.argv[2] + "/out.h5", lambda rows: delay[:, rows], *arguments)
    except InputError as error:
        assert sys.argv[3] in str(error), error
    else:
        raise AssertionError("it was written")
    assert os.listdir(sys.argv[2]) == [], os.listdir(sys.argv[2])
print("both reported")
"""


def fill(prepare, stack, place, reason):
    """Write in a process of its own, since HDF5 may take it down, on a disk or within a limit that `prepare` sets."""
    run = f'{prepare} && exec {shlex.quote(sys.executable)} -c {shlex.quote(FILL_A_DISK)} "$0" "$1" "$2"'
    command = ["sh", "-c", run, str(stack.file), str(place), reason]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    return subprocess.run(
        ["unshare", "--mount", "--map-root-user", *command] if "mount" in prepare else command,
        capture_output=True,
        text=True,
        env=env,
    )


@pytest.mark.parametrize("kilobytes", [4, 16, 40, 120])
def test_a_disk_that_is_full_after_all_is_reported(stack, tmp_path, kilobytes):
    mount = f"mount -t tmpfs -o size={kilobytes}k none {shlex.quote(str(tmp_path))}"
    if subprocess.run(["unshare", "--mount", "--map-root-user", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk here")
    done = fill(mount, stack, tmp_path, "No space left on device")
    assert done.returncode == 0 and "both reported" in done.stdout, done.stderr[-2000:]


def test_a_limit_on_the_size_of_files_is_reported(stack, tmp_path):
    done = fill("ulimit -f 200", stack, tmp_path, "File too large")  # in units of 512 bytes
    assert done.returncode == 0 and "both reported" in done.stdout, done.stderr[-2000:]


def test_the_space_reserved_is_given_back(tmp_path):
    """The file is no larger than its contents, however much was reserved."""
    stack = open_stack(make_project(tmp_path / "p", compression="gzip") / "inputs" / "ifgramStack.h5")
    write_corrected_stack(stack, tmp_path / "out.h5", rows_of(0 * delays(N_DATES, SIZE)), {}, 1.0)
    assert (tmp_path / "out.h5").stat().st_size < 1.1 * stack.file.stat().st_size


def test_an_unwritable_place_is_reported(stack, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        write_corrected_stack(stack, tmp_path / "file" / "out.h5", rows_of(delays(N_DATES, SIZE)), {}, 1.0)


def test_virtual_datasets_are_copied_by_value(stack, tmp_path):
    file = tmp_path / "inputs" / "ifgramStack.h5"
    file.parent.mkdir()
    shutil.copy(stack.geometry_file, file.parent)
    with h5py.File(stack.file) as source, h5py.File(file, "w") as f:
        f.attrs.update(source.attrs)
        for name in source:
            layout = h5py.VirtualLayout(source[name].shape, source[name].dtype)
            layout[...] = h5py.VirtualSource(source[name])
            f.create_virtual_dataset(name, layout)
    delay, before = delays(N_DATES, SIZE), file_hash(stack.file)
    write_corrected_stack(open_stack(file), tmp_path / "virtual.h5", rows_of(delay), {}, 1e-4)
    write_corrected_stack(stack, tmp_path / "plain.h5", rows_of(delay), {}, 1.0)
    with h5py.File(tmp_path / "virtual.h5") as a, h5py.File(tmp_path / "plain.h5") as b:
        assert not any(item.is_virtual for item in a.values())
        for name in b:
            np.testing.assert_array_equal(a[name][()], b[name][()])
    assert file_hash(stack.file) == before


def test_delay_file_is_displacement_in_metres(stack, tmp_path):
    delay = delays(N_DATES, SIZE)
    for max_memory in (1e-5, 1.0):
        write_delay_file(stack, tmp_path / "VAE.h5", rows_of(delay), max_memory)
        with h5py.File(tmp_path / "VAE.h5") as f:
            np.testing.assert_allclose(f["timeseries"][:], -WAVELENGTH / (4 * np.pi) * delay, rtol=1e-6)
            assert [d.decode() for d in f["date"][:]] == stack.dates
            assert f.attrs["FILE_TYPE"] == "timeseries" and f.attrs["UNIT"] == "m"
            assert not [key for key in f.attrs if key in ("REF_Y", "REF_X", "REF_DATE")]
            assert f["timeseries"].dtype == np.float32
    assert os.listdir(tmp_path) == ["VAE.h5"]


def test_std_file_is_a_time_series_of_mintpy(stack, tmp_path):
    std = np.abs(delays(N_DATES, SIZE))
    std[2] = np.nan  # a date that was left as it was
    file = str(tmp_path / "vae_std.h5")
    for max_memory in (1e-5, 1.0):
        write_std_file(stack, file, rows_of(std), max_memory, {"status": "corrected"})
        values, attributes = readfile.read(file, datasetName=f"timeseries-{stack.dates[5]}")
        np.testing.assert_allclose(values, WAVELENGTH / (4 * np.pi) * std[5], rtol=1e-6)
        values = readfile.read(file)[0]
        np.testing.assert_allclose(values, WAVELENGTH / (4 * np.pi) * std, rtol=1e-6)
        assert values.dtype == np.float32 and timeseries(file).get_date_list() == stack.dates
        assert attributes["FILE_TYPE"] == "timeseries" and attributes["UNIT"] == "m"
        assert attributes["LENGTH"] == str(SIZE[0]) and "REF_DATE" not in attributes
    with h5py.File(file) as f:
        assert f["timeseries"].attrs[COMPLETE] == "yes" and f["timeseries"].attrs["vae.status"] == "corrected"
    assert os.listdir(tmp_path) == ["vae_std.h5"]
    with pytest.raises(ValueError, match="shape"):
        write_std_file(stack, tmp_path / "other.h5", rows_of(std[1:]), 1.0)
    assert os.listdir(tmp_path) == ["vae_std.h5"]


# ----------------------------------------------------------------------------------------------------------- real data
@needs_real
def test_the_real_stack(tmp_path):
    root = Path(shutil.copytree(REAL, tmp_path / "real", copy_function=shutil.copyfile))
    stack = open_stack(root / "inputs" / "ifgramStack.h5")
    assert stack.shape == (60, 100) and len(stack.dates) == 13 and len(stack.pairs) == 30 and stack.ref_yx == (1, 27)
    coarse, weight = pool_pairs(stack, 2, 1.0)
    assert np.isfinite(coarse).all() and (weight > 0).mean() > 0.9
    before = file_hash(stack.file)
    write_corrected_stack(stack, tmp_path / "out.h5", rows_of(delays(13, (60, 100))), {}, 1e-3)
    old, new = read(stack.file), read(tmp_path / "out.h5")
    np.testing.assert_array_equal(old == 0, new == 0)
    assert file_hash(stack.file) == before
    assert open_stack(root / "inputs" / "ifgramStack.h5", root / "inputs" / "geometryGeo.h5").keep.all()
