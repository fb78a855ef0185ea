"""MintPy's workflow with the additional step ``correct_vae``; later steps run in the corrected directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from mintpy.smallbaselineApp import TimeSeriesAnalysis

from ..directory import current, in_directory
from ..errors import InputError
from ..log import LOG, LOGGER, log_to
from ..progress import Progress
from ..project.options import add_section, own_options
from ..project.steps import STEP, STEPS, at_work, ensure_reference_point
from ..project.templates import copy_templates, read_templates
from ..results.result import MINTPY_AT_REST, RESULT, read_result
from ..settings import Settings
from .correction import correct, write_page
from .job import corrected_dir


class VaeTimeSeriesAnalysis(TimeSeriesAnalysis):
    """MintPy's routine workflow with the step ``correct_vae``.

    The steps before it run in the project, those after it in the corrected directory ``PROJECT_vae`` beside it.

    Parameters
    ----------
    customTemplateFile : path, optional
    workDir : path
        The project.
    progress : callable, optional
        Reports the progress of the correction.
    """

    def __init__(
        self,
        customTemplateFile: str | None = None,
        workDir: str = "./",
        progress: Progress | None = None,
    ) -> None:
        super().__init__(customTemplateFile, workDir)
        self.workDir: str = os.path.abspath(workDir)
        self.project = Path(self.workDir)
        self.project_template = customTemplateFile
        self.progress = progress

    def open(self) -> None:
        """Open as MintPy does; invalid ``vae.*`` options are refused before any step is run."""
        corrected_dir(self.project)  # raises an error for a project without a place for it
        Settings.from_template(read_templates(self.project, self.project_template))
        # MintPy replaces a template that lacks an option by its newest one, and drops unknown options
        self.own_options = own_options(self.project / "smallbaselineApp.cfg")
        super().open()

    def _read_template(self) -> None:
        if Path(self.workDir) == self.project:
            add_section(self.templateFile, self.own_options)
        super()._read_template()

    def run(self, steps: Sequence[str]) -> None:
        """Run steps by name, each in the directory where it belongs.

        Raises
        ------
        InputError
            With the message of the correction or of MintPy.
        """
        for step in steps:
            if step == STEP:
                self.run_correct_vae(step)
                continue
            if STEPS.index(step) > STEPS.index(STEP):
                self.enter_corrected_directory()
            try:
                with self.logged(), at_work(f"step {step}", self.workDir):
                    super().run([step])
            except InputError as error:
                if step != "quick_overview":
                    raise
                # the step fails on a stack without unwrapping errors, mintpy/utils/plot.py:1153
                LOGGER.warning("%s No other step needs this overview; the workflow continues.", error)

    def logged(self) -> AbstractContextManager[None]:
        """Write MintPy's output in ``PROJECT_vae`` into the log there."""
        work = Path(self.workDir)
        return nullcontext() if work == self.project else log_to(work / LOG)

    def run_correct_vae(self, step_name: str) -> None:
        """Correct the stack into ``PROJECT_vae``, unless it contains a result of the same input and settings."""
        print(f"\n\n******************** step - {step_name} ********************")
        stack = self.project / "inputs" / "ifgramStack.h5"
        correct(stack, None, self.project_template, update=True, invert=False, progress=self.progress)

    def enter_corrected_directory(self) -> None:
        """Continue in ``PROJECT_vae``, with the project's present templates."""
        work = corrected_dir(self.project)
        if Path(self.workDir) == work:
            return
        if not (work / RESULT).is_file():
            raise InputError(f"There is no corrected stack in {work} yet; run the step {STEP} first.")
        result = read_result(work)
        if result.get("mintpy") not in MINTPY_AT_REST:
            raise InputError(
                f"The result in {work} is incomplete because a run was interrupted; run the step {STEP} first."
            )
        template = copy_templates(self.project, work, self.project_template, off=result.get("switched_off", ()))
        ensure_reference_point(work, template)
        self.workDir = str(work)
        self.customTemplateFile = None if self.project_template is None else str(template)
        with at_work("opening the templates", self.workDir):
            super().open()
            if not (work / "avgSpatialCoh.h5").is_file():  # the project has not run this step
                super().run(["reference_point"])
        os.chdir(work)


def run(
    template_file: str | None,
    work_dir: str,
    steps: Sequence[str],
    plot: bool = False,
    progress: Progress | None = None,
) -> None:
    """Run the workflow, as ``mintpy.smallbaselineApp.run_smallbaselineApp`` does.

    Parameters
    ----------
    template_file : path or None
        Custom template.
    work_dir : path
        The project.
    steps : sequence of str
        From :data:`~mintpy_vae.project.steps.STEPS`; without any, only ``smallbaselineApp.cfg`` is written, or plots.
    plot : bool
        Plot even if no step is run.
    progress : callable, optional
        As for :class:`VaeTimeSeriesAnalysis`.
    """
    app = VaeTimeSeriesAnalysis(template_file, work_dir, progress)
    with in_directory("."):  # MintPy changes the directory
        app.open()
        app.run(steps)
        if plot and not steps and (corrected_dir(app.project) / RESULT).is_file():
            app.enter_corrected_directory()
        if plot or (app.template["mintpy.plot"] and len(steps) > 1):
            with at_work("plotting", app.workDir):
                app.plot_result()
    app.cwd = str(current() or app.workDir)
    app.close()
    if (
        Path(app.workDir) != app.project
    ):  # MintPy's maps and time series are newer than the report of the step correct_vae
        for warning in write_page(Path(app.workDir)):
            LOGGER.warning(warning)
