"""The settings of a training: as config.yaml has them, and as they are resolved for a variant."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from svae.settings.fields import setting
from svae.settings.model import ModelSection, VariantSection


@dataclass(frozen=True, kw_only=True)
class TrainingSection:
    """The section `training`, whose settings any variant may override."""

    objective: Literal["weighted", "elbo"] = setting("weighted", "what training minimises")
    kl_weight: Literal["published"] | float | Annotated[str, "the name of another variant"] = (
        setting("published", "w of SSE + w KL", exclusive_minimum=0)
    )
    decoder_variance: Literal["optimal", "learned"] | float = setting(
        "optimal", "variance of the Gaussian decoder under objective elbo", exclusive_minimum=0
    )
    decoder_variance_learning_rate: float = setting(
        0.01, "Adam's learning rate for a learned log variance", exclusive_minimum=0, maximum=1
    )
    beta: float = setting(1.0, "weight of the KL in the ELBO", minimum=0)
    kl_warmup_epochs: float = setting(
        0.0, "epochs over which the weight of the KL rises linearly from 0", minimum=0
    )
    epochs: int = setting(25, "passes over the training images", minimum=1, maximum=1_000_000)
    batch_size: int = setting(100, "images in a training step", minimum=2, maximum=1_000_000)
    learning_rate: float = setting(
        0.003, "Adam's learning rate, the largest of its schedule", exclusive_minimum=0, maximum=1
    )
    learning_rate_schedule: Literal["constant", "cosine"] = setting(
        "cosine", "how the learning rate changes after its warm-up; cosine: down to 0"
    )
    learning_rate_warmup_epochs: float = setting(
        1.0, "epochs over which the learning rate rises linearly from 0", minimum=0
    )
    gradient_clip_norm: float | None = setting(
        None, "largest norm of the gradient of the objective divided by D", exclusive_minimum=0
    )
    saturation_penalty: float = setting(
        1.0, "weight of the penalty on pre-tanh activations beyond 3", minimum=0, maximum=1000
    )
    on_spike: Literal["rollback", "stop", "ignore"] = setting(
        "rollback", "what happens after an epoch far worse than the best before it"
    )
    weights: Literal["last", "best"] = setting("last", "the epoch whose weights are taken")
    early_stopping_patience: int | None = setting(
        None, "epochs without a better validation objective after which training stops", minimum=1
    )
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = setting(
        "float32", "arithmetic of the networks"
    )
    jit_compile: bool = setting(False, "whether XLA compiles the training step")
    image_memory_mb: int = setting(
        1000, "memory for training images in MB (1e6 bytes)", minimum=1, maximum=10_000_000
    )
    threads: Literal["auto"] | int = setting(
        "auto", "threads of a training", minimum=1, maximum=256, incidental=True
    )


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(TrainingSection, ModelSection, VariantSection):
    """One variant: everything that determines its weights, except the data, the seed and the code.

    `svae.config.variants` makes it from the sections `model` and `training` and from what the
    variant overrides. A run records it in identity.json and run.json. The settings below are
    resolved: None where they have no effect. Their types have Any instead of this None, because
    code uses such a setting only where it has an effect.
    """

    low_rank_start: Literal["published", "ones"] | Any = None  # only for posterior low_rank
    kl_weight: float | Any = field()  # w; None under elbo
    decoder_variance: Literal["optimal", "learned"] | float | Any = None  # None under weighted
    decoder_variance_learning_rate: float | Any = None  # None unless decoder_variance is learned

    @property
    def takes_best(self) -> bool:
        """Whether the final weights are those of the epoch with the best validation objective."""
        return self.weights == "best" or self.early_stopping_patience is not None
