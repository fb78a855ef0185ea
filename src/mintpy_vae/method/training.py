"""Train the autoencoder on the pairs of one stack: device, seed, schedule, progress, restart after divergence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError, NotEnoughEvidence
from ..progress import Steps
from ..settings import Settings
from .source_model import Fit
from .vae import VAE

Run = tuple[VAE, NDArray[np.float64]]
LEARNING_RATE = 2e-3
RESTARTS = 2
_RANDOM_STATE = Lock()
"""Lock for the random state of the process, from which layers draw their first weights; parallel seeds must not mix."""
_GPU = Lock()
"""Lock for the GPU: two networks at a time would share its settings and gain nothing."""


def choose_device(name: str) -> torch.device:
    """Device for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    InputError
        For ``cuda`` if PyTorch finds no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no CUDA GPU here. Use --device auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def train(
    series: NDArray[np.float64],
    valid: NDArray[np.bool_],
    times: NDArray[np.float64],
    slots: Sequence[tuple[str, int]],
    settings: Settings,
    progress: Steps | None = None,
) -> Fit:
    """Train a network on all pairs of a series of maps.

    Every pair (i, j) of dates is a sample, in both orders. Half of each batch is drawn evenly over the temporal
    baseline, so that long pairs, in which deformation is large, are used as often as short ones.

    Parameters
    ----------
    series : (dates, height, width) float64
        Phase of each date in radians, 0 where not valid.
    valid : (height, width) bool
    times : (dates,)
        Years.
    slots : sequence of (kind, size)
        See :class:`~mintpy_vae.method.vae.PairPrior`.
    settings : Settings
        ``device``, ``seed``, ``train_steps``, ``batch_size``.
    progress : callable, optional
        Called with (step, steps, message).

    Raises
    ------
    NotEnoughEvidence
        If the training diverges, also with ``RESTARTS`` other seeds.
    InputError
        If a GPU has too little memory for a single pair.
    """
    device = choose_device(settings.device)
    scale = float(series[:, valid].std()) or 1.0
    data = _Data(
        maps=torch.tensor(series / scale, dtype=torch.float32, device=device),
        mask=torch.tensor(valid, dtype=torch.float32, device=device),
        years=_years(times).to(device),
    )
    for attempt in range(RESTARTS + 1):
        seed = settings.seed + 1000 * attempt
        run = partial(_run, data, slots, settings, seed, progress)
        with _reproducible(device):
            model, losses = _in_parts(run, settings.batch_size)
        if _converged(losses):
            return Fit(model.eval(), scale, losses, seed, device)
    raise NotEnoughEvidence(
        f"the training of the network diverged with {RESTARTS + 1} different seeds; the stack may have extreme values"
    )


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Allow one training at a time on a GPU, with deterministic kernels."""
    if device.type != "cuda":
        yield
        return
    with _GPU, torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True):
        yield


def _in_parts(run: Callable[[int], Run], most: int) -> Run:
    """Run a training; if the GPU's memory is too small, repeat it with each batch in twice as many parts."""
    parts = 1
    while True:
        try:
            return run(parts)
        except torch.cuda.OutOfMemoryError as error:
            if parts >= most:
                raise InputError("The GPU has too little memory for the network; use --device cpu.") from error
            parts = min(2 * parts, most)
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class _Data:
    """Data on the device: maps (dates, height, width) of unit variance, mask of valid pixels, times of the dates."""

    maps: torch.Tensor
    mask: torch.Tensor
    years: torch.Tensor


