"""Inputs that are broken or hostile, and what is said of each; one table for the whole project.

A case is (what spoils a project of ``tiny.make_project``, arguments besides the stack, pattern of the sentence); ``{}``
in an argument is the directory that holds the project WORK.
"""

import os
from pathlib import Path

import h5py
import numpy as np

from mintpy_vae.results.result import RESULT
from mintpy_vae.stack import COMPLETE
from tiny import REF_YX

SIZE = (30, 40)
STACK, GEOMETRY = "inputs/ifgramStack.h5", "inputs/geometryGeo.h5"


# ------------------------------------------------------------------------------------------------- ways to spoil a file
def edit(function, file=STACK):
    """Do something with the open file."""

    def spoil(root):
        with h5py.File(root / file, "r+") as f:
            function(f)

    return spoil


def replaced(f, name, value):
    del f[name]
    f[name] = value


def dataset(file=STACK, **functions):
    """Replace datasets by a function of their values; None deletes."""

    def change(f):
        for name, function in functions.items():
            old = f[name][:]
            del f[name]
            if function is not None:
                f[name] = function(old)

    return edit(change, file)


def attribute(**values):
    def change(f):
        for key, value in values.items():
            if value is None:
                del f.attrs[key]
            else:
                f.attrs[key] = value

    return edit(change)


def group(name, file=STACK):
    def change(f):
        if name in f:
            del f[name]
        f.create_group(name)

    return edit(change, file)


def null(name, file=STACK):
    """A dataset without a value."""
    return edit(lambda f: replaced(f, name, h5py.Empty(f[name].dtype)), file)


def scalar(name):
    return edit(lambda f: replaced(f, name, f[name][...].flat[0]))


def link(name, to):
    return edit(lambda f: replaced(f, name, to))


def set_pair(k, first, second):
    def spoil(dates):
        dates[k] = first, second
        return dates

    return dataset(date=spoil)


def timed(time, which=slice(None)):
    """Dates with what is appended to them, all or those of some pairs."""

    def spoil(f):
        dates = f["date"][:].astype("S20")
        dates[which] = np.char.add(dates[which], time)
        del f["date"]
        f["date"] = dates

    return spoil


def truncate(size, file=STACK):
    """To a size in bytes, or a share of it."""
    return lambda root: os.truncate(root / file, size if size > 1 else int(size * os.path.getsize(root / file)))


def overwrite(start, data):
    """Bytes from a position on, or a share of the size."""

    def spoil(root):
        with open(root / STACK, "r+b") as f:
            f.seek(start if start > 1 else int(start * os.path.getsize(root / STACK)))
            f.write(data)

    return spoil


def holds(name, content=""):
    """A file beside or in the project."""

    def spoil(root):
        file = root.parent / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def instead(name, make):
    """Something else under the name of a file of the project."""

    def spoil(root):
        (root / name).unlink(missing_ok=True)
        make(root / name)

    return spoil


def nothing(path):
    pass


def linked_to(target):
    return lambda path: path.symlink_to(target)


def unknown_filter(f):
    """A chunk that was compressed by a plugin of HDF5 that nobody has."""
    phase = f["unwrapPhase"][:]
    del f["unwrapPhase"]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(phase.shape)
    plist.set_filter(32999, h5py.h5z.FLAG_OPTIONAL, (0,))
    space = h5py.h5s.create_simple(phase.shape)
    h5py.h5d.create(f.id, b"unwrapPhase", h5py.h5t.NATIVE_FLOAT, space, plist).write_direct_chunk(
        (0, 0, 0), phase.tobytes()
    )


def half_virtual(f):
    """A virtual dataset, half of whose sources are gone: HDF5 reads them as 0 and says nothing."""
    f.move("unwrapPhase", "there")
    there = f["there"]
    layout = h5py.VirtualLayout(there.shape, there.dtype)
    layout[:9] = h5py.VirtualSource(there)[:9]
    layout[9:] = h5py.VirtualSource("gone.h5", "unwrapPhase", (len(there) - 9, *there.shape[1:]))
    f.create_virtual_dataset("unwrapPhase", layout)


def corrected_before(f):
    f.attrs["atmos_correct_method"] = "VAE"
    f["unwrapPhase"].attrs[COMPLETE] = "yes"


def water(mask):
    return edit(lambda f: f.create_dataset("waterMask", data=mask), GEOMETRY)


