"""Command line of the correction, in MintPy's manner."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

REFERENCE = """reference:
  Ghosh, B., Motagh, M., Anvari, M. and Maghsudi, S. (2025), Remote Sensing, 17(18), 3189.
  This software follows the idea of that paper; architecture and labelling are its own.
"""

TEMPLATE = """template options:
  vae.device, vae.seed, vae.maxMemory, vae.trainSteps, ...; see configs/mintpy_vae.cfg
"""

EXAMPLE = """example:
  vae_correct.py inputs/ifgramStack.h5                         # writes PROJECT_vae beside the project
  vae_correct.py inputs/ifgramStack.h5 -t Tehran.txt
  vae_correct.py inputs/ifgramStack.h5 -t Tehran.txt --update  # skip if nothing changed
  vae_correct.py inputs/ifgramStack.h5 --stable-mask bedrock.h5 --gnss gnss.csv --bad-date 20190103 20190210
  vae_correct.py inputs/ifgramStack.h5 -t Tehran.txt --delay-file  # inputs/VAE.h5 only, for your own project
  vae_correct.py inputs/ifgramStack.h5 -o /data/Tehran_vae --device cpu --seed 3

  # then, with the unmodified MintPy:
  smallbaselineApp.py Tehran_vae/Tehran.txt --dir Tehran_vae --start velocity
"""

INTERRUPTED = "Interrupted. The input is as it was; {}."


def create_parser(subparsers: Any = None) -> Any:
    """Parser of the command, with the options explained."""
    from mintpy.utils.arg_utils import create_argument_parser

    synopsis = "Remove the atmosphere from a stack of interferograms with a variational autoencoder and clustering"
    epilog = REFERENCE + "\n" + TEMPLATE + "\n" + EXAMPLE
    name = __name__.split(".")[-1]
    parser = create_argument_parser(name, synopsis=synopsis, description=synopsis, epilog=epilog, subparsers=subparsers)
    parser.add_argument("stack_file", help="stack of interferograms, PROJECT/inputs/ifgramStack.h5; it is only read")
    parser.add_argument("-g", "--geometry", dest="geometry_file", help="geometry file (default: beside the stack)")
    parser.add_argument("-t", "--template", dest="template_file", help="MintPy template with options (vae.*)")
    parser.add_argument("-o", "--outdir", dest="work_dir", help="corrected directory (default: PROJECT_vae)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="where the network trains (default: auto)")
    parser.add_argument("--seed", type=int, help="random seed (default: 1)")
    parser.add_argument("--ram", "--memory", dest="max_memory", type=float, help="memory for input and output, in GB")
    known = parser.add_argument_group("what you know already", "mintpy.timeFunc.* of the template are read as well")
    known.add_argument("--stable-mask", metavar="FILE", help="mask of ground known not to move (MintPy's format)")
    known.add_argument("--moving-mask", metavar="FILE", help="mask of ground known to move")
    known.add_argument("--gnss", dest="gnss_file", metavar="FILE", help="table: station,lat,lon,rate,std in mm/yr")
    known.add_argument(
        "--bad-date", dest="bad_dates", metavar="DATE", nargs="+", help="dates known to be bad, or a file"
    )
    parser.add_argument("--update", action="store_true", help="skip if nothing changed since the last run")
    parser.add_argument("--no-invert", dest="invert", action="store_false", help="write the stack, run no MintPy step")
    parser.add_argument(
        "--delay-file",
        action="store_true",
        help="write PROJECT/inputs/VAE.h5, which smallbaselineApp.py subtracts, and nothing else",
    )
    add_switches(parser)
    return parser


def add_switches(parser: Any) -> None:
    """How much is said."""
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument("--verbose", action="store_true", help="print all that goes into vae.log as well")
    how_much.add_argument("--quiet", action="store_true", help="print warnings, errors and the next command only")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def level(inps: Namespace) -> int:
    """What is printed, as a level of :mod:`logging`."""
    return logging.WARNING if inps.quiet else logging.DEBUG if inps.verbose else logging.INFO


def cmd_line_parse(iargs: Sequence[str] | None = None) -> Namespace:
    """Parse the command line."""
    parser = create_parser()
    parsed: Namespace = parser.parse_args(args=iargs)
    if parsed.delay_file and parsed.work_dir:
        parser.error("--delay-file writes into the project and knows no --outdir")
    return parsed


class Bars:
    """One of MintPy's progress bars per stage, a :data:`~mintpy_vae.separation.Report`."""

    def __init__(self) -> None:
        self.stage, self.bar = "", None

    def __call__(self, stage: str, done: int, total: int, message: str) -> None:
        """Move the bar of a stage."""
        from mintpy.utils import ptime

        if stage != self.stage:
            self.stage = stage
            self.bar = ptime.progressBar(maxValue=total, prefix=f"{stage}: ")
        assert self.bar is not None
        self.bar.update(done, suffix=message)
        if done >= total:
            self.bar.close()
            self.stage = ""


