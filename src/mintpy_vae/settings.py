"""The options of a correction: one validated dataclass, the only place with defaults.

Every field is a template option ``vae.<key>``. The command line takes precedence over the template, and the template
over the default.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import InputError

PREFIX = "vae."
REPLACED = {"vae.coarsePixels": "vae.resolution, the size of a cell in km"}
"""Options of earlier versions, and what took their place."""


def _option(default: Any, key: str, text: str, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field that carries its template key, its meaning and its range."""
    return field(default=default, metadata={"key": key, "help": text, "low": low, "high": high})


@dataclass(frozen=True)
class Settings:
    """Options of one correction. Raises :class:`~mintpy_vae.errors.InputError` for a value out of range."""

    device: str = _option("auto", "device", "device for the training: auto (a GPU if there is one), cpu, cuda")
    seed: int = _option(1, "seed", "random seed; the same seed on the same device gives the same result", 0, 2**31 - 1)
    num_seeds: int = _option(
        2,
        "numSeed",
        "number of seeds that must agree; the first gives the result; 1: no check",
        1,
        20,
    )
    max_memory: float = _option(4.0, "maxMemory", "memory in GB (0.6 for each tile at work)", 0.1, 4096)
    resolution: float = _option(
        0.0, "resolution", "size in km of the cells worked on; 0: 0.4, finer in a small scene", 0.0, 100.0
    )
    train_steps: int = _option(500, "trainSteps", "optimisation steps of the network", 10, 100_000)
    batch_size: int = _option(48, "batchSize", "pairs per optimisation step", 4, 4096)
    min_samples: int = _option(5, "minSamples", "FISHDBC: number of neighbours of a core point", 2, 1000)
    min_cluster_size: int = _option(
        15, "minClusterSize", "FISHDBC: smallest number of sources in a cluster", 3, 100_000
    )
    significance: float = _option(0.01, "significance", "false-alarm probability of deformation", 1e-6, 0.2)
    min_dates: int = _option(10, "minDate", "with fewer dates the stack is left uncorrected", 5, 1000)
    min_pairs: int = _option(20, "minPair", "with fewer kept pairs the stack is left uncorrected", 5, 100_000)
    stable_mask: str = _option("", "stableMask", "mask file of ground known not to move")
    moving_mask: str = _option("", "movingMask", "mask file of ground known to move")
    gnss_file: str = _option(
        "", "gnssFile", "table of GNSS rates: station,lat,lon,rate,std or ve,vn,vu,se,sn,su in mm/yr"
    )
    prior_delay: str = _option("auto", "priorDelay", "weather model's delay, used as far as confirmed")
    bad_dates: str = _option("", "badDate", "dates known to be bad, or a text file, one per line")

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda"):
            raise InputError(f"vae.device = {self.device!r}: choose auto, cpu or cuda.")
        for f in dataclasses.fields(self):
            low, high, value = f.metadata["low"], f.metadata["high"], getattr(self, f.name)
            if low is not None and not low <= value <= high:
                raise InputError(f"vae.{f.metadata['key']} = {value}: choose a value from {low} to {high}.")

    @classmethod
    def from_template(cls, template: Mapping[str, Any], **overrides: Any) -> Settings:
        """Read the ``vae.*`` options of a MintPy template.

        Parameters
        ----------
        template : mapping
            Keys and values as ``mintpy.utils.readfile.read_template`` returns them. ``auto`` means the default;
            ``vae.maxMemory = auto`` means ``mintpy.compute.maxMemory``.
        **overrides
            Field values from the command line; ``None`` means not given.

        Raises
        ------
        InputError
            For an unknown ``vae.*`` option (the nearest valid name is given) or a bad value.
        """
        fields = {PREFIX + f.metadata["key"]: f for f in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        memory = template.get("mintpy.compute.maxMemory", "auto")
        if _given(memory):
            values["max_memory"] = _convert("mintpy.compute.maxMemory", memory, float)
        for key, value in template.items():
            if not key.lower().startswith(PREFIX):
                continue
            if key in REPLACED:
                if _given(value):
                    raise InputError(f"Template option {key} is now {REPLACED[key]}; set that, or leave out the line.")
                continue
            if key not in fields:
                names = {name.lower(): name for name in fields}
                near = names[difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.0)[0]]
                raise InputError(f"Template option {key} is unknown; did you mean {near}?")
            f = fields[key]
            # as in MintPy, no means not given for an option whose default is empty
            if _given(value) and not (f.default == "" and str(value).lower() in ("no", "false")):
                values[f.name] = _convert(key, value, type(f.default))
        values.update({name: value for name, value in overrides.items() if value is not None})
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """All options by template key, for provenance."""
        return {PREFIX + f.metadata["key"]: getattr(self, f.name) for f in dataclasses.fields(self)}


def _given(value: Any) -> bool:
    return str(value).strip().lower() not in ("auto", "none", "")


def _convert(key: str, value: Any, kind: type) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError):
        wanted = {int: "a whole number", float: "a number"}.get(kind, "a word")
        raise InputError(f"Template option {key} = {value!r}: {wanted} is needed.") from None
