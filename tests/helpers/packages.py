"""Small packages to take fingerprints of."""

import textwrap


def write(folder, files):
    """Write a package `pkg`, {path: source text}; return its folder."""
    root = folder / "pkg"
    for path, text in {"__init__.py": "", **files}.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
    for parent in {file.parent for file in root.rglob("*.py")}:
        (parent / "__init__.py").touch()
    return root


def edit(package, file, old, new):
    path = package / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
