"""Measures time, memory and error of the Parzen score, relative to its matrix product.

    python benchmarks/parzen.py [--samples 10000] [--valid 1000] [--test 10000] [--side 64]
                                [--rounds 3] [--slice 4] [--error-images 16]
                                [--growth 1000 10000 100000] [--growth-test 1000]
                                [--only-protocol]

The full protocol with the grid only (10 sigmas on the validation images, one of them on the test
images; images are bytes and samples float32 in an HDF5 file) is compared with the plain float32
product of the same size, (valid + test, D) @ (D, samples), in TensorFlow or NumPy, whichever is
faster, and with the protocol whose sigma is then searched for between those of the grid. They take
turns, each in its own process, which waits in between. The target of the search is 25 % more time.

The next part measures, on --slice images and scaled up to all images and sigmas, the published
formula, which computes the differences of all pairs (here in blocks that fit into memory), and
scikit-learn's KernelDensity. Then come the largest errors over all sigmas of the grid, compared
with differences in float64: for ordinary images, exact and near duplicates, samples that are all
equal, and two tight clusters. The last part shows how time and memory grow with the number of
samples, for --growth-test images and one sigma. The target is the time of the product, in 2 GB.

Pictures are smooth fields plus noise. At full size 6 GB of temporary space and 5 GB of memory are
needed; `--samples 1000 --valid 100 --test 1000 --side 32 --growth 500 1000` takes little.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from parzen_pictures import CHUNK, First, make_file
from turns import Worker, peak_mb

THREADS = os.cpu_count() or 1
DIFFERENCES_BYTES = 250e6  # held at once by the published formula


def work(connection: Connection, one_turn: Callable[[], Any]) -> None:
    """The process of a Worker: send one result per turn."""
    connection.send("ready")
    while connection.recv() == "go":
        connection.send(one_turn())
    connection.send(0.0)


def set_up() -> None:
    from svae.jobs import devices

    devices.set_up(None, THREADS)


def seconds_of(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def product(connection: Connection, library: str, n: int, m: int, dimension: int) -> None:
    """Measure seconds of (n, dimension) @ (dimension, m) in float32."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, dimension), np.float32)
    s = rng.standard_normal((m, dimension), np.float32)
    if library == "numpy":
        out = np.empty((n, m), np.float32)
        work(connection, lambda: seconds_of(lambda: np.matmul(x, s.T, out=out)))
        return
    set_up()
    import tensorflow as tf

    x, s = tf.constant(x), tf.constant(s)
    tf.matmul(x[:100], s[:100], transpose_b=True)
    work(connection, lambda: seconds_of(lambda: tf.matmul(x, s, transpose_b=True).numpy()))


def protocol(
    connection: Connection, path: Path, samples: int, valid: int, test: int, refine: bool
) -> None:
    """Measure the complete score: seconds, peak memory of the process, and the result."""
    set_up()
    from svae.scores.parzen_window import score, sigma_grid

    def one_turn() -> dict[str, Any]:
        start = time.perf_counter()
        with h5py.File(path) as file:
            drawn = First(file["samples"], samples)
            result = score(
                drawn,
                file["valid"],
                file["test"],
                sigma_grid(),
                "disjoint",
                valid,
                test,
                refine=refine,
            )
        return {
            "seconds": time.perf_counter() - start,
            "peak_bytes": peak_mb() * 1e6,
            "sigma": result.sigma,
            "log_likelihood": result.log_likelihood,
            "grid_log_likelihood": result.grid_log_likelihood,
        }

    work(connection, one_turn)


def growth(connection: Connection, path: Path, samples: int, test: int) -> None:
    """Measure one sigma, as for the test images: seconds and peak memory."""
    set_up()
    from svae.scores.kernel_density import log_likelihoods

    def one_turn() -> tuple[float, float]:
        with h5py.File(path) as file:
            drawn = First(file["samples"], samples)
            images = First(file["test"], test)
            return seconds_of(lambda: log_likelihoods(images, drawn, [0.3])), peak_mb() * 1e6

    work(connection, one_turn)


