"""The settings of the model."""

from dataclasses import dataclass
from typing import Literal

from svae.settings.fields import REQUIRED, setting


@dataclass(frozen=True, kw_only=True)
class VariantSection:
    """The settings that exist only for a variant, in the section `variants`."""

    # Any name in POSTERIORS of svae/model/posteriors.py; svae.config.schema adds them.
    posterior: str = setting(REQUIRED, "the posterior of one feature map")


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """The section `model`, whose settings any variant may override."""

    latent_maps: int = setting(
        64, "N, the number of feature maps of the latent", minimum=1, maximum=65_536
    )
    latent_size: int = setting(
        3, "d, the side of a feature map of a spatial latent", minimum=1, maximum=1023
    )
    arrangement: Literal["maps", "permuted", "separable", "dense"] = setting(
        "maps", "the linear map between latent and decoder", neutral="maps"
    )
    # 1 for the other posteriors: svae.config.variants sets it, because it has no effect there.
    rank: int = setting(
        1, "r, the rank of the mean of posterior low_rank", minimum=1, maximum=1023, neutral=1
    )
    low_rank_start: Literal["published", "ones"] = setting(
        "published", "where nu of posterior low_rank starts: at 0 as published, or at ones"
    )
    log_var_limit: float | None = setting(
        2.0, "log variance of a latent entry above which it grows slowly", minimum=0, maximum=50
    )
    initialization: Literal["published", "data"] = setting(
        "data", "start of the last layer of encoder and decoder"
    )
    dropout: float = setting(
        0.1,
        "probability of dropping a feature in front of the encoder's linear layer",
        minimum=0,
        exclusive_maximum=1,
    )
