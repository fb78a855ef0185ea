"""The convolutional variational autoencoder: one encoder, several sources, one shared decoder.

After Neri, Badeau and Depalle (2021): an encoder gives K latent sources of a mixture (an interferogram), one decoder
turns each into its own signal, and their sum is the mixture. The sources are identifiable because the prior depends on
the two dates of the pair (Khemakhem et al., 2020). All functions are odd: swapping the dates of a pair changes the sign
of its codes and of its sources. This module works on tensors only.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

N_BASIS = 48
CHANNELS = (16, 32, 48)
SEPARATOR_SLOTS = (("trend", 4), ("steps", 4), ("free", 12), ("free", 12))


@dataclass(frozen=True)
class Codes:
    """Posterior of the codes of a batch of pairs: a Gaussian per latent.

    ``mean``, ``variance`` and ``prior`` (the variance of the zero-mean prior) are (batch, latents).
    """

    mean: Tensor
    variance: Tensor
    prior: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised draw (Kingma and Welling, 2014) from standard normal ``noise`` (batch, latents)."""
        return self.mean + self.variance.sqrt() * noise

    def divergence(self) -> Tensor:
        """Kullback-Leibler divergence from the prior, (batch,)."""
        ratio = self.variance / self.prior
        return 0.5 * (ratio + self.mean**2 / self.prior - 1.0 - ratio.log()).sum(dim=1)


