"""A list for kl_weight or beta: its variants, what compares them, and what is refused."""

import logging
import os
import re
import shlex

import pytest
import yaml
from helpers import snakemakes
from helpers.refusals import check_one_line
from helpers.workflow import CLONE

from svae.config.resolve import resolve
from svae.config.sweeps import several_weights
from svae.config.variants import options_without

FOUR = "kl_weight: [16, 5.333, 1, 0.25]"
TWO = "{naive: {posterior: naive, kl_weight: [16, 1]}, mvn: {posterior: mvn, kl_weight: [1, 4]}"


def resolved(text):
    base = {"dataset": "mnist_5k", "variants": {"mvn": {"posterior": "mvn"}}}
    return resolve({**base, **yaml.safe_load(text)}, CLONE)


def members(config):
    return {name: dict(family.members) for name, family in config.families.items()}


def test_a_list_makes_a_variant_of_each_number():
    config = resolved(f"variants: {{naive: {{posterior: naive, {FOUR}}}, mvn: {{posterior: mvn}}}}")
    names = ["naive_w16", "naive_w5.333", "naive_w1", "naive_w0.25"]
    assert list(config.variants) == [*names, "mvn"]
    weights = [config.variants[name].kl_weight for name in names]
    assert weights == [16, 5.333, 1, 0.25]
    assert members(config) == {"naive": dict(zip(names, weights, strict=True))}


def test_they_are_the_same_trainings_as_spelled_by_hand():
    swept = resolved("variants: {a: {posterior: low_rank, rank: 2, kl_weight: [16, '2e-3']}}")
    by_hand = resolved(
        "variants: {b: {posterior: low_rank, rank: 2, kl_weight: 16.0}, "
        "c: {posterior: low_rank, rank: 2, kl_weight: 0.002}}"
    )
    assert repr(list(swept.variants.values())) == repr(list(by_hand.variants.values()))
    assert not by_hand.families
    swept = resolved("variants: {a: {posterior: mvn, objective: elbo, beta: [4, 0.5]}}")
    assert list(swept.variants) == ["a_beta4", "a_beta0.5"]
    by_hand = resolved(
        "{training: {objective: elbo}, variants: {b: {posterior: mvn, beta: 4}, "
        "c: {posterior: mvn, beta: 0.5}}}"
    )
    assert repr(list(swept.variants.values())) == repr(list(by_hand.variants.values()))


def test_a_list_for_all_variants_is_for_those_without_an_own_value():
    config = resolved(
        "{training: {kl_weight: [2, 1]}, variants: {a: {posterior: mvn}, "
        "b: {posterior: naive, kl_weight: 3}, c: {posterior: naive, objective: elbo}, "
        "d: {posterior: vanilla, kl_weight: a}, e: {posterior: vanilla, kl_weight: d_w2}}}"
    )
    weights = {name: settings.kl_weight for name, settings in config.variants.items()}
    assert weights == {"a_w2": 2, "a_w1": 1, "b": 3, "c": None, "d_w2": 2, "d_w1": 1, "e": 2}
    assert list(weights) == ["a_w2", "a_w1", "b", "c", "d_w2", "d_w1", "e"]
    assert members(config) == {"a": {"a_w2": 2, "a_w1": 1}, "d": {"d_w2": 2, "d_w1": 1}}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("16", "16"),
        ("16.0", "16"),
        ("'16'", "16"),
        ("0.1", "0.1"),
        ("5.333333333333333", "5.333333333333333"),
        ("1.0e-5", "1e-05"),
        ("1.0e+20", "1e20"),
        ("123456789", "123456789"),
    ],
)
def test_names_are_plain_and_exact(given, name):
    config = resolved(f"variants: {{a: {{posterior: mvn, kl_weight: [{given}]}}}}")
    ((member, value),) = config.families["a"].members.items()
    assert member == f"a_w{name}"
    assert float(name) == value == config.variants[member].kl_weight


def test_two_families_are_compared_at_equal_weight():
    config = resolved(
        f"{{variants: {TWO}, c: {{posterior: vanilla}}}}, comparisons: [[naive, mvn]]}}"
    )
    assert config.comparisons == (("naive_w1", "mvn_w1"),)
    config = resolved(
        f"{{variants: {TWO}, c: {{posterior: vanilla}}}}, comparisons: [[naive_w16, c]]}}"
    )
    assert config.comparisons == (("naive_w16", "c"),)


