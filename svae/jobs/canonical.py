"""The canonical text of a piece of code, and the names and strings in it.

Imported by the Snakefile: standard library only.
"""

import ast
from collections.abc import Iterable
from typing import Any, NamedTuple

# A name and the attributes that are read from it: `a.b.c` is ("a", "b", "c").
Chain = tuple[str, ...]


class Canonical(NamedTuple):
    """The result of `canonical`.

    The text is ASCII, and the same in all versions of Python from 3.11 on; equal texts mean equal
    code. A name that is only assigned is not used. `vars()` and `dir()` count as uses of `globals`,
    which gives access to the same names.
    """

    text: str
    used: frozenset[Chain]
    strings: frozenset[str]


def canonical(nodes: Iterable[ast.AST]) -> Canonical:
    """Return the text of syntax trees, every chain that they use, and their strings."""
    writer = _Writer()
    for node in nodes:
        writer.write(node)
    return Canonical("".join(writer.tokens), frozenset(writer.used), frozenset(writer.strings))


# Fields that differ between versions of Python or have no meaning: `ctx`, whether a name is read or
# assigned, follows from its position; `kind` distinguishes u"a" from "a".
_LEFT_OUT = {"ctx", "kind", "type_comment"}


class _Writer:
    """Replaces `ast.dump`, whose output for empty and new fields differs between versions.

    Here a field that is None or empty is left out, whichever version has it. Values are in ASCII,
    because `repr` escapes the characters that are not in the version's Unicode tables.
    """

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.used: set[Chain] = set()
        self.strings: set[str] = set()
        self._fields: dict[type, tuple[str, ...]] = {}

    def write(self, item: Any) -> None:
        kind = type(item)
        if kind is ast.Name:
            self._name(item.id, type(item.ctx) is ast.Load)
        elif kind is ast.Constant:
            self.tokens.append(f"{type(item.value).__name__}:{item.value!a};")
            if isinstance(item.value, str):
                self.strings.add(item.value)
        elif kind is ast.Attribute:
            self._attribute(item)
        elif kind is list:
            self.tokens.append("[")
            for element in item:
                self.write(element)
            self.tokens.append("]")
        elif isinstance(item, ast.AST):
            self._node(item, kind)
        else:
            self.tokens.append(f"{kind.__name__}:{item!a};")

    def _name(self, name: str, read: bool) -> None:
        self.tokens.append(f"<{name!a}>")
        if read:
            self.used.add((name,))

    def _attribute(self, node: ast.Attribute) -> None:
        attributes: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            attributes.append(base.attr)
            base = base.value
        attributes.reverse()
        if "__subclasses__" in attributes:  # of any object
            self.used.add(("__subclasses__",))
        self.tokens.append(f"<{'.'.join(attributes)!a} of ")
        if isinstance(base, ast.Name):
            self._name(base.id, read=False)
            self.used.add((base.id, *attributes))
        else:
            self.write(base)
        self.tokens.append(">")

    def _node(self, node: Any, kind: type[ast.AST]) -> None:
        if kind is ast.AugAssign and isinstance(node.target, ast.Name):
            self.used.add((node.target.id,))
        elif kind is ast.Call and not node.args and not node.keywords:
            match node.func:
                case ast.Name(id="dir" | "vars"):
                    self.used.add(("globals",))
        fields = self._fields.get(kind)
        if fields is None:
            fields = tuple(name for name in kind._fields if name not in _LEFT_OUT)
            self._fields[kind] = fields
        self.tokens.append(f"{kind.__name__}(")
        for name in fields:
            value: Any = getattr(node, name, None)
            if kind is ast.JoinedStr:
                # Python 3.12.1 adds an empty string to the format in f"{x:{width}}".
                value = [part for part in value if not _is_empty(part)]
            if value is None or value == []:
                continue
            self.tokens.append(f"{name}=")
            self.write(value)
        self.tokens.append(")")


def _is_empty(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == ""
