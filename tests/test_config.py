"""The configuration: what is accepted, what is refused and how, and its consistency."""

import ast
import dataclasses
import datetime
import json
import math
import os
import re
import subprocess
import sys

import pytest
import yaml
from helpers import snakemakes
from helpers.refusals import check_one_line
from helpers.workflow import CLONE
from jsonschema import Draft202012Validator

from svae.config.check import checked
from svae.config.command_line import check_command_line
from svae.config.data import Conversion
from svae.config.resolve import Configuration, resolve
from svae.config.schema import SECTIONS, config_schema, editor_schema
from svae.config.yaml_file import config_file, replacement_note
from svae.datasets.catalogue import catalogue
from svae.errors import UserError
from svae.jobs.neutral import without_neutral
from svae.scores.registry import scores
from svae.settings.fetch import FetchSettings
from svae.settings.figure import FigureSettings
from svae.settings.parzen import ParzenSettings
from svae.settings.sampling import SamplingSettings
from svae.settings.services import Services
from svae.settings.training import TrainingSettings

KEYS = config_schema()["properties"]
VARIANT = KEYS["variants"]["additionalProperties"]["properties"]
DEFAULTS = yaml.safe_load((CLONE / "config.yaml").read_text())
MINIMAL = {"dataset": "mnist_5k", "variants": {"mvn": {"posterior": "mvn"}}}
HEADER = "Error in the configuration"
HUGE = 1 << 20_000  # more digits than Python prints


def resolved(text, working=CLONE, base=MINIMAL):
    """The configuration of YAML `text`, whose top-level keys replace those of `base`."""
    return resolve({**base, **yaml.safe_load(text)}, working)


def snakemake(folder, *arguments):
    """A dry run of the clone in a working directory; returns the exit code and the output."""
    done = snakemakes.snakemake(dry_run(folder, *arguments), folder, os.environ)
    return done.returncode, done.stdout + done.stderr


def dry_run(folder, *arguments):
    return ["-n", "-s", CLONE / "Snakefile", "--directory", folder, *arguments]


# What is refused --------------------------------------------------------------------------------

