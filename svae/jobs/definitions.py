"""The parts of a module: the statements at its top level, what they bind, and what they import.

A fingerprint covers some parts of a module and not others; svae.jobs.reach decides which. This
module analyses each module by itself.

Imported by the Snakefile: standard library only.
"""

import ast
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from svae.jobs.canonical import Chain, canonical
from svae.jobs.folding import Idle, fold
from svae.jobs.meaning import Stripper, only_names

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

# Finds names; imports, strings and comments match before, and give an empty name each.
_WORDS = re.compile(
    r"""
    ^[ \t]*(?:from[ \t]+[.\w]+[ \t]+)?import\b(?:[ \t]*\([^)]*\)|[^\n]*)
    | \"{3}(?:[^\\]|\\.)*?\"{3} | '{3}(?:[^\\]|\\.)*?'{3}
    | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*'
    | \#[^\n]*
    | (?<![.\w])([^\W\d]\w*)
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)


class Alias(NamedTuple):
    """A name that an import binds: a module, or a member of one."""

    name: str  # in this module; "*" for all
    module: str  # full name
    member: str | None
    loads: str  # full name of the module that the import runs, with its parents
    counts: bool  # whether its text is part of the digest, see svae.jobs.meaning

    @property
    def text(self) -> str:
        return f"import {self.loads!a} {self.module!a} {self.member!a} as {self.name!a}"


class Facts(NamedTuple):
    """What is left of a part when everything without meaning is removed."""

    digest: str | None  # None: nothing is left
    used: frozenset[Chain]
    named: frozenset[str]  # full names in the package that its strings contain
    nodes: tuple[ast.AST, ...]


class Part:
    """A statement at the top level of a module, other than an import."""

    def __init__(self, number: int, node: ast.stmt, package: str):
        self.number = number
        self.node: Any = node  # of a kind that is_class and is_function show
        self.binds = frozenset(_bound(node))
        self.is_class = isinstance(node, ast.ClassDef)
        self.is_function = isinstance(node, _FUNCTIONS)
        self.statements = list(_statements([node]))
        # Including those in functions, which run with the function, or never.
        self.imports = [
            alias
            for each in self.statements
            if isinstance(each, _IMPORTS)
            for alias in _aliases(each, package)
        ]
        self.rebinds = {
            name for each in self.statements if isinstance(each, ast.Global) for name in each.names
        }

    @property
    def defined_alike(self) -> bool:
        """Whether it is a function that is the same at any position in the module, because nothing
        is computed to define it."""
        if not self.is_function or self.node.decorator_list:
            return False
        defaults = [*self.node.args.defaults, *filter(None, self.node.args.kw_defaults)]
        return all(isinstance(default, ast.Constant | ast.Name) for default in defaults)


class Module:
    """A module and its parts. `idle`: the settings left out of its code (svae.jobs.folding).

    Parts and aliases are numbered together, in the order of the source.
    """

    def __init__(self, name: str, path: Path, source: bytes, idle: Idle):
        self.name, self.path = name, path
        self._source, self._is_folded = source, bool(idle)
        self.is_package = path.name == "__init__.py"
        self._package = name if self.is_package else name.rpartition(".")[0]
        self.parts: dict[int, Part] = {}
        self.aliases: dict[int, Alias] = {}
        tree = ast.parse(source, filename=str(path))
        if idle:
            tree = fold(tree, dict(idle))
        for number, item in enumerate(self._items(tree)):
            if isinstance(item, Alias):
                self.aliases[number] = item
            else:
                self.parts[number] = Part(number, item, self._package)
        self.names: dict[str, list[Part | Alias]] = {}
        binding: list[Part | Alias] = [*self.parts.values(), *self.aliases.values()]
        for each in binding:
            for bound in each.binds if isinstance(each, Part) else [each.name]:
                self.names.setdefault(bound, []).append(each)
        self.imports = list(self.aliases.values())  # that run when the module is imported
        for part in self.parts.values():
            nested = [alias for alias in part.imports if alias.name in part.binds | part.rebinds]
            for alias in nested:
                self.names.setdefault(alias.name, []).append(alias)
            if not part.is_function:
                self.imports += part.imports
            for bound in part.rebinds - part.binds:
                self.names.setdefault(bound, []).append(part)
        self.classes: dict[str, list[ast.ClassDef]] = {}
        for part in self.parts.values():
            for node in part.statements:
                if isinstance(node, ast.ClassDef):
                    self.classes.setdefault(node.name, []).append(node)
        self.nested: dict[str, list[Alias]] = {}  # what imports within parts bind, anywhere
        for alias in (alias for part in self.parts.values() for alias in part.imports):
            self.nested.setdefault(alias.name, []).append(alias)
        self._strippers: dict[frozenset[str], Stripper] = {}
        self._facts: dict[tuple[int, frozenset[str]], Facts] = {}

    def _items(self, tree: ast.Module) -> Iterator[Alias | ast.stmt]:
        for node in tree.body:
            if isinstance(node, _IMPORTS):
                yield from _aliases(node, self._package)
            elif not _sets_version(node) and not _is_text(node) and not _is_main(node):
                yield node

    def facts(self, part: Part, errors: frozenset[str]) -> Facts:
        """Return what `part` does; `errors`: the names that stand for exceptions in this module."""
        if errors not in self._strippers:
            statements = [each for part in self.parts.values() for each in part.statements]
            self._strippers[errors] = Stripper(statements, errors)
        if (part.number, errors) not in self._facts:
            self._facts[part.number, errors] = self._found(part, self._strippers[errors])
        return self._facts[part.number, errors]

    def _found(self, part: Part, stripper: Stripper) -> Facts:
        nodes = stripper.strip(part.node)
        found = canonical(nodes)
        if part.imports:
            self._drop_unused(part, nodes, {chain[0] for chain in found.used})
            found = canonical(nodes)
        digest = hashlib.sha256(found.text.encode()).hexdigest() if found.text else None
        top = self.name.partition(".")[0]
        full_names = re.compile(rf"(?<![.\w]){top}(?:\.\w+)+")
        named = {
            name for string in found.strings if top in string for name in full_names.findall(string)
        }
        return Facts(digest, found.used, frozenset(named), tuple(nodes))

    def _drop_unused(self, part: Part, nodes: list[ast.AST], read: set[str]) -> None:
        """Remove the imports within functions of names that only annotations, error texts, log
        lines or unused code read."""
        unstripped = {node.id for node in ast.walk(part.node) if isinstance(node, ast.Name)}

        def stays(name: ast.alias) -> bool:
            bound = name.asname or name.name.partition(".")[0]
            if bound in read or bound in part.rebinds:
                return True
            return bound not in unstripped and not (self._is_folded and bound in self.read_names)

        def drop(node: ast.AST, in_function: bool) -> None:
            for field in _BLOCKS:
                nested = getattr(node, field, None)
                if not isinstance(nested, list):
                    continue
                for each in nested:
                    if in_function and isinstance(each, _IMPORTS):
                        each.names = list(filter(stays, each.names))
                    within = in_function and not isinstance(each, ast.ClassDef)
                    drop(each, within or isinstance(each, _FUNCTIONS))
                kept = [each for each in nested if not isinstance(each, _IMPORTS) or each.names]
                setattr(node, field, kept)

        for node in nodes:
            drop(node, part.is_function)

    @functools.cached_property
    def read_names(self) -> frozenset[str]:
        """All names in the source, except in imports, strings and comments. They include every name
        that is read, annotations included, unless only f-strings read it."""
        return frozenset(_WORDS.findall(self._source.decode(errors="replace")))


@functools.cache
def read_module(name: str, path: Path, source: bytes, idle: Idle) -> Module:
    """Return the module of that source; cached, because parsing takes most of the time.

    The source is part of the key, not the file's time: two edits may fall within one clock tick.
    """
    return Module(name, path, source, idle)


def _statements(body: list[Any]) -> Iterator[ast.AST]:
    """Yield all statements, handlers and cases, at any depth of nesting."""
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        for field in _BLOCKS:
            nested = getattr(node, field, None)
            if isinstance(nested, list):
                waiting += nested


def _aliases(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[Alias]:
    if isinstance(node, ast.Import):
        for name in node.names:
            bound = name.asname or name.name.partition(".")[0]
            module = name.name if name.asname else bound
            yield Alias(bound, module, None, name.name, not only_names(name.name, name))
        return
    module = node.module or ""
    if node.level:
        parents = package.split(".")
        module = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [module])])
    for name in node.names:
        counts = bool(node.level) or not only_names(module, name)
        yield Alias(name.asname or name.name, module, name.name, module, counts)


def _bound(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a top-level statement binds in its module, and possibly others."""
    inner: Iterable[ast.AST] = [node]
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        yield node.name
        inner = list(node.decorator_list)
        if isinstance(node, ast.ClassDef):
            inner += [*node.bases, *node.keywords]
        else:
            inner += [*node.args.defaults, *filter(None, node.args.kw_defaults)]
    nodes = [found for root in inner for found in ast.walk(root)]
    own_scope = {
        target
        for each in nodes
        if isinstance(each, _COMPREHENSIONS)
        for generator in each.generators
        for target in ast.walk(generator.target)
    }
    for each in nodes:
        match each:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if each not in own_scope:
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.name for alias in _aliases(each, ""))


def _sets_version(node: ast.stmt) -> bool:
    """Whether it sets the version, which affects no result: a release must not retrain all runs."""
    return isinstance(node, ast.Assign) and [
        target.id if isinstance(target, ast.Name) else None for target in node.targets
    ] == ["__version__"]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_main(node: ast.stmt) -> bool:
    """Whether it is `if __name__ == "__main__":`, which does nothing in an imported module."""
    match node:
        case ast.If(
            test=ast.Compare(
                left=ast.Name(id="__name__"),
                ops=[ast.Eq()],
                comparators=[ast.Constant(value="__main__")],
            ),
            orelse=[],
        ):
            return True
    return False