def at_reference(value, pairs=slice(None)):
    def spoil(phase):
        phase[pairs, REF_YX[0], REF_YX[1]] = value
        return phase

    return dataset(unwrapPhase=spoil)


def reference_never_seen(root):
    at_reference(0)(root)

    def spoil(coherence):
        coherence[:, REF_YX[0], REF_YX[1]] = 0
        return coherence

    dataset(coherence=spoil)(root)


def of_words(values):
    return np.full(values.shape, b"x")


def without(values):
    """Nothing but no-data."""
    return values * 0


def land_without_data():
    mask = np.zeros(SIZE, bool)
    mask[:, -3:] = True
    return mask


# --------------------------------------------------------------------------------------------------------------- stacks
STACKS = {
    "missing": (instead(STACK, nothing), "does not exist"),
    "a directory": (instead(STACK, Path.mkdir), "is not a file"),
    "a pipe": (instead(STACK, os.mkfifo), "is not a file"),
    "a device": (instead(STACK, linked_to("/dev/zero")), "is not a file"),
    "a link to nothing": (instead(STACK, linked_to("none.h5")), "does not exist"),
    "a link to itself": (instead(STACK, linked_to("ifgramStack.h5")), "does not exist"),
    "a link to a directory": (instead(STACK, linked_to(".")), "is not a file"),
    "text": (holds("WORK/" + STACK, "not HDF5"), "is not an HDF5 file"),
    "empty": (truncate(0), "is not an HDF5 file"),
    **{
        f"cut at {share:.1%}": (truncate(share), "is truncated: part of it was lost")
        for share in (0.001, 0.01, 0.3, 0.6, 0.999)
    },
    "cut by a byte": (lambda root: truncate(os.path.getsize(root / STACK) - 1)(root), "truncated"),
    "cut within its signature": (truncate(6), "is not an HDF5 file"),
    "superblock overwritten": (overwrite(8, b"\xff" * 40), "cannot be read: .*superblock"),
    "signature overwritten": (overwrite(2, b"\xff" * 8), "is not an HDF5 file"),
    "header of the root overwritten": (overwrite(96, bytes(4000)), "cannot be read|is damaged|has no dataset"),
    "second half lost": (overwrite(0.5, bytes(150_000)), "is damaged"),
    "another type": (attribute(FILE_TYPE="timeseries"), "not an interferogram stack.*timeseries"),
    "no type": (attribute(FILE_TYPE=None), "not an interferogram stack.*missing"),
    **{
        f"no {key}": (attribute(**{key: None}), f"lacks the attribute {key}")
        for key in ("LENGTH", "WIDTH", "WAVELENGTH", "ALOOKS", "RLOOKS", "PLATFORM", "X_FIRST")
    },
    "platform blank": (attribute(PLATFORM=" "), "lacks the attribute PLATFORM"),
    "length a word": (attribute(LENGTH="many"), "LENGTH = 'many' is not a number"),
    "length a fraction": (attribute(LENGTH="30.5"), "not a whole number"),
    "length infinite": (attribute(LENGTH="inf"), "LENGTH = 'inf' is not a number"),
    "length an array": (attribute(LENGTH=np.array(SIZE)), r"LENGTH = '\[30 40\]' is not a number"),
    "length without value": (attribute(LENGTH=h5py.Empty("S3")), "LENGTH = .* is not a number"),
    "length 0": (attribute(LENGTH="0"), "not a valid scene size"),
    "length negative": (attribute(LENGTH="-30"), "not a valid scene size"),
    "length beyond all bounds": (attribute(LENGTH="1e300"), "not a valid scene size"),
    "length a book": (attribute(LENGTH="30 or so, " * 3000), r"LENGTH = '30 or so, .*\.\.\.' is not a number"),
    "another length": (attribute(LENGTH="31"), "imply"),
    "another width": (attribute(WIDTH="39"), "imply"),
    "wavelength 0": (attribute(WAVELENGTH="0"), "WAVELENGTH = 0; a positive number"),
    "wavelength NaN": (attribute(WAVELENGTH="nan"), "WAVELENGTH = 'nan' is not a number"),
    "wavelength infinite": (attribute(WAVELENGTH="inf"), "WAVELENGTH = 'inf' is not a number"),
    "wavelength negative": (attribute(WAVELENGTH="-0.05"), "a positive number"),
    "wavelength a word": (attribute(WAVELENGTH="C-band"), "is not a number"),
    "corner a word": (attribute(X_FIRST="west"), "X_FIRST = 'west' is not a number"),
    "pixels without size": (attribute(Y_STEP="0"), "Y_STEP is 0"),
    "pixels NaN": (attribute(X_STEP="nan"), "X_STEP = 'nan' is not a number"),
    "looks a word": (attribute(ALOOKS="two"), "ALOOKS = 'two' is not a number"),
    **{
        f"no dataset {name}": (dataset(**{name: None}), f"has no dataset {name}")
        for name in ("unwrapPhase", "coherence", "date", "dropIfgram", "bperp")
    },
    **{
        f"{name} is a group": (group(name), f"has no dataset {name}")
        for name in ("unwrapPhase", "coherence", "date", "dropIfgram", "bperp")
    },
    "phase without value": (null("unwrapPhase"), "unwrapPhase has shape None"),
    "dates without value": (null("date"), "contains no pair"),
    "coherence without value": (null("coherence"), "coherence has shape None"),
    "phase a single number": (scalar("unwrapPhase"), r"unwrapPhase has shape \(\)"),
    "date a single word": (scalar("date"), "contains no pair"),
    "phase a link to nothing": (link("unwrapPhase", h5py.SoftLink("/none")), "has no dataset unwrapPhase"),
    "phase a link to itself": (link("unwrapPhase", h5py.SoftLink("/unwrapPhase")), "has no dataset unwrapPhase"),
    "phase in a file that is gone": (
        link("unwrapPhase", h5py.ExternalLink("no.h5", "x")),
        "has no dataset unwrapPhase",
    ),
    "phase of files half of which are gone": (edit(half_virtual), "its source gone.h5 is gone"),
    "phase compressed by an unknown filter": (edit(unknown_filter), "is damaged"),
    "phase of another size": (dataset(unwrapPhase=lambda a: a[:, 1:]), "unwrapPhase has shape"),
    "phase in two dimensions": (dataset(unwrapPhase=lambda a: a[0]), "unwrapPhase has shape"),
    "phase transposed": (dataset(unwrapPhase=lambda a: a.T), "unwrapPhase has shape"),
    "fewer coherences": (dataset(coherence=lambda a: a[1:]), "coherence has shape"),
    "fewer baselines": (dataset(bperp=lambda a: a[1:]), "bperp has shape"),
    "fewer marks": (dataset(dropIfgram=lambda a: a[1:]), "dropIfgram has shape"),
    "one column of dates": (dataset(date=lambda a: a[:, 0]), "date has shape"),
    "three columns of dates": (dataset(date=lambda a: a[:, [0, 1, 1]]), "date has shape"),
    "no pairs": (dataset(date=lambda a: a[:0]), "contains no pair"),
    "phase of whole numbers": (dataset(unwrapPhase=lambda a: np.nan_to_num(a).astype(int)), "wrong type"),
    "phase complex": (dataset(unwrapPhase=lambda a: a * 1j), "wrong type complex"),
    "phase of records": (dataset(unwrapPhase=lambda a: np.zeros(a.shape, [("x", "f4")])), "wrong type"),
    "coherence of words": (dataset(coherence=of_words), "wrong type"),
    "marks of numbers": (dataset(dropIfgram=lambda a: a.astype(float)), "wrong type"),
    "dates of numbers": (dataset(date=lambda a: a.astype(int)), "wrong type"),
    "no date": (set_pair(0, b"20200105", b"20201340"), "'20201340'.*is not a date"),
    "29 February": (set_pair(0, b"20200105", b"20210229"), "'20210229'.*is not a date"),
    "a word for a date": (set_pair(0, b"20200105", b"tomorrow"), "'tomorrow'.*is not a date"),
    "a date of six digits": (set_pair(0, b"200105", b"20200117"), "is not a date"),
    "a date that is no text": (set_pair(0, b"2020\xff\xfe05", b"20200117"), "is not a date"),
    "a date before all radar satellites": (
        set_pair(0, b"00010101", b"20200117"),
        "not a possible acquisition date",
    ),
    "a date of the far future": (set_pair(0, b"20200105", b"99991231"), "not a possible acquisition date"),
    "empty date": (set_pair(0, b"", b"20200117"), "is not a date"),
    "pair with itself": (set_pair(0, b"20200105", b"20200105"), "connects a date with itself"),
    "duplicate": (set_pair(1, b"20200105", b"20200117"), "more than once: 20200105_20200117"),
    "duplicate, reversed": (set_pair(1, b"20200117", b"20200105"), "more than once: 20200105_20200117"),
    "dates of two forms": (
        edit(timed(b"T0512", np.s_[:1, 1])),
        r"dates of several forms, such as 2020\d{4} and 20200117T0512",
    ),
    "an hour that no day has": (edit(timed(b"T2512")), "'20200105T2512'.*is not a date"),
    "a date with half a time": (edit(timed(b"T05")), "'20200105T05'.*is not a date"),
    "a date with a zone": (edit(timed(b"T0512Z")), "'20200105T0512Z'.*is not a date"),
    "all dropped": (dataset(dropIfgram=lambda a: a & False), "all pairs are dropped"),
    "all NaN": (dataset(unwrapPhase=lambda a: a * np.nan), "contains no data"),
    "all infinite": (dataset(unwrapPhase=lambda a: np.full_like(a, np.inf)), "contains no data"),
    "fill values for phase": (
        dataset(unwrapPhase=lambda a: np.where(a == 0, -9999, a)),
        "impossible phase values such as -1e.04 rad",
    ),
    "phase beyond all bounds": (
        dataset(unwrapPhase=lambda a: a * np.float32(1e30)),
        "impossible phase values",
    ),
    "all zero": (dataset(unwrapPhase=without), "contains no data"),
    "no coherence": (dataset(coherence=without), "coherence is 0 or NaN"),
    "coherence NaN": (dataset(coherence=lambda a: a * np.nan), "coherence is 0 or NaN"),
    "coherence infinite": (dataset(coherence=lambda a: a * np.inf), "coherence is 0 or NaN"),
    "coherence negative": (dataset(coherence=lambda a: -a), "coherence is 0 or NaN"),
    "reference outside": (attribute(REF_Y="30"), "outside the scene"),
    "reference negative": (attribute(REF_X="-1"), "outside the scene"),
    "half a reference": (attribute(REF_X=None), "only half of a reference pixel"),
    "reference a word": (attribute(REF_Y="here"), "is not a number"),
    "reference between pixels": (attribute(REF_Y="3.5"), "not a whole number"),
    "no data at reference": (at_reference(np.nan), "has no data in"),
    "reference never seen": (reference_never_seen, "has no data in"),
    "corrected before": (edit(corrected_before), "corrected already"),
    "geometry missing": (instead(GEOMETRY, nothing), "no geometry file geometryGeo.h5"),
    "geometry a pipe": (instead(GEOMETRY, os.mkfifo), "no geometry file geometryGeo.h5"),
    "geometry a link to itself": (instead(GEOMETRY, linked_to("geometryGeo.h5")), "no geometry file"),
    "geometry text": (holds("WORK/" + GEOMETRY, "not HDF5"), "is not an HDF5 file"),
    "geometry cut": (truncate(3000, GEOMETRY), "truncated"),
    "no height": (dataset(GEOMETRY, height=None), "has no dataset height"),
    "height a group": (group("height", GEOMETRY), "has no dataset height"),
    "latitude a group": (group("latitude", GEOMETRY), "has no dataset latitude"),
    "water mask a group": (group("waterMask", GEOMETRY), "has no dataset waterMask"),
    "height without value": (null("height", GEOMETRY), "height.*has shape None"),
    "height of another size": (dataset(GEOMETRY, height=lambda a: a[:, 1:]), "height.*has shape"),
    "height in three dimensions": (dataset(GEOMETRY, height=lambda a: a[None]), "height.*has shape"),
    "height of words": (dataset(GEOMETRY, height=of_words), "wrong type"),
    "height NaN": (dataset(GEOMETRY, height=lambda a: a * np.nan), "contains no valid value"),
    "height infinite": (dataset(GEOMETRY, height=lambda a: a * np.inf), "contains no valid value"),
    "water mask of another size": (water(np.ones((3, 4), bool)), "waterMask.*has shape"),
    "water mask of words": (water(np.full(SIZE, b"x")), "wrong type"),
    "water everywhere": (water(np.zeros(SIZE, bool)), "whole scene as water"),
    "land without data": (water(land_without_data()), "water mask leaves no pixel"),
}