# YAML whose top-level keys replace those of MINIMAL, and what the message must contain.
TWO = "variants: {naive: {posterior: naive}, mvn: {posterior: mvn}}}"
WRONG = {
    # of the schema
    "typo of a data set": ("dataset: cifra10", ["dataset is 'cifra10'", "did you mean cifar10?"]),
    "unknown data set": ("dataset: coco", ["dataset is 'coco'", "one of mnist_5k, mnist, cifar10"]),
    "data set in capitals": ("dataset: CIFAR10", ["did you mean cifar10?"]),
    "data set in a list": ("dataset: [cifar10]", ["dataset is a list", "mnist_5k, mnist, cifar10"]),
    "no data set": ("dataset:", ["dataset is empty", "one of mnist_5k, mnist, cifar10"]),
    "typo of a key": ("sampling: {n_sample: 9}", ["sampling.n_sample;", "did you mean n_samples?"]),
    "typo of a section": ("trainng: {epochs: 3}", ["unknown key trainng", "mean training?"]),
    "unknown key": (
        "figure: {dpi: 300}",
        ["key figure.dpi", "known here: columns, seeds, training_images"],
    ),
    "key without its section": ("epochs: 5", ["key epochs", "did you mean training.epochs?"]),
    "key in another section": (
        "model: {batch_size: 5}",
        ["unknown key model.batch_size", "training.batch_size or sampling.batch_size?"],
    ),
    "key in a section": (
        "training: {seeds: [1]}",
        ["training.seeds", "mean figure.seeds or seeds at the top level?"],
    ),
    "wrong type": ("training: {epochs: many}", ["training.epochs is 'many'", "a whole number"]),
    "fraction": ("training: {epochs: 2.5}", ["training.epochs is 2.5", "a whole number"]),
    "boolean": ("model: {dropout: yes}", ["model.dropout is true", "a number of at least 0"]),
    "negative": ("training: {epochs: -5}", ["training.epochs is -5", "number from 1 to"]),
    "negative as text": ("training: {epochs: '-5'}", ["training.epochs is -5", "number from 1 to"]),
    "above its range": ("model: {dropout: 1}", ["model.dropout is 1", "below 1"]),
    "zero": ("training: {learning_rate: 0}", ["training.learning_rate is 0", "above 0"]),
    "nan": ("training: {beta: .nan}", ["training.beta is nan", "a number of at least 0"]),
    "infinity": ("training: {kl_weight: .inf}", ["training.kl_weight is inf", "above 0"]),
    "1e400": ("training: {beta: 1e400}", ["training.beta is inf", "a number of at least 0"]),
    "huge": (f"training: {{beta: 1{400 * '0'}}}", ["training.beta is 1000", "...; it must be"]),
    "date": ("training: {epochs: 2026-11-22}", ["epochs is 2026-11-22", "a whole number from 1"]),
    "one seed": ("seed: 3", ["unknown key seed", "did you mean seeds?"]),
    "a seed for seeds": ("seeds: 3", ["seeds is 3", "a list", "such as [0, 1, 2]"]),
    "seeds that are none": ("seeds: [0, x]", ["seeds.1 is 'x'", "a whole number from 0 to"]),
    "no seeds": ("seeds: []", ["seeds is", "a list", "one or more"]),
    "equal seeds": ("seeds: [4, 4]", ["seeds is [4, 4]", "different seeds"]),
    "refined without one set": (
        "parzen: {refine: true, protocol: paper}",
        ["parzen.refine is true", "protocol paper", "set it to auto"],
    ),
    "one fresh draw has no spread": (
        "parzen: {fresh_draws: 1}",
        ["parzen.fresh_draws is 1", "none, or at least 2"],
    ),
    "no components": (
        "sampling: {components: 0}",
        ["sampling.components is 0", "from 1 to 1000"],
    ),
    "typo of a prior": (
        "sampling: {prior: normal}",
        ["sampling.prior is", "normal", "one of standard, gaussian, mixture"],
    ),
    "one sample": ("sampling: {n_samples: 1}", ["sampling.n_samples is 1", "from 2 to 10000000"]),
    "statistics of one sample": (
        "sampling: {batch_size: 1, batch_norm: batch}",
        ["sampling.batch_size is 1", "batch_norm batch", "2 or more"],
    ),
    "variance of no decoder": (
        "importance_weighted_bound: {decoder_variance: 0}",
        [
            "importance_weighted_bound.decoder_variance is 0",
            "from_weight, trained, a number above 0",
        ],
    ),
    "a key of an earlier version": (
        "evaluation: {decoder_variance: 0.5}",
        ["evaluation.decoder_variance is now importance_weighted_bound.decoder_variance"],
    ),
    "a section of an earlier version": (
        "evaluation: {}",
        ["evaluation is now importance_weighted_bound and sliced_wasserstein", "rename it"],
    ),
    "empty section": ("training:", ["training is empty", "a mapping"]),
    "number of seeds in the figure": (
        "figure: {seeds: 3}",
        ["figure.seeds is 3", "one of first, all"],
    ),
    "section as text": ("model: vanilla", ["model is 'vanilla'", "a mapping"]),
    "crop as text": ("conversion: {crop: all}", ["conversion.crop is 'all'", "1 to 4096 or null"]),
    "counts as text": ("parzen: {n_valid: Auto}", ["n_valid is 'Auto'", "did you mean auto?"]),
    "unknown protocol": ("parzen: {protocol: papr}", ["parzen.protocol", "did you mean paper?"]),
    "no variants": ("variants: {}", ["variants is empty", "low_rank: {posterior: low_rank}"]),
    "all variants left out": ("variants: {mvn: false}", ["variants is empty"]),
    "list of variants": ("variants: [mvn]", ["variants is a list", "a mapping"]),
    "variant with nothing": ("variants: {low_rank: }", ["variants.low_rank is empty", "posterior"]),
    "variant as text": ("variants: {mvn: mvn}", ["variants.mvn is 'mvn'", "{posterior: vanilla"]),
    "variant switched on": ("variants: {mvn: true}", ["variants.mvn is true", "a mapping"]),
    "variant of zero": ("variants: {mvn: 0}", ["variants.mvn is 0", "a mapping"]),
    "no posterior": ("variants: {a: {}}", ["variants.a.posterior is missing", "vanilla, naive"]),
    "unknown posterior": (
        "variants: {a: {posterior: lowrank}}",
        ["variants.a.posterior is 'lowrank'", "did you mean low_rank?"],
    ),
    "variant with a dash": (
        "variants: {low-rank: {posterior: mvn}}",
        ["variants.low-rank is not a valid variant name", "letters, digits and underscores"],
    ),
    "variant called published": (
        "variants: {published: {posterior: mvn}}",
        ["variants.published is not a valid variant name", "not published"],
    ),
    "key of a variant": (
        "variants: {a: {posterior: mvn, epoch: 3}}",
        ["unknown key variants.a.epoch", "did you mean epochs?"],
    ),
    "variant called on": (
        "variants: {on: {posterior: mvn}}",
        ["key true under variants is not a valid name", "use another name"],
    ),
    "number as a key": ("1: 2", ["key 1 is not a valid name", "use another name"]),
    "null as a key": ("null: 3", ["key null is not a valid name"]),
    "role of no file": ("sources: {cifar10: {train: /x}}", ["sources.cifar10.train", "archive"]),
    "source without key": ("sources: {cifar10: /x}", ["sources.cifar10 is '/x'", "{archive: "]),
    "source of no data set": ("sources: {cifar: {}}", ["sources.cifar;", "did you mean cifar10?"]),
    "bad checksum": (
        "sources: {cifar10: {archive: /x, sha256: c4a3}}",
        ["sources.cifar10.sha256 is 'c4a3'", "64 hexadecimal digits in quotes"],
    ),
    # beyond the schema
    "latent of vanilla": (
        "variants: {v: {posterior: vanilla, latent_size: 3}}",
        ["variants.v.latent_size is 3", "a vector", "remove the key"],
    ),
    "weight of no variant": (
        "variants: {a: {posterior: mvn, kl_weight: low_rnk}, low_rank: {posterior: low_rank}}",
        ["variants.a.kl_weight is 'low_rnk'", "a number above 0", "did you mean low_rank?"],
    ),
    "weight of a variant left out": (
        "variants: {a: {posterior: mvn, kl_weight: b}, b: false, c: {posterior: mvn}}",
        ["variants.a.kl_weight is 'b'", "the name of another variant (c)"],
    ),
    "weight of itself": (
        "variants: {a: {posterior: mvn, kl_weight: a}}",
        ["variants.a.kl_weight is 'a'", "set variants.a.kl_weight to a number or published"],
    ),
    "weights in a circle": (
        "variants: {a: {posterior: mvn, kl_weight: b}, b: {posterior: mvn, kl_weight: c}, "
        "c: {posterior: mvn, kl_weight: a}}",
        ["variants.c.kl_weight is 'a'", "from itself", "a number or published"],
    ),
    "everyone's weight of one": (
        "training: {kl_weight: mvn}",
        ["training.kl_weight is 'mvn'", "set variants.mvn.kl_weight to a number or published"],
    ),
    "weight of an elbo": (
        "variants: {a: {posterior: mvn, kl_weight: b}, b: {posterior: mvn, objective: elbo}}",
        ["variants.a.kl_weight is 'b'", "elbo", "a number or published"],
    ),
    "comparison of one": (
        "{comparisons: [[mvn, naive], [mvn]], " + TWO,
        ["comparisons.1 is 'mvn'", "two different variants, such as [naive, mvn]"],
    ),
    "comparison with itself": (
        "comparisons: [[mvn, mvn]]",
        ["comparisons.0 is 'mvn, mvn'", "two different variants"],
    ),
    "comparison of no variant": (
        "{comparisons: [[mvn, nave]], " + TWO,
        ["comparisons.0 is 'mvn, nave'", "there is no variant nave", "did you mean naive?"],
    ),
    "comparison with a variant left out": (
        "{comparisons: [[mvn, low_rank]], variants: {low_rank: false, mvn: {posterior: mvn}}}",
        ["comparisons.0 is 'mvn, low_rank'", "there is no variant low_rank", "drop the pair"],
    ),
    "comparison asked for twice": (
        "{comparisons: [[mvn, naive], [naive, mvn]], " + TWO,
        ["comparisons.1 is 'naive, mvn'", "asked for twice"],
    ),
    "comparisons in a word": (
        "comparisons: all",
        ["comparisons is 'all'", "auto or a list", "[[mvn, naive]]"],
    ),
    "beta without elbo": ("training: {beta: 4}", ["training.beta is 4", "leave beta at 1"]),
    "beta of a variant": (
        "variants: {a: {posterior: mvn, beta: 0.5}}",
        ["variants.a.beta is 0.5", "use objective elbo"],
    ),
    "crop too large": ("conversion: {crop: 40}", ["conversion.crop is 40", "28x28", "lower it"]),
    "size of no network": (
        "conversion: {size: 30}",
        ["conversion.size: ", "30x30", "that fit: none", "conversion.size to 32, 64 or 128"],
    ),
    "size of no vanilla": (
        "{conversion: {size: 28}, variants: {v: {posterior: vanilla}}}",
        [
            "conversion.size: ",
            "vanilla",
            "28x28",
            "that fit: 6;",
            "conversion.size to 32, 64 or 128",
        ],
    ),
    "latent of no size": (
        "model: {latent_size: 4}",
        ["model.latent_size: ", "32x32", "that fit: 1, 3, 7;"],
    ),
    "maps that cannot be permuted": (
        "{conversion: {size: 24}, model: {latent_size: 2}, variants: {a: {posterior: mvn, "
        "arrangement: permuted}}}",
        ["variants.a.arrangement is permuted", "latent_size 2", "one of those that fit: 5"],
    ),
    "maps of no odd size": (
        "{conversion: {size: 20}, model: {latent_size: 4, arrangement: permuted}, "
        "variants: {a: {posterior: mvn}}}",
        ["model.arrangement is permuted", "none fits 20x20 images", "another arrangement"],
    ),
    "rank of a variant": (
        "variants: {a: {posterior: low_rank, rank: 4}}",
        ["variants.a.rank is 4", "variant a has latent_size 3", "rank 3 at most; lower it"],
    ),
    "rank of all variants": (
        "{model: {rank: 2}, variants: {a: {posterior: mvn}, b: {posterior: low_rank, "
        "latent_size: 1}}}",
        ["model.rank is 2", "variant b has latent_size 1"],
    ),
    "latent of a variant": (
        "variants: {a: {posterior: mvn, latent_size: 5}}",
        ["variants.a.latent_size: ", "32x32", "that fit: 1, 3, 7;"],
    ),
    "batch too large": (
        "training: {batch_size: 5000}",
        ["training.batch_size is 5000", "4000 training images", "lower it"],
    ),
    "batch of a variant": (
        "variants: {a: {posterior: mvn, batch_size: 5000}}",
        ["variants.a.batch_size is 5000", "4000 training images"],
    ),
    "too many valid": (
        "parzen: {n_valid: 501}",
        ["parzen.n_valid is 501", "500 validation images", "lower it or write auto"],
    ),
    "too many valid of the paper": (
        "parzen: {n_valid: 51, protocol: paper}",
        ["parzen.n_valid is 51", "50 test images for each of 10 sigmas", "write auto"],
    ),
    "too many test": ("parzen: {n_test: 501}", ["parzen.n_test is 501", "500 test images"]),
    "too many sigmas of the paper": (
        "parzen: {sigma_count: 251, protocol: paper}",
        ["parzen.sigma_count is 251", "lower it"],
    ),
    "sigmas swapped": (
        "parzen: {sigma_log10_min: 0.5}",
        ["parzen.sigma_log10_min is 0.5, above parzen.sigma_log10_max", "swap them"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration_gives_one_line_with_key_and_remedy(name):
    check_one_line(resolved, *WRONG[name])


@pytest.mark.parametrize(
    ("limit", "changes"),
    [
        ("valid", "parzen: {n_valid: 500}"),
        ("test", "parzen: {n_test: 500}"),
        ("blocks of test", "parzen: {n_valid: 50, protocol: paper}"),
        ("sigmas", "parzen: {sigma_count: 250, protocol: paper}"),
        ("train", "training: {batch_size: 4000}"),
        ("equal sigmas", "parzen: {sigma_log10_min: 0}"),
        ("crop", "conversion: {crop: 28, size: 32}"),
    ],
)
def test_all_images_may_be_used(limit, changes):
    assert isinstance(resolved(changes), Configuration)


def test_counts_are_checked_for_the_users_own_source_too(tmp_path):
    (tmp_path / "own.tar.gz").touch()
    text = "{dataset: cifar10, parzen: {n_valid: %d}, sources: {cifar10: {archive: own.tar.gz}}}"
    assert resolved(text % 5000, tmp_path).parzen.n_valid == 5000
    with pytest.raises(UserError, match=r"parzen\.n_valid is 5001, but cifar10 has 5000"):
        resolved(text % 5001, tmp_path)


@pytest.mark.parametrize("batch_norm", ["moving", "batch"])
def test_batch_statistics_need_equal_batches(batch_norm):
    text = f"sampling: {{n_samples: 250, batch_size: 100, batch_norm: {batch_norm}}}"
    if batch_norm == "moving":
        assert resolved(text).sampling.n_samples == 250
    else:
        with pytest.raises(UserError, match=r"n_samples is 250, not a multiple of .*100"):
            resolved(text)


@pytest.mark.parametrize(
    ("section", "prior", "fitted", "statistics"),
    [
        ("{}", ("standard", 1, False), False, False),
        ("{components: 7}", ("standard", 1, False), False, False),
        ("{prior: gaussian}", ("gaussian", 1, False), True, False),
        ("{prior: mixture}", ("mixture", 50, False), True, False),
        ("{prior: mixture, components: 7}", ("mixture", 7, False), True, False),
        ("{batch_norm: prior}", ("standard", 1, True), False, True),
        ("{prior: gaussian, batch_norm: prior}", ("gaussian", 1, True), True, True),
    ],
)
def test_what_samples_take_from_a_fitted_prior(section, prior, fitted, statistics):
    """Components count with a mixture only. Samples without any of it have the settings that they
    had before there were priors to fit."""
    config = resolved(f"sampling: {section}")
    assert dataclasses.astuple(config.prior) == prior
    assert config.prior.needed == (fitted or statistics)
    assert config.sampling.fitted_prior is fitted
    assert config.sampling.prior_statistics is statistics
    compared = without_neutral(dataclasses.asdict(config.sampling), SamplingSettings)
    assert ("fitted_prior" in compared, "prior_statistics" in compared) == (fitted, statistics)
    if not config.prior.needed:
        assert list(compared) == ["n_samples", "batch_size", "batch_norm"]


def test_what_is_resolved_is_no_setting():
    for name in ("fitted_prior", "prior_statistics"):
        with pytest.raises(UserError, match=f"unknown key sampling.{name}"):
            resolved(f"sampling: {{{name}: true}}")


def test_many_problems_are_counted():
    text = (
        "{dataset: x, device: x, model: {dropout: x, latent_maps: x}, training: {epochs: x}, y: 1}"
    )
    with pytest.raises(UserError) as caught:
        resolved(text)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert lines[-1] == "... and 3 more"


def test_everything_missing_is_named_once():
    with pytest.raises(UserError) as caught:
        resolve({}, CLONE)
    assert [line.split()[0] for line in str(caught.value).splitlines()] == ["dataset", "variants"]


STRANGE_KEYS = [
    "none",
    1,
    True,
    None,
    2.5,
    HUGE,
    datetime.date(2026, 11, 22),
    "a\nb",
    "",
    9 * "long",
]
ODD = [
    *(None, True, False, 0, -1, 1.5, 10**30, 10**400, HUGE, -HUGE, math.nan, -math.inf),
    *("", "x", "true", "nan", "1_0", "9" * 5000, "two\nlines", "\0", "/" + "x" * 5000, b"\xff"),
    *([], [[1], {}], [HUGE], {}, {"x": {"y": []}}, {None: [HUGE]}, {HUGE: 1}, {"a", "b"}),
    *(datetime.date(2026, 11, 22), {"archive": "\0"}, {"x" * 5000: {"posterior": "mvn"}}),
]


def paths(section):
    """Every key in a section, and unusual ones."""
    yield (section,)
    yield from ((section, key) for key in [*KEYS[section].get("properties", {}), *STRANGE_KEYS])
    if section == "sources":
        yield from ((section, "cifar10", key) for key in ("archive", "sha256", *STRANGE_KEYS))
    if section == "variants":
        yield from ((section, "a", key) for key in [*VARIANT, *STRANGE_KEYS])


@pytest.mark.parametrize("section", KEYS)
def test_any_value_gives_at_most_a_short_user_error(section):
    for path in [*paths(section), *((key,) for key in STRANGE_KEYS)]:
        for value in ODD:
            raw = {
                "dataset": "cifar10",
                "variants": {"a": {"posterior": "mvn"}},
                "sources": {"cifar10": {"archive": "http://localhost/x"}},
            }
            inner = raw
            for key in path[:-1]:
                inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                continue
            inner[path[-1]] = value
            try:
                assert isinstance(resolve(raw, CLONE), Configuration)
            except UserError as error:
                lines = str(error).splitlines()
                assert 1 <= len(lines) <= 4
                assert all(0 < len(line) < 500 for line in lines), lines


# The file ---------------------------------------------------------------------------------------

BAD_FILES = {
    "empty": (b"", ["config.yaml is empty", "write settings"]),
    "comments": (b"# dataset: mnist_5k\n", ["config.yaml is empty"]),
    "list": (b"- dataset: mnist_5k\n", ["config.yaml contains a list", "KEY: VALUE"]),
    "text": (b"dataset=mnist_5k\n", ["config.yaml contains 'dataset=mnist_5k'", "KEY: VALUE"]),
    "number": (b"5\n", ["config.yaml contains 5", "KEY: VALUE"]),
    "tab": (b"training:\n\tepochs: 5\n", ["config.yaml, line 2", "indent with spaces"]),
    "syntax": (b"dataset: mnist_5k\nmodel: {latent_maps: 4\n", ["config.yaml, line 3", "correct"]),
    "duplicate": (
        b"seed: 1\ndataset: mnist_5k\nseed: 2\n",
        ["line 3: duplicate key seed", "remove one"],
    ),
    "duplicate within": (
        b"model:\n  dropout: 0\n  dropout: 0\n",
        ["line 3: duplicate key dropout"],
    ),
    "unhashable": (b"[a, b]: 3\n", ["config.yaml, line 1", "unhashable key"]),
    "tag": (b"seed: !!python/name:os.system\n", ["config.yaml, line 1", "could not determine"]),
    "binary": (bytes(range(256)), ["config.yaml is not UTF-8 text", "save it"]),
    "zeros": (b"seed: 1\0\n", ["config.yaml is not YAML", "special characters"]),
    "no such date": (b"seed: 2026-13-41\n", ["config.yaml is not YAML", "month"]),
    "huge": (b"seed: 0x" + 9999 * b"f", ["config.yaml, ", "thousands of digits"]),
    "nested": (9999 * b"[", ["config.yaml is not YAML", "recursion"]),
    "circle": (b"model: &m {model: *m}\n", ["alias", "write the value itself"]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_without_a_configuration(name, tmp_path):
    content, expected = BAD_FILES[name]
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        config_file(tmp_path, CLONE)
    assert "\n" not in str(caught.value)
    for part in expected:
        assert part in str(caught.value)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(UserError, match=r"config\.yaml is not a regular file"):
        config_file(tmp_path, CLONE)


def test_the_working_directory_takes_precedence_over_the_clone(tmp_path):
    working, clone = tmp_path / "working", tmp_path / "clone"
    for folder in (working, clone):
        folder.mkdir()
    with pytest.raises(UserError, match="restore it with: git checkout"):
        config_file(working, clone)
    for folder in (clone, working):
        (folder / "config.yaml").write_text("{dataset: mnist_5k, same: {seed: 1}, seed: 2}")
        assert config_file(working, clone) == folder / "config.yaml"


def test_merge_keys_are_not_duplicates(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("model: &a {dropout: 0, latent_maps: 2}\nother: {<<: *a, dropout: 1}\n")
    assert config_file(tmp_path, CLONE) == path


# What is accepted -------------------------------------------------------------------------------


def test_the_configuration_as_shipped():
    config = resolve(DEFAULTS, CLONE)
    assert config.dataset == catalogue()["mnist_5k"]
    assert list(config.variants) == ["vanilla", "naive", "mvn", "low_rank", "vanilla_matched"]
    assert config.conversion == Conversion(None, None, 1, {}, "stop")
    assert (config.sources, config.seeds) == ({}, (0,))
    assert (config.device, config.threads) == ("auto", "auto")
    assert (config.fetch, config.figure) == (FetchSettings(), FigureSettings())
    assert (config.services, config.sampling) == (Services(), SamplingSettings())
    assert config.parzen == ParzenSettings()
    assert config.scores == {
        name: score.settings and score.settings() for name, score in scores().items()
    }
    low_rank = config.variants["low_rank"]
    assert low_rank == TrainingSettings(
        posterior="low_rank", low_rank_start="published", kl_weight=784 / 576
    )
    # The defaults that matter most for a first run.
    assert (low_rank.latent_maps, low_rank.latent_size, low_rank.dropout) == (64, 3, 0.1)
    assert (low_rank.objective, low_rank.decoder_variance) == ("weighted", None)
    assert (low_rank.epochs, low_rank.batch_size, low_rank.learning_rate) == (25, 100, 0.003)
    assert (low_rank.learning_rate_schedule, low_rank.initialization) == ("cosine", "data")


def test_missing_settings_are_as_shipped():
    shipped = resolve(DEFAULTS, CLONE)
    only = {"dataset": DEFAULTS["dataset"], "variants": DEFAULTS["variants"]}
    assert resolve(only, CLONE) == shipped


def types(settings):
    return {key: type(value) for key, value in dataclasses.asdict(settings).items()}


def test_a_number_has_one_type_however_it_is_written():
    """Otherwise 1 and 1.0 for the same setting would be different trainings to Snakemake."""
    one = resolved("{training: {epochs: 3.0, beta: 1, threads: '2'}, parzen: {n_valid: 50.0}}")
    two = resolved("{training: {epochs: '3', beta: 1.0, threads: 2}, parzen: {n_valid: '50'}}")
    assert one == two
    for a, b in ((one.variants["mvn"], two.variants["mvn"]), (one.parzen, two.parzen)):
        assert types(a) == types(b)
    assert type(one.parzen.n_valid) is int
    conversion = resolved("conversion: {crop: 16.0, size: '32'}").conversion
    assert (type(conversion.crop), type(conversion.size)) == (int, int)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("training: {learning_rate: 1e-3}", 0.001),
        ("training: {learning_rate: '0.01'}", 0.01),
        ("variants: {mvn: {posterior: mvn, learning_rate: '1e-2'}}", 0.01),
    ],
)
def test_numbers_may_be_given_as_text(text, value):
    assert resolved(text).variants["mvn"].learning_rate == value


@pytest.mark.parametrize("text", ["null", "~", "''", "'null'", ""])
def test_null_may_be_given_as_text(text):
    assert resolved(f"conversion: {{crop: {text}, size: 32}}").conversion.crop is None


@pytest.mark.parametrize("text", ["false", "'false'", "'False'", "no"])
def test_a_variant_can_be_removed(text):
    variants = resolved(f"variants: {{mvn: {{posterior: mvn}}, naive: {text}}}").variants
    assert list(variants) == ["mvn"]


def test_a_variant_overrides_model_and_training():
    config = resolved(
        "{model: {latent_maps: 32, dropout: 0.2}, training: {epochs: 7, kl_weight: 3}, variants: {"
        "a: {posterior: mvn}, "
        "vanilla_wide: {posterior: vanilla, latent_maps: 576, epochs: 2, kl_weight: 5}, "
        "b: {posterior: naive, latent_size: 7, dropout: 0, objective: elbo, beta: 4, "
        "decoder_variance: 0.5}}}"
    )
    a, wide, b = config.variants.values()
    assert (a.latent_maps, a.latent_size, a.dropout, a.epochs, a.kl_weight) == (32, 3, 0.2, 7, 3)
    assert (wide.latent_maps, wide.latent_size, wide.epochs, wide.kl_weight) == (576, 1, 2, 5)
    assert (b.latent_size, b.dropout, b.epochs) == (7, 0, 7)
    assert (b.objective, b.beta, b.decoder_variance, b.kl_weight) == ("elbo", 4, 0.5, None)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        # D / (N d^2): 28 x 28 pixels of one channel, not the 32 x 32 that the networks see.
        ("variants: {a: {posterior: vanilla}, b: {posterior: mvn}}", [784 / 64, 784 / 576]),
        ("{dataset: cifar10, variants: {a: {posterior: naive}}}", [3072 / 576]),
        ("{conversion: {size: 64}, variants: {a: {posterior: vanilla}}}", [4096 / 64]),
        (
            "{dataset: cifar10, conversion: {crop: 24}, model: {latent_size: 2}, "
            "variants: {a: {posterior: mvn, latent_maps: 10}}}",
            [24 * 24 * 3 / 40],
        ),
        # By name, through another name, and changing with that variant's own settings.
        (
            "variants: {a: {posterior: vanilla, kl_weight: b}, b: {posterior: naive, kl_weight: c},"
            " c: {posterior: low_rank, latent_maps: 8, latent_size: 7}}",
            [2.0, 2.0, 2.0],
        ),
        (
            "{training: {kl_weight: b}, variants: {a: {posterior: vanilla}, "
            "b: {posterior: mvn, kl_weight: 0.25}}}",
            [0.25, 0.25],
        ),
        # A warm-up of the weight, and another variant with elbo.
        (
            "variants: {a: {posterior: mvn, kl_weight: '2', kl_warmup_epochs: 5}, "
            "b: {posterior: mvn, objective: elbo, kl_weight: a}}",
            [2.0, None],
        ),
    ],
)
def test_kl_weight(text, weights):
    variants = resolved(text).variants.values()
    assert [variant.kl_weight for variant in variants] == pytest.approx(weights)


def test_a_rank_is_one_of_low_rank_only():
    """A change of it therefore reruns no other variant."""
    variants = resolved(
        "{model: {rank: 3}, variants: {a: {posterior: low_rank}, b: {posterior: mvn}, "
        "c: {posterior: vanilla}, d: {posterior: low_rank, rank: 2}}}"
    ).variants
    assert [variant.rank for variant in variants.values()] == [3, 1, 1, 2]
    recorded = [
        without_neutral(dataclasses.asdict(variant), TrainingSettings).get("rank")
        for variant in variants.values()
    ]
    assert recorded == [3, None, None, 2]


def test_identical_trainings_are_named(caplog):
    resolve({**DEFAULTS, "training": {"objective": "elbo"}}, CLONE)
    assert [record.message for record in caplog.records] == [
        "variants vanilla and vanilla_matched are identical trainings (objective elbo); "
        "remove one with variants: {vanilla_matched: false}"
    ]
    caplog.clear()
    resolve(DEFAULTS, CLONE)
    assert not caplog.records


# Consistency ------------------------------------------------------------------------------------


def default_of(schema):
    """The value of a key that is not given."""
    if "properties" in schema and schema["default"] == {}:
        return {name: inner["default"] for name, inner in schema["properties"].items()}
    return schema["default"]


SETTABLE = [name for name in DEFAULTS if name not in ("dataset", "sources", "variants")]


@pytest.mark.parametrize("section", SETTABLE)
def test_config_yaml_has_the_defaults(section):
    """It may omit settings; those in it have their defaults, and are in the order of the fields."""
    default, named = default_of(KEYS[section]), DEFAULTS[section]
    if not isinstance(default, dict):
        assert named == default
        return
    assert named == {name: value for name, value in default.items() if name in named}
    assert list(named) == [name for name in default if name in named]


def test_config_yaml_names_every_section():
    assert set(DEFAULTS) == set(KEYS)


def test_config_yaml_explains_every_setting():
    lines = (CLONE / "config.yaml").read_text().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if re.match(r" *\w+: \S", line) and not re.match(r"  \w+: {posterior", line):
            assert "# " in line or before.lstrip().startswith("#"), line


def test_the_schema_describes_every_key_and_allows_no_other():
    def walk(schema):
        assert schema.get("description"), schema
        if schema.get("type") == "object":
            other = schema["additionalProperties"]
            inner = schema.get("properties", {})
            assert other is False or not inner
            for part in [*inner.values(), *([other] if other else [])]:
                walk(part)

    walk(config_schema())


@pytest.mark.parametrize("section", SECTIONS)
def test_every_default_is_allowed(section):
    defaults = default_of(KEYS[section])
    assert checked({**MINIMAL, section: defaults}, config_schema())[section] == defaults
    for field in dataclasses.fields(SECTIONS[section].settings):
        if "resolved" not in field.metadata:
            assert type(defaults[field.name]) is type(field.default)


def test_a_variant_may_override_every_setting_of_model_and_training():
    settings = {field.name for field in dataclasses.fields(TrainingSettings)}
    assert set(VARIANT) == settings
    assert {*KEYS["model"]["properties"], *KEYS["training"]["properties"], "posterior"} == settings


def test_the_schema_for_editors_is_up_to_date():
    path = CLONE / "config.schema.json"
    assert json.loads(path.read_text()) == editor_schema(), "out of date; run: make schema"
    first = (CLONE / "config.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={path.name}"


@pytest.mark.parametrize(
    ("content", "accepted"),
    [
        (DEFAULTS, True),
        ({"training": {"epochs": 3}}, True),
        ({"variants": {"mvn": False, "a": {"posterior": "naive", "epochs": 3}}}, True),
        ({"variants": {"a": {"epochs": 3}}}, False),
        ({"training": {"epoch": 3}}, False),
        ({"training": {"epochs": 0}}, False),
        ({"dataset": "coco"}, False),
    ],
)
def test_the_schema_for_editors_accepts_partial_files(content, accepted):
    assert Draft202012Validator(editor_schema()).is_valid(content) == accepted


def literal(module, name):
    """The names in a constant of a module that is too heavy to import here."""
    for node in ast.parse((CLONE / "svae" / module).read_text()).body:
        match node:
            case (
                ast.Assign(targets=[target], value=value)
                | ast.AnnAssign(target=target, value=value)
            ):
                found = ast.unparse(target) == name
            case _:
                found = False
        if found:
            parts = value.keys if isinstance(value, ast.Dict) else value.elts
            return [part.value for part in parts]
    raise AssertionError(f"{module} has no {name}")


def test_the_schema_knows_the_choices():
    protocol = KEYS["parzen"]["properties"]["protocol"]
    assert protocol["enum"] == literal("scores/parzen_window.py", "PROTOCOLS")


def test_the_configuration_imports_nothing_heavy():
    heavy = ("tensorflow", "keras", "h5py", "numpy", "scipy", "matplotlib")
    modules = "svae.config.resolve, svae.config.yaml_file"
    code = f"import sys, {modules}; print([n for n in {heavy} if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr


# Through Snakemake ------------------------------------------------------------------------------

OWN_LINES = re.compile(
    r"^(Using workflow specific profile|Config file .* is extended by) .*\n", re.M
)
# Cases that Snakemake itself might handle wrongly; the messages are tested above.
THROUGH_SNAKEMAKE = [
    "unknown data set",
    "typo of a key",
    "boolean",
    "nan",
    "empty section",
    "no variants",
    "variant with a dash",
    "variant called on",
    "number as a key",
    "null as a key",
    "weights in a circle",
]


def check_message(code, text, expected):
    assert code != 0
    assert "Traceback" not in text
    lines = OWN_LINES.sub("", text).strip().splitlines()
    assert lines[0].startswith(HEADER), text
    assert 2 <= len(lines) <= 5, text
    for part in expected:
        assert part in text


@pytest.mark.workflow
@pytest.mark.parametrize("name", THROUGH_SNAKEMAKE)
def test_snakemake_stops_with_one_message(name, tmp_path):
    text, expected = WRONG[name]
    content = {**MINIMAL, **yaml.safe_load(text)}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    code, output = snakemake(tmp_path)
    check_message(code, output, [*expected, str(path)])
    assert not (tmp_path / "runs").exists()


@pytest.mark.workflow
@pytest.mark.parametrize("name", ["empty", "list", "tab", "duplicate", "binary", "huge", "circle"])
def test_snakemake_stops_at_a_file_without_a_configuration(name, tmp_path):
    content, expected = BAD_FILES[name]
    (tmp_path / "config.yaml").write_bytes(content)
    check_message(*snakemake(tmp_path), expected)


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["training={epochs: -5}"], ["training.epochs is -5;", "number from 1 to"]),
        (["training={epochs: 5, learning_rate: fast}"], ["training.learning_rate is 'fast'"]),
        (["epochs=5"], ["unknown key epochs", "did you mean training.epochs?"]),
        (["variants=mvn"], ["variants is 'mvn'", "a mapping"]),
        (["training="], ["training is empty"]),
        (
            ["variants={low_rank: false}"],
            ["variants.vanilla_matched.kl_weight is 'low_rank'", "(vanilla, naive, mvn)"],
        ),
    ],
)
def test_snakemake_stops_at_a_wrong_command_line(arguments, expected, tmp_path):
    check_message(*snakemake(tmp_path, "--config", *arguments), expected)


