"""What is believed about a cluster does not depend on the order in which it was told."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from toolkeeper.reconcile.ports import Change
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.stores.kubernetes.beliefs import Beliefs

KIND = "MCPServer"
TIME = Key(KIND, "default", "time")


def document(
    version: int, *, uid: str = "u1", image: str = "time:1", name: str = "time", **more: Any
) -> dict[str, Any]:
    """An object as the API server writes it."""
    metadata = {
        "name": name,
        "namespace": "default",
        "uid": uid,
        "resourceVersion": str(version),
        "generation": 1,
    }
    spec = {"toolboxRef": "here", "image": image}
    return {"metadata": metadata | more.pop("metadata", {}), "spec": spec, **more}


def test_an_older_version_never_replaces_a_newer_one() -> None:
    beliefs = Beliefs()
    assert beliefs.seen(KIND, document(5, image="new:1")) == Change(TIME)
    assert beliefs.seen(KIND, document(4, image="old:1")) is None
    assert image(beliefs) == "new:1"


def test_what_is_gone_does_not_come_back_with_a_late_event() -> None:
    beliefs = Beliefs()
    beliefs.seen(KIND, document(5))
    assert beliefs.gone(KIND, document(6)) == Change(TIME)
    assert beliefs.seen(KIND, document(5)) is None
    assert beliefs.listed(KIND, None, [document(5)], 5) == ()
    assert beliefs.resources() == ()


def test_the_deletion_of_an_object_does_not_touch_its_successor() -> None:
    beliefs = Beliefs()
    beliefs.seen(KIND, document(5, uid="u1"))
    beliefs.seen(KIND, document(8, uid="u2"))
    assert beliefs.gone(KIND, document(7, uid="u1")) is None
    assert [each.metadata.uid for each in beliefs.resources()] == ["u2"]


def test_what_a_list_does_not_show_is_gone() -> None:
    beliefs = Beliefs()
    beliefs.seen(KIND, document(5))
    beliefs.seen(KIND, document(6, uid="u2", name="fetch"))
    assert beliefs.listed(KIND, None, [document(6, uid="u2", name="fetch")], 9) == (Change(TIME),)


def test_what_is_newer_than_a_list_is_not_missing_from_it() -> None:
    beliefs = Beliefs()
    beliefs.seen(KIND, document(12))
    assert beliefs.listed(KIND, None, [], 9) == ()
    assert len(beliefs.resources()) == 1


def test_a_list_of_one_namespace_or_kind_says_nothing_about_others() -> None:
    beliefs = Beliefs()
    beliefs.seen(KIND, document(5))
    assert beliefs.listed(KIND, "blue", [], 9) == ()
    assert beliefs.listed("Toolbox", None, [], 9) == ()
    assert len(beliefs.resources()) == 1


def test_a_status_write_is_no_edit_and_an_annotation_is() -> None:
    beliefs = Beliefs()
    beliefs.seen(KIND, document(5))
    assert beliefs.seen(KIND, document(6, status={"phase": "active"})) == Change(TIME, edited=False)
    restarted = {"annotations": {"toolkeeper.dev/restartedAt": "now"}}
    assert beliefs.seen(KIND, document(7, metadata=restarted)) == Change(TIME, edited=True)


def test_an_unreadable_version_is_a_problem_and_the_last_good_one_stays() -> None:
    beliefs = Beliefs()
    beliefs.seen(KIND, document(5))
    beliefs.seen(KIND, document(6) | {"spec": {"image": 5}})
    assert image(beliefs) == "time:1"
    (problem,) = beliefs.problems()
    assert problem.key == TIME
    assert beliefs.complete


def test_an_object_that_never_could_be_read_makes_the_listing_incomplete() -> None:
    beliefs = Beliefs()
    beliefs.seen(KIND, document(6) | {"spec": {}})
    assert (beliefs.complete, len(beliefs.problems())) == (False, 1)
    beliefs.seen(KIND, document(7))
    assert (beliefs.complete, len(beliefs.problems())) == (True, 0)


def test_a_status_of_another_version_of_toolkeeper_counts_as_lost() -> None:
    beliefs = Beliefs()
    beliefs.seen(KIND, document(6, status={"phase": "a phase of tomorrow"}))
    (found,) = beliefs.resources()
    assert isinstance(found, MCPServer)
    assert found.status.phase == "unknown"
    assert beliefs.problems() == ()


def image(beliefs: Beliefs) -> str | None:
    found = beliefs.get(TIME)
    return found.spec.image if isinstance(found, MCPServer) else None


LIFE = [("seen", 3, "u1"), ("seen", 5, "u1"), ("gone", 7, "u1"), ("seen", 8, "u2"), ("seen", 11, "u2")]


@given(told=st.permutations([*LIFE, *LIFE[1:4]]))
def test_any_order_of_the_same_news_ends_in_the_same_belief(told: list[tuple[str, int, str]]) -> None:
    beliefs = Beliefs()
    for what, version, uid in told:
        getattr(beliefs, what)(KIND, document(version, uid=uid, image=f"time:{version}"))
    assert image(beliefs) == "time:11"
    assert len(beliefs.resources()) == 1
