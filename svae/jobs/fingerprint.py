"""A digest of the code that determines a stage's result: a changed algorithm reruns its stage.

Snakemake notices an edited script, but not an edit inside a package that the script imports. A rule
with `fingerprint("svae.training.train:train")` in its params reruns when the meaning of that
function changes, or of anything in the package that it uses, directly or indirectly
(svae.jobs.reach). It does not rerun after a change of another function in the same modules, or of a
comment, docstring, annotation, error message or log line (svae.jobs.meaning), or because of a new
setting at its neutral value (svae.jobs.folding). The position of a function in its module does not
matter.

Imported by the Snakefile: standard library only.
"""

import ast
import contextlib
import gc
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from svae.jobs.definitions import Alias, Module
from svae.jobs.folding import overridden
from svae.jobs.neutral import same
from svae.jobs.reach import Reach


def fingerprint(
    *entries: str,
    without: tuple[str, ...] = (),
    settings: Mapping[str, object] | None = None,
    package_root: Path | None = None,
) -> str:
    """Return 16 hexadecimal digits: a digest of the entries and of all that they use in their
    package.

    entries       "module:name", a function, class or constant, or "module", all that it defines.
                  The source is read, not run: if it imports modules by computed names (importlib),
                  name those here as well.
    without       the same, for what is used but does not affect the result; what only these use is
                  not covered either. To cover one entry of a table of choices, leave out the table
                  and name the entry.
    settings      those of the stage: at their neutral values, their declarations and the code that
                  runs only at other values are not covered.
    package_root  folder of the package, default this one; its name is the package's name.

    ModuleNotFoundError for a module that does not exist, and AttributeError for such a name. The
    digits depend neither on the location of the package nor on the version of Python (3.11 to
    3.13).
    """
    with _without_collector():
        reach = _reach(entries, without, settings, package_root)
        digest = hashlib.sha256()
        for name, module in sorted(reach.modules.items()):
            lines = list(_lines(reach, module))
            if lines:
                digest.update("\n".join((name, *lines, "")).encode())
        return digest.hexdigest()[:16]


def definitions(
    *entries: str,
    without: tuple[str, ...] = (),
    settings: Mapping[str, object] | None = None,
    package_root: Path | None = None,
) -> dict[str, frozenset[str]]:
    """Return, for each module, the names in it that the fingerprint of these arguments covers."""
    reach = _reach(entries, without, settings, package_root)
    return {
        name: frozenset(
            bound
            for part in parts.values()
            if reach.facts(reach.modules[name], part).digest is not None
            for bound in part.binds
        )
        for name, parts in sorted(reach.parts.items())
    }


def modules(
    *entries: str,
    without: tuple[str, ...] = (),
    settings: Mapping[str, object] | None = None,
    package_root: Path | None = None,
) -> dict[str, Path]:
    """Return the file of each module that the entries import, directly or indirectly.

    Of some of these modules, the fingerprint covers nothing.
    """
    reach = _reach(entries, without, settings, package_root)
    return {name: module.path for name, module in sorted(reach.modules.items())}


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Pause the garbage collector: syntax trees are many objects, none of them garbage, and looking
    for garbage takes a third as long as the rest."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _reach(
    entries: tuple[str, ...],
    without: tuple[str, ...],
    settings: Mapping[str, object] | None,
    package_root: Path | None,
) -> Reach:
    root = Path(__file__).parents[1] if package_root is None else Path(package_root)
    reach = Reach(root, entries, without)
    idle = _at_neutral_values(reach, settings or {})
    owners = {field.owner for field in reach.fields() if field.name in idle} if idle else set()
    while idle:
        smaller = Reach(root, entries, without, tuple(sorted(idle.items())))
        kept = idle.keys() - _given_otherwise(smaller, owners)
        if kept == idle.keys():
            return smaller
        idle = {name: idle[name] for name in kept}
    return reach


def _at_neutral_values(reach: Reach, settings: Mapping[str, object]) -> dict[str, str]:
    """Return the settings at their neutral values, with the source text of these values.

    A name in more than one class is left out, because `settings.NAME` does not show which is meant.
    """
    fields = list(reach.fields())
    owners = Counter(field.name for field in fields)
    return {
        field.name: field.neutral
        for field in fields
        if field.neutral is not None
        and owners[field.name] == 1
        and field.name in settings
        and same(settings[field.name], ast.literal_eval(field.neutral))
    }


def _given_otherwise(reach: Reach, owners: set[str]) -> set[str]:
    """Return the settings to which the reached code may give another value than the stage's."""
    return {
        name
        for module, parts in reach.parts.items()
        for part in parts.values()
        for name in overridden(reach.facts(reach.modules[module], part).nodes, owners)
    }


def _lines(reach: Reach, module: Module) -> Iterator[str]:
    """Yield a line for each import and part of a module that is covered.

    First come those whose order matters, in the order of the source: imports and, in a module that
    acts when it is imported or binds a name twice, everything except functions. Then the others,
    sorted.
    """
    parts = reach.parts.get(module.name, {})
    found = {}
    for number, alias in module.aliases.items():
        used = number in reach.aliases.get(module.name, ())
        if alias.counts and (used or _acts_outside(reach, module, alias)):
            found[number] = alias.text
    names = Counter(name for part in parts.values() for name in part.binds)
    ordered = any(count > 1 for count in names.values()) or any(
        reach.acts(module, part) for part in parts.values()
    )
    others = []
    for number, part in parts.items():
        digest = reach.facts(module, part).digest
        once = all(names[name] == 1 for name in part.binds)
        if digest is None:
            continue
        if ordered and not (once and part.defined_alike):
            found[number] = digest
        else:
            others.append(digest)
    yield from (text for _, text in sorted(found.items()))
    yield from sorted(others)


def _acts_outside(reach: Reach, module: Module, alias: Alias) -> bool:
    """Whether an import that nothing reads may have an effect, because it runs a module outside the
    package."""
    return alias.name == "*" or (
        not reach.names.holds(alias.loads) and alias.name not in module.read_names
    )
