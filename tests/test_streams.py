"""No two streams of random numbers start from the same state."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from svae.datasets import splits
from svae.model import keyed_random
from svae.streams import Stream, generator, words

REPOSITORY = Path(__file__).parents[1]
# Small numbers, which equal members and counts of indices, and the largest ones.
NUMBERS = [0, 1, 2, 3, splits.SEED, 2**32 - 1]
INDICES = [found for count in range(4) for found in itertools.product(NUMBERS, repeat=count)]


# The orders of a training have a fixed number of indices, and epochs below 2^31.
COUNTS = {Stream.EPOCH_ORDER: 1, Stream.WINDOW_ORDER: 2}


def places(most):
    """Seed, member and up to `most` indices, in all combinations that a member accepts."""
    for seed, stream, indices in itertools.product(NUMBERS, Stream, INDICES):
        if stream in COUNTS:
            if len(indices) == COUNTS[stream] and max(indices) < 2**31:
                yield seed, stream, indices
        elif len(indices) <= most:
            yield seed, stream, indices


def state(seed, stream, *indices):
    return str(generator(seed, stream, *indices).bit_generator.state["state"])


def test_no_two_members_give_the_same_generator_whatever_their_indices():
    found = [*places(2)]
    starts = {state(seed, stream, *indices) for seed, stream, indices in found}
    assert len(starts) == len(found)


def test_entropies_differ_even_with_zeros_appended():
    """SeedSequence takes the words of a list as they are, with zeros after the last one, and mixes
    them. So the lists must differ in a word, and no word may be one that it would split."""
    found = [words(*place) for place in places(3)]
    longest = max(map(len, found))
    padded = {tuple(each + [0] * (longest - len(each))) for each in found}
    assert len(padded) == len(found)
    assert all(0 <= word < 2**32 for each in found for word in each)


def test_orders_of_a_training_are_those_of_before_streams_had_names():
    assert words(5, Stream.EPOCH_ORDER, (7,)) == [5, 7]
    assert words(5, Stream.WINDOW_ORDER, (7, 0)) == [5, 7, 1]


def test_what_numpy_does_not_distinguish():
    """Why the number of indices is one of the words, and why none is 2^32."""

    def start(*entropy):
        return np.random.SeedSequence(entropy).generate_state(4).tolist()

    assert start(7, 1) == start(7, 1, 0)
    assert start(2**32, 1) == start(0, 1, 1)
    stream = Stream.PRIOR_LATENTS
    assert len({state(7, stream), state(7, stream, 0), state(7, stream, 0, 0)}) == 3


@pytest.mark.parametrize("wrong", [(-1,), (2**32,), (0, -1), (0, 0, 2**32)])
def test_numbers_above_32_bits_are_refused(wrong):
    seed, *indices = wrong
    with pytest.raises(ValueError, match=r"DROPOUT.*out of range"):
        generator(seed, Stream.DROPOUT, *indices)


def test_epochs_that_could_equal_another_stream_are_refused():
    with pytest.raises(ValueError, match=r"EPOCH_ORDER.*out of range"):
        generator(0, Stream.EPOCH_ORDER, 2**31)


def test_no_two_members_give_the_same_key_whatever_the_counter():
    counters = [*range(50), 2**31, 2**40]
    keys = {
        tuple(keyed_random.key(seed, stream, counter).numpy().tolist())
        for seed, stream, counter in itertools.product([0, 1, 2], Stream, counters)
    }
    assert len(keys) == 3 * len(Stream) * len(counters)
    of_tensor = keyed_random.key(1, Stream.DROPOUT, tf.constant(5))
    np.testing.assert_array_equal(of_tensor, keyed_random.key(1, Stream.DROPOUT, 5))


def test_keys_are_those_of_earlier_trainings():
    for number, stream in enumerate(
        [Stream.TRAINING_LATENTS, Stream.DROPOUT, Stream.EVALUATION_LATENTS]
    ):
        expected = tf.random.experimental.stateless_fold_in([5, number], tf.constant(7, tf.int64))
        np.testing.assert_array_equal(keyed_random.key(5, stream, 7), expected)


def test_the_numbers_of_members_do_not_change():
    numbers = [stream.value for stream in Stream]
    assert numbers == sorted(numbers)  # a new member has the largest; removed ones leave gaps
    first = {
        "DROPOUT": 1,
        "EPOCH_ORDER": 4,
        "PRIOR_LATENTS": 6,
        "BOUND_LATENTS": 10,
        "GAUSSIAN": 22,
    }
    assert {name: Stream[name].value for name in first} == first


def test_no_other_code_makes_random_numbers():
    """Generators and keys are made in one place each; splits and Keras have their own seeds."""
    makers = re.compile(r"np\.random\.\w+\(|default_rng\(|stateless_fold_in\(|set_random_seed\(")
    found = {
        str(path.relative_to(REPOSITORY / "svae"))
        for path in (REPOSITORY / "svae").rglob("*.py")
        if makers.search(path.read_text())
    }
    assert found == {"streams.py", "model/keyed_random.py", "model/vae.py", "datasets/splits.py"}


def test_every_member_is_used():
    texts = "\n".join(
        path.read_text() for path in (REPOSITORY / "svae").rglob("*.py") if path.stem != "streams"
    )
    assert {stream.name for stream in Stream} == set(re.findall(r"Stream\.([A-Z_]+)\b", texts))


def test_streams_import_nothing_heavy():
    code = "import sys, svae.streams; print('numpy' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert run.stdout.strip() == "False", run.stderr
