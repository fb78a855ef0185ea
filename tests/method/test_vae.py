import numpy as np
import pytest
import torch

from mintpy_vae.errors import InputError, NotEnoughEvidence
from mintpy_vae.method import training
from mintpy_vae.method.threads import InBackground
from mintpy_vae.method.training import choose_device, draw_pairs, train
from mintpy_vae.method.vae import N_BASIS, SEPARATOR_SLOTS, VAE
from mintpy_vae.settings import Settings

TIMES = torch.linspace(0, 2, 12)
FREE_SLOTS = (("free", 32),)
FIRST, SECOND = torch.tensor([0, 3, 5]), torch.tensor([11, 4, 1])


@pytest.fixture(params=[(24, 32), (21, 37)])
def model(request) -> VAE:
    torch.manual_seed(0)
    return VAE(SEPARATOR_SLOTS, TIMES, request.param).eval()


def test_swapping_the_dates_flips_codes_and_sources(model):
    x = torch.randn(3, *model.shape)
    there, back = model.encode(x, FIRST, SECOND), model.encode(-x, SECOND, FIRST)
    torch.testing.assert_close(there.mean, -back.mean)
    torch.testing.assert_close(there.variance, back.variance)
    for a, b in zip(model.source_weights(there.mean), model.source_weights(back.mean), strict=True):
        torch.testing.assert_close(a, -b)
        assert a.shape == (3, N_BASIS)


def test_basis_has_the_shape_of_the_maps(model):
    assert model.basis().shape == (N_BASIS, *model.shape)


def test_the_prior_of_the_trend_grows_with_the_squared_temporal_baseline(model):
    prior = model.prior(FIRST, SECOND)
    size = SEPARATOR_SLOTS[0][1]
    span = (TIMES[SECOND] - TIMES[FIRST]) / 2
    torch.testing.assert_close(prior[:, 0], span**2 + 1e-6)
    assert (prior[:, -1] == 1 + 1e-6).all()
    # interval weights add up over the stack
    torch.testing.assert_close(prior[0, size], torch.tensor(1 + 1e-6))


def test_a_network_for_later_dates_agrees_on_the_earlier_ones_and_goes_on(model):
    torch.nn.init.normal_(model.prior.interval)
    later = model.continued(torch.cat([TIMES, TIMES[-1:] + torch.tensor([0.2, 0.4])]))
    x = torch.randn(3, *model.shape)
    for name in ("mean", "variance", "prior"):
        known, found = (getattr(network.encode(x, FIRST, SECOND), name) for network in (model, later))
        torch.testing.assert_close(found, known)
    size = SEPARATOR_SLOTS[0][1]
    prior = later.prior(torch.tensor([0, 11, 12]), torch.tensor([13, 13, 13]))
    torch.testing.assert_close(prior[0, 0], torch.tensor(1.2**2 + 1e-6))
    torch.testing.assert_close(prior[:, size], torch.tensor([13 / 11, 2 / 11, 1 / 11]) + 1e-6)


def test_a_narrow_prior_silences_its_slot(model):
    codes = model.encode(100 * torch.randn(3, *model.shape), FIRST, SECOND)
    assert (codes.variance < codes.prior).all()
    assert (codes.divergence() > 0).all()


def test_divergence_of_the_prior_itself_is_zero():
    from mintpy_vae.method.vae import Codes

    prior = torch.rand(4, 6) + 0.1
    torch.testing.assert_close(Codes(torch.zeros(4, 6), prior, prior).divergence(), torch.zeros(4))


def test_every_parameter_gets_a_gradient(model):
    x = torch.randn(3, *model.shape)
    noise = torch.randn(3, sum(model.sizes))
    model.loss(x, FIRST, SECOND, torch.ones(model.shape), 0.5, noise).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def _two_patterns(n_dates: int = 20, shape: tuple[int, int] = (24, 24)) -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[0], : shape[1]] / shape[0]
    maps = np.stack([np.cos(np.pi * x), np.cos(np.pi * y)])
    return np.einsum("tk,kyx->tyx", rng.normal(size=(n_dates, 2)), maps - maps.mean(axis=(1, 2), keepdims=True))


def test_training_learns_is_repeatable_and_leaves_the_global_generator_alone():
    series = _two_patterns()
    valid = np.ones(series.shape[1:], dtype=bool)
    settings = Settings(train_steps=120, device="cpu")
    before = torch.random.get_rng_state()
    years = np.arange(20) / 10
    one = train(series, valid, years, FREE_SLOTS, settings)
    two = train(series, valid, years, FREE_SLOTS, settings)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(one.losses, two.losses)
    assert one.losses[-10:].mean() < one.losses[:10].mean() - 0.5
    other = train(series, valid, years, FREE_SLOTS, Settings(train_steps=120, seed=2, device="cpu"))
    assert not np.array_equal(one.losses, other.losses)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("fits", [1, 5, 16])
