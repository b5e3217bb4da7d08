"""Finding the file config.yaml, and refusing files that contain no configuration."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from svae.config.check import check_writable, shown
from svae.errors import UserError


def config_file(working: Path, clone: Path) -> Path:
    """working/config.yaml if there is one, else the clone's; UserError if it is not a mapping."""
    path = working / "config.yaml"
    if not path.exists():
        path = clone / "config.yaml"
    if not path.exists():
        raise UserError(f"{path} is missing; restore it with: git checkout config.yaml")
    check_file(path)
    return path


def check_file(path: Path) -> None:
    """UserError if a file of settings is not a mapping, or has what YAML would silently drop.

    Holds for files given with `--configfile`, too.
    """
    # Unlike methods of Path, these raise nothing. Pipes, such as <(...), can be read only once.
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        raise UserError(f"{path} is not a regular file; give one that is")
    try:
        content = _content(path.read_text(encoding="utf-8"))
        check_writable(content)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise UserError(f"{path} {problem}; give a file that can be read") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        # PyYAML always sets both while it reads a file.
        assert error.problem_mark is not None and error.problem is not None
        line = error.problem_mark.line + 1
        tab = r"\t" in error.problem
        remedy = "indent with spaces" if tab else "correct that line or the one above"
        raise UserError(f"{path}, line {line}: {error.problem}; {remedy}") from None
    except UserError as error:
        raise UserError(f"{path}, {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except (LookupError, AttributeError, TypeError) as error:  # PyYAML's, for `!!bool x`
        reason = f"a value is not what its tag, such as !!bool, says ({error})"
        raise UserError(f"{path}: {reason}; remove the tag") from None
    if content is None:
        raise UserError(f"{path} is empty; write settings into it, as in seeds: [0], or delete it")
    if not isinstance(content, dict):
        kind = shown(content)
        raise UserError(
            f"{path} contains {kind}; write one KEY: VALUE per line, as in dataset: mnist_5k"
        )


def check_text(text: str) -> None:
    """UserError if a key stands twice in a mapping of this YAML text."""
    with contextlib.suppress(yaml.YAMLError, RecursionError):
        yaml.compose(text, Loader=_Loader)


def replacement_note(config: Mapping[str, Any], path: Path, clone: Path) -> str:
    """A line for the error of a configuration that lacks keys because `path`, in the working
    directory, replaces the clone's config.yaml; "" for others."""
    variants = config.get("variants", {})
    given = variants.values() if isinstance(variants, dict) else ()
    complete = {"dataset", "variants"} <= config.keys() and all(
        "posterior" in own for own in given if isinstance(own, dict)
    )
    if complete or path.resolve() == (clone / "config.yaml").resolve():
        return ""
    return (
        f"\n{path} replaces {clone / 'config.yaml'}; for a few settings only, give it another name "
        "and lay it over that file: snakemake --configfile NAME.yaml"
    )


_MOST_VALUES = 100_000  # far more than a configuration has


def _content(text: str) -> Any:
    """What the text contains. UserError if aliases make much of little."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values(node, {}) > _MOST_VALUES:
            raise UserError(f"aliases (*NAME) stand for over {_MOST_VALUES} values; remove them")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _values(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """The number of values in a node once all aliases are replaced by what they stand for."""
    if node not in known:
        known[node] = 1  # for an alias within its own value, which is refused later
        if isinstance(node, yaml.CollectionNode):
            parts = node.value
            if isinstance(node, yaml.MappingNode):
                parts = [part for pair in parts for part in pair]
            known[node] = 1 + sum(_values(part, known) for part in parts)
    return known[node]


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys in a mapping; YAML would silently use the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise UserError(f"line {line}: duplicate key {key.value}; remove one")
            seen.add(key.value)
        return node