WRONG = {
    "empty": ("training: {kl_weight: []}", ["training.kl_weight is []", "one or more different"]),
    "duplicate": (
        "training: {kl_weight: [4, 1, 4.0]}",
        ["training.kl_weight is [4, 1, 4.0]", "different numbers"],
    ),
    "a word in it": (
        "variants: {a: {posterior: mvn, kl_weight: [published, 1]}}",
        ["variants.a.kl_weight is a list", "one or more different numbers"],
    ),
    "zero in it": ("training: {kl_weight: [1, 0]}", ["kl_weight is [1, 0]", "a number above 0"]),
    "below zero in it": (
        "training: {objective: elbo, beta: [1, -1]}",
        ["training.beta is [1, -1]", "a number of at least 0 or a list"],
    ),
    "beta without elbo": (
        "training: {beta: [1, 2]}",
        ["training.beta is [1.0, 2.0]", "mvn has objective weighted", "set kl_weight instead"],
    ),
    "beta of a variant without elbo": (
        "variants: {a: {posterior: mvn, beta: [1, 2], kl_weight: [1, 2]}}",
        ["variants.a.beta is [1.0, 2.0]", "objective weighted"],
    ),
    "weights under elbo": (
        "variants: {a: {posterior: mvn, objective: elbo, kl_weight: [1, 2], beta: [1, 2]}}",
        ["variants.a.kl_weight is [1.0, 2.0]", "objective elbo", "set beta instead"],
    ),
    "used by none": (
        "{training: {kl_weight: [1, 2]}, variants: {a: {posterior: mvn, kl_weight: 1}}}",
        ["training.kl_weight is [1.0, 2.0]", "no variant uses it"],
    ),
    "name of another variant": (
        "variants: {a_w2: {posterior: mvn}, a: {posterior: mvn, kl_weight: [2, 1]}}",
        ["variants.a.kl_weight makes a variant a_w2", "rename one of the two"],
    ),
    "name of a later variant": (
        "variants: {a: {posterior: mvn, kl_weight: [2, 1]}, a_w1: {posterior: mvn}}",
        ["variants.a.kl_weight makes a variant a_w1", "another one of this name"],
    ),
    "family against a variant": (
        f"{{variants: {TWO}, c: {{posterior: vanilla}}}}, comparisons: [[c, naive]]}}",
        ["comparisons.0 is 'c, naive'", "naive (naive_w16, naive_w1)", "name one of its members"],
    ),
    "family against its member": (
        f"{{variants: {TWO}}}, comparisons: [[naive, naive_w1]]}}",
        ["comparisons.0 is 'naive, naive_w1'", "naive (naive_w16, naive_w1)"],
    ),
    "families without a common weight": (
        "{variants: {a: {posterior: mvn, kl_weight: [1]}, b: {posterior: mvn, kl_weight: [2]}}, "
        "comparisons: [[a, b]]}",
        ["comparisons.0 is 'a, b'", "share no kl_weight", "a (a_w1) and b (b_w2)"],
    ),
    "families by different settings": (
        "{variants: {a: {posterior: mvn, kl_weight: [1]}, "
        "b: {posterior: mvn, objective: elbo, beta: [1]}}, comparisons: [[a, b]]}",
        ["share no kl_weight", "a (a_w1) and b (b_beta1)"],
    ),
    "pair that two families make again": (
        f"{{variants: {TWO}}}, comparisons: [[mvn_w1, naive_w1], [naive, mvn]]}}",
        ["comparisons.1 is 'naive, mvn'", "asked for twice"],
    ),
    "no such variant": (
        f"{{variants: {TWO}}}, comparisons: [[nave, mvn]]}}",
        ["there is no variant nave", "did you mean naive?"],
    ),
    "weight of a family by beta": (
        "variants: {a: {posterior: mvn, objective: elbo, beta: [1, 2]}, "
        "b: {posterior: mvn, kl_weight: a}}",
        ["variants.b.kl_weight is 'a'", "a_beta1, a_beta2"],
    ),
    "another key of the variant": (
        "variants: {a: {posterior: low_rank, rank: 4, kl_weight: [1, 2]}}",
        ["variants.a.rank is 4", "lower it"],
    ),
    "latent of the variant": (
        "variants: {a: {posterior: mvn, latent_size: 5, kl_weight: [1, 2]}}",
        ["variants.a.latent_size: ", "that fit: 1, 3, 7;"],
    ),
    "weights in a circle": (
        "variants: {a: {posterior: mvn, kl_weight: b}, b: {posterior: mvn, kl_weight: a}}",
        ["from itself"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_list_gives_one_line_with_key_and_remedy(name):
    check_one_line(resolved, *WRONG[name])


def test_identical_members_are_named(caplog):
    caplog.set_level(logging.WARNING)
    resolved(
        "variants: {a: {posterior: vanilla, kl_weight: [1, 2]}, "
        "b: {posterior: vanilla, kl_weight: [2, 3]}}"
    )
    assert [record.message for record in caplog.records] == [
        "variants a_w2 and b_w2 are identical trainings (objective weighted); remove one with "
        "variants: {b: false}, or take its kl_weight out of the list"
    ]


@pytest.mark.parametrize(
    ("text", "several"),
    [
        ("variants: {a: {posterior: naive}, b: {posterior: mvn}}", False),
        ("variants: {a: {posterior: naive}, b: {posterior: vanilla}}", True),
        ("variants: {a: {posterior: naive}, b: {posterior: vanilla, kl_weight: a}}", False),
        ("training: {kl_weight: [1]}", False),
        ("training: {kl_weight: [1, 2]}", True),
        # Under the ELBO, w is twice the decoder's variance, here equal to the other's w.
        (
            "{training: {kl_weight: 2}, variants: {a: {posterior: mvn}, b: {posterior: mvn, "
            "objective: elbo, decoder_variance: 0.5, beta: 2}}}",
            False,
        ),
        ("{training: {objective: elbo, decoder_variance: 0.5, beta: [1, 2]}}", True),
        ("{training: {objective: elbo}}", False),
        (
            "{training: {objective: elbo}, variants: {a: {posterior: mvn}, b: {posterior: naive}}}",
            True,
        ),
    ],
)
def test_whether_there_are_several_weights(text, several):
    assert several_weights(resolved(text).variants) == several


def planned(folder, *arguments):
    """The output of a dry run of the clone."""
    options = ["-n", "-s", CLONE / "Snakefile", "--directory", folder]
    done = snakemakes.snakemake([*options, *arguments], folder, os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.workflow
def test_members_are_targets_on_the_command_line(tmp_path):
    given = ("--config", "training={kl_weight: [16, 1, 0.25]}")
    text = planned(tmp_path, "results/parzen_naive_w0.25.json", *given)
    assert set(re.findall(r"runs/(\S+?)/run\.json", text)) == {"mnist_5k/naive_w0.25/seed-0"}
    assert re.search(r"^train +1$", text, re.MULTILINE)
    everything = planned(tmp_path, *given)
    runs = set(re.findall(r"runs/mnist_5k/(\S+?)/seed-0/run\.json", everything))
    names = ("vanilla", "naive", "mvn", "low_rank", "vanilla_matched")
    assert runs == {f"{name}_w{w}" for name in names for w in ("16", "1", "0.25")}
    assert "identical trainings" in everything  # vanilla_matched now is vanilla


@pytest.mark.workflow
@pytest.mark.parametrize(("weight", "shown"), [("published", True), ("2", False)])
def test_the_figure_is_made_where_there_is_more_than_one_weight(tmp_path, weight, shown):
    text = planned(tmp_path, "--config", f"training={{kl_weight: {weight}}}")
    assert bool(re.search(r"^rate_distortion +1$", text, re.MULTILINE)) == shown
    assert re.search(r"^report +1$", text, re.MULTILINE)


# Without the variants that failed -----------------------------------------------------------------

MVN = "{posterior: mvn}"


def overlaid(base, changes):
    """As Snakemake does with --config."""
    both = base.keys() & changes.keys()
    inner = {
        key: overlaid(base[key], changes[key])
        for key in both
        if isinstance(base[key], dict) and isinstance(changes[key], dict)
    }
    return base | changes | inner


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        (f"variants: {{a: {MVN}, b: {MVN}}}", {"b"}),
        (f"variants: {{a: {MVN}, b: {{posterior: naive, kl_weight: a}}, c: {MVN}}}", {"a"}),
        (f"variants: {{a: {MVN}, b: {{posterior: mvn, kl_weight: a}}, c: {MVN}}}", {"a", "c"}),
        (f"{{comparisons: [[a, b]], variants: {{a: {MVN}, b: {MVN}, c: {MVN}}}}}", {"b"}),
        (f"variants: {TWO}}}", {"naive_w16"}),
        (f"variants: {TWO}}}", {"naive_w16", "naive_w1"}),
        (f"variants: {TWO}, c: {{posterior: mvn, kl_weight: mvn}}}}", {"mvn_w4"}),
        (f"variants: {TWO}, c: {{posterior: mvn, kl_weight: mvn_w4}}}}", {"mvn_w4"}),
        (
            "{training: {kl_weight: a}, variants: {a: {posterior: mvn, kl_weight: 3}, "
            "b: {posterior: mvn}}}",
            {"a"},
        ),
        (f"variants: {{gone: false, a: {MVN}, b: {{posterior: mvn, rank: 1, beta: 1}}}}", {"a"}),
    ],
)
def test_the_options_without_some_variants_leaves_the_others_as_they_are(text, failed):
    raw = {"dataset": "mnist_5k", **yaml.safe_load(text)}
    config = resolve(raw, CLONE)
    options = options_without(raw, config.variants, config.families, failed)
    option, *given = shlex.split(options)
    assert option == "--config"
    changes = {
        key: yaml.safe_load(value) for key, _, value in (each.partition("=") for each in given)
    }
    kept = resolve(overlaid(raw, changes), CLONE).variants
    expected = {name: own for name, own in config.variants.items() if name not in failed}
    assert kept == expected != {}