@pytest.mark.workflow
@pytest.mark.parametrize("option", ["--default-resources", "--set-resources"])
def test_snakemake_stops_at_a_partition_named_like_a_function(option, tmp_path):
    resource = "slurm_partition=all"
    code, output = snakemake(
        tmp_path, option, f"train:{resource}" if option == "--set-resources" else resource
    )
    (line,) = OWN_LINES.sub("", output).strip().splitlines()
    assert code == 1 and line.startswith(f"Error in {option}: {resource}")
    assert line.endswith("\"slurm_partition='all'\"")


@pytest.mark.workflow
def test_a_forked_snakemake_does_the_same_as_the_command(tmp_path):
    (tmp_path / "config.yaml").write_text("dataset: coco")
    arguments = dry_run(tmp_path)
    command = [sys.executable, "-m", "snakemake", *arguments]
    started = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    forked = snakemakes.snakemake(arguments, tmp_path, os.environ)
    assert "dataset is 'coco'" in started.stderr and started.returncode == 1
    for part in ("returncode", "stdout", "stderr"):
        assert getattr(forked, part) == getattr(started, part)


def planned_runs(code, text):
    assert code == 0, text
    return set(re.findall(r"runs/(\S+?)/run\.json", text))


SHIPPED = ["vanilla", "naive", "mvn", "low_rank", "vanilla_matched"]


