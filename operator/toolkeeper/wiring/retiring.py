"""Letting go of a cluster's objects, with the credentials and the lease of an operator of that cluster."""

from __future__ import annotations

import platform
import random
from collections.abc import Callable

from toolkeeper.clock import SystemClock
from toolkeeper.stores.identity import random_uid
from toolkeeper.stores.kubernetes import access
from toolkeeper.stores.kubernetes.api import Api
from toolkeeper.stores.kubernetes.election import ElectedLease
from toolkeeper.stores.kubernetes.lease import LeaseObject
from toolkeeper.stores.kubernetes.retirement import Deployment, Patience, Retirement
from toolkeeper.wiring.cluster import login_of
from toolkeeper.wiring.places import ClusterChoice


async def retire(
    choice: ClusterChoice, deployment: str, say: Callable[[str], None], *, patience: float, abandon: bool
) -> int:
    """Stop that Deployment (if one is named) and let go of all objects. Returns how many. Raises as Retirement does."""
    login, clock = login_of(choice), SystemClock()
    home = choice.home or access.namespace(choice.kubeconfig, choice.context)
    api = Api(login)
    rng = random.Random()  # noqa: S311 – jitter, not cryptography
    holder = f"{choice.identity or platform.node() or 'retiring'}_{random_uid()}"
    lease = ElectedLease(LeaseObject(api, home, clock=clock), holder, clock=clock, random=rng)
    stopped = Deployment(home, deployment) if deployment else None
    try:
        return await Retirement(
            api, lease, choice.namespaces, say, stopped, abandon=abandon, patience=Patience(patience)
        ).run()
    finally:
        await api.aclose()
