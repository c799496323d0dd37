"""The images that the latest versions of each server were made of."""

from __future__ import annotations

from pathlib import Path

from toolkeeper.node.version_record import KEPT, VersionRecord

TIME, GIT = "lab/default/time", "lab/default/git"
WEEK = 7 * 86400.0


def test_the_images_of_the_last_five_versions_of_each_server_are_kept(tmp_path: Path) -> None:
    record = VersionRecord(tmp_path / "versions.json")
    for number in range(8):
        record.made(TIME, f"hash-{number}", f"image-{number}")
    record.made(GIT, "hash-0", "image-git")
    assert record.images() == {"image-git", *(f"image-{number}" for number in range(8 - KEPT, 8))}


def test_a_version_that_is_made_again_is_the_latest_again(tmp_path: Path) -> None:
    record = VersionRecord(tmp_path / "versions.json")
    for number in (*range(KEPT), 0, 9):
        record.made(TIME, f"hash-{number}", f"image-{number}")
    assert record.images() == {"image-0", "image-2", "image-3", "image-4", "image-9"}


def test_versions_of_one_image_keep_it_until_the_last_of_them_is_old(tmp_path: Path) -> None:
    record = VersionRecord(tmp_path / "versions.json")
    for number in range(KEPT):
        record.made(TIME, f"hash-{number}", "image")
    record.made(TIME, "hash-new", "image-new")
    assert record.images() == {"image", "image-new"}


def test_a_server_without_containers_keeps_its_images_for_a_while_only(tmp_path: Path) -> None:
    record = VersionRecord(tmp_path / "versions.json")
    record.made(TIME, "hash", "image")
    record.made(GIT, "hash", "image-git")
    record.looked({TIME, GIT}, 1000.0, forget_after=WEEK)
    record.looked({GIT}, 1000.0 + WEEK - 1, forget_after=WEEK)
    assert record.images() == {"image", "image-git"}
    record.looked({GIT}, 1000.0 + WEEK, forget_after=WEEK)
    assert record.images() == {"image-git"}


def test_a_server_that_was_never_looked_at_is_not_forgotten_at_once(tmp_path: Path) -> None:
    record = VersionRecord(tmp_path / "versions.json")
    record.made(TIME, "hash", "image")
    record.looked((), 9e9, forget_after=WEEK)
    assert record.images() == {"image"}


def test_it_survives_a_restart_of_the_node_and_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "state" / "versions.json"
    VersionRecord(path).made(TIME, "hash", "image")
    assert VersionRecord(path).images() == {"image"}
    for broken in ("", "[]", '{"a": 1}', '{"a": {"latest": [1], "seen": 0}}'):
        path.write_text(broken)
        assert VersionRecord(path).images() == frozenset()
