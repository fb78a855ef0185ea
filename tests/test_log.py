"""vae.log says what ran, on what and how; the switches say how much of it is printed."""

import logging
import os
import re
import sys
from pathlib import Path

import pytest

from mintpy_vae.cli.vae_correct import main
from mintpy_vae.log import LOG, LOGGER, log_to, mintpy_logged, on_terminal
from mintpy_vae.results.result import read_result
from mintpy_vae.workflow.correction import correct

THREADS = os.environ["OMP_NUM_THREADS"]  # at the start: MintPy may change it where a test runs it in this process


@pytest.mark.parametrize("coord", ["mapped", "radar"])
def test_the_log_is_enough_to_do_it_again(coord, request):
    run = request.getfixturevalue(coord)
    log, result = (run.work / LOG).read_text(), read_result(run.work)
    assert re.search(rf"command: vae_correct.py {run.stack} -t {run.template} ", log)
    for name, version in result["versions"].items():
        assert f"{name} {version}" in log
    for key, value in result["settings"].items():
        assert f"{key} = {value}" in log
    assert f"SHA-256 {result['stack_sha256']}" in log and f"SHA-256 {result['geometry_sha256']}" in log
    assert "55 pairs, 53 kept, 14 dates, 20180103 to " in log and "48 x 60 pixels" in log
    assert "seeds: [1]; device: cpu" in log and "platform: " in log and "GPU: " in log
    assert f"threads: {THREADS} " in log
    stages = (
        "reading the stack",
        "separating sources",
        "searching local deformation",
        "writing the stack",
        "stage mintpy",
    )
    for stage in stages:
        assert re.search(rf"^\S+ \S+ DEBUG +{stage}: \d+\.\d s, peak memory \d+ MB", log, re.MULTILINE), stage
    assert "MintPy: ******************** step - invert_network ***" in log
    assert all(f"WARNING {text}" in log for text in result["warnings"])
    assert "median spatial standard deviation of the pairs" in log


def test_quiet_prints_what_matters(simulated, remembered, capfd):
    stack, template, work = simulated
    main([str(stack), "-t", str(template), "--quiet"])
    printed = capfd.readouterr()
    lines = [line for line in printed.out.splitlines() if line and not line.startswith("WARNING: ")]
    assert lines == ["Next:", f"  {read_result(work)['next_command']}"] and printed.err == ""
    assert len(re.findall("^WARNING: ", printed.out, re.MULTILINE)) == len(read_result(work)["warnings"])
    assert (work / "timeseries.h5").is_file() and "MintPy: " in (work / LOG).read_text()


def test_verbose_prints_what_is_in_the_log(simulated, remembered, capfd):
    stack, template, work = simulated
    before = LOGGER.level, list(LOGGER.handlers)
    main([str(stack), "-t", str(template), "--no-invert", "--verbose"])
    printed = capfd.readouterr().out
    for line in (work / LOG).read_text().splitlines():
        assert re.sub(r"^\S+ \S+ [A-Z]+ +", "", line) in printed
    assert (LOGGER.level, LOGGER.handlers) == before
    with pytest.raises(SystemExit):
        main([str(stack), "--verbose", "--quiet"])


def test_a_skipped_run_leaves_the_log_and_one_that_goes_on_adds_to_it(simulated, remembered):
    stack, template, work = simulated
    how = {"template_file": template, "update": True, "invert": False}
    correct(stack, **how)
    first = (work / LOG).read_text()
    assert correct(stack, **how).skipped and (work / LOG).read_text() == first
    template.write_text(template.read_text() + "mintpy.networkInversion.minTempCoh = 0.6\n")
    assert not correct(stack, **how).skipped
    longer = (work / LOG).read_text()
    assert longer.startswith(first) and longer.count("command: ") == 2


def test_a_failure_is_in_the_log_and_a_full_disk_stops_nothing(tmp_path, capfd):
    file = tmp_path / LOG
    with pytest.raises(ZeroDivisionError), log_to(file):
        file.rename(tmp_path / "moved")  # as when the result is put in its place
        1 / 0  # noqa: B018
    assert "ZeroDivisionError" in (tmp_path / "moved").read_text() and not file.exists()
    if sys.platform == "linux":
        with log_to(Path("/dev/full")):
            LOGGER.warning("no room")
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("level", [logging.WARNING, logging.INFO, logging.DEBUG])
def test_what_mintpy_prints_is_logged_and_shown_once(tmp_path, capfd, level):
    with log_to(tmp_path / LOG), on_terminal(level), mintpy_logged():
        print("first")
        print("\r[=> ] 1/2\r[==>] 2/2", end="")
        print(" done\n\nthree")
    printed, log = capfd.readouterr().out, (tmp_path / LOG).read_text()
    assert printed.count("first") == printed.count("three") == (0 if level == logging.WARNING else 1)
    assert [line.split("MintPy: ")[1] for line in log.splitlines()] == ["first", "[==>] 2/2 done", "three"]