class PairPrior(nn.Module):
    """Variance of the codes of a pair, given its dates.

    A ``trend`` slot grows with the temporal baseline: dt^2, for motion at a constant rate. A ``steps`` slot adds
    learned non-negative weights of the intervals between the two dates, for motion at any time. A ``free`` slot has
    unit variance for all dates, like the atmosphere.

    Parameters
    ----------
    slots : sequence of (kind, size)
    times : (dates,)
        Years.
    """

    times: Tensor

    def __init__(self, slots: Sequence[tuple[str, int]], times: Tensor) -> None:
        super().__init__()
        self.slots = tuple(slots)
        self.register_buffer("times", times)
        self.interval = nn.Parameter(torch.zeros(len(times) - 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Prior variance (batch, latents) of pairs of date indices ``first`` and ``second``, (batch,) each."""
        trend = ((self.times[second] - self.times[first]) / self.span()) ** 2
        passed = self.passed()
        steps = (passed[second] - passed[first]).abs()
        by_kind = {"trend": trend, "steps": steps, "free": torch.ones_like(trend)}
        return torch.cat([by_kind[kind][:, None].expand(-1, size) for kind, size in self.slots], dim=1) + 1e-6

    def span(self) -> Tensor:
        """Years from the first to the last date."""
        return self.times.max() - self.times.min()

    def passed(self) -> Tensor:
        """Share of the steps' variance that has passed by each date, (dates,)."""
        return torch.cat([self.interval.new_zeros(1), self.interval.softmax(0).cumsum(0)])


class ContinuedPrior(PairPrior):
    """The prior of more dates than were learned from: the trend goes on, and a new interval has the mean weight.

    Parameters
    ----------
    learned : PairPrior
    times : (dates,)
        Years; the first are those of `learned`.
    """

    def __init__(self, learned: PairPrior, times: Tensor) -> None:
        super().__init__(learned.slots, times)
        del self.interval  # that of the learned dates is used
        self.learned = learned

    def span(self) -> Tensor:
        """Years from the first to the last date learned from."""
        return self.learned.span()

    def passed(self) -> Tensor:
        """Share of the steps' variance that has passed by each date, above 1 on new dates, (dates,)."""
        known = self.learned.passed()
        later = torch.arange(1, len(self.times) - len(known) + 1, device=known.device)
        return torch.cat([known, 1.0 + later / (len(known) - 1)])


class Encoder(nn.Module):
    """Odd convolutional encoder: no bias, tanh, and a linear path that bypasses the convolutions.

    Maps (batch, 1, height, width), both sides multiples of 8, to (batch, latents).
    """

    def __init__(self, n_latents: int, shape: tuple[int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for channels in CHANNELS:
            layers += [nn.Conv2d(before, channels, 4, stride=2, padding=1, bias=False), nn.Tanh()]
            before = channels
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(before * shape[0] * shape[1] // 64, n_latents, bias=False)
        self.skip = nn.Sequential(
            nn.AvgPool2d(4), nn.Flatten(), nn.Linear(shape[0] * shape[1] // 16, n_latents, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Code (batch, latents) of maps ``x``."""
        return self.head(self.convolutions(x).flatten(1)) + self.skip(x)


class Decoder(nn.Module):
    """Shared convolutional decoder: basis maps are made from a learned seed; a code gives their weights.

    A source is ``w(z) @ basis`` with an odd function w, so that decoding, closure and sums are matrix products.
    """

    def __init__(self, slots: Sequence[tuple[str, int]], shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.seed = nn.Parameter(torch.randn(1, 24, shape[0] // 4, shape[1] // 4))
        self.grow = nn.Sequential(
            nn.Conv2d(24, 4 * 24, 3, padding=1),
            nn.PixelShuffle(2),
            nn.SiLU(),
            nn.Conv2d(24, 4 * 24, 3, padding=1),
            nn.PixelShuffle(2),
            nn.SiLU(),
            nn.Conv2d(24, N_BASIS, 3, padding=1),
        )
        self.linear = nn.ModuleList(nn.Linear(size, N_BASIS, bias=False) for _, size in slots)
        self.bend = nn.ModuleList(nn.Linear(size, N_BASIS, bias=False) for _, size in slots)

    def basis(self) -> Tensor:
        """Basis maps, (N_BASIS, height * width)."""
        return self.grow(self.seed.contiguous(memory_format=torch.channels_last)).reshape(N_BASIS, -1)

    def weights(self, z: Sequence[Tensor]) -> list[Tensor]:
        """Weights of the basis maps for each slot, (batch, N_BASIS) each, from its codes (batch, size)."""
        return [
            linear(part) + torch.tanh(bend(part)) for linear, bend, part in zip(self.linear, self.bend, z, strict=True)
        ]


class VAE(nn.Module):
    """Variational autoencoder of the pairs of one stack.

    Parameters
    ----------
    slots : sequence of (kind, size)
        Latent sources; see :class:`PairPrior`.
    times : (dates,)
        Acquisition times in years.
    shape : (int, int)
        Height and width of the training maps; they are padded to multiples of 8 inside.
    """

    def __init__(self, slots: Sequence[tuple[str, int]], times: Tensor, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.sizes = [size for _, size in slots]
        padded = (-(-shape[0] // 8) * 8, -(-shape[1] // 8) * 8)
        self.pad = nn.ZeroPad2d((0, padded[1] - shape[1], 0, padded[0] - shape[0]))
        self.prior = PairPrior(slots, times)
        self.encoder = Encoder(sum(self.sizes), padded)
        self.decoder = Decoder(slots, padded)
        self.log_code_noise = nn.Parameter(torch.full((sum(self.sizes),), -2.0))
        self.log_sigma = nn.Parameter(torch.tensor(-0.5))

    def encode(self, x: Tensor, first: Tensor, second: Tensor) -> Codes:
        """Codes of maps ``x`` (batch, height, width) of the pairs ``first``, ``second`` (batch,).

        The posterior is the product of the prior N(0, p) and the encoder's N(m(x), s^2), so a slot has small codes
        where its prior is narrow: mean p m / (p + s^2), variance p s^2 / (p + s^2).
        """
        prior = self.prior(first, second)
        padded = self.pad(x[:, None]).contiguous(memory_format=torch.channels_last)
        noise = self.log_code_noise.exp()
        gain = prior / (prior + noise)
        return Codes(gain * self.encoder(padded), gain * noise, prior)

    def continued(self, times: Tensor) -> VAE:
        """The same network for more dates: ``times`` (dates,) in years, which begin with those it was trained on."""
        later = copy.deepcopy(self)
        later.prior = ContinuedPrior(later.prior, times.to(self.prior.times)).to(times.device)
        return later

    def source_weights(self, z: Tensor) -> list[Tensor]:
        """Weights of the basis maps of each source, (batch, N_BASIS) each, from codes (batch, latents)."""
        return self.decoder.weights(z.split(self.sizes, dim=1))

    def basis(self) -> Tensor:
        """Basis maps on the training grid, (N_BASIS, height, width)."""
        maps = self.decoder.basis().reshape(N_BASIS, *self.decoder.shape)
        return maps[:, : self.shape[0], : self.shape[1]]

    def loss(self, x: Tensor, first: Tensor, second: Tensor, mask: Tensor, beta: Tensor, noise: Tensor) -> Tensor:
        """Negative evidence lower bound per pixel, with weight ``beta`` on the divergence (Higgins et al., 2017).

        Parameters
        ----------
        x : (batch, height, width)
            Maps in units of their overall standard deviation, 0 where the mask is 0.
        first, second : (batch,) int
            Date indices of the pairs.
        mask : (height, width)
            1 on valid pixels.
        beta : (1,)
        noise : (batch, latents)
            Standard normal.
        """
        codes = self.encode(x, first, second)
        total = torch.stack(self.source_weights(codes.sample(noise))).sum(dim=0)
        misfit = (x - (total @ self.basis().flatten(1)).reshape(x.shape)) * mask
        n_pixels = mask.sum()
        energy = misfit.square().sum(dim=(1, 2)) / n_pixels
        likelihood = 0.5 * energy * (-2 * self.log_sigma).exp() + self.log_sigma
        return (likelihood + beta * codes.divergence() / n_pixels).mean()
