"""Which parts of a package a stage reaches: its entries, and all that they use, directly or not.

A part is a statement at the top level of a module. Names are followed through the source, which is
read, not run:

- A name that a reached part reads reaches what binds it in its module. With an imported module x,
  `x.f` reaches f in x, or the module from which x imports f; so does `from x import f`. Any other
  use of x, as in `getattr(x, name)`, reaches all of x. Imports within functions count like others.
- A string that contains the full name of a module, as in code for another process or for importlib,
  reaches all of it; one that contains the full name of a definition reaches that definition.
- A class is reached as a whole. A function that binds a reached name by `global` is reached too.
- An import runs its module, and the packages around it: those of their statements that act (see
  svae.jobs.import_effects) are reached, and so on for what these modules import.

Where the source is ambiguous, more is reached: a name in a function counts as the module's even if
the function has a variable of that name; `globals()`, and a name that a module does not seem to
have, reach the whole module. A module whose name is computed, as in
`import_module(f"svae.datasets.{name}")`, is not seen; a caller names it.

Imported by the Snakefile: standard library only.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from svae.jobs.canonical import Chain
from svae.jobs.definitions import Alias, Facts, Module, Part
from svae.jobs.folding import Declaration, Idle, declarations
from svae.jobs.import_effects import Effects
from svae.jobs.lookup import Lookup

# What every module has without binding it, and the version, which affects no result.
_OF_EVERY_MODULE = {
    *("__doc__", "__file__", "__name__", "__package__", "__path__", "__spec__", "__version__"),
}
# Built-ins that read names which are not in the source.
_BY_COMPUTED_NAME = {("eval",), ("exec",), ("globals",), ("locals",)}


class Reach:
    """What is reached in the package of folder `root`.

    without  "module" or "module:name": these are not reached, nor is what only they use.
    idle     the settings that are left out of the code, see svae.jobs.folding.

    ModuleNotFoundError or AttributeError for an entry, or a name in `without`, that does not exist.
    """

    def __init__(
        self, root: Path, entries: Iterable[str], without: Iterable[str] = (), idle: Idle = ()
    ):
        self.names = Lookup(root, idle)
        self._effects = Effects(self.names)
        self._seen: set[tuple[str, Chain]] = set()
        self._whole: set[str] = set()
        self._waiting: list[tuple[Module, Part | None]] = []
        self._all_subclasses = False
        self.modules: dict[str, Module] = {}  # those that are imported
        self.parts: dict[str, dict[int, Part]] = {}
        self.aliases: dict[str, dict[int, Alias]] = {}
        for name in without:
            self.names.leave_out(name)
        for entry in entries:
            module, _, name = entry.partition(":")
            found = self.names.check(entry)
            if self.names.is_out(module) or self.names.is_out(module, name):
                raise ValueError(f"cannot fingerprint {entry}: it is left out")
            if name:
                self._use_member(module, (name,))
            else:
                self._import(module)
                for part in found.parts.values():
                    self._add(found, part)
        self._follow()

    def facts(self, module: Module, part: Part) -> Facts:
        """Return what a part does."""
        return module.facts(part, self.names.errors_of(module))

    def acts(self, module: Module, part: Part) -> bool:
        """Whether a part acts when its module is imported."""
        return self._effects.acts(module, part)

    def fields(self) -> Iterator[Declaration]:
        """Yield the fields of all classes of the imported modules."""
        for module in self.modules.values():
            for owners in module.classes.values():
                for owner in owners:
                    yield from declarations(owner)

    def _follow(self) -> None:
        while self._waiting:
            module, part = self._waiting.pop()
            if part is None:
                self._run(module)
            else:
                self._read_by(module, part)
            if not self._waiting:
                self._add_dependents()

    def _run(self, module: Module) -> None:
        """Reach what an import of a module runs."""
        for alias in module.imports:
            self._import_for(alias)
        for part in module.parts.values():
            if self.acts(module, part):
                self._add(module, part)

    def _read_by(self, module: Module, part: Part) -> None:
        """Reach what a part reads."""
        local: dict[str, list[Alias]] = {}
        for alias in part.imports:
            self._import_for(alias)
            local.setdefault(alias.name, []).append(alias)
        for name in self.facts(module, part).named:
            self._use_full_name(name)
        for chain in self.facts(module, part).used:
            for alias in local.get(chain[0], ()):
                self._use(alias, chain[1:])
            if chain[0] in module.names:
                self._use_name(module, chain)
            elif chain in _BY_COMPUTED_NAME:
                self._add_whole(module.name)
            if "__subclasses__" in chain:
                self._all_subclasses = True

    def _import(self, name: str) -> None:
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            each = ".".join(parts[:count])
            if each in self.modules or self.names.is_out(each):
                continue
            module = self.names.load(each)
            if module is None:
                return
            self.modules[each] = module
            self._waiting.append((module, None))

    def _import_for(self, alias: Alias) -> None:
        """Import what an import statement imports for a name."""
        self._import(alias.loads)
        if alias.member == "*":
            self._add_whole(alias.module)
        elif alias.member is not None and self._is_package(alias.module):
            self._import(f"{alias.module}.{alias.member}")

    def _is_package(self, name: str) -> bool:
        module = self.names.load(name)
        return module is not None and module.is_package

    def _use_name(self, module: Module, chain: Chain) -> None:
        """Reach what a chain stands for at the top level of a module that binds its first name."""
        if (module.name, chain) in self._seen or self.names.is_out(module.name, chain[0]):
            return
        self._seen.add((module.name, chain))
        for item in module.names[chain[0]]:
            if isinstance(item, Part):
                self._add(module, item)
            else:
                self._use(item, chain[1:])
        for number, alias in module.aliases.items():
            if alias.name == chain[0]:
                self.aliases.setdefault(module.name, {})[number] = alias

    def _use(self, alias: Alias, rest: Chain) -> None:
        if alias.member is None:
            self._use_module(alias.module, rest)
        elif alias.member != "*":
            self._use_member(alias.module, (alias.member, *rest))

    def _use_module(self, name: str, rest: Chain) -> None:
        """Reach the attributes `rest` of a module; without attributes, all of it."""
        if rest:
            self._use_member(name, rest)
        else:
            self._add_whole(name)

    def _use_member(self, name: str, chain: Chain) -> None:
        module = self.names.load(name)
        if module is None or self.names.is_out(name):
            return
        self._import(name)
        known = chain[0] in module.names
        if known:
            self._use_name(module, chain)
        inner = f"{name}.{chain[0]}"
        if module.is_package and self.names.load(inner) is not None:
            self._use_module(inner, chain[1:])
        elif not known and chain[0] not in _OF_EVERY_MODULE:
            self._add_whole(name)

    def _use_full_name(self, name: str) -> None:
        """Reach what a string names; of a package, whose name may start a computed name, only what
        its import runs."""
        rest: Chain
        found, rest = name, ()
        while (module := self.names.load(found)) is None:
            found, _, last = found.rpartition(".")
            rest = (last, *rest)
        if rest and rest[0] in module.names:
            self._use_member(found, rest)
        elif module.is_package:
            self._import(found)
        else:
            self._add_whole(found)

    def _add(self, module: Module, part: Part) -> None:
        parts = self.parts.setdefault(module.name, {})
        left_out = part.binds and all(self.names.is_out(module.name, name) for name in part.binds)
        if part.number not in parts and not left_out:
            parts[part.number] = part
            self._waiting.append((module, part))

    def _add_whole(self, name: str) -> None:
        """Reach everything in a module, since any of it may be read."""
        module = self.names.load(name)
        if name in self._whole or module is None or self.names.is_out(name):
            return
        self._whole.add(name)
        self._import(name)
        for part in module.parts.values():
            self._add(module, part)
        for bound in module.names:
            self._use_name(module, (bound,))

    def _add_dependents(self) -> None:
        """Reach what depends on the set of imported modules."""
        for name, module in list(self.modules.items()):
            if name.rpartition(".")[0] in self._whole:
                self._add_whole(name)
            for part in module.parts.values():
                if self._all_subclasses and part.is_class and part.node.bases:
                    self._add(module, part)
