"""Are two single-threaded trainings side by side faster than two in turn with two threads each?

    python benchmarks/threads.py [--rounds 3] [--steps 60]

Trains low_rank on 32x32x3 noise in processes of their own, both ways in turn, and prints the images
per second of both and their ratio, round by round. Start-up and tracing are not counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

WORKER = """
import sys, time
threads, steps = int(sys.argv[1]), int(sys.argv[2])
from svae import devices
devices.set_up(None, threads)
import numpy as np
import tensorflow as tf
from svae.model import SpatialVAE
from svae.settings.training import TrainingSettings
settings = TrainingSettings(
    posterior="low_rank",
    latent_maps=64,
    latent_size=3,
    dropout=0.1,
    objective="weighted",
    kl_weight=5.3,
    decoder_variance=None,
    decoder_variance_learning_rate=None,
    beta=1.0,
    kl_warmup_epochs=0.0,
    epochs=1,
    batch_size=100,
    learning_rate=1e-3,
    learning_rate_schedule="constant",
    learning_rate_warmup_epochs=0.0,
    gradient_clip_norm=None,
    early_stopping_patience=None,
    precision="float32",
    jit_compile=False,
    image_memory_mb=1000,
    threads=threads,
)
model = SpatialVAE((32, 32, 3), 0, settings, 0)
model.compile_for(steps, 0.3)
images = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), np.uint8)
batches = tf.data.Dataset.from_tensors(images).repeat()
fit = lambda n: model.fit(batches, steps_per_epoch=n, verbose=0, shuffle=False)
fit(5)
print("ready", flush=True)
sys.stdin.readline()
fit(steps)
print("done", flush=True)
"""


def images_per_second(threads: int, together: int, turns: int, steps: int) -> float:
    """`turns` times `together` trainings at once, each of `steps` batches of 100."""
    seconds = 0.0
    for _ in range(turns):
        command = [sys.executable, "-c", WORKER, str(threads), str(steps)]
        workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(together)
        ]
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        start = time.monotonic()
        for worker in workers:
            worker.stdin.write("\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout.readline() == "done\n"
        seconds += time.monotonic() - start
        for worker in workers:
            worker.communicate()
    return turns * together * steps * 100 / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    ratios = []
    for _ in range(arguments.rounds):
        beside = images_per_second(1, together=2, turns=1, steps=arguments.steps)
        in_turn = images_per_second(2, together=1, turns=2, steps=arguments.steps)
        ratios.append(beside / in_turn)
        print(f"side by side {beside:.0f} images/s, in turn {in_turn:.0f} images/s", flush=True)
    print(json.dumps({"ratio_side_by_side_to_in_turn": statistics.median(ratios)}))


if __name__ == "__main__":
    main()
