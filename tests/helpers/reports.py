"""The files that a report is made from, with artificial numbers that all differ."""

import functools
import io
from string import Formatter
from types import SimpleNamespace

import numpy as np
import scipy.stats
from PIL import Image

from svae.jobs.files import write_json
from svae.report.study import Files
from svae.scores.measures import linear_vae, reconstruction
from svae.scores.registry import scores

ATTRIBUTES = {
    "dataset": "waves",
    "title": "Waves, 400 images",
    "source_files": {"archive": "waves.tar.gz"},
    "source_sha256": {"archive": "0f" * 32},
    "source_matches_official": True,
    "source_note": "",
    "crop": None,
    "size": 32,
    "channels": 3,
    "options": {"split": "official"},
    "padding": 0,
    "on_broken_image": "stop",
    "broken_images": 0,
    "broken_image_names": [],
    "split_rule": "fixed shuffle",
    "software": {"python": "3.11", "h5py": "3.12"},
    "counts": {"train": 300, "valid": 60, "test": 40},
    "checksum": "ab" * 32,
}
LICENSE = "CC0-1.0, but for the foam"
CONFIG = {"dataset": "waves", "seeds": [0], "variants": {"vanilla": {"posterior": "vanilla"}}}
VARIANTS = ["vanilla", "naive", "mvn", "low_rank", "vanilla_matched"]
PLOTS = ("sigma_curves", "paired_differences", "score_against_kl_weight", "kl_per_map")
GRIDS = ("reconstructions", "interpolations", "neighbours", "dataset", "comparison")
NO_VARIANCE = "the objective SSE + w KL defines no density of images; give a variance"


def make_arguments(
    folder, variants=VARIANTS, seeds=(0,), objective="weighted", comparisons=None, **changes
):
    """Write the files of all runs below `folder`; the keyword arguments of `svae.report.write`.

    Runs differ in every number. changes: records, baselines or the name of a score -> entries laid
    over every such file.
    """
    rng = np.random.default_rng(0)
    records, per_images, paths = [], {}, {}
    for index, name in enumerate(variants):
        for seed in seeds:
            run = folder / f"runs/waves/{name}/seed-{seed}"
            (run / "scores").mkdir(parents=True)
            values = rng.normal(-400 + 20 * index + seed, 9, 40)
            record = _record(name, seed, objective, rng) | changes.get("records", {})
            write_json(run / "run.json", record)
            records.append(run / "run.json")
            of_images = _of_images(record, values, rng)
            for score, content in _scores(record, of_images, rng).items():
                path = run / f"scores/{score}.json"
                write_json(path, content | changes.get(score, {}))
                paths.setdefault(score, []).append(path)
                if scores()[score].measures:
                    arrays = path.with_name(f"{score}_per_image.npz")
                    np.savez(arrays, **of_images.get(score, {}))
                    per_images.setdefault(score, []).append(arrays)
    baselines = folder / "runs/waves/baselines/baselines.json"
    write_json(baselines, _baselines(rng) | changes.get("baselines", {}))
    results = folder / "results"
    results.mkdir()
    figures = {}
    for name in (*PLOTS, "rate_distortion", "training_curves", *GRIDS):
        figures[name] = _png(results / f"{name}.png", 2000, 900 if name in PLOTS else 1400)
    samples = {name: _png(results / f"samples_{name}.png", 320, 320) for name in variants}
    return {
        "files": Files(
            list(variants), list(seeds), comparisons, records, paths, per_images, baselines
        ),
        "attributes": ATTRIBUTES,
        "license": LICENSE,
        "config": CONFIG,
        "figures": figures,
        "samples": samples,
        "commit": "c0ffee" * 6 + "1234",
        "changed": False,
    }


def _png(path, width, height):
    path.write_bytes(_content(width, height))
    return path


@functools.cache
def _content(width, height):
    file = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).save(file, "PNG")
    return file.getvalue()


def _numbers(rng, *names, low=1.0, high=50.0):
    return {name: float(rng.uniform(low, high)) for name in names}