def _run(
    data: _Data,
    slots: Sequence[tuple[str, int]],
    settings: Settings,
    seed: int,
    progress: Steps | None,
    parts: int,
) -> Run:
    """Run one training. The losses stay on the device, and a GPU waits for the host only to show progress.

    The gradients of the ``parts`` of a batch are summed, so the result is the same except for rounding.
    """
    steps, batch, device = settings.train_steps, settings.batch_size, data.maps.device
    model = _network(slots, data.years.cpu(), data.maps.shape[1:], device, seed)
    # fused: one kernel for all parameters
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), fused=data.maps.is_cuda)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps)
    rng = np.random.default_rng(seed)
    draws = [draw_pairs(rng, data.years.cpu().numpy(), batch) for _ in range(steps)]
    pairs = torch.tensor(np.stack(draws), device=device)
    beta = torch.tensor([min(1.0, 0.05 + 0.95 * step / (0.4 * steps)) for step in range(steps)], device=device)
    noise = torch.zeros(batch, sum(model.sizes), device=device)
    losses = torch.zeros(steps, device=device)
    now = torch.zeros(1, dtype=torch.int64, device=device)

    def gradients() -> None:
        """Compute loss and gradients of step ``now`` and increment it; all tensors stay in place, for a CUDA graph."""
        optimizer.zero_grad(set_to_none=True)
        first, second = pairs[now][0]
        for i, j, z in zip(first.chunk(parts), second.chunk(parts), noise.chunk(parts), strict=True):
            loss = model.loss(data.maps[j] - data.maps[i], i, j, data.mask, beta[now], z) * (len(i) / batch)
            loss.backward()
            losses.index_add_(0, now, loss.detach()[None])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        now.add_(1)

    advance = _captured(gradients) if data.maps.is_cuda else gradients
    losses.zero_()
    now.zero_()
    generator = torch.Generator(device).manual_seed(seed)
    for step in range(steps):
        noise.normal_(generator=generator)
        advance()
        optimizer.step()
        schedule.step()
        if progress and (step % 20 == 0 or step == steps - 1):
            progress(step + 1, steps, f"loss {losses[step].item():.4f}")
    return model, losses.cpu().double().numpy()


def _captured(work: Callable[[], None], warm_ups: int = 3) -> Callable[[], None]:
    """Capture ``work`` as a CUDA graph: launching its hundreds of small kernels one by one would be slow.

    It is first run a few times on a separate stream, as PyTorch requires before a capture.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(warm_ups):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another seed may use the GPU meanwhile
        work()
    return graph.replay


def empty_network(
    slots: Sequence[tuple[str, int]], times: NDArray[np.float64], shape: tuple[int, ...], device: torch.device
) -> VAE:
    """Untrained network of the same shape as in :func:`train`, into which weights can be loaded."""
    return _network(slots, _years(times), shape, device, seed=0)


def _years(times: NDArray[np.float64]) -> torch.Tensor:
    return torch.tensor(times - times[0], dtype=torch.float32)


def _network(
    slots: Sequence[tuple[str, int]], years: torch.Tensor, shape: tuple[int, ...], device: torch.device, seed: int
) -> VAE:
    with _RANDOM_STATE, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VAE(slots, years, (shape[0], shape[1])).to(device)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def draw_pairs(rng: np.random.Generator, years: NDArray[np.floating], batch: int) -> NDArray[np.int64]:
    """Date indices (2, batch) of random pairs: half of any two dates, half evenly over the temporal baseline."""
    n = len(years)
    first = rng.integers(0, n, batch)
    second = (first + rng.integers(1, n, batch)) % n
    half = batch // 2
    baseline = rng.uniform(0, years[-1] - years[0], half)
    starts = np.searchsorted(years, years[-1] - baseline, side="right")  # dates from which the baseline fits in
    early = (rng.uniform(size=half) * starts).astype(int)
    late = np.abs(years[None, :] - (years[early] + baseline)[:, None]).argmin(axis=1)
    swap = rng.uniform(size=half) < 0.5
    first[:half], second[:half] = np.where(swap, late, early), np.where(swap, early, late)
    same = first == second
    second[same] = (first[same] + 1) % n
    return np.stack([first, second])


def _converged(losses: NDArray[np.float64]) -> bool:
    """Whether all losses are finite and the last ones are below that of the untrained network."""
    tail = max(1, len(losses) // 10)
    return bool(np.isfinite(losses).all() and losses[-tail:].mean() < losses[0])
