"""The part of a module's code that can change a result: its syntax tree without the rest.

Removed are

- comments and layout, docstrings, all other statements that are only a constant (the docstrings of
  attributes), and `pass`;
- annotations. In the body of a class the annotated names stay, in their order, and whether they are
  a ClassVar, an InitVar or KW_ONLY: dataclasses and NamedTuples make their fields from these;
- texts of errors, which are strings, f-strings and whatever is joined to them, among the arguments
  of an error or in an `assert`. The class of the error and its other arguments stay. Errors are
  what a `raise` calls if its name is capitalised, the built-in exceptions, the classes of the
  package that inherit from one of them, and the functions of the same module whose only way out is
  to return one of these. Other names in `Error` do not count: the losses of Keras end in it, too,
  and their strings affect results;
- descriptions of settings, the second argument of `setting` in a class, which only messages and
  the schema of the configuration show;
- log lines and calls of `warnings.warn`, whole, together with the assignment of a logger and the
  imports of logging and warnings;
- imports of names from typing and collections.abc, because most serve annotations only. A name that
  is used elsewhere stays where it is used.

Everything else stays: in particular every string that is compared, stored, returned or passed on,
defaults of arguments, decorators and names. A text or a log line keeps the parts that may have an
effect: calls, except those of a few built-in functions, `:=`, `await` and `yield`. A variable that
is used only in a text stays, too.

This is correct only for code whose results do not depend on its own docstrings, annotations and
source, or on the texts of its own errors. tests/test_fingerprint.py checks the package for that.

Imported by the Snakefile: standard library only.
"""

import ast
import builtins
import operator
import re
from collections.abc import Iterable
from typing import Any

BUILT_IN_ERRORS = frozenset(
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
)

_LOG_METHODS = {"critical", "debug", "error", "exception", "info", "log", "warning"}
_NAMES_ONLY = {"collections.abc", "logging", "typing", "warnings"}
_FIELD_KINDS = re.compile(r"\b(ClassVar|InitVar|KW_ONLY)\b")

# Functions without any effect.
_HARMLESS = {"abs", "float", "format", "int", "len", "repr", "round", "str", "type"}
# These may exhaust an iterator. That is an effect in a log line, because the next line may read the
# iterator, but not in an error.
_ITERATING = {"dict", "enumerate", "list", "max", "min", "set", "sorted", "sum", "tuple", "zip"}
_ITERATIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Starred)
# Expressions all of whose parts are evaluated, whatever their values.
_UNCONDITIONAL = (
    *(ast.Attribute, ast.BinOp, ast.Dict, ast.FormattedValue, ast.JoinedStr, ast.List, ast.Set),
    *(ast.Slice, ast.Subscript, ast.Tuple, ast.UnaryOp, ast.keyword),
)
_KINDS_OF_LEAVES = (ast.expr_context, ast.operator, ast.cmpop, ast.boolop, ast.unaryop)
_LEAVES = {
    ast.Name,
    ast.Constant,
    *(k for kinds in _KINDS_OF_LEAVES for k in kinds.__subclasses__()),
}