def published(connection: Connection, path: Path, samples: int, count: int) -> None:
    """Measure seconds per image and sigma of the published formula: differences of all pairs."""
    set_up()
    import tensorflow as tf

    with h5py.File(path) as file:
        x = tf.constant(file["test"][:count].reshape(count, -1) / np.float32(127.5) - 1, tf.float32)
        s = tf.constant(file["samples"][:samples].reshape(samples, -1))
    sigma, dimension = 0.3, x.shape[1]
    block = max(1, int(DIFFERENCES_BYTES / (4 * count * dimension)))

    def one_turn() -> float:
        exponents = []
        for start in range(0, samples, block):
            a = (x[:, None] - s[None, start : start + block]) / sigma
            exponents.append(-0.5 * tf.reduce_sum(a * a, axis=2))
        total = tf.reduce_logsumexp(tf.concat(exponents, axis=1), axis=1) - np.log(samples)
        return (total - dimension * np.log(sigma * np.sqrt(2 * np.pi))).numpy()

    work(connection, lambda: seconds_of(one_turn) / count)


def scikit_learn(connection: Connection, path: Path, samples: int, count: int) -> None:
    """Measure seconds per image and sigma of KernelDensity, after fitting."""
    from sklearn.neighbors import KernelDensity

    with h5py.File(path) as file:
        x = file["test"][:count].reshape(count, -1) / 127.5 - 1
        density = KernelDensity(bandwidth=0.3).fit(file["samples"][:samples].reshape(samples, -1))
    work(connection, lambda: seconds_of(lambda: density.score_samples(x)) / count)


def errors(connection: Connection, path: Path, samples: int, count: int) -> None:
    """Return, by case, the largest difference from brute force over `count` images, all sigmas."""
    set_up()
    from svae.scores.kernel_density import log_likelihoods
    from svae.scores.parzen_window import sigma_grid

    with h5py.File(path) as file:
        images = file["test"][:count]
        drawn = file["samples"][:samples]
    rng = np.random.default_rng(1)
    count = len(images)
    test = (images / np.float32(127.5) - 1).astype(np.float32)

    def near(rows: np.ndarray, noise: float) -> np.ndarray:
        return rows + noise * rng.standard_normal(rows.shape, np.float32)

    def clusters(noise: float) -> np.ndarray:
        return near(test[np.arange(samples) % 2], noise)

    few = count // 4 + 1
    copies = np.concatenate([drawn[:few], *(near(drawn[:few], e) for e in (1e-4, 1e-3, 1e-2))])
    near_test = drawn.copy()
    near_test[: 3 * count : 3] = near(test, 1e-3)[: len(near_test[: 3 * count : 3])]
    near_test[1 : 3 * count : 3] = test[: len(near_test[1 : 3 * count : 3])]
    cases = {
        "ordinary": (images, drawn),
        "images that are (nearly) samples": (copies[:count], drawn),
        "samples (nearly) test images": (images, near_test),
        "samples around one": (images, near(np.broadcast_to(drawn[:1], drawn.shape), 0.1)),
        "samples all equal": (images, np.broadcast_to(drawn[:1], drawn.shape).copy()),
        "two clusters of equal samples": (test, clusters(0)),
        "two clusters, noise 1e-3": (test, clusters(1e-3)),
        "two clusters, noise 1e-2": (test, clusters(1e-2)),
    }
    sigmas = sigma_grid()

    def brute_force(x: np.ndarray, s: np.ndarray) -> np.ndarray:
        x = x / np.float32(127.5) - np.float32(1) if x.dtype == np.uint8 else x
        columns = []
        for image in x.reshape(len(x), -1).astype(np.float64):
            d2 = []
            for start in range(0, len(s), CHUNK):
                difference = s[start : start + CHUNK].reshape(-1, image.size) - image
                d2.append(np.einsum("ij,ij->i", difference, difference))
            exponents = -np.concatenate(d2) / (2 * sigmas[:, None] ** 2)
            top = exponents.max(axis=1)
            columns.append(top + np.log(np.exp(exponents - top[:, None]).mean(axis=1)))
        return np.transpose(columns) - 0.5 * image.size * np.log(2 * np.pi * sigmas[:, None] ** 2)

    def one_turn() -> dict[str, list[float]]:
        return {
            name: np.abs(log_likelihoods(x, s, sigmas) - brute_force(x, s)).max(axis=1).tolist()
            for name, (x, s) in cases.items()
        }

    work(connection, one_turn)


def once(target: Callable[..., None], *arguments: Any) -> Any:
    """Take one turn in a separate process."""
    worker = Worker(target, *arguments)
    result = worker.turn()
    worker.end()
    return result


