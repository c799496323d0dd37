"""A toolbox whose secrets are not to be had is not asked, and nobody says that it answered."""

from __future__ import annotations

import pytest

from toolkeeper.dtma.dialled import Dialled
from toolkeeper.errors import NotFound, Refused, ToolkeeperError, Unreachable
from toolkeeper.planning.observed import UNASKED
from toolkeeper.reconcile.ports import Secret
from toolkeeper.resources.reasons import REASONS
from toolkeeper.testing.builders import make_toolbox

pytestmark = pytest.mark.anyio
TOOLBOX = make_toolbox(endpoint="http://127.0.0.1:1", tokenRef={"name": "box-token", "key": "token"})


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (NotFound("there is no secret"), "SecretMissing"),
        (Refused("it is not marked", reason="SecretNotMarked"), "SecretNotMarked"),
        (Refused("no"), "SecretRefused"),
        (None, "SecretMissing"),
    ],
)
async def test_what_is_wrong_with_the_secret_is_the_reason(
    trouble: ToolkeeperError | None, reason: str
) -> None:
    async def secrets(namespace: str, name: str) -> Secret:
        if trouble is not None:
            raise trouble
        return Secret({"another-key": "x"})

    with pytest.raises(Unreachable) as caught:
        await Dialled(TOOLBOX, secrets).state("test")
    assert caught.value.reason == reason


def test_each_such_reason_has_a_remedy() -> None:
    assert set(REASONS) >= UNASKED
