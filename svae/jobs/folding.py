"""Removal of the code that settings at their neutral values leave unused.

A field of a dataclass can declare the value with which the code does what it did before the field
existed,

    weight_decay: float = setting(0.0, neutral=0.0)
    weight_decay: float = dataclasses.field(default=0.0, metadata={"neutral": 0.0})

(the keyword `neutral` of any function, a literal). If a setting has that value, `fold` removes its
field and, where it is read as `settings.weight_decay`, the code that this value rules out:

    if settings.weight_decay: ...           the branch that is not taken, and the test
    f() if settings.weight_decay else None  likewise
    settings.weight_decay > 0 and f()       what is not evaluated; `or`, `not` and comparisons with
                                            literals likewise

    {**a, **({"b": c} if settings.weight_decay else {})}   the entries that are not made

The rest is the code as it was before the setting, if the setting is read in no other way. The name
before the last dot must be `settings` or `sampling`, or end in `_settings`: `self.settings`,
`model.settings`.

Imported by the Snakefile: standard library only.
"""

import ast
import operator
from collections.abc import Iterator
from typing import Any, NamedTuple

# Names of settings, and their neutral values as source text.
Idle = tuple[tuple[str, str], ...]

_COMPARISONS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, other: one in other,
    ast.NotIn: lambda one, other: one not in other,
}
_SINGLETONS = (type(None), bool, type(...))
# These affect the whole function around them, even if they never run.
_REACHING_OUT = (ast.Yield, ast.YieldFrom, ast.Global, ast.Nonlocal)
_ACTS = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)


class Declaration(NamedTuple):
    """A field in the body of a class; `neutral`: source text, None where it declares none."""

    owner: str
    name: str
    neutral: str | None


def declarations(owner: ast.ClassDef) -> Iterator[Declaration]:
    """Yield the fields of a class."""
    for node in owner.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), value=value):
                yield Declaration(owner.name, name, _neutral(value))


def _neutral(value: ast.expr | None) -> str | None:
    if not isinstance(value, ast.Call):
        return None
    for keyword in value.keywords:
        match keyword:
            case ast.keyword(arg="neutral", value=found) if _is_literal(found):
                return ast.unparse(found)
            case ast.keyword(arg="metadata", value=ast.Dict(keys=keys, values=values)):
                for key, found in zip(keys, values, strict=True):
                    match key:
                        case ast.Constant(value="neutral") if _is_literal(found):
                            return ast.unparse(found)
    return None


def fold(tree: ast.Module, neutral: dict[str, str]) -> ast.Module:
    """Remove, in place, what the settings at these neutral values leave unused."""
    return _Folder(neutral).visit(tree)


def overridden(nodes: tuple[ast.AST, ...], owners: set[str]) -> Iterator[str]:
    """Yield the names of the settings to which code may give another value than the stage's.

    These are all strings, because `{**settings, "name": value}` makes other settings, and the
    keywords of calls that copy an object, make a mapping, or call a class: one of `owners`, or a
    capitalised name.
    """
    copies = {"replace", "_replace", "__replace__", "dict", "update", *owners}
    for node in (each for root in nodes for each in ast.walk(root)):
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                if name in copies or (isinstance(node.func, ast.Name) and name[:1].isupper()):
                    yield from (keyword.arg for keyword in node.keywords if keyword.arg)
            case ast.Attribute(value=receiver, attr=name, ctx=ast.Store() | ast.Del()):
                if _is_settings(receiver):
                    yield name


class _Unknown(Exception):
    """A value that the settings do not determine."""


