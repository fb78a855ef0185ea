"""Rerun of the method on the user's own stack: with motion added, other stations, or another clustering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch

from ..arrays import Array
from ..errors import NotEnoughEvidence
from ..method.clustering import Clusterer
from ..method.inversion import islands
from ..method.knowledge import StationRate
from ..method.separation import Separation, separate
from ..method.source_model import Fit
from ..method.training import train
from ..stack import Stack
from ..workflow.job import Job
from ..workflow.learning import TrainingData, in_detail, narrow_motion, training_data


class Rerun:
    """Rerun of the method on the stack's own multilooked pairs, which are read on first use.

    Parameters
    ----------
    job : Job
        Job with the settings and the prior information of the evaluated correction.
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    @cached_property
    def data(self) -> TrainingData:
        """Read on first use."""
        return training_data(self.job)

    @cached_property
    def plain(self) -> Separation:
        """The stack as it is, separated on first use; errors as of a call."""
        return self()

    @property
    def stack(self) -> Stack:
        """The stack."""
        return self.job.stack

    @property
    def dates(self) -> list[str]:
        """Dates of kept pairs."""
        return list(self.data.observations.dates)

    @property
    def factor(self) -> float:
        """Looks of the training grid."""
        return self.data.factor

    def __call__(
        self,
        added: Array | None = None,
        clusterer: Clusterer | None = None,
        stations: Sequence[StationRate] | None = None,
        network: Fit | None = None,
    ) -> Separation:
        """Separate again.

        Parameters
        ----------
        added : (dates, h, w), optional
            Displacement in metres that is added to the pairs.
        clusterer : Clusterer, optional
            In place of FISHDBC.
        stations : sequence of StationRate, optional
            In place of those of the job.
        network : Fit, optional
            A trained network; without it one is trained.

        Raises
        ------
        NotEnoughEvidence
            If the data do not allow a correction, or the network of pairs has several islands.
        """
        data, job = self.data, self.job
        if islands(data.observations.pairs, len(data.observations.dates)).any():
            raise NotEnoughEvidence("no kept pair joins some of the dates with the others")
        if added is not None:
            data = data.with_motion(added / self.stack.metres_per_radian)
        if stations is not None:
            job = replace(job, knowledge=replace(job.knowledge, stations=list(stations)))
        cores = torch.get_num_threads()
        found = separate(
            data.observations,
            job.settings,
            job.knowledge,
            clusterer=clusterer,
            trainer=train if network is None else lambda *_: network,
            narrow=narrow_motion(job, data, cores),
        )
        return in_detail(job, data, found, cores)[0]
