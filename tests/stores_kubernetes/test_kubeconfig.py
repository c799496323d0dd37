"""Reading a kubeconfig: the credentials of a person, and what to do when they lead nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from toolkeeper.errors import Invalid, Unreachable
from toolkeeper.stores.kubernetes.access import session
from toolkeeper.stores.kubernetes.kubeconfig import files_of, read

CURRENT = "current-context"


def written(
    folder: Path, name: str = "config", /, *, user: dict[str, Any] | None = None, **more: Any
) -> Path:
    """A kubeconfig with the contexts `lab` (the current one) and `live`."""
    path = folder / name
    document = {
        "current-context": "lab",
        "contexts": [
            {"name": "lab", "context": {"cluster": "lab", "user": "me"}},
            {"name": "live", "context": {"cluster": "live", "user": "me", "namespace": "tools"}},
        ],
        "clusters": [
            {"name": "lab", "cluster": {"server": "https://lab.example", "certificate-authority": "ca.crt"}},
            {"name": "live", "cluster": {"server": "https://live.example"}},
        ],
        "users": [{"name": "me", "user": user if user is not None else {"token": "sesame"}}],
    }
    path.write_text(json.dumps(document | more))
    return path


def test_the_current_context_counts_unless_another_is_named(tmp_path: Path) -> None:
    file = written(tmp_path)
    lab, live = read([file]), read([file], "live")
    assert (lab.server, lab.default_namespace, lab.token) == ("https://lab.example", "default", "sesame")
    assert (live.server, live.default_namespace) == ("https://live.example", "tools")


def test_files_are_looked_for_beside_the_kubeconfig_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\n")
    found = read([written(tmp_path, user={"tokenFile": "token"})])
    assert found.ca_path == str(tmp_path / "ca.crt")
    assert found.token == "from a file"


def test_of_several_files_the_first_to_say_something_counts(tmp_path: Path) -> None:
    first = written(
        tmp_path, "first", **dict[str, Any](contexts=[], clusters=[], users=[]) | {CURRENT: "live"}
    )
    second = written(tmp_path, "second")
    files = files_of({"KUBECONFIG": f"{first}:{second}"})
    assert read(files).server == "https://live.example"


@pytest.mark.parametrize(
    ("user", "context", "why"),
    [
        ({"auth-provider": {"name": "gcp"}}, "", "gets its credentials from an auth-provider"),
        ({"exec": {"command": "aws"}}, "", "needs a command and an apiVersion"),
        ({}, "elsewhere", "has no context 'elsewhere'; it has lab, live"),
    ],
)
def test_what_leads_nowhere_is_refused_with_the_way_out(
    tmp_path: Path, user: dict[str, Any], context: str, why: str
) -> None:
    with pytest.raises(Invalid, match=why):
        read([written(tmp_path, user=user)], context)


def test_a_context_of_a_missing_cluster_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="leads nowhere: 'lab' is missing"):
        read([written(tmp_path, clusters=[])])


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"clusters": "lab"}, "clusters of the kubeconfig .* is no list of entries"),
        ({"users": ["me"]}, "users of the kubeconfig .* is no list of entries"),
        (
            {"contexts": [{"name": "lab", "context": "lab"}]},
            "contexts of the kubeconfig .* is no list of entries",
        ),
        ({"clusters": [{"name": "lab", "cluster": {"server": 7}}]}, "its server is no URL, but '7'"),
    ],
)
def test_sections_of_another_shape_are_refused_by_name(
    tmp_path: Path, said: dict[str, Any], why: str
) -> None:
    with pytest.raises(Invalid, match=why):
        read([written(tmp_path, **said)])


@pytest.mark.anyio
async def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=str(tmp_path / "ca.crt")):
        session(read([written(tmp_path)]))


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_file_that_is_no_kubeconfig_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(Invalid, match=str(tmp_path / "config")):
        read([tmp_path / "config"])