@pytest.mark.workflow
def test_a_folder_without_a_configuration_uses_that_of_the_clone(tmp_path):
    runs = planned_runs(*snakemake(tmp_path))
    assert runs == {f"mnist_5k/{name}/seed-0" for name in SHIPPED}


@pytest.mark.workflow
def test_a_configuration_in_the_working_directory_is_used(tmp_path):
    (tmp_path / "own.tar.gz").touch()
    content = {**MINIMAL, "dataset": "cifar10", "seeds": [7]}
    content["sources"] = {"cifar10": {"archive": "own.tar.gz"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    assert planned_runs(*snakemake(tmp_path)) == {"cifar10/mvn/seed-7"}


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"model:\n  dropout: 0\n  dropout: 0\n", "other.yaml, line 3: duplicate key dropout"),
        (b'{"seeds": [1], "seeds": [2]}', "other.yaml, line 1: duplicate key seeds"),
        (b"name: caf\xe9\n", "other.yaml is not UTF-8 text"),
    ],
)
def test_snakemake_stops_before_it_reads_a_wrong_second_file(content, expected, tmp_path):
    (tmp_path / "fine.yaml").write_text("seeds: [3]\n")
    (tmp_path / "other.yaml").write_bytes(content)
    code, text = snakemake(tmp_path, "--configfile", "fine.yaml", "other.yaml")
    assert code and len(OWN_LINES.sub("", text).strip().splitlines()) == 1, text
    assert f"Error: {expected}" in text


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_second_file_is_read_by_the_rules_of_the_first(name, tmp_path):
    content, expected = BAD_FILES[name]
    (tmp_path / "config.yaml").write_bytes(content)
    arguments = ["-n", "--configfile", str(tmp_path / "config.yaml"), "--cores", "2"]
    check_one_line(check_command_line, arguments, expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--configfile", "/dev/null"], ["/dev/null is not a regular file"]),
        (["--configfiles", "."], [". is not a regular file"]),
        (["--configfile=none.yaml"], ["none.yaml cannot be read (No such file or directory)"]),
        (["--configfile", "a.yaml", "-n", "--configfile", "b.yaml"], ["2 times", "only the last"]),
        (["-C", "seeds=[1]", "--config", "name=b"], ["--config is given 2 times"]),
        (["--config", "seeds=[1]", "seeds=[2]"], ["duplicate key seeds"]),
        (["--config", "training={epochs: 5, epochs: 6}"], ["--config training, line 1: duplicate"]),
        (["--config", "model={}", "variants={a: {d: 1, d: 2}}"], ["--config variants", "key d"]),
        (["--config", "training.epochs=5"], ["'training.epochs=5'", "'training={epochs: 5}'"]),
        (["--config", "name=b", "all"], ["--config has 'all'", "before --config"]),
        (["--config", "=5"], ["--config has '=5'"]),
    ],
)
def test_what_snakemake_would_drop_or_not_read_is_one_line(arguments, expected):
    check_one_line(check_command_line, arguments, expected)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-n", "all", "--config", "a1=1", "training={epochs: 5, kl_weight: 1}", "b1=[{", "c1="],
        ["-C", "name=it's: {a, b", "--configfile", str(CLONE / "config.yaml"), "--", "all"],
        ["--config", "--configfile", str(CLONE / "config.yaml"), "-s", "Snakefile", "--unknown=2"],
    ],
)
def test_a_command_line_that_snakemake_reads_whole(arguments):
    check_command_line(arguments)


