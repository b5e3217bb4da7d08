"""Keys of config.yaml that were renamed since an earlier version."""

from typing import Any

from svae.errors import UserError

# Section -> key -> where it is now.
MOVED = {
    "evaluation": {
        "importance_samples": "importance_weighted_bound.importance_samples",
        "bound_images": "importance_weighted_bound.images",
        "decoder_variance": "importance_weighted_bound.decoder_variance",
        "distance_images": "sliced_wasserstein.images",
    }
}


def refuse_moved_keys(raw: dict[str, Any]) -> None:
    """UserError for keys that were renamed, with their new names."""
    problems = []
    for section, keys in MOVED.items():
        if section not in raw:
            continue
        given = raw[section] if isinstance(raw[section], dict) else {}
        moved = [f"{section}.{key} is now {keys[key]}" for key in given if key in keys]
        there = " and ".join(dict.fromkeys(name.split(".")[0] for name in keys.values()))
        problems += moved or [f"the section {section} is now {there}"]
    if problems:
        raise UserError("\n".join(f"{problem}; rename it in config.yaml" for problem in problems))
