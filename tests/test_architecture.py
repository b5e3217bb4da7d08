"""The imports within svae/ are those that docs/architecture.md allows."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "svae"
FREE = {"errors", "pixels", "streams"}


def name_of(path):
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path):
    """The modules of svae that a module imports, at any depth of nesting."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
    return found & set(MODULES)


IMPORTS = {name: imported(path) for name, path in MODULES.items()}


def room(module):
    return module.split(".")[1] if "." in module else "svae"


def allowed():
    """The imports that the table allows, by room."""
    text = (REPOSITORY / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", text, re.M)
    return {name: set(re.findall(r"`([\w.]+)`", cell)) for name, cell in rows}


def test_the_table_has_every_room():
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(allowed()) == packages


@pytest.mark.parametrize("module", MODULES)
def test_imports_are_allowed(module):
    here = room(module)
    if module == "svae":
        assert IMPORTS[module] == {"svae.use.trained_model"}  # within `load`
        return
    if here in FREE:
        assert not {room(name) for name in IMPORTS[module]} - {"svae"} - FREE
        return
    for name in IMPORTS[module]:
        there = room(name)
        wanted = {there, name.removeprefix("svae.")}
        # Provenance reads the version of the package itself.
        assert there in {here, "svae"} | FREE or wanted & allowed()[here], (
            f"{module} imports {name}"
        )


def test_every_allowed_import_is_used():
    used = {(room(a), room(b)) for a, names in IMPORTS.items() for b in names}
    for here, names in allowed().items():
        for name in names:
            assert (here, name.split(".")[0]) in used, f"{here} does not import {name}"


def test_no_circular_imports():
    # From the package itself, modules only read the version.
    within = {name: names - {"svae"} for name, names in IMPORTS.items()}
    TopologicalSorter(within).prepare()  # raises CycleError
    rooms = {}
    for module, names in within.items():
        rooms.setdefault(room(module), set()).update(map(room, names))
    TopologicalSorter({a: names - {a} for a, names in rooms.items()}).prepare()


def test_names_of_modules_are_unique():
    # A package may have the same name as the settings that it reads.
    names = [
        name.rpartition(".")[2]
        for name, path in MODULES.items()
        if path.name != "__init__.py" and room(name) != "settings"
    ]
    assert len(names) == len(set(names))


def test_the_snakefile_imports_nothing_heavy():
    lines = "\n".join(
        re.findall(r"^from svae.*$", (REPOSITORY / "rules/common.smk").read_text(), re.M)
    )
    heavy = ("tensorflow", "keras", "numpy", "scipy", "h5py", "matplotlib")
    code = f"import sys\n{lines}\nprint([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert run.stdout.strip() == "[]", run.stderr


def test_each_rule_has_a_script_of_its_name():
    text = "\n".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    # The rules of scores, `parzen` and `scores`, are made from one that has no name.
    rules = [name or "score" for name in re.findall(r"^(?:    rule|rule (\w+)):", text, re.M)]
    scripts = re.findall(r'^ +"\.\./scripts/(\w+)\.py"', text, re.M)
    assert rules == scripts
    assert {path.stem for path in (REPOSITORY / "scripts").glob("*.py")} == set(scripts)
