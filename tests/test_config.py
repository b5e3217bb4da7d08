"""The configuration: what is accepted, and what is refused and how."""

import dataclasses
import datetime
import math

import pytest
import yaml
from helpers.refusals import check_one_line
from helpers.workflow import CLONE

from svae.config.data import Conversion
from svae.config.resolve import Configuration, resolve
from svae.config.schema import config_schema
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
HUGE = 1 << 20_000  # more digits than Python prints


def resolved(text, working=CLONE, base=MINIMAL):
    """The configuration of YAML `text`, whose top-level keys replace those of `base`."""
    return resolve({**base, **yaml.safe_load(text)}, working)


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