class _Folder(ast.NodeTransformer):
    def __init__(self, neutral: dict[str, str]):
        self._neutral = neutral
        self._values = {name: ast.literal_eval(text) for name, text in neutral.items()}

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        idle = {
            field.name
            for field in declarations(node)
            if field.neutral is not None and field.neutral == self._neutral.get(field.name)
        }
        node.body = [
            each
            for each in node.body
            if not isinstance(each, ast.AnnAssign) or _name(each.target) not in idle
        ]
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        node.test = self._as_test(node.test)
        taken = self._truth(node.test)
        if taken is not None and not _reaches_out(node.orelse if taken else node.body):
            return self._block(node.body if taken else node.orelse)
        node.test = self.visit(node.test)
        node.body, node.orelse = self._block(node.body), self._block(node.orelse)
        if not node.body and not node.orelse and not _acts(node.test):
            return None
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        node.test = self._as_test(node.test)
        taken = self._truth(node.test)
        if taken is not None and not _reaches_out([node.orelse if taken else node.body]):
            return self.visit(node.body if taken else node.orelse)
        return self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        pairs = []
        for key, value in zip(node.keys, node.values, strict=True):
            reads = key is None and self._reads(value)
            new_key, new_value = key and self.visit(key), self.visit(value)
            match new_value:
                case ast.Dict(keys=[]) if reads:
                    continue
            pairs.append((new_key, new_value))
        node.keys, node.values = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        return self._shortened(node, as_test=False)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        return self._constant(node) or self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        return self._constant(node) or self.generic_visit(node)

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        left: list[ast.stmt] = []
        for statement in statements:
            found = self.visit(statement)
            left += found if isinstance(found, list) else [found] if found is not None else []
        return left

    def _as_test(self, node: ast.expr) -> ast.expr:
        """Fold an expression of which only the truth value matters."""
        match node:
            case ast.BoolOp():
                return self._shortened(node, as_test=True)
            case ast.UnaryOp(op=ast.Not()):
                node.operand = self._as_test(node.operand)
        return node

    def _shortened(self, node: ast.BoolOp, as_test: bool) -> ast.expr:
        """Remove the operands without influence, and those that are never evaluated."""
        ends = isinstance(node.op, ast.Or)  # the truth value of an operand that ends evaluation
        operands = [self._as_test(each) if as_test else self.visit(each) for each in node.values]
        kept: list[ast.expr] = []
        for number, operand in enumerate(operands):
            truth, rest = self._truth(operand), operands[number + 1 :]
            if truth is ends and not _reaches_out(rest):
                if as_test and not any(map(_acts, kept)):
                    kept = []
                kept.append(self._constant(operand) or operand)
                break
            if truth is (not ends) and (rest or (as_test and kept)):
                continue
            kept.append(operand if truth is None else self._constant(operand) or operand)
        node.values = kept
        return node if len(kept) > 1 else kept[0]

    def _truth(self, node: ast.expr) -> bool | None:
        """Return the truth value of an expression; None if the settings do not determine it."""
        try:
            return bool(self._value(node)) if self._reads(node) else None
        except _Unknown:
            return None

    def _constant(self, node: ast.expr) -> ast.expr | None:
        """Return the value of an expression as a literal; None if the settings do not determine
        it."""
        try:
            literal: Any = ast.parse(repr(self._value(node)), mode="eval").body
        except (_Unknown, SyntaxError):
            return None
        if not self._reads(node) or not _is_literal(literal):
            return None
        literal.of_settings = True  # unlike the literals in the source, which stay
        return literal

    def _reads(self, node: ast.expr) -> bool:
        return any(
            hasattr(each, "of_settings") or self._setting(each) is not None
            for each in ast.walk(node)
        )

    def _setting(self, node: ast.AST) -> str | None:
        match node:
            case ast.Attribute(value=receiver, attr=name) if name in self._values:
                return name if _is_settings(receiver) else None
        return None

    def _value(self, node: ast.expr) -> Any:
        if (name := self._setting(node)) is not None:
            return self._values[name]
        match node:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._value(operand)
            case ast.Compare(left=left, ops=operators, comparators=others):
                return self._compared([left, *others], operators)
        if _is_literal(node):
            return ast.literal_eval(node)
        raise _Unknown

    def _compared(self, operands: list[ast.expr], operators: list[ast.cmpop]) -> bool:
        values = [self._value(operand) for operand in operands]
        return all(map(_holds, values, operators, values[1:]))


def _holds(one: Any, operator: ast.cmpop, other: Any) -> bool:
    if isinstance(operator, ast.Is | ast.IsNot):
        if not isinstance(one, _SINGLETONS) and not isinstance(other, _SINGLETONS):
            raise _Unknown
        return (one is other) is isinstance(operator, ast.Is)
    try:
        return bool(_COMPARISONS[type(operator)](one, other))
    except TypeError:
        raise _Unknown from None


def _is_settings(node: ast.expr) -> bool:
    """`settings`, `self.settings`, `own_settings`, `sampling`: only names and dots."""
    last = node.attr if isinstance(node, ast.Attribute) else _name(node)
    while isinstance(node, ast.Attribute):
        node = node.value
    if last is None or _name(node) is None:
        return False
    return last in ("settings", "sampling") or last.endswith("_settings")


def _name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def _is_literal(node: Any) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _reaches_out(dropped: list[Any]) -> bool:
    return any(isinstance(each, _REACHING_OUT) for node in dropped for each in ast.walk(node))


def _acts(node: ast.AST) -> bool:
    return any(isinstance(each, _ACTS) for each in ast.walk(node))