def measure(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure products and protocol in turns; ratios are medians over the rounds."""
    n, m, dimension = options.valid + options.test, options.samples, 3 * options.side**2
    whole, refined = (
        Worker(protocol, path, m, options.valid, options.test, refine) for refine in (False, True)
    )
    products = {name: Worker(product, name, n, m, dimension) for name in ("tensorflow", "numpy")}
    seconds: dict[str, list[float]] = {name: [] for name in products}
    protocols, searches = [], []
    for _ in range(options.rounds):
        seconds["tensorflow"].append(products["tensorflow"].turn())
        protocols.append(whole.turn())
        searches.append(refined.turn())
        seconds["numpy"].append(products["numpy"].turn())
        print(
            f"product by TensorFlow {seconds['tensorflow'][-1]:.2f} s, by numpy "
            f"{seconds['numpy'][-1]:.2f} s; protocol with the grid "
            f"{protocols[-1]['seconds']:.2f} s, with the search {searches[-1]['seconds']:.2f} s",
            flush=True,
        )
    for worker in (whole, refined, *products.values()):
        worker.end()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    library = min(medians, key=medians.__getitem__)
    print(
        f"the faster product is {library}'s, {2e-9 * n * m * dimension / medians[library]:.0f} "
        f"GFLOP/s; sigma {protocols[0]['sigma']:.3f}, {protocols[0]['log_likelihood']:.2f} nats; "
        f"by the search {searches[0]['sigma']:.4f}, {searches[0]['log_likelihood']:.2f} nats"
    )
    return {
        "ratio_to_matrix_product": statistics.median(
            one["seconds"] / bare for one, bare in zip(protocols, seconds[library], strict=True)
        ),
        "peak_rss_bytes": int(max(one["peak_bytes"] for one in protocols)),
        "ratio_of_search_to_grid": statistics.median(
            search["seconds"] / grid["seconds"]
            for search, grid in zip(searches, protocols, strict=True)
        ),
        "gain_of_search_nats": searches[0]["log_likelihood"] - searches[0]["grid_log_likelihood"],
        "protocol_seconds": statistics.median(one["seconds"] for one in protocols),
        "matrix_product_seconds": medians[library],
        "matrix_product_by": library,
        **{f"matrix_product_{name}_seconds": median for name, median in medians.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--valid", type=int, default=1000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=64, help="of the pictures, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slice", type=int, default=4, help="images scored by the slow ways")
    parser.add_argument("--error-images", type=int, default=16)
    parser.add_argument("--growth", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--growth-test", type=int, default=1000)
    parser.add_argument(
        "--only-protocol", action="store_true", help="leave out all but the first part"
    )
    options = parser.parse_args()
    m = options.samples
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.h5"
        make_file(
            path,
            m if options.only_protocol else max(m, *options.growth, 0),
            options.valid,
            max(options.test, options.growth_test if options.growth else 0),
            options.side,
        )
        result = measure(path, options)
        if options.only_protocol:
            print(json.dumps(result))
            return

        evaluations = 10 * options.valid + options.test
        for name, target in (("published_formula", published), ("scikit_learn", scikit_learn)):
            each = once(target, path, m, options.slice)
            result[f"{name}_seconds_per_image_and_sigma"] = each
            result[f"{name}_seconds_scaled_up"] = each * evaluations
            result[f"ratio_{name}_to_this"] = each * evaluations / result["protocol_seconds"]
            print(
                f"{name}: {each:.2f} s an image and sigma, measured on {options.slice} images; "
                f"scaled up to {evaluations}: {each * evaluations / 3600:.1f} h",
                flush=True,
            )

        found = once(errors, path, m, options.error_images)
        for name, by_sigma in found.items():
            listed = " ".join(f"{error:.1e}" for error in by_sigma)
            print(f"error by sigma, {name}: {listed} nats", flush=True)
        result["max_abs_error_nats"] = max(map(max, found.values()))

        result["growth"] = []
        for count in options.growth:
            seconds, peak = once(growth, path, count, options.growth_test)
            result["growth"].append(
                {"samples": count, "seconds": seconds, "peak_rss_bytes": int(peak)}
            )
            print(
                f"{count} samples, {options.growth_test} images, one sigma: {seconds:.2f} s, "
                f"{peak / 1e9:.2f} GB",
                flush=True,
            )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
