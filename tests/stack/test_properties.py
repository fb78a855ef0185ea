"""Whatever a stack looks like: what is read, pooled and written of it keeps the invariants of a correction."""

import itertools
import tempfile
from datetime import date, timedelta
from pathlib import Path

import h5py
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mintpy_vae.errors import InputError
from mintpy_vae.stack import file_hash, open_stack, pool_pairs, write_corrected_stack
from tiny import _COMMON as ATTRIBUTES
from tiny import _GEO as MAP


@st.composite
def stacks(draw):
    """Sizes, network with gaps and islands, dropped pairs, no-data, water, chunks and compression of a stack."""
    length, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    n_dates = draw(st.integers(2, 7))
    every = list(itertools.combinations(range(n_dates), 2))
    pairs = sorted(draw(st.sets(st.sampled_from(every), min_size=1)))
    keep = draw(st.lists(st.sampled_from([True, True, True, False]), min_size=len(pairs), max_size=len(pairs)))
    chunked = draw(st.booleans())
    largest = (len(pairs), length, width)
    return {
        "size": (length, width),
        "pairs": pairs,
        "keep": keep,
        "chunks": tuple(draw(st.integers(1, n)) for n in largest) if chunked else None,
        "compression": draw(st.sampled_from([None, "gzip", "lzf"])) if chunked else None,
        "seed": draw(st.integers(0, 2**16)),
        "missing": draw(st.sampled_from([0.0, 0.0, 0.1, 0.9, 1.0])),
        "no_data": draw(st.sampled_from([0.0, np.nan])),
        "strange": draw(st.sampled_from([None, np.nan, np.inf, -np.inf])),
        "water": draw(st.sampled_from([None, None, 0.3, 1.0])),
        "reference": draw(st.sampled_from([None, None, (0, 0), (length - 1, width - 1), (length, 0)])),
    }


def write(root, case):
    """A project of a case; return its stack."""
    rng = np.random.default_rng(case["seed"])
    shape = (len(case["pairs"]), *case["size"])
    names = [f"{date(2019, 1, 3) + timedelta(12 * k):%Y%m%d}" for k in range(7)]
    phase = rng.normal(0, 5, shape).astype(np.float32)
    phase[rng.random(shape) < case["missing"]] = case["no_data"]
    coherence = rng.random(shape).astype(np.float32)
    if case["strange"] is not None:
        coherence[rng.random(shape) < 0.2] = case["strange"]
    attributes = {k: v for k, v in {**ATTRIBUTES, **MAP}.items() if k not in ("REF_Y", "REF_X")}
    attributes |= dict(zip(("LENGTH", "WIDTH"), map(str, case["size"]), strict=True))
    if case["reference"]:
        attributes |= dict(zip(("REF_Y", "REF_X"), map(str, case["reference"]), strict=True))
    layout = {"chunks": case["chunks"], "compression": case["compression"]}
    with h5py.File(root / "ifgramStack.h5", "w") as f:
        f.attrs.update(attributes)
        f["date"] = np.array([[names[i], names[j]] for i, j in case["pairs"]], "S8")
        f["bperp"] = np.zeros(len(case["pairs"]), np.float32)
        f["dropIfgram"] = np.array(case["keep"])
        f.create_dataset("unwrapPhase", data=phase, **layout)
        f.create_dataset("coherence", data=coherence, **layout)
        f.create_dataset("connectComponent", data=(phase != 0).astype(np.int16), **layout)
    with h5py.File(root / "geometryGeo.h5", "w") as f:
        f.attrs.update({**attributes, "FILE_TYPE": "geometry"})
        f["height"] = rng.uniform(0, 3000, case["size"]).astype(np.float32)
        if case["water"] is not None:
            f["waterMask"] = rng.random(case["size"]) >= case["water"]
    return root / "ifgramStack.h5"


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(case=stacks(), factor=st.integers(1, 5), memory=st.sampled_from([1e-9, 1e-6, 1.0]))
def test_reading_pooling_and_writing(case, factor, memory):
    with tempfile.TemporaryDirectory() as place:
        file, out = write(Path(place), case), Path(place) / "out.h5"
        before = file_hash(file)
        try:
            stack = open_stack(file)
        except InputError as refusal:
            assert str(refusal).endswith(".") and "\n" not in str(refusal) and file_hash(file) == before
            return
        coarse, weight = pool_pairs(stack, factor, memory)
        assert np.isfinite(coarse).all() and (weight >= 0).all() and (weight <= 1).all()
        assert not coarse[weight == 0].any()

        delay = np.random.default_rng(1).normal(size=(len(stack.dates), *stack.shape)).astype(np.float32)
        write_corrected_stack(stack, out, lambda rows: delay[:, rows], {}, memory)
        assert file_hash(file) == before
        with h5py.File(file) as a, h5py.File(out) as b:
            assert set(a) == set(b)
            for name in set(a) - {"unwrapPhase"}:
                assert a[name][()].tobytes() == b[name][()].tobytes() and a[name].chunks == b[name].chunks
            old, new = a["unwrapPhase"][:], b["unwrapPhase"][:]
        # a reference pixel that is 0 in all kept pairs is a value, not missing
        others = np.ones(stack.shape, bool)
        if stack.ref_yx is not None:
            others[stack.ref_yx] = False
        missing = ~np.isfinite(old) | (old == 0)
        assert new[:, others][missing[:, others]].tobytes() == old[:, others][missing[:, others]].tobytes()
        assert (np.isfinite(new) & (new != 0))[~missing].all()

        change = np.where(missing, np.nan, old.astype(float) - new)
        of_pair = {tuple(pair): change[k] for k, pair in enumerate(stack.pairs.tolist())}
        for i, j, k in itertools.combinations(range(len(stack.dates)), 3):
            if {(i, j), (j, k), (i, k)} <= set(of_pair):
                misfit = of_pair[i, j] + of_pair[j, k] - of_pair[i, k]
                assert not (np.abs(misfit) > 1e-4).any()


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(case=stacks(), data=st.data())
def test_a_stack_with_a_piece_cut_off_never_opens(case, data):
    with tempfile.TemporaryDirectory() as place:
        file = write(Path(place), case)
        whole = file.read_bytes()
        file.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        try:
            open_stack(file)
        except InputError as refusal:
            assert "\n" not in str(refusal)
            return
        raise AssertionError("it opened")