# ------------------------------------------------------------------------- templates, tables, masks, places and choices
def template(text):
    return holds("my.txt", text), ["-t", "{}/my.txt"]


def gnss(*lines):
    return holds("gnss.csv", "\n".join(("station,lat,lon,rate,std", *lines))), ["--gnss", "{}/gnss.csv"]


def bad_dates(content):
    return holds("bad.txt", content), ["--bad-date", "{}/bad.txt"]


def mask(content):
    return holds("mask.h5", content), ["--stable-mask", "{}/mask.h5"]


def mask_of(values):
    def make(root):
        with h5py.File(root.parent / "mask.h5", "w") as f:
            f.attrs.update(FILE_TYPE="mask", LENGTH=str(SIZE[0]), WIDTH=str(SIZE[1]))
            f["mask"] = values

    return make, ["--stable-mask", "{}/mask.h5"]


def empty_directory(name):
    return lambda root: (root.parent / name).mkdir()


def linked_part(root):
    (root.parent / "mine").mkdir()
    (root.parent / "WORK_vae.part").symlink_to("mine")


_OTHER_TABLE = "must begin with a line station,lat,lon,rate,std or"
CHOICES = {
    "work directory of another": (holds("WORK_vae/mine.txt"), [], "contains something other than"),
    "work directory a file": (holds("WORK_vae"), [], "is not a directory"),
    "work directory a pipe": (instead("../WORK_vae", os.mkfifo), [], "is not a directory"),
    "work directory a link to itself": (instead("../WORK_vae", linked_to("WORK_vae")), [], "cannot be used"),
    "work directory is the project": (None, ["-o", "{}/WORK"], "is the project itself"),
    "work directory holds the project": (holds(RESULT, "{}"), ["-o", "{}"], "is the project itself or contains it"),
    "below a file": (holds("file"), ["-o", "{}/file/WORK_vae"], "cannot be (written to|used)"),
    "unwritable": (None, ["-o", "/proc/WORK_vae"], "/proc cannot be written to"),
    "unwritable below": (None, ["-o", "/proc/a/b/WORK_vae"], "cannot be written to"),
    "too long a name": (None, ["-o", "{}/" + 300 * "x"], "cannot be used: File name too long"),
    "staging place is taken": (holds("WORK_vae.part/mine.txt"), [], "is in the way"),
    "staging place a link": (linked_part, [], "is in the way"),
    "staging place a file": (holds("WORK_vae.part"), [], "cannot be written to"),
    "delay file of another": (holds("WORK/inputs/VAE.h5"), ["--delay-file"], "not written by vae_correct.py"),
    "delay file a directory": (
        empty_directory("WORK/inputs/VAE.h5"),
        ["--delay-file"],
        "not written by vae_correct.py",
    ),
    "delay file a pipe": (instead("inputs/VAE.h5", os.mkfifo), ["--delay-file"], "not written by vae_correct.py"),
    "template missing": (None, ["-t", "{}/none.txt"], "template .* does not exist"),
    "template a directory": (None, ["-t", "{}"], "template .* is not a file"),
    "template a pipe": (instead("../my.txt", os.mkfifo), ["-t", "{}/my.txt"], "template .* is not a file"),
    "template a link to itself": (instead("../my.txt", linked_to("my.txt")), ["-t", "{}/my.txt"], "does not exist"),
    "template a stack": (None, ["-t", "{}/WORK/" + STACK], "cannot be read as text"),
    "template in Latin-1": (*template("# Köln".encode("latin1")), "cannot be read as text"),
    "default template in Latin-1": (holds("WORK/smallbaselineApp.cfg", b"# K\xf6ln"), [], "cannot be read as text"),
    "unknown option": (*template("vae.sead = 3"), "did you mean vae.seed"),
    "option in capitals": (*template("VAE.SEED = 3"), "did you mean vae.seed"),
    "option without a name": (*template("vae. = 3"), "Template option vae. is unknown"),
    "option without a sign": (*template("# mine\nvae.seed 3"), "line 2 is not of the form option = value"),
    "option broken off": (*template("vae.trainSt"), "line 1 is not of the form option = value"),
    "option behind a byte order mark": (*template("\ufeffvae.seed = 3"), "line 1 is not of the form option = value"),
    "option with two values": (*template("vae.seed = 3 = 4"), "'3 = 4': a whole number is needed"),
    "command for a seed": (*template("vae.seed = $(touch {}/owned)"), "a whole number is needed"),
    "other command for a seed": (*template("vae.seed = `touch owned`"), "a whole number is needed"),
    "command for a device": (*template("vae.device = cpu; touch owned"), "choose auto, cpu or cuda"),
    "command for a mask": (*template("vae.stableMask = $(touch owned)"), "there is no file"),
    "a zero byte": (*template("vae.seed = 3\0"), "a whole number is needed"),
    "a word for a number": (*template("vae.trainSteps = many"), "a whole number is needed"),
    "a fraction of a step": (*template("vae.trainSteps = 10.5"), "a whole number is needed"),
    "number out of range": (*template("vae.trainSteps = 0"), "choose a value from"),
    "seed of twenty digits": (*template("vae.seed = 99999999999999999999"), "choose a value from"),
    "memory infinite": (*template("vae.maxMemory = inf"), "choose a value from"),
    "memory of MintPy a word": (*template("mintpy.compute.maxMemory = lots"), "a number is needed"),
    "device unknown": (*template("vae.device = tpu"), "choose auto, cpu or cuda"),
    "cluster unknown": (*template("mintpy.compute.cluster = moon"), "moon is unknown"),
    "phase not there": (*template("mintpy.unwrapError.method = bridging"), "unwrapPhase_bridging"),
    "method unknown": (*template("mintpy.unwrapError.method = magic"), "not a method of MintPy"),
    "step on no date": (*template("mintpy.timeFunc.stepDate = tomorrow"), "mintpy.timeFunc.stepDate = tomorrow"),
    "period 0": (*template("mintpy.timeFunc.periodic = 0"), "mintpy.timeFunc.periodic = 0"),
    "geometry named but missing": (None, ["-g", "{}/none.h5"], "geometry file .* does not exist"),
    "geometry a directory": (None, ["-g", "{}"], "geometry .* is not a file"),
    "geometry is the stack": (None, ["-g", "{}/WORK/" + STACK], "has no dataset height"),
    "mask missing": (None, ["--stable-mask", "{}/none.h5"], "there is no file"),
    "mask a directory": (None, ["--moving-mask", "{}"], "there is no file"),
    "mask text": (*mask("not HDF5"), "cannot read .* as a mask"),
    "mask empty": (*mask(""), "cannot read .* as a mask"),
    "mask of another size": (*mask_of(np.ones((3, 4), bool)), "shape|cannot read"),
    "mask that marks nothing": (*mask_of(np.zeros(SIZE, bool)), "marks nothing"),
    "mask a stack": (None, ["--stable-mask", "{}/WORK/" + STACK], "has shape"),
    "GNSS table empty": (holds("gnss.csv"), ["--gnss", "{}/gnss.csv"], _OTHER_TABLE),
    "GNSS table of another kind": (holds("gnss.csv", "a,b\n1,2"), ["--gnss", "{}/gnss.csv"], _OTHER_TABLE),
    "GNSS table binary": (holds("gnss.csv", b"\x89HDF\xff"), ["--gnss", "{}/gnss.csv"], "cannot be read as text"),
    "GNSS table with a word": (*gnss("A,north,-99,3,1"), "line 2 of .*lat = 'north' is not a number"),
    "GNSS table with NaN": (*gnss("A,19,-99,nan,1"), "rate = 'nan' is not a number"),
    "GNSS table with a gap": (*gnss("A,19,-99,3"), "line 2 of .* has 4 values"),
    "GNSS table with an open quotation": (*gnss('"A,19,-99,3,1', "B,19,-99,3,1"), "line 2 of .* has 1 values"),
    "GNSS table with a book": (*gnss("x" * 200_000 + ",19,-99,3,1"), "not a table of comma-separated values"),
    "GNSS station beyond the pole": (*gnss("A,100,-99,3,1"), "in degrees"),
    "GNSS without error": (*gnss("A,19,-99,3,0"), "must be positive"),
    "bad date no date": (*bad_dates("20201340"), "20201340 is not a date"),
    "bad date a word": (*bad_dates("tomorrow"), "tomorrow is not a date"),
    "bad date with blanks": (*bad_dates("2020 01 05"), "is not a date"),
    "bad date of another stack": (*bad_dates("20200106"), "not a date of the stack; the nearest is 20200105"),
    "bad dates binary": (*bad_dates(b"\xff\xfe"), "cannot be read as text"),
    "seed negative": (None, ["--seed", "-1"], "vae.seed = -1"),
    "no memory": (None, ["--ram", "0"], "vae.maxMemory = 0"),
    "memory NaN": (None, ["--ram", "nan"], "vae.maxMemory = nan"),
    "seed a word": (None, ["--seed", "x"], 2),
    "device unknown to the shell": (None, ["--device", "tpu"], 2),
    "option unknown to the shell": (None, ["--sead", "3"], 2),
}
BAD = {**{f"stack: {name}": (spoil, [], text) for name, (spoil, text) in STACKS.items()}, **CHOICES}
