from __future__ import annotations

from toolkeeper.reconcile.inventory import Inventory
from toolkeeper.reconcile.ports import Listing, Resource
from toolkeeper.testing.builders import make_server, make_toolbox


def at(resource: Resource, version: str, *, uid: str = "") -> Resource:
    metadata = resource.metadata.model_copy(
        update={"resource_version": version, "uid": uid or resource.metadata.uid}
    )
    return resource.model_copy(update={"metadata": metadata})


def knowing(*resources: Resource) -> Inventory:
    inventory = Inventory()
    inventory.take(Listing(resources), inventory.begin())
    return inventory


A1 = at(make_server("a"), "1")
A2 = at(make_server("a"), "2")
BOX = at(make_toolbox(), "1")


def test_a_listing_shows_what_changed_and_what_is_gone() -> None:
    inventory = knowing(A1, BOX)
    difference = inventory.take(Listing((A2,)), inventory.begin())
    assert difference.changed == (A2,)
    assert difference.removed == (BOX,)
    assert inventory.get(A2.key) is A2
    assert inventory.toolboxes == {}


def test_a_listing_that_shows_the_same_changes_nothing() -> None:
    inventory = knowing(A1, BOX)
    difference = inventory.take(Listing((A1, BOX)), inventory.begin())
    assert difference.changed == ()
    assert difference.removed == ()


def test_nothing_is_concluded_from_what_an_incomplete_listing_does_not_show() -> None:
    inventory = knowing(A1, BOX)
    difference = inventory.take(Listing((A2,), complete=False), inventory.begin())
    assert difference.removed == ()
    assert inventory.get(BOX.key) is BOX
    assert not inventory.complete


def test_a_listing_that_began_before_our_own_write_is_not_believed_about_it() -> None:
    inventory = knowing(A1)
    began = inventory.begin()
    inventory.put(A2, instead_of=A1)
    assert inventory.take(Listing((A1,)), began).changed == ()
    assert inventory.get(A1.key) is A2
    assert inventory.take(Listing(()), began).removed == ()


def test_a_later_listing_is_believed_again_whatever_it_shows() -> None:
    inventory = knowing(A1)
    inventory.put(A2, instead_of=A1)
    assert inventory.take(Listing((A1,)), inventory.begin()).changed == (A1,)


def test_a_late_reply_does_not_undo_what_a_listing_has_shown_meanwhile() -> None:
    inventory, edited = knowing(A1), at(A1, "3")
    inventory.take(Listing((edited,)), inventory.begin())
    assert not inventory.put(A2, instead_of=A1)
    assert inventory.get(A1.key) is edited


def test_a_listing_that_shows_our_own_write_first_changes_nothing() -> None:
    inventory = knowing(A1)
    inventory.take(Listing((A2,)), inventory.begin())
    assert inventory.put(A2, instead_of=A1)


def test_an_object_that_was_created_again_under_the_same_name_is_another_one() -> None:
    inventory = knowing(A1)
    again = at(A1, "1", uid="another")
    assert inventory.take(Listing((again,)), inventory.begin()).changed == (again,)