@pytest.mark.parametrize(
    "text",
    [
        "{model: {latent_size: 1}, variants: {a: {posterior: vanilla}, b: {posterior: low_rank}}}",
        "model: {latent_size: 1, latent_maps: 1}",
        "{sampling: {n_samples: 2}, parzen: {fresh_draws: 0, n_test: 2}}",
        "seeds: [2147483647]",
        "training: {batch_size: 4000, epochs: 1}",  # all training images
        "{conversion: {max_images: 600}, parzen: {n_test: 500}}",
    ],
)
def test_numbers_at_the_edge_are_allowed(text):
    resolved(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("variants: {mvn: {posterior: mvn}, MVN: {posterior: naive}}", ["MVN", "mvn", "case"]),
        ("sampling: {n_samples: 1}", ["sampling.n_samples is 1", "from 2"]),
        ("parzen: {n_test: 501}", ["parzen.n_test is 501", "500 test images"]),
        ("training: {batch_size: 4001}", ["training.batch_size is 4001", "4000 training images"]),
        ("conversion: {max_images: 19}", ["conversion.max_images is 19", "at least 20"]),
        ("conversion: {max_images: 99}", ["training.batch_size is 100", "max_images 99", "99 tr"]),
        (
            "{conversion: {max_images: 60}, training: {batch_size: 9}, parzen: {n_test: 61}}",
            ["parzen.n_test is 61", "max_images 60", "at most 60 test images"],
        ),
        (
            "{conversion: {max_images: 600}, parzen: {n_valid: 501}}",
            ["parzen.n_valid is 501", "at most 500 validation images"],
        ),
    ],
)
def test_numbers_beyond_the_edge_are_one_line(text, expected):
    check_one_line(resolved, text, expected)