class Stripper(ast.NodeVisitor):
    """Removes from the statements of one module what the docstring of svae.jobs.meaning lists.

    statements  all statements of the module, at any depth of nesting.
    errors      names that stand for exceptions in this module.
    """

    def __init__(self, statements: Iterable[ast.AST], errors: frozenset[str]) -> None:
        self._loggers: set[str] = set()
        self._errors = errors
        self._in_class = False
        makers: set[str] = set()
        others: set[str] = set()
        for node in statements:
            if isinstance(node, ast.Assign) and _makes_logger(node.value):
                self._loggers.update(_names(node.targets))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                (makers if self._only_makes_an_error(node) else others).add(node.name)
        # The functions whose only way out is to return an error in their last line.
        self._makers = makers - others

    def strip(self, statement: ast.stmt) -> list[ast.AST]:
        """Return what is left of a top-level statement, which itself stays unchanged.

        The result cannot be compiled: bodies may be empty, and strings may contain bare calls.
        """
        left = self.visit(statement)
        if isinstance(left, list):
            return left
        return [] if left is None else [left]

    def _only_makes_an_error(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        match node.body:
            case [*_, ast.Return(value=ast.Call(func=ast.Name(id=name)))]:
                return name in self._errors and _ways_out(node) == 1
        return False

    def _makes_error(self, function: ast.expr) -> bool:
        match function:
            case ast.Name(id=name):
                return name in self._errors or name in self._makers
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                return name in self._makers
        return False

    def _logs(self, node: ast.expr) -> bool:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="warnings"), attr="warn")):
                return True
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)):
                return method in _LOG_METHODS and (name == "logging" or name in self._loggers)
            case ast.Call(func=ast.Attribute(value=value, attr=method)):
                return method in _LOG_METHODS and _makes_logger(value)
        return False

    # A visit returns the node itself if nothing of it is removed, else a copy, a list or None.

    def visit(self, node: ast.AST) -> Any:
        # Most nodes are leaves, of which nothing is removed.
        return node if type(node) in _LEAVES else super().visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        changes = {}
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                found: Any = []
                for each in value:
                    left = self.visit(each) if isinstance(each, ast.AST) else each
                    if isinstance(left, list):
                        found += left
                    elif left is not None or each is None:
                        found.append(left)
                if len(found) == len(value) and all(map(operator.is_, found, value)):
                    continue
            elif isinstance(value, ast.AST):
                found = self.visit(value)
                if found is value:
                    continue
            else:
                continue
            changes[name] = found
        return _copied(node, **changes) if changes else node

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_Expr(self, node: ast.Expr) -> ast.AST | list[ast.AST] | None:
        if isinstance(node.value, ast.Constant):
            return None
        if self._logs(node.value):
            call: Any = node.value
            arguments = [*call.args, *call.keywords]
            kept = [part for each in arguments for part in _acting(each, iterating=True)]
            return [self.generic_visit(ast.Expr(part)) for part in kept]
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        if _makes_logger(node.value) and len(_names(node.targets)) == len(node.targets):
            return None
        return self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        names = [name for name in node.names if not only_names(name.name, name)]
        return _copied(node, names=names) if names else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        names = [
            name for name in node.names if node.level or not only_names(node.module or "", name)
        ]
        return _copied(node, names=names) if names else None

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._visit_body(node, in_class=True)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._visit_body(_copied(node, returns=None), in_class=False)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._visit_body(_copied(node, returns=None), in_class=False)

    def _visit_body(self, node: ast.AST, in_class: bool) -> ast.AST:
        around, self._in_class = self._in_class, in_class
        node = self.generic_visit(node)
        self._in_class = around
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return _copied(node, annotation=None)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if self._in_class:
            return self.generic_visit(_copied(node, annotation=_field_kinds(node.annotation)))
        if node.value is None:
            return None
        return self.generic_visit(ast.Assign([node.target], node.value))

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        match node.exc:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                # A class; a function could choose the class of its error by a string.
                if name.lstrip("_")[:1].isupper():
                    node = _copied(node, exc=_with_masked_texts(node.exc))
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if self._makes_error(node.func):
            node = _with_masked_texts(node)
        match node:
            case ast.Call(func=ast.Name(id="setting"), args=[default, text, *rest]):
                if self._in_class:
                    node = _copied(node, args=[default, _masked(text), *rest])
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        if node.msg is not None and _is_text(node.msg):
            kept = _acting(node.msg)
            node = _copied(node, msg=ast.JoinedStr(kept) if kept else None)
        return self.generic_visit(node)


def _copied(node: ast.AST, **changes: object) -> Any:
    """Return a copy of the same class with other fields."""
    copy = type(node).__new__(type(node))
    vars(copy).update(vars(node), **changes)
    return copy


def only_names(module: str, name: ast.alias) -> bool:
    """Return whether an import of `name`, from `module`, is one of those that are removed."""
    return module in _NAMES_ONLY and not name.asname and name.name != "*"


def _ways_out(function: ast.AST) -> int:
    ways_out = (ast.Return, ast.Raise, ast.Yield, ast.YieldFrom)
    return sum(isinstance(part, ways_out) for part in ast.walk(function))


def _names(targets: list[ast.expr]) -> list[str]:
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _makes_logger(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="logging"), attr="getLogger")):
            return not any(map(_acting, node.args))
    return False


def _field_kinds(annotation: ast.expr) -> list[str]:
    """Return what a dataclass reads in the annotation of a field."""
    found = set()
    for node in ast.walk(annotation):
        match node:
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.Constant(value=str(text)):
                found.update(_FIELD_KINDS.findall(text))
    return sorted(found)


def _with_masked_texts(call: ast.Call) -> Any:
    """Replace each argument that is a text by an f-string with only its effects, if any."""
    keywords = [ast.keyword(each.arg, _masked(each.value)) for each in call.keywords]
    return _copied(call, args=[_masked(each) for each in call.args], keywords=keywords)


def _masked(argument: ast.expr) -> ast.expr:
    return ast.JoinedStr(_acting(argument)) if _is_text(argument) else argument


def _is_text(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=str()) | ast.JoinedStr():
            return True
        case ast.BinOp(left=one, op=ast.Add() | ast.Mod() | ast.Mult(), right=other):
            return _is_text(one) or _is_text(other)
        case ast.IfExp(body=one, orelse=other):
            return _is_text(one) or _is_text(other)
        case ast.Call(func=ast.Attribute(value=text, attr="join" | "format")):
            return _is_text(text)
    return False


def _acting(node: ast.AST, iterating: bool = False) -> list[Any]:
    """Return the parts of an expression that may have an effect, in order.

    iterating  whether exhausting an iterator counts as an effect.
    """
    if not any(_acts(part, iterating) for part in ast.walk(node)):
        return []
    if isinstance(node, _UNCONDITIONAL) or (
        isinstance(node, ast.Call) and not _acts(node, iterating)
    ):
        children = ast.iter_child_nodes(node)
        return [part for child in children for part in _acting(child, iterating)]
    return [node]


def _acts(node: ast.AST, iterating: bool) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name not in _HARMLESS and (iterating or name not in _ITERATING)
        case ast.Call(func=ast.Attribute(value=text, attr="join" | "format")) if _is_text(text):
            return iterating
        case ast.Call() | ast.Await() | ast.Yield() | ast.YieldFrom() | ast.NamedExpr():
            return True
    return iterating and isinstance(node, _ITERATIONS)