def _record(name, seed, objective, rng):
    latent = 1 if name.startswith("vanilla") else 3
    weight = 5.5 if name == "vanilla" else 2.25
    sse = float(rng.uniform(100, 900))
    test = {
        "n_images": 40,
        "sse_per_image": sse,
        "sse_per_image_posterior_mean": 0.9 * sse,
        "mse_per_pixel": sse / 3072,
        **_numbers(rng, "kl_nats_per_image"),
        "active_entries": int(rng.integers(1, 4 * latent**2)),
        "latent_entries": 4 * latent**2,
        "active_maps": int(rng.integers(1, 5)),
        "latent_maps": 4,
        "sse_median": 0.95 * sse,
        "kl_largest_image": int(rng.integers(40)),
        "kl_largest_map": int(rng.integers(4)),
        "saturated_share": float(rng.uniform(0, 9e-6)),
    }
    test["kl_nats_median"] = 0.9 * test["kl_nats_per_image"]
    test["kl_nats_largest"] = 3.1 * test["kl_nats_per_image"]
    # Some below the floor of the chart, like maps without information.
    shares = rng.dirichlet([3.0, 2.0, 1.0]).tolist()
    test["kl_nats_per_map"] = [*(share * test["kl_nats_per_image"] for share in shares), 1e-5]
    if objective == "elbo":
        test |= _numbers(rng, "elbo_nats_per_image")
    return {
        "variant": name,
        "seed": seed,
        "dataset": "waves",
        "settings": {"posterior": "vanilla" if latent == 1 else name, "latent_size": latent},
        "objective": objective,
        "dimension": 3072,
        "kl_weight": weight if objective == "weighted" else float(rng.uniform(0.02, 0.1)),
        "decoder_variance": None if objective == "weighted" else float(rng.uniform(0.01, 0.05)),
        "parameters": int(rng.integers(10_000, 900_000)),
        "epochs": 40,
        "epochs_trained": 40,
        "weights_of_epoch": 40,
        "spikes": [],
        "warnings": [],
        "training_seconds": float(rng.uniform(20, 2000)),
        "device": "running on the CPU",
        "threads": 2,
        "test": test,
        "samples": {"n_samples": 1000, "saturated_share": float(rng.uniform(0, 9e-6))},
        "linear_vae": None,
        "software": {"python": "3.11", "tensorflow": "2.20"},
    }


def _of_images(record, log_likelihood, rng):
    """Score -> name of an array -> its value for every test image."""
    sse = record["test"]["sse_per_image"] + rng.normal(0, 20, 40)
    kl = record["test"]["kl_nats_per_image"] * rng.uniform(0.9, 1.1, 40)
    found = {
        "parzen": {"log_likelihood": log_likelihood},
        "objective": {
            "j": sse + record["kl_weight"] * kl,
            "elbo": 2000 - sse / 0.1 - kl,
            "sse": sse,
            "kl": kl,
        },
    }
    if record["objective"] == "elbo":
        found["importance_weighted_bound"] = {"log_likelihood": 500 + rng.normal(0, 30, 40)}
    return found


def _scores(record, of_images, rng):
    """Score -> the content of its file, for the run of a record."""
    origin = {key: record[key] for key in ("variant", "seed", "dataset")}
    contents = {
        "objective": _objective(record, of_images["objective"], rng),
        "parzen": _parzen(of_images["parzen"]["log_likelihood"], rng),
        "importance_weighted_bound": _bound(of_images.get("importance_weighted_bound"), rng),
        "sliced_wasserstein": _distances(rng),
        "memorisation": _shares(rng),
        "reconstruction": _reconstruction(record),
        "linear_vae": _linear_vae(record, rng),
    }
    for name in scores().keys() - contents.keys():
        contents[name] = _of_columns(scores()[name], rng)
    versions = {"python": "3.11", "numpy": "2.2", "scipy": "1.16"}
    return {name: origin | content | {"software": versions} for name, content in contents.items()}


def _of_columns(score, rng):
    """Any score: a number for every key that a column or the method names."""
    keys = {key for _, key, *_ in Formatter().parse(score.method) if key}
    for column in score.columns:
        keys |= {column.key, column.error, column.of, column.median, column.largest} - {None}
    content = {}
    for key in sorted(keys):
        *outer, last = key.split(".")
        place = content
        for name in outer:
            place = place.setdefault(name, {})
        place[last] = float(rng.uniform(1, 50))
    for column in score.columns:
        if column.each:
            content |= {
                column.each: ["first", "second"],
                column.key: rng.uniform(1, 50, 2).tolist(),
            }
    return content


def _objective(record, of_images, rng):
    test = {"n_images": 40}
    for name, values in of_images.items():
        test |= {name: float(values.mean())}
        test |= {f"{name}_standard_error": float(scipy.stats.sem(values))}
    train = {"n_images": 300, **_numbers(rng, "j", "elbo", "sse", "kl", low=100, high=900)}
    train |= {f"{name}_standard_error": float(rng.uniform(0.1, 1)) for name in of_images}
    return {
        "kl_weight": record["kl_weight"],
        "decoder_variance": 0.05,
        "decoder_variance_from": "mean squared error of the training images",
        "encoder_parameters": int(rng.integers(9_000, 90_000)),
        "decoder_parameters": int(rng.integers(9_000, 90_000)),
        "dimension": 3072,
        "test": test,
        "train": train,
        "j_test_less_train": test["j"] - train["j"],
    }


