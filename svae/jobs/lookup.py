"""What the names in a package stand for, according to its source, which is read and not run.

Imported by the Snakefile: standard library only.
"""

import ast
import builtins
from pathlib import Path
from typing import Any, NamedTuple

from svae.jobs.canonical import Chain
from svae.jobs.definitions import Module, Part, read_module
from svae.jobs.folding import Idle
from svae.jobs.meaning import BUILT_IN_ERRORS


class Found(NamedTuple):
    """What a chain of attributes stands for: a name in the package, outside of it, or built in."""

    module: Module | Any  # None: outside of the package
    name: str | None  # in the module; None: the module itself
    part: Part | None  # the one that binds the name; None: several do
    outside: str | None  # its full name, if it is outside of the package
    rest: Chain  # the remaining attributes


class Lookup:
    """The modules of the package of folder `root`, each read when it is first asked for.

    idle: the settings that are left out of the code, see svae.jobs.folding.
    """

    def __init__(self, root: Path, idle: Idle = ()):
        self._root, self._idle = root, idle
        self._loaded: dict[str, Module | None] = {}
        self._errors: dict[str, frozenset[str]] = {}
        self._left_out: set[tuple[str, str | None]] = set()

    def find(self, module: Module, chain: Chain) -> Found | None:
        """Return what a chain stands for at the top level of a module; None if that is unknown."""
        seen = set()
        while (module.name, chain) not in seen:
            seen.add((module.name, chain))
            items = module.names.get(chain[0], [])
            if not items:
                outside = hasattr(builtins, chain[0]) and "*" not in module.names
                name = ".".join(("builtins", *chain))
                return Found(None, None, None, name, ()) if outside else None
            if len(items) > 1:
                return Found(module, chain[0], None, None, chain[1:])
            (item,) = items
            if isinstance(item, Part):
                return Found(module, chain[0], item, None, chain[1:])
            name, rest = item.module, chain[1:]
            if item.member is not None:
                rest = (item.member, *rest)
            while rest and (source := self.load(name)) and rest[0] not in source.names:
                name, rest = f"{name}.{rest[0]}", rest[1:]
            if source := self.load(name):
                if not rest:
                    return Found(source, None, None, None, ())
                module, chain = source, rest
            elif self.holds(name):
                return None
            else:
                return Found(None, None, None, ".".join((name, *rest)), ())
        return None

    def is_left_out(self, module: Module, chain: Chain) -> bool:
        """Whether what a chain stands for, or has its attributes from, is left out."""
        if self.is_out(module.name, chain[0]):
            return True
        found = self.find(module, chain)
        if found is None or found.module is None:
            return False
        return self.is_out(found.module.name) or self.is_out(found.module.name, found.name)

    def is_out(self, module: str, name: str | None = None) -> bool:
        """Whether a module, or a name in it, is left out."""
        return (module, name) in self._left_out

    def leave_out(self, name: str) -> None:
        """Leave out "module" or "module:name", under this name and where it is defined."""
        source = self.check(name)
        module, _, member = name.partition(":")
        self._left_out.add((module, member or None))
        found = self.find(source, (member,)) if member else None
        if found and found.module:
            self._left_out.add((found.module.name, found.name))

    def check(self, name: str) -> Module:
        """Return the module of "module" or "module:name"; an error if it does not exist."""
        module_name, colon, member = name.partition(":")
        module = self.load(module_name)
        if module is None:
            raise ModuleNotFoundError(
                f"cannot fingerprint {name}: no such module in {self._root}", name=module_name
            )
        if colon and member not in module.names:
            raise AttributeError(f"cannot fingerprint {name}: no such name in {module.path}")
        return module

    def errors_of(self, module: Module) -> frozenset[str]:
        """Return the names that stand for exceptions in a module, and for nothing else."""
        if module.name not in self._errors:
            bound = {*module.names, *module.classes, *module.nested}
            own = {name for name in bound if self._is_error(module, name, frozenset())}
            self._errors[module.name] = (BUILT_IN_ERRORS - bound) | own
        return self._errors[module.name]

    def _is_error(self, module: Module, name: str, within: frozenset[tuple[str, str]]) -> bool:
        if (module.name, name) in within:
            return False
        within |= {(module.name, name)}
        owners = module.classes.get(name, [])
        items = [*module.names.get(name, ()), *module.nested.get(name, ())]
        if not items and not owners:
            return name in BUILT_IN_ERRORS
        for item in items:
            if isinstance(item, Part):
                if not item.is_class:
                    return False
            else:
                source = self.load(item.module) if item.member is not None else None
                if source is None or not self._is_error(source, item.member, within):
                    return False
        bases = [[base.id for base in own.bases if isinstance(base, ast.Name)] for own in owners]
        return all(any(self._is_error(module, base, within) for base in own) for own in bases)

    def holds(self, name: str) -> bool:
        """Whether a module of that full name would belong to the package."""
        return name.partition(".")[0] == self._root.name

    def load(self, name: str) -> Module | None:
        """Return the module of this full name; None if the package has no such module."""
        if name not in self._loaded:
            path = file_of(self._root, name)
            self._loaded[name] = None if path is None else self._read(name, path)
        return self._loaded[name]

    def _read(self, name: str, path: Path) -> Module:
        source = path.read_bytes()
        return read_module(
            name, path, source, tuple(each for each in self._idle if each[0].encode() in source)
        )


def file_of(root: Path, name: str) -> Path | None:
    """Return the file of a module; None if the package has no such module."""
    top, *parts = name.split(".")
    if top != root.name:
        return None
    place = root.joinpath(*parts)
    files = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((file for file in files[: 2 if parts else 1] if file.is_file()), None)