def test_a_gpu_with_little_memory_gets_smaller_parts_of_the_same_batches(monkeypatch, fits):
    """Twice as many parts until they fit; what is learnt is the same."""
    series = _two_patterns()
    stack = (series, np.ones(series.shape[1:], dtype=bool), np.arange(20) / 10, FREE_SLOTS)
    settings = Settings(train_steps=20, batch_size=16, device="cpu")
    whole = train(*stack, settings)
    loss, sizes = VAE.loss, []

    def small(self, x, *others):
        sizes.append(len(x))
        if len(x) > fits:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return loss(self, x, *others)

    monkeypatch.setattr(VAE, "loss", small)
    parts = train(*stack, settings)
    assert max(sizes) == 16 and sizes[-1] <= fits < 2 * max(sizes[-20:])
    np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-3)
    if fits == 16:
        np.testing.assert_array_equal(parts.losses, whole.losses)


def test_a_gpu_without_memory_is_one_sentence(monkeypatch):
    def none(self, *arguments):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(VAE, "loss", none)
    with pytest.raises(InputError, match="too little memory.*--device cpu"):
        train(np.ones((12, 16, 16)), np.ones((16, 16), bool), TIMES.numpy(), FREE_SLOTS, Settings(device="cpu"))


def test_training_that_diverges_is_not_believed():
    series = _two_patterns()
    series[3, 5, 5] = np.inf
    with pytest.raises(NotEnoughEvidence, match="diverged"):
        train(
            series,
            np.ones(series.shape[1:], dtype=bool),
            np.arange(20) / 10,
            FREE_SLOTS,
            Settings(train_steps=10),
        )


def test_half_of_the_pairs_are_even_over_the_temporal_baseline():
    years = np.arange(50) / 10
    first, second = draw_pairs(np.random.default_rng(0), years, 8000)
    assert (first != second).all() and 0.4 < (first < second).mean() < 0.6
    even = np.histogram(np.abs(years[first[:4000]] - years[second[:4000]]), bins=7, range=(0, 4.9))[0]
    assert even.min() > 0.8 * even.max()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_a_clear_error():
    with pytest.raises(InputError, match="no CUDA GPU"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU on this machine: the CPU twin of this test ran above"
)


@gpu
def test_training_on_a_gpu_agrees_with_the_cpu():
    series = _two_patterns()
    valid = np.ones(series.shape[1:], dtype=bool)
    years = np.arange(20) / 10
    cpu, gpu = (
        train(series, valid, years, FREE_SLOTS, Settings(train_steps=120, device=name)) for name in ("cpu", "cuda")
    )
    # other noise, for each device has a generator of its own
    assert abs(cpu.losses[-20:].mean() - gpu.losses[-20:].mean()) < 0.5


@gpu
def test_a_gpu_gives_the_same_bits_again_with_another_seed_beside_it():
    series = _two_patterns()
    stack = (series, np.ones(series.shape[1:], dtype=bool), np.arange(20) / 10, FREE_SLOTS)

    def losses(seed):
        return train(*stack, Settings(train_steps=200, device="cuda", seed=seed)).losses

    alone = losses(1)
    with InBackground(lambda: losses(2)) as aside:
        np.testing.assert_array_equal(losses(1), alone)
        assert not np.array_equal(aside.result(), alone)


@gpu
def test_a_gpu_that_is_too_small_gets_the_batches_in_parts(monkeypatch):
    series = np.kron(_two_patterns(), np.ones((1, 4, 4)))
    stack = (series, np.ones(series.shape[1:], dtype=bool), np.arange(20) / 10, FREE_SLOTS)
    settings = Settings(train_steps=10, batch_size=4096, device="cuda")
    whole = train(*stack, settings)
    needed = torch.cuda.max_memory_allocated()
    run, parts = training._run, []
    monkeypatch.setattr(training, "_run", lambda *given: parts.append(given[-1]) or run(*given))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.5 * needed / torch.cuda.get_device_properties(0).total_memory)
    try:
        split = train(*stack, settings)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert parts[0] == 1 and parts[-1] > 1
    np.testing.assert_allclose(split.losses, whole.losses, rtol=1e-2, atol=1e-2)
