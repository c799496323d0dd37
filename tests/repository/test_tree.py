"""Rules about the tree itself that no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path, PurePosixPath

FORBIDDEN_NAMES = {
    "calendar", "cmd", "code", "http", "inspect", "logging", "platform", "queue", "resource", "secrets",
    "select", "signal", "token", "trace", "types",
}  # fmt: skip
README_LINES = 150

# Written in parts, because this file is held to the same rule.
INDEX_HOSTS = [
    ".".join(parts)
    for parts in [
        ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("deb", "debian", "org"),
        ("security", "debian", "org"), ("proxy", "golang", "org"), ("crates", "io"), ("maven", "org"),
    ]
]  # fmt: skip
LOCAL_PATH = re.compile(r"/work/(?:main|shared|\.)|/root/\.|/tmp/bri" + "ef")


def test_operator_never_becomes_a_package(root: Path) -> None:
    assert not (root / "operator" / "__init__.py").exists()


def test_tests_are_no_packages_either(texts: dict[str, str]) -> None:
    assert [name for name in texts if re.fullmatch(r"tests/(.*/)?__init__\.py", name)] == []


def test_no_module_takes_the_name_of_a_standard_module(modules: dict[str, str]) -> None:
    parts = {name: PurePosixPath(name).with_suffix("").parts[2:] for name in modules}
    assert [name for name, path in parts.items() if FORBIDDEN_NAMES.intersection(path)] == []


def test_every_folder_of_modules_is_a_package(modules: dict[str, str]) -> None:
    folders = {str(PurePosixPath(name).parent) for name in modules}
    assert [folder for folder in sorted(folders) if f"{folder}/__init__.py" not in modules] == []


def test_every_package_opens_with_a_charter_and_holds_no_code(modules: dict[str, str]) -> None:
    wrong = []
    for name, text in modules.items():
        if not name.endswith("__init__.py"):
            continue
        tree = ast.parse(text)
        charter = ast.get_docstring(tree) or ""
        code = [ast.unparse(each) for each in tree.body[1:]]
        allowed = name == "operator/toolkeeper/__init__.py" and all(
            each.startswith("__version__ = ") for each in code
        )
        if len(charter.splitlines()) < 3 or (code and not allowed):
            wrong.append(name)
    assert wrong == []


def test_every_module_says_what_it_is(modules: dict[str, str]) -> None:
    assert [name for name, text in modules.items() if not ast.get_docstring(ast.parse(text))] == []


def test_no_file_names_the_host_of_a_package_index(texts: dict[str, str]) -> None:
    assert _lines_with(texts, re.compile("|".join(map(re.escape, INDEX_HOSTS)))) == []


def test_no_file_names_a_path_of_somebodys_machine(texts: dict[str, str]) -> None:
    assert _lines_with(texts, LOCAL_PATH) == []


def test_the_readme_stays_short(root: Path) -> None:
    assert len((root / "README.md").read_text().splitlines()) <= README_LINES


def test_no_test_patches_what_it_tests(texts: dict[str, str]) -> None:
    patch = re.compile(r"unittest\.mo" + r"ck|monkeypatch\.seta" + r"ttr|mocker\.pa" + "tch")
    python = {name: text for name, text in texts.items() if name.endswith(".py")}
    assert _lines_with(python, patch) == []


def test_every_decision_says_context_decision_and_consequences(root: Path) -> None:
    records = sorted((root / "operator" / "decisions").glob("*.md"))
    numbers = [record.name[:4] for record in records]
    assert len(set(numbers)) == len(numbers)
    for record in records:
        text = record.read_text()
        assert re.match(rf"# {int(record.name[:4])}\. ", text), record.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE)[:3] == ["Context", "Decision", "Consequences"], (
            record.name
        )


def _lines_with(texts: dict[str, str], pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
