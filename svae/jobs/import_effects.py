"""Which statements act when their module is imported, even if nothing uses what they bind.

`TABLE["a"] = f`, `TABLE.update(...)`, `register(f)` and a function with an unknown decorator are
covered wherever their module is imported; a function, a class or a constant only where it is used.
A statement is assumed to act unless it is known not to.

Imported by the Snakefile: standard library only.
"""

import ast
import builtins
from collections.abc import Iterable, Iterator

from svae.jobs import harmless
from svae.jobs.canonical import Chain
from svae.jobs.definitions import Module, Part
from svae.jobs.lookup import Found, Lookup

_PROPERTY_PARTS = {"deleter", "getter", "setter"}
_MAKING = {"__init__", "__new__", "__post_init__", "__init_subclass__", "__set_name__"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_FRESH = (ast.Constant, ast.Dict, ast.DictComp, ast.List, ast.ListComp, ast.Set, ast.SetComp)
# A function without side effects has none of these.
_CHANGES = (ast.AugAssign, ast.Delete, ast.Global, ast.Nonlocal, ast.Import, ast.ImportFrom)
_WAITS = (ast.Await, ast.Yield, ast.YieldFrom, ast.With, ast.AsyncWith, ast.AsyncFor)


def chain_of(node: ast.expr) -> Chain | None:
    """Return `a.b.c` as ("a", "b", "c"); None for anything but a name with attributes."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else None


class Effects:
    """Whether the parts of modules act."""

    def __init__(self, look: Lookup):
        self._look = look
        self._known: dict[tuple[str, int], bool] = {}

    def acts(self, module: Module, part: Part) -> bool:
        key = module.name, part.number
        if key not in self._known:
            self._known[key] = False  # if the part depends on itself
            self._known[key] = _Statements(self._look, module, part).act([part.node])
        return self._known[key]


class _Statements:
    """The statements of one part."""

    def __init__(
        self, look: Lookup, module: Module, part: Part, within: frozenset[Part] = frozenset()
    ):
        self._look, self._module = look, module
        self._within = within | {part}

    def act(self, statements: Iterable[ast.stmt], in_class: frozenset[str] | None = None) -> bool:
        """in_class: the names bound by the class around the statements; None outside of classes."""
        return any(self._acts(each, in_class) for each in statements)

    def _acts(self, node: ast.stmt, in_class: frozenset[str] | None) -> bool:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
                return self._decorated(node, in_class) or self._calls(defaults)
            case ast.ClassDef():
                names = frozenset(each.name for each in node.body if isinstance(each, _FUNCTIONS))
                return (
                    self._decorated(node, in_class)
                    or self._calls([*node.bases, *node.keywords])
                    or self._is_hooked(node)
                    or self.act(node.body, names)
                )
            case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.AnnAssign(value=None):
                return False
            case ast.Expr(value=ast.Constant()):
                return False
            case ast.Expr(value=ast.Call(func=function, args=arguments, keywords=keywords)):
                return not self._is_left_out(function) or self._calls([*arguments, *keywords])
            case ast.Assign(targets=targets) if all(map(_binds_only, targets)):
                return self._calls([node.value])
            case ast.AnnAssign(target=ast.Name()):
                return self._calls([node.value])
            case ast.AugAssign(target=ast.Name(id=name)) if self._is_fresh(name):
                return self._calls([node.value])
            case ast.Assign(targets=targets) | ast.Delete(targets=targets):
                left_out = all(map(self._is_left_out, targets))
                values = [node.value] if isinstance(node, ast.Assign) else []
                return not left_out or self._calls(values)
            case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
                return not self._is_left_out(target) or self._calls([node.value])
            case ast.If():
                return self._calls([node.test]) or self.act([*node.body, *node.orelse], in_class)
            case ast.Try():
                handlers = [each for handler in node.handlers for each in handler.body]
                inner = [*node.body, *handlers, *node.orelse, *node.finalbody]
                return self.act(inner, in_class)
        return type(node).__name__ != "TypeAlias"

    def _is_hooked(self, node: ast.ClassDef) -> bool:
        """Whether a base or a metaclass in the package may run code for a new class."""
        for keyword in node.keywords:
            if keyword.arg == "metaclass" and not self._is_outside(keyword.value):
                return True
        for base in node.bases:
            found = self._found(base)
            if found is None:
                return True
            if found.outside is None:
                if found.part is None or not found.part.is_class or found.rest:
                    return True
                own = found.part.node
                if any(getattr(each, "name", None) == "__init_subclass__" for each in own.body):
                    return True
                inner = _Statements(self._look, found.module, found.part, self._within)
                if found.part not in self._within and inner._is_hooked(own):
                    return True
        return False

    def _found(self, base: ast.expr) -> Found | None:
        """Return what a base stands for, without its type parameters."""
        if isinstance(base, ast.Subscript):
            base = base.value
        chain = chain_of(base)
        return None if chain is None else self._look.find(self._module, chain)

    def _is_outside(self, base: ast.expr) -> bool:
        found = self._found(base)
        return found is not None and found.outside is not None

    def _is_left_out(self, node: ast.expr) -> bool:
        while (chain := chain_of(node)) is None:
            match node:
                case ast.Subscript(value=inner) | ast.Attribute(value=inner) | ast.Call(func=inner):
                    node = inner
                case _:
                    return False
        return self._look.is_left_out(self._module, chain)

    def _is_fresh(self, name: str) -> bool:
        """Whether only this module can hold the object of a name."""
        for item in self._module.names.get(name, ()):
            match getattr(item, "node", None):
                case ast.Assign(value=value) | ast.AnnAssign(value=value):
                    if not isinstance(value, _FRESH):
                        return False
                case ast.AugAssign():
                    pass
                case _:
                    return False
        return True

    def _decorated(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
        in_class: frozenset[str] | None,
    ) -> bool:
        return any(not self._decorates(each, in_class) for each in node.decorator_list)

    def _decorates(self, decorator: ast.expr, in_class: frozenset[str] | None) -> bool:
        """Whether a decorator has no side effect."""
        function = decorator.func if isinstance(decorator, ast.Call) else decorator
        chain = chain_of(function)
        if chain is None:
            return False
        arguments = (
            [*decorator.args, *decorator.keywords] if isinstance(decorator, ast.Call) else []
        )
        if self._calls(arguments):
            return False
        if self._look.is_left_out(self._module, chain):
            return True
        if len(chain) == 2 and chain[0] in (in_class or ()) and chain[1] in _PROPERTY_PARTS:
            return True
        found = self._look.find(self._module, chain)
        return found is not None and found.outside in harmless.DECORATORS

    def _calls(self, nodes: Iterable[ast.AST | None]) -> bool:
        """Whether a call among expressions may act."""
        for node in (each for root in nodes if root is not None for each in _evaluated(root)):
            if isinstance(node, ast.Await | ast.Yield | ast.YieldFrom):
                return True
            if isinstance(node, ast.Call) and not self._is_harmless(node):
                return True
        return False

    def _is_harmless(self, call: ast.Call, own: frozenset[str] = frozenset()) -> bool:
        """Whether a call has no side effect. own: names of the function around it, all unknown."""
        chain = chain_of(call.func)
        method = call.func.attr if isinstance(call.func, ast.Attribute) else None
        if chain is None or chain[0] in own:
            return method in harmless.METHODS
        if self._look.is_left_out(self._module, chain):
            return True
        found = self._look.find(self._module, chain)
        if found is None:
            return False
        if found.outside is not None:
            return self._is_harmless_outside(found.outside) and all(
                self._gives(each, own) for each in (*call.args, *(k.value for k in call.keywords))
            )
        if found.part is None or found.part in self._within:
            return False
        inner = _Statements(self._look, found.module, found.part, self._within)
        if found.rest:
            variable = not found.part.is_class and not found.part.is_function
            return variable and len(found.rest) == 1 and method in harmless.METHODS
        if found.part.is_class:
            return inner._is_made_harmlessly(found.part.node)
        return found.part.is_function and inner._only_gives(found.part.node)

    def _is_harmless_outside(self, name: str) -> bool:
        if name in harmless.FUNCTIONS or name.startswith(harmless.MODULES):
            return True
        first, _, rest = name.removeprefix("builtins.").partition(".")
        if name.startswith("builtins."):
            return first in harmless.BUILT_INS and (not rest or rest in harmless.METHODS)
        return False

    def _gives(self, argument: ast.expr, own: frozenset[str]) -> bool:
        """Whether an argument has no side effect even if it is called, as by `map`."""
        if isinstance(argument, ast.Lambda):
            own |= frozenset(_own_names(argument))
            calls = [each for each in _evaluated(argument.body) if isinstance(each, ast.Call)]
            return all(self._is_harmless(each, own) for each in calls)
        chain = chain_of(argument)
        if chain is None or chain[0] in own:
            return True
        found = self._look.find(self._module, chain)
        if found is None or found.part is None or found.rest:
            return True
        if found.part.is_class or found.part.is_function:
            return self._is_harmless(ast.Call(func=argument, args=[], keywords=[]), own)
        return True

    def _is_made_harmlessly(self, node: ast.ClassDef) -> bool:
        """Whether creating an object of a class runs no code of ours, as with a dataclass."""
        if node.keywords or any(getattr(each, "name", None) in _MAKING for each in node.body):
            return False
        for each in (found for inner in node.body for found in ast.walk(inner)):
            match each:
                case ast.keyword(arg="default_factory", value=ast.Name(id=name)):
                    if name not in harmless.BUILT_INS:
                        return False
                case ast.keyword(arg="default_factory", value=value):
                    if not isinstance(value, ast.Lambda):
                        return False
        return all(map(self._is_harmless_base, node.bases))

    def _is_harmless_base(self, base: ast.expr) -> bool:
        found = self._found(base)
        if found is None:
            return False
        if found.outside is not None:
            return found.outside in harmless.BASES or _is_exception(found.outside)
        if found.part is None or found.rest or not found.part.is_class:
            return False
        if found.part in self._within:
            return False
        inner = _Statements(self._look, found.module, found.part, self._within)
        return inner._is_made_harmlessly(found.part.node)

    def _only_gives(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        """Whether a function is known to have no side effect."""
        own = frozenset(_own_names(node))
        if node.decorator_list:
            return False
        for each in (found for inner in node.body for found in ast.walk(inner)):
            match each:
                case ast.Expr(value=value) if not isinstance(value, ast.Constant):
                    return False
                case ast.Assign(targets=targets) if not all(map(_binds_only, targets)):
                    return False
                case ast.Call() if not self._is_harmless(each, own):
                    return False
            if isinstance(each, (*_CHANGES, *_WAITS)):
                return False
        return True


def _evaluated(root: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of an expression, without the bodies of lambdas."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.Lambda):
            waiting += [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        else:
            waiting += ast.iter_child_nodes(node)


def _own_names(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        match each:
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name


def _is_exception(name: str) -> bool:
    value = vars(builtins).get(name.removeprefix("builtins."))
    return isinstance(value, type) and issubclass(value, BaseException)


def _binds_only(target: ast.expr) -> bool:
    """Whether the target of an assignment is only names, so that no object changes."""
    match target:
        case ast.Name():
            return True
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return all(map(_binds_only, parts))
        case ast.Starred(value=value):
            return _binds_only(value)
    return False