@pytest.mark.parametrize(
    ("content", "noted"),
    {
        "only settings": ({"training": {"epochs": 2}}, True),
        "no variants": ({"dataset": "mnist_5k"}, True),
        "no data set": ({"variants": MINIMAL["variants"]}, True),
        "an override of a variant": ({**MINIMAL, "variants": {"mvn": {"epochs": 3}}}, True),
        "complete": ({**MINIMAL, "training": {"epochs": 0}}, False),
        "a removed variant": ({**MINIMAL, "variants": {"mvn": False}}, False),
    }.values(),
)
def test_a_file_that_lacks_keys_is_said_to_replace_the_clones(content, noted, tmp_path):
    note = replacement_note(content, tmp_path / "config.yaml", CLONE)
    assert (
        "snakemake --configfile NAME.yaml" in note and f"{tmp_path}/config.yaml" in note
    ) == noted
    assert replacement_note(content, CLONE / "config.yaml", CLONE) == ""


@pytest.mark.workflow
def test_the_command_line_takes_precedence_over_files(tmp_path):
    (tmp_path / "other.yaml").write_text(
        "{seeds: [3, 5], variants: {naive: false, "
        "vanilla_wide: {posterior: vanilla, latent_maps: 576}}}\n"
    )
    code, text = snakemake(
        *(tmp_path, "--configfile", "other.yaml", "--config", "dataset=cifar10"),
        *("training={epochs: 5, kl_weight: 2.5}", "variants={mvn: false, low_rank: {epochs: 3}}"),
    )
    names = ["vanilla", "low_rank", "vanilla_matched", "vanilla_wide"]
    assert planned_runs(code, text) == {
        f"cifar10/{name}/seed-{seed}" for name in names for seed in (3, 5)
    }
