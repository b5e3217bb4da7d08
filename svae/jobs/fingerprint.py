"""A digest of the code that decides a stage's result, so that a changed algorithm reruns its stage.

Snakemake sees an edited script, but not an edit inside a package that the script imports. A rule
that carries `fingerprint("svae.training.train:train")` among its params reruns when the meaning of
that function changes, or of anything in the package that it uses, directly or indirectly
(svae.jobs.reach). Neither another function of the same modules reruns it, nor a changed comment,
docstring, annotation, error message or log line (svae.jobs.meaning), nor a new setting at the value
that leaves everything as before (svae.jobs.folding). Where a function stands in its module does not
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
    """Give 16 hexadecimal digits over the entries and all that they use of their package.

    entries       "module:name", a function, class or constant, or "module", all that it defines.
                  The source is read, not run: where it imports modules by computed names
                  (importlib), name those here as well.
    without       the same of what is used but decides nothing of the result; what only that uses is
                  not covered either. Leaving out a table of choices and naming the one that is
                  chosen covers that one.
    settings      the stage's own: at their neutral values they, and what is done only at other
                  values, are not covered.
    package_root  folder of the package, default this one; its name is the package's name.

    ModuleNotFoundError for a module, and AttributeError for a name, that there is not. The digits
    depend neither on where the package lies nor on the version of Python (3.11 to 3.13).
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
    """Map each module to those names of it that the fingerprint of these arguments covers."""
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
    """Map each module that is imported for the entries to its file.

    At least what they define or do of themselves is covered: nothing of some.
    """
    reach = _reach(entries, without, settings, package_root)
    return {name: module.path for name, module in sorted(reach.modules.items())}


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Syntax trees are many objects, none of them garbage: looking for it takes a third as long."""
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
    """Give the settings, with the source text of their values, that their fields call neutral.

    A name that more than one class has is left out, since `settings.NAME` does not tell which.
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
    """Give the settings that something reached may give another value than the stage's own."""
    return {
        name
        for module, parts in reach.parts.items()
        for part in parts.values()
        for name in overridden(reach.facts(reach.modules[module], part).nodes, owners)
    }


def _lines(reach: Reach, module: Module) -> Iterator[str]:
    """Give a line for each import and part of a module that is covered.

    First what depends on the order, in the order of the source: imports, and in a module that acts
    when it is imported, or that binds a name twice, all but functions. Then the others, sorted.
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
    """Whether an import that nothing reads may act by running a module outside the package."""
    return alias.name == "*" or (
        not reach.names.holds(alias.loads) and alias.name not in module.read_names
    )
