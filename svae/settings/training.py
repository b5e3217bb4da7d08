"""The settings of a training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSettings:
    """One variant: its model, its objective, its training. All that decides its weights but the
    data, the seed and the code."""

    posterior: str  # vanilla, naive, mvn, low_rank
    latent_maps: int  # N
    latent_size: int  # d
    low_rank_start: str | None  # of posterior low_rank: published (nu = 0) or ones; else None
    log_var_limit: float | None  # above it log variances grow slowly; None: nowhere
    initialization: str  # of the last layers of both networks: published or data
    dropout: float  # probability of dropping a feature behind the encoder's convolutions
    objective: str  # weighted (SSE + w KL) or elbo
    kl_weight: float | None  # w; None under elbo
    decoder_variance: str | float | None  # optimal, learned or a number; None under weighted
    decoder_variance_learning_rate: float | None  # of a learned log variance; else None
    beta: float  # weight of the KL in the ELBO
    kl_warmup_epochs: float  # the KL's weight rises linearly from 0 over these
    epochs: int
    batch_size: int  # images
    learning_rate: float  # of Adam, the largest one of the schedule
    learning_rate_schedule: str  # constant or cosine (to 0 at the last step)
    learning_rate_warmup_epochs: float  # the learning rate rises linearly from 0 over these
    saturation_penalty: float  # of pre-tanh activations beyond 3, see svae.training.step; 0: none
    gradient_clip_norm: float | None  # gradients are scaled down to this global norm; None: never
    on_spike: str  # rollback, stop or ignore: after an epoch far worse than the best before it
    weights: str  # last or best: of which epoch the final weights are
    early_stopping_patience: int | None  # epochs without a better validation objective; None: off
    precision: str  # of the networks: float32, mixed_float16 or mixed_bfloat16
    jit_compile: bool  # whether XLA compiles the training step
    image_memory_mb: int  # MB (1e6 bytes) that the feed may take for images, see svae.datasets.feed
    threads: int  # of TensorFlow, in one training on the CPU

    @property
    def takes_best(self) -> bool:
        """Whether the final weights are those of the epoch with the best validation objective."""
        return self.weights == "best" or self.early_stopping_patience is not None
