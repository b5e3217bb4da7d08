"""The initial outputs of the decoder compared with NumPy's mean and standard deviation."""

import h5py
import numpy as np
import pytest
from helpers.builders import make_images, make_model

from svae.training.initialization import start_outputs

SHAPE = (32, 32, 3)
EDGE = np.tanh(2)


def pixels(images):
    """atanh(x), clipped to [-2, 2]: float64 (n, channel)."""
    x = images.astype(np.float64) / 127.5 - 1
    return np.arctanh(np.clip(x, -EDGE, EDGE)).reshape(-1, images.shape[-1])


@pytest.mark.parametrize("n", [1, 300])
@pytest.mark.parametrize("channels", [1, 3])
def test_scale_and_shift_follow_the_images(n, channels, tmp_path):
    shape = (*SHAPE[:2], channels)
    images = make_images(n, shape)
    images[..., 0] //= 3  # channels differ
    model = make_model(shape)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        start_outputs(model, file.create_dataset("train", data=images))
    last = model.decoder.blocks[-1].batch_norm
    a = pixels(images)
    np.testing.assert_allclose(last.gamma, a.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(last.beta, a.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_nothing_else_is_set():
    model = make_model()
    before = model.get_weights()
    start_outputs(model, make_images())
    changed = [np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert sum(changed) == 2


def test_black_and_white_give_finite_values_and_flat_images_a_scale():
    model = make_model()
    last = model.decoder.blocks[-1].batch_norm
    images = np.zeros((4, *SHAPE), np.uint8)
    start_outputs(model, images)
    np.testing.assert_allclose(last.gamma, 0.1)
    np.testing.assert_allclose(last.beta, -2, rtol=1e-6)
    images[2:] = 255
    start_outputs(model, images)
    np.testing.assert_allclose(last.gamma, 2, rtol=1e-6)
    np.testing.assert_allclose(last.beta, 0, atol=1e-6)


def test_outputs_start_with_the_mean_and_spread_of_the_images():
    model, images = make_model(), make_images(64)
    start_outputs(model, images)
    z = np.random.default_rng(0).normal(size=(64, *model.latent_shape)).astype(np.float32)
    a = model.preactivation(z, batch_statistics=True).numpy().reshape(-1, 3)
    wanted = pixels(images)
    np.testing.assert_allclose(a.mean(axis=0), wanted.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(a.std(axis=0), wanted.std(axis=0), rtol=1e-2)
