"""Where the installation id comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkeeper.errors import Invalid
from toolkeeper.stores.installation import installation_of


def test_a_given_name_wins(tmp_path: Path) -> None:
    (tmp_path / "toolkeeper.yaml").write_text("installation: blue\n")
    assert installation_of(tmp_path, "green").id == "green"


def test_the_tree_names_it(tmp_path: Path) -> None:
    (tmp_path / "toolkeeper.yaml").write_text("installation: blue\n")
    found = installation_of(tmp_path)
    assert found.id == "blue"
    assert str(tmp_path / "toolkeeper.yaml") in found.origin


def test_otherwise_it_is_derived_from_the_path_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    first, second = installation_of(tmp_path), installation_of(tmp_path / "link")
    assert first.id == second.id
    assert len(first.id) == 9
    assert f"installation: {first.id}" in first.origin


def test_two_folders_have_two_ids(tmp_path: Path) -> None:
    assert installation_of(tmp_path / "a").id != installation_of(tmp_path / "b").id


@pytest.mark.parametrize(
    "text",
    [
        "installation: Blue",
        "installation: [blue]",
        "- blue",
        "name: blue",
        "a: [",
        "installation: " + "b" * 64,
    ],
)
def test_a_file_that_names_none_is_never_replaced_by_a_guess(tmp_path: Path, text: str) -> None:
    (tmp_path / "toolkeeper.yaml").write_text(text)
    with pytest.raises(Invalid, match=r"toolkeeper\.yaml"):
        installation_of(tmp_path)


def test_an_empty_file_names_none(tmp_path: Path) -> None:
    (tmp_path / "toolkeeper.yaml").write_text("# later\n")
    assert installation_of(tmp_path).id.startswith("d")


def test_a_name_that_no_container_can_carry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="lower-case"):
        installation_of(tmp_path, "my_installation")
