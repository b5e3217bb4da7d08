"""A digest of the code that decides a stage's result, so that a changed algorithm reruns its stage.

Snakemake sees an edited script, but not an edit inside a package that the script imports. A rule
that carries `fingerprint("svae.training.train")` among its params reruns when the meaning of that
module, or of any module it imports, changes. A changed comment, docstring, annotation, error text
or log line reruns nothing; svae.jobs.meaning lists what is covered and what is not.

Imported by the Snakefile: standard library only.
"""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from svae.jobs.meaning import ClassBases, class_bases, error_names, strip

# One import statement: dots before the name, name, names after `from ... import`.
Import = tuple[int, str, tuple[str, ...]]


def fingerprint(
    *names: str, without: tuple[str, ...] = (), package_root: Path | None = None
) -> str:
    """Give 16 hexadecimal digits over the named modules and all that they import of their package.

    Arguments as for `modules`. The digits do not depend on where the package lies, nor on the
    version of Python (3.11 to 3.13).
    """
    found = modules(*names, without=without, package_root=package_root)
    sources = {name: (path, path.read_bytes()) for name, path in sorted(found.items())}
    read = {name: _read(*source) for name, source in sources.items()}
    errors = error_names(bases for module in read.values() for bases in module.classes)
    digest = hashlib.sha256()
    for name, source in sources.items():
        code = _digest(*source, errors & read[name].called)
        digest.update(f"{name} {code}\n".encode())
    return digest.hexdigest()[:16]


def modules(
    *names: str, without: tuple[str, ...] = (), package_root: Path | None = None
) -> dict[str, Path]:
    """Map the name of every module that the fingerprint of `names` covers to its file.

    names         full names such as "svae.training.loop". Imports are read, not run: where a module
                  imports others by a computed name (importlib), name those here as well.
    without       full names of modules that are imported but decide nothing of the result; what
                  only they import is not covered either.
    package_root  folder of the package, default this one; its name is the package's name.

    Covered are the imports at any depth of nesting (within functions too), and the `__init__` of
    every package on the way. A name without a file raises ModuleNotFoundError.
    """
    root = Path(__file__).parents[1] if package_root is None else Path(package_root)
    found: dict[str, Path] = {}
    waiting = []
    for name in (*names, *without):
        if _file(root, name) is None:
            raise ModuleNotFoundError(f"cannot fingerprint {name}: no such module in {root}")
    for name in names:
        waiting.extend(_with_parents(name))
    while waiting:
        name = waiting.pop()
        path = _file(root, name)
        if name in found or name in without or path is None:
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for imported in _imported(_read(path, path.read_bytes()).imports, package):
            waiting.extend(_with_parents(imported))
    return found


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _file(root: Path, name: str) -> Path | None:
    """Give the file of module `name`, or None: not of this package, or not a module at all."""
    top, *parts = name.split(".")
    if top != root.name:
        return None
    place = root.joinpath(*parts)
    files = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((file for file in files[: 2 if parts else 1] if file.is_file()), None)


def _imported(imports: tuple[Import, ...], package: str) -> Iterator[str]:
    """Give the full names that a module of `package` may import; not all need be modules."""
    for level, name, members in imports:
        if level:
            parents = package.split(".")
            name = ".".join([*parents[: len(parents) - level + 1], *filter(None, [name])])
        yield name
        # `from a import b`: b is a submodule of a, or a mere name in it.
        yield from (f"{name}.{member}" for member in members)


class _Module(NamedTuple):
    """What must be known of a module before its digest: imports, classes, and names it calls."""

    imports: tuple[Import, ...]
    classes: tuple[ClassBases, ...]
    called: frozenset[str]


# The source is part of the keys, not the file's time: two edits may fall within one clock tick.
@functools.cache
def _read(path: Path, source: bytes) -> _Module:
    nodes = list(ast.walk(ast.parse(source, filename=str(path))))
    imports: list[Import] = []
    called = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            imports += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            members = tuple(alias.name for alias in node.names)
            imports.append((node.level, node.module or "", members))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called.add(node.func.id)
    return _Module(tuple(imports), class_bases(nodes), frozenset(called))


@functools.cache
def _digest(path: Path, source: bytes, errors: frozenset[str]) -> str:
    """Give the digest of a module's code; `errors` are the names of exceptions that it calls."""
    tree = ast.parse(source, filename=str(path))
    # The version decides no result: a release must not train everything anew.
    tree.body = [node for node in tree.body if not _sets_version(node)]
    strip(tree, errors)
    tokens: list[str] = []
    _write(tree, tokens)
    return hashlib.sha256("".join(tokens).encode()).hexdigest()


def _sets_version(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and [
        target.id if isinstance(target, ast.Name) else None for target in node.targets
    ] == ["__version__"]


def _is_empty(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == ""


def _write(item: object, tokens: list[str]) -> None:
    """Append the canonical text of a syntax tree to `tokens`.

    `ast.dump` will not do: what it says of empty and new fields differs between versions of Python.
    Here a field that is None or empty is left out, whichever version knows it. Values are in ASCII,
    since `repr` escapes those characters that the version's Unicode tables do not know.
    """
    if isinstance(item, ast.AST):
        tokens.append(f"{type(item).__name__}(")
        for field in item._fields:
            value = getattr(item, field, None)
            if isinstance(item, ast.JoinedStr):
                # Python 3.12.1 adds an empty string to the format in f"{x:{width}}".
                value = [part for part in value if not _is_empty(part)]
            # `kind` tells u"a" from "a": spelling, not meaning.
            if value is None or value == [] or field == "kind":
                continue
            tokens.append(f"{field}=")
            _write(value, tokens)
        tokens.append(")")
    elif isinstance(item, list):
        tokens.append("[")
        for element in item:
            _write(element, tokens)
        tokens.append("]")
    else:
        tokens.append(f"{type(item).__name__}:{item!a};")