def main(iargs: Sequence[str] | None = None) -> None:
    """Run the command; exit status 0 when done or honestly uncorrected, 1 for bad input or an interruption."""
    start = time.time()
    with one_sentence("--debug" in (sys.argv if iargs is None else iargs)):
        inps = cmd_line_parse(iargs)
        with libraries_loading():
            import mintpy_vae.delay  # noqa: F401
            from mintpy_vae.log import on_terminal

        with on_terminal(level(inps)):
            result = _run(inps)
    if not inps.quiet:
        minutes, seconds = divmod(time.time() - start, 60)
        print(f"time used: {minutes:02.0f} mins {seconds:02.1f} secs.")
    if inps.delay_file and result.status == "corrected":
        from mintpy_vae.delay import TEMPLATE_LINES

        print(f"\nPut into the template:\n{TEMPLATE_LINES}", end="")
    if not inps.delay_file or result.status == "corrected":
        print(f"\nNext:\n  {result.next_command}\n")


@contextmanager
def libraries_loading() -> Iterator[None]:
    """Within :func:`one_sentence`: an interruption ends the process at once.

    Loading takes seconds, in which there is nothing to tidy up, and in which an exception can abort PyTorch's own code.
    """

    def leave(number: int, frame: Any) -> None:
        os.write(2, f"{INTERRUPTED.format('the same command starts anew')}\n".encode())
        os._exit(1)

    caught = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, leave) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def one_sentence(debug: bool) -> Iterator[None]:
    """End the process with one sentence, whatever goes wrong inside; with ``debug``, let errors through."""
    from mintpy_vae.errors import InputError

    try:
        with _terminated_like_interrupted():
            yield
    except InputError as error:
        if debug:
            raise
        sys.exit(f"ERROR: {error}")
    except KeyboardInterrupt as stop:
        sys.exit(INTERRUPTED.format(str(stop) or "the same command starts anew"))
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.errno:  # of the disk or the system, not of ours
            sys.exit(f"ERROR: {f'{error.filename}: ' if error.filename else ''}{os.strerror(error.errno)}.")
        message = " ".join(str(error).split())
        sys.exit(f"ERROR: {type(error).__name__}: {message} (run again with --debug and report it)")


def _run(inps: Namespace) -> Any:
    given = (inps.stack_file, inps.geometry_file, inps.template_file)
    options: dict[str, Any] = {
        "update": inps.update,
        "report": None if inps.quiet else Bars(),
        "device": inps.device,
        "seed": inps.seed,
        "max_memory": inps.max_memory,
        "stable_mask": _from_here(inps.stable_mask),
        "moving_mask": _from_here(inps.moving_mask),
        "gnss_file": _from_here(inps.gnss_file),
        "bad_dates": None if inps.bad_dates is None else " ".join(_from_here(word) or "" for word in inps.bad_dates),
    }
    if inps.delay_file:
        from mintpy_vae.delay import write_delay

        return write_delay(*given, **options)
    from mintpy_vae.workflow import correct

    return correct(*given, inps.work_dir, invert=inps.invert, **options)


def _from_here(word: str | None) -> str | None:
    """A file named in the shell, where paths start at the current directory; dates stay, and ``no`` is none."""
    if word is None or word.replace(",", "").isdigit():
        return word
    return "" if word == "no" else os.path.abspath(os.path.expanduser(word))


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Clean up after SIGTERM too, with which clusters and shells end a process; let neither get lost on its way."""
    received = []

    def interrupt(number: int, frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    def once_more(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:  # Python drops what is raised while it tidies up; after that, then
            threading.Timer(0.05, os.kill, (os.getpid(), received[-1])).start()
        else:
            hook(unraisable)

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in a shell's background
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    hook, sys.unraisablehook = sys.unraisablehook, once_more
    try:
        yield
    except Exception:
        if received:  # a bare except in MintPy has made another error of it
            raise KeyboardInterrupt from None
        raise
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main(sys.argv[1:])
