"""Denoising: the network against SciPy, the loss and PSNR against NumPy, the suite against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objective_values import evaluate
from scipy import ndimage, stats

from robust_jax import attacks, config, data, metrics, models, objectives, suites, train
from robust_jax.commands.experiment_file import load_experiment_file
from robust_jax.commands.run import run_experiment
from robust_jax.core.mesh import data_mesh
from robust_jax.report import comparison_markdown
from robust_jax.suites.denoising import gaussian_noise, random_zero_mean
from robust_jax.types import Batch, Output

KEY = jax.random.key(0)
SIGMA = 0.1
RADII = (0.01, 0.03)


def clean_images(count=40, shape=(8, 8, 3)):
    smooth = ndimage.gaussian_filter(np.random.default_rng(1).random((count, *shape)), (0, 2, 2, 0))
    return np.uint8(255 * (smooth - smooth.min()) / np.ptp(smooth))


def evaluation(batch_size=16):
    test = clean_images(), np.arange(40) % 3
    return data.evaluation(data.Arrays(test=test, name="toy").load("test"), batch_size=batch_size, mesh=data_mesh())


def found(rows, metric="psnr"):
    return {(row.case, row.severity): row for row in rows if row.metric == metric}


class Smoothing:
    """The mean of a pixel and its neighbours; counts its traces."""

    def __init__(self):
        self.traces = 0

    def __call__(self, images):
        self.traces += 1
        moved = [jnp.roll(images, shift, axis) for shift in (-1, 0, 1) for axis in (1, 2)]
        return sum(moved) / 6


def identity(images):
    return images


def test_published_parameter_count():
    params, _ = jax.eval_shape(lambda key: models.init(models.DnCNN(), key, (50, 50, 1)), KEY)
    assert models.num_parameters(params) == (9 * 64 + 64) + 15 * (9 * 64 * 64 + 2 * 64) + 9 * 64


def test_network_in_scipy():
    """With drawn kernels and statistics, in evaluation; as drawn it is the identity."""
    model = models.DnCNN(depth=3, width=4)
    assert config.from_json(config.to_json(model)) == model
    params, state = models.init(model, KEY, (6, 5, 2))
    variables, apply = {"params": params, **state}, jax.jit(model.apply)
    images = jax.random.uniform(KEY, (2, 6, 5, 2))
    np.testing.assert_array_equal(apply(variables, images).prediction, images)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.5, leaf.shape).astype(np.float32), variables)
    params, running = variables["params"], variables["batch_stats"]["norm2"]

    def conv(x, kernel):
        planes = [
            sum(ndimage.correlate(x[..., i], kernel[..., i, o], mode="constant") for i in range(x.shape[-1]))
            for o in range(kernel.shape[-1])
        ]
        return np.stack(planes, axis=-1)

    output = apply(variables, images)
    for image, denoised, features in zip(np.asarray(images), output.prediction, output.features, strict=True):
        x = np.maximum(conv(image, params["conv1"]["kernel"]) + params["conv1"]["bias"], 0)
        x = (conv(x, params["conv2"]["kernel"]) - running["mean"]) / np.sqrt(running["var"] + 1e-5)
        x = np.maximum(x * params["norm2"]["scale"] + params["norm2"]["bias"], 0)
        np.testing.assert_allclose(features, x.mean(axis=(0, 1)), rtol=1e-4)
        np.testing.assert_allclose(denoised, image - conv(x, params["conv3"]["kernel"]), rtol=1e-3, atol=1e-3)


def test_bfloat16_keeps_float32_images():
    model = models.DnCNN(depth=3, width=4, dtype="bfloat16")
    params, state = models.init(model, KEY, (8, 8, 1))
    output, _ = models.forward_fn(model, state)(params, jnp.ones((2, 8, 8, 1)) / 3)
    assert output.prediction.dtype == output.features.dtype == jnp.float32
    np.testing.assert_array_equal(output.prediction, jnp.float32(1 / 3))


@pytest.mark.parametrize("fields", [{"depth": 1}, {"width": 0}, {"norm": "bach"}, {"dtype": "float16"}])
def test_bad_networks(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        models.DnCNN(**fields)


def halving(params, images, *, key=None, train=True):
    return Output(params * images, images[:, 0, 0]), {}


@functools.partial(jax.jit, static_argnums=0)
def loss_of(objective, images):
    return evaluate(objective, KEY, halving, jnp.float32(0.5), images)


def batch(size=400):
    images = jax.random.uniform(jax.random.key(3), (size, 8, 8, 1))
    return Batch(images, jnp.zeros(size, jnp.int32), jnp.ones(size, bool), jnp.arange(size))


def test_loss_in_closed_form():
    r"""Of aD(y) = ay it is (1 - a)² mean(x²) + a² sigma² in expectation."""
    images = batch()
    for sigma, variance in ((0.2, 0.04), ((0.0, 0.3), 0.03)):
        loss, aux = loss_of(objectives.Denoising(sigma), images)
        expected = 0.25 * float(jnp.mean(images.image**2)) + 0.25 * variance
        np.testing.assert_allclose(loss, expected, rtol=0.02)
        assert 0 < float(aux.metrics["psnr"]) < 20


def test_noise_is_gaussian_and_blind_levels_uniform():
    images = batch()
    keys = jax.random.split(KEY, 400)
    noise = jax.vmap(objectives.Denoising(0.2).add_noise)(keys, images.image) - images.image
    assert stats.kstest(np.asarray(noise).ravel() / 0.2, "norm").pvalue > 0.01
    large = jnp.zeros((400, 32, 32, 1))
    levels = jnp.std(jax.vmap(objectives.Denoising((0.1, 0.3)).add_noise)(keys, large), axis=(1, 2, 3))
    assert stats.kstest(np.asarray(levels), stats.uniform(0.1, 0.2).cdf).pvalue > 0.01


def test_loss_is_of_the_examples_by_id_and_without_padding():
    images, objective = batch(8), objectives.Denoising((0.1, 0.3))
    whole, _ = loss_of(objective, images._replace(mask=jnp.arange(8) < 5))
    order = jnp.array([4, 0, 2, 1, 3])
    part, _ = loss_of(objective, jax.tree.map(lambda leaf: leaf[order], images))
    np.testing.assert_allclose(whole, part, rtol=1e-5)
    for component in (objective, objectives.Denoising()):
        assert config.from_json(config.to_json(component)) == component


@pytest.mark.parametrize("sigma", [0.0, -0.1, (0.2, 0.1), (-0.1, 0.1)])
def test_bad_sigma(sigma):
    with pytest.raises(ValueError, match="sigma"):
        objectives.Denoising(sigma)


def test_a_classifier_is_no_denoiser():
    def classifier(params, images, *, key=None, train=True):
        return Output(images[:, 0, 0], images[:, 0, 0]), {}

    with pytest.raises(ValueError, match="return images"):
        evaluate(objectives.Denoising(), KEY, classifier, None, batch(4))
    with pytest.raises(ValueError, match="returns images"):
        list(suites.Denoising().rows(suites.Context(KEY, lambda images: images[:, 0, 0], evaluation())))


def test_psnr():
    np.testing.assert_allclose(metrics.psnr([1.0, 0.1, 1e-4]), [0, 10, 40])
    np.testing.assert_allclose(metrics.psnr(0.01 * 255**2, peak=255), 20)
    assert metrics.psnr(0.0) == np.inf


def test_random_perturbations():
    delta = jax.vmap(lambda key: random_zero_mean(key, (8, 8, 3), 0.03))(jax.random.split(KEY, 5))
    np.testing.assert_allclose(jnp.mean(delta, axis=(1, 2, 3)), 0, atol=1e-7)
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(delta**2, axis=(1, 2, 3))), 0.03, rtol=1e-5)


def test_suite_without_denoising_in_closed_form():
    """Noise n of mean m and standard deviation s per image: the worst within rho is (s + rho)² + m²."""
    rows = list(suites.Denoising(SIGMA, radii=RADII).rows(suites.Context(KEY, identity, evaluation())))
    psnr, drop = found(rows), found(rows, "psnr_drop")
    noise = [np.asarray(gaussian_noise(KEY, SIGMA, b) - b.image)[np.asarray(b.mask)] for b in evaluation().batches()]
    noise = np.concatenate(noise).reshape(40, -1).astype(float)
    means, stds = noise.mean(axis=1), noise.std(axis=1)
    plain = -10 * np.log10(stds**2 + means**2)
    np.testing.assert_allclose(noise.std(), SIGMA, rtol=0.02)
    for case in ("noisy", "denoised"):
        np.testing.assert_allclose(psnr[case, None].value, plain.mean(), rtol=1e-5)
        assert psnr[case, None].low < plain.mean() < psnr[case, None].high
    for rho in RADII:
        worst = -10 * np.log10((stds + rho) ** 2 + means**2)
        np.testing.assert_allclose(psnr["ObsAtk", rho].value, worst.mean(), rtol=1e-4)
        np.testing.assert_allclose(drop["ObsAtk", rho].value, (plain - worst).mean(), rtol=1e-3)
        np.testing.assert_allclose(
            psnr["random", rho].value, plain.mean() - 10 * np.log10(1 + (rho / SIGMA) ** 2), atol=0.05
        )
    assert {row.suite for row in rows} == {"denoising"}
    assert {row.count for row in rows} == {40}


def test_attack_is_worse_than_chance():
    rows = list(suites.Denoising(SIGMA, radii=RADII[::-1]).rows(suites.Context(KEY, Smoothing(), evaluation())))
    psnr = found(rows)
    assert psnr["denoised", None].value > psnr["noisy", None].value
    for rho in RADII:
        assert psnr["ObsAtk", rho].value < psnr["random", rho].value < psnr["denoised", None].value
        assert found(rows, "psnr_drop")["ObsAtk", rho].low > found(rows, "psnr_drop")["random", rho].high
    assert psnr["ObsAtk", RADII[1]].value < psnr["ObsAtk", RADII[0]].value


@pytest.mark.long
def test_batches_do_not_matter_and_finished_ones_are_kept(tmp_path):
    suite = suites.Denoising(SIGMA, attacks.ObsAtk(steps=2, start="uniform"), RADII)
    shares = []
    store = suites.CaseStore(tmp_path)
    first = list(suite.rows(suites.Context(KEY, Smoothing(), evaluation(16), store=store, advance=shares.append)))
    assert sum(shares) == pytest.approx(suite.num_cases)
    other = list(suite.rows(suites.Context(KEY, Smoothing(), evaluation(40))))
    for row, again in zip(first, other, strict=True):
        assert (row.case, row.metric, row.severity) == (again.case, again.metric, again.severity)
        np.testing.assert_allclose(row.value, again.value, atol=1e-3)
    model = Smoothing()
    assert list(suite.rows(suites.Context(KEY, model, evaluation(16), store=suites.CaseStore(tmp_path)))) == first
    assert model.traces == 0
    assert len(list(tmp_path.rglob("*batch=*.npz"))) == 3 * suite.num_cases
    assert config.from_json(config.to_json(suite)) == suite


def test_samples_and_table():
    suite = suites.Denoising(SIGMA, radii=RADII)
    samples = suite.samples(suites.Context(KEY, Smoothing(), evaluation()), num_images=3)
    assert samples.titles == ["clean", "noisy", "denoised", "under attack"]
    assert samples.images.shape == (3, 4, 8, 8, 3)
    np.testing.assert_array_equal(samples.images[:, 0], clean_images()[:3])
    for row in samples.predictions:
        clean, noisy, denoised, attacked = row
        assert clean == ""
        assert float(noisy.removesuffix(" dB")) < float(denoised.removesuffix(" dB"))
        assert float(attacked.removesuffix(" dB")) < float(denoised.removesuffix(" dB"))
    rows = list(suite.rows(suites.Context(KEY, Smoothing(), evaluation())))
    text = comparison_markdown({"one": rows}, [suite.declaration])
    psnr = found(rows)
    assert f"{psnr['ObsAtk', 0.03].value:.2f}" in text
    assert "PSNR ObsAtk 0.03 dB ↑" in text


def test_validation_is_for_classifiers():
    experiment = train.Experiment(
        data=data.Digits(validation=100),
        model=models.DnCNN(depth=2, width=2),
        objective=objectives.Denoising(),
        epochs=1,
        batch_size=1336,
    )
    with pytest.raises(ValueError, match="hold no examples out"):
        train.fit(experiment)


@pytest.mark.parametrize("fields", [{"sigma": 0.0}, {"radii": ()}, {"radii": (-0.1,)}])
def test_bad_suites(fields):
    with pytest.raises(ValueError, match="sigma" if "sigma" in fields else "radi"):
        suites.Denoising(**fields)


@pytest.mark.long
def test_smoke_runs_learn(repository, tmp_path):
    runs = load_experiment_file(repository / "experiments" / "denoisers.py").runs("smoke")
    assert list(runs) == ["sigma25", "blind"]
    for name, run in runs.items():
        psnr = found(run_experiment(name, run, tmp_path / name))
        assert psnr["denoised", None].low > psnr["noisy", None].high + 1
        assert psnr["ObsAtk", 7 / 255].high < psnr["random", 7 / 255].low
        page = (tmp_path / name / "report.html").read_text()
        assert "under attack" in page
