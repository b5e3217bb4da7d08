"""A short training in its own process, for tests/test_gpu.py; prints one JSON object.

python tests/helpers/gpu_job.py '{"gpu": ..., "steps": ..., "tf32": ..., settings...}'

A GPU of null means the CPU.
"""

import hashlib
import json
import sys

from svae.jobs import devices

request = json.loads(sys.argv[1])
gpu, steps, tf32 = (request.pop(key) for key in ("gpu", "steps", "tf32"))
line = devices.set_up(gpu, threads=1, device="auto" if gpu is None else "gpu")

import tensorflow as tf  # noqa: E402

from helpers.builders import make_images, make_step  # noqa: E402

tf.config.experimental.enable_tensor_float_32_execution(tf32)
take_step = make_step(batch_size=32, latent_maps=16, learning_rate=1e-4, **request)
compiled = tf.function(take_step, jit_compile=take_step.model.settings.jit_compile)
losses = []
for number in range(steps):
    images = tf.constant(make_images(32, seed=number % 4))
    losses.append(float(compiled(images, tf.constant(number, tf.int64))["loss"]))
bits = b"".join(variable.numpy().tobytes() for variable in take_step.variables)
visible = tf.config.get_visible_devices("GPU")
weight = take_step.model.trainable_variables[0].value
print(
    json.dumps(
        {
            "line": line,
            "losses": losses,
            "sha256": hashlib.sha256(bits).hexdigest(),
            "gpus": len(visible),
            "weights_on": weight.device,
            "growth": [tf.config.experimental.get_memory_growth(one) for one in visible],
            "peak_mb": tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6
            if visible
            else 0,
        }
    )
)