def _parzen(scores, rng):
    return {
        "protocol": "disjoint",
        "log_likelihood": float(scores.mean()),
        "standard_error": float(scipy.stats.sem(scores)),
        **_numbers(rng, "bits_per_dim", low=7, high=9),
        **_chosen(scores, rng),
        "n_samples": 10_000,
        "n_valid": 60,
        "n_test": 40,
        "dimension": 3072,
        "batch_norm": "moving",
        "dataset_source_note": "",
        "fresh_draws": {
            "n": 3,
            "log_likelihood": list(_numbers(rng, "a", "b", "c").values()),
            **_numbers(rng, "standard_deviation", low=0.1, high=2),
        },
    }


def _chosen(scores, rng):
    """A sigma and the scores that chose it, like those of a Gaussian that is a little wider."""
    sigmas = np.logspace(-1, 0, 10)
    sigma = float(sigmas[rng.integers(1, 9)])
    logs = np.log(sigma * rng.uniform(1, 1.05) / sigmas)
    means = scores.mean() - 1.5 - 30 * (np.exp(2 * logs) - 1 - 2 * logs)
    return {
        "sigma": sigma,
        "refined": False,
        "grid_sigma": sigma,
        "grid_log_likelihood": float(scores.mean()),
        "grid_standard_error": float(scipy.stats.sem(scores)),
        "sigma_grid": sigmas.tolist(),
        "validation_log_likelihood": means.tolist(),
        "validation_log_likelihood_at_sigma": float(means[sigmas.tolist().index(sigma)]),
        "sigma_at_grid_edge": False,
    }


def _bound(of_images, rng):
    if of_images is None:
        return {"refused": NO_VARIANCE}
    values = of_images["log_likelihood"]
    return {
        "log_likelihood": float(values.mean()),
        "standard_error": float(scipy.stats.sem(values)),
        "elbo": float(values.mean()) - 3.0,
        **_numbers(rng, "effective_sample_size", low=1, high=20),
        "bits_per_dim": 5.5,
        "k": 128,
        "n_images": 40,
        "decoder_variance": 0.03,
        "variance_from": "the training set's mean squared error",
        "effective_sample_size_smallest": 1.01,
        "noise_seed": 0,
    }


def _distances(rng):
    return {
        "levels": [32, 16],
        "distance": list(_numbers(rng, "a", "b").values()),
        "floor": list(_numbers(rng, "a", "b", low=0.1, high=1).values()),
        **_numbers(rng, "distance_mean", "floor_mean"),
        **_numbers(
            rng, "distance_mean_standard_error", "floor_mean_standard_error", low=0.1, high=1
        ),
        "n_images": 40,
        "n_parts": 8,
        "unit": "pixel values on [-1, 1], normalised patches",
    }


def _shares(rng):
    shares = ("share_of_samples", "share_of_test_images")
    return {
        **_numbers(rng, *shares, low=0.3, high=0.7),
        **_numbers(rng, *(f"{share}_standard_error" for share in shares), low=0.001, high=0.01),
        **_numbers(rng, "z", "z_of_test_images"),
        "share_if_null": 0.6,
        "share_if_all_were_copies": 1.0,
        "cannot_tell": False,
        "n_samples": 40,
        "n_test": 20,
        "n_train": 60,
        "n_held_out": 40,
    }


def _reconstruction(record):
    return reconstruction.measure(SimpleNamespace(record=record), None)


def _linear_vae(record, rng):
    return {
        "parzen": {
            **_numbers(rng, "log_likelihood", low=-500, high=-300),
            **_numbers(rng, "standard_error", "sigma", low=0.2, high=0.8),
            "sigma_at_grid_edge": False,
            "n_samples": 10_000,
        },
        "kl_weight": 5.5,
        **_numbers(rng, "kl_nats_per_image", "sse_per_image"),
        "active_entries": int(rng.integers(1, 60)),
        "latent_entries": 64,
        "n_fitted": 300,
        "measured": {key: record["test"][key] for key in linear_vae.MEASURED},
    }


def _baselines(rng):
    rows = [
        ("training images", "the images that the models were trained on", None),
        ("k-means centroids", "means of groups of training images, which no image equals", 300),
        ("blurred training images", "training images that every eye tells from real ones", None),
        ("Gaussian", "draws from a normal distribution with the training images' covariance", 300),
    ]
    return {
        "dataset": "waves",
        "rows": [
            {
                "name": name,
                "meaning": meaning,
                "n_fitted": fitted,
                "n_samples": 300 if fitted is None else 10_000,
                **_numbers(rng, "log_likelihood", low=-420, high=-300),
                **_numbers(rng, "standard_error", "sigma", low=0.2, high=0.8),
                "sigma_at_grid_edge": False,
            }
            for name, meaning, fitted in rows
        ],
    }
