"""Making one container and starting it: as few calls as can be, since everything shared is there already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio

from toolkeeper.errors import Conflict, NotFound, Refused
from toolkeeper.node.docker.addresses import Kind
from toolkeeper.node.docker.builds import Builds
from toolkeeper.node.docker.engine import Engine
from toolkeeper.node.docker.files import FileFolder
from toolkeeper.node.docker.hardening import Place, contents, create_body
from toolkeeper.node.docker.images import Credentials, ImageFacts, Images
from toolkeeper.node.docker.marks import Mark, mark_of, marked
from toolkeeper.node.docker.networks import Network, Networks, network_name
from toolkeeper.node.docker.peers import Peers
from toolkeeper.node.docker.sight import name_of
from toolkeeper.node.docker.volumes import Volumes
from toolkeeper.node.docker.watch import Watch
from toolkeeper.node.runtime import Step
from toolkeeper.node.version_record import VersionRecord
from toolkeeper.reconcile.ports import InstanceRequest

Json = dict[str, Any]

HAS_IPV6: Final = Path("/proc/sys/net/ipv6").exists()
REMOVAL_SECONDS: Final = 30
CREATION_SECONDS: Final = 10
PAUSE: Final = 0.1
RUNS: Final = ("running", "restarting", "paused")


@dataclass
class Launch:
    """Raises what `Engine` raises, and Refused with a reason of `observed.Container.error_reason`."""

    engine: Engine
    images: Images
    builds: Builds
    networks: Networks
    volumes: Volumes
    files: FileFolder
    peers: Peers
    watch: Watch
    versions: VersionRecord

    async def create(self, name: str, installation: str, request: InstanceRequest, step: Step) -> None:
        """See `Runtime.create`."""
        mark = mark_of(request, installation)
        known = name in self.watch.marks
        self.watch.marks[name] = self.watch.making[name] = mark
        try:
            await self._create(name, mark, request, step, known=known)
        finally:
            self.watch.making.pop(name, None)

    async def _create(
        self, name: str, mark: Mark, request: InstanceRequest, step: Step, *, known: bool
    ) -> None:
        try:
            # Asked beforehand only where there may be one: a container that exists needs no image any more.
            found = await self._existing(name, mark) if known else None
            if found is None:
                found = await self._make(name, mark, request, step)
            if found["State"]["Status"] in RUNS:
                return
            if self.concerns_peers(mark):
                step("created", "joining its peers")
                await self.peers.converge(mark.installation)
        except (Conflict, NotFound) as exc:
            raise Refused(str(exc), reason="CreateFailed") from exc
        except Refused as exc:
            raise _because(exc, "CreateFailed") from exc
        step("created", "starting")
        try:
            await self.begin(found["Id"], mark)
        except NotFound as exc:
            raise Refused(f"{name} was removed while it was started", reason="StartFailed") from exc

    async def begin(self, id: str, mark: Mark) -> None:
        """Start a container; running is success. Raises NotFound, Refused.

        What was pulled from under it is put back: a network that somebody removed, an address that somebody took.
        """
        try:
            try:
                await self.engine.wait(self.engine.api.start, id)
            except (NotFound, Refused) as exc:
                if not _lost_its_place(exc):
                    raise
                await self._place_anew(id, mark)
                await self.engine.wait(self.engine.api.start, id)
        except Conflict as exc:
            raise Refused(str(exc), reason="StartFailed") from exc
        except Refused as exc:
            raise _because(exc, "StartFailed") from exc

    def concerns_peers(self, mark: Mark) -> bool:
        """Whether that server is one side of a pair, as far as the containers on this host say."""
        return bool(mark.peers) or any(
            mark.server in other.peers
            for other in self.watch.marks.values()
            if (other.installation, other.namespace) == (mark.installation, mark.namespace)
        )

    async def _make(self, name: str, mark: Mark, request: InstanceRequest, step: Step) -> Json:
        reference, image = await self._image(mark.installation, request, step)
        _must_start(request, image)
        self.versions.made(mark.whose, mark.hash, image.id)
        step("created", "")
        network = await self._network(mark.installation, request)
        body = await self._body(name, mark.installation, request, (reference, image), network)
        step("created", "")
        try:
            return await self._create_or_find(name, mark, body)
        except NotFound:  # the image: somebody removed it after it was last looked at
            self.images.forget(reference)
            await self._image(mark.installation, request, step)
            return await self._create_or_find(name, mark, body)

    async def _create_or_find(self, name: str, mark: Mark, body: Json) -> Json:
        """Create it, or find the one that somebody else is creating: its name is taken before it is there."""
        for _ in range(int(CREATION_SECONDS / PAUSE)):
            try:
                # Under load each takes a second; several at once must not hold up looking at the others.
                created: Json = await self.engine.wait(
                    self.engine.api.create_container_from_config, body, name
                )
            except Conflict:
                if (found := await self._existing(name, mark)) is not None:
                    return found
                await anyio.sleep(PAUSE)
            else:
                return {"Id": created["Id"], "State": {"Status": "created"}}
        raise Refused(f"the name {name} is taken by a container that cannot be seen", reason="CreateFailed")

    async def _image(self, installation: str, request: InstanceRequest, step: Step) -> tuple[str, ImageFacts]:
        wanted = request.instance
        if wanted.package is not None:

            async def way_out() -> str:
                return (await self.networks.ensure(installation, "egress")).name

            return await self.builds.ensure(wanted.package, way_out, step)
        credentials = Credentials(request.registry_username, request.registry_password)
        image = await self.images.ensure(wanted.image, wanted.pull_policy, credentials, step)
        return wanted.image, image

    async def _network(self, installation: str, request: InstanceRequest) -> Network:
        kind: Kind = "egress" if request.instance.reach.egress == "allow" else "internal"
        return await self.networks.ensure(installation, kind)

    async def _body(
        self,
        name: str,
        installation: str,
        request: InstanceRequest,
        image: tuple[str, ImageFacts],
        network: Network,
    ) -> Json:
        wanted, (reference, facts) = request.instance, image
        user = wanted.hardening.user
        await self.volumes.ensure(installation, wanted.volumes, facts.id, user)
        texts = contents(wanted, request.secrets)
        place = Place(
            image=reference,
            network=network.name,
            address=str(await self.networks.address(network)),
            files=self.files.write(installation, name, texts, user or facts.user) if texts else (),
            ipv6=HAS_IPV6,
            seeds_volumes=not user,
        )
        return create_body(request, installation, place)

    async def _existing(self, name: str, mark: Mark) -> Json | None:
        """The container of that name, if it is the one asked for; None when there is none (any more)."""
        for _ in range(int(REMOVAL_SECONDS / PAUSE)):
            try:
                found: Json = await self.engine.call(self.engine.api.inspect_container, name)
            except NotFound:
                return None
            if name_of(found) != name:  # Docker also answers to the beginning of an id
                return None
            there = marked(name, found["Config"].get("Labels"))
            if there is None or (there.installation, there.hash) != (mark.installation, mark.hash):
                raise Refused(
                    f"the name {name} is taken by a container that is not ours", reason="CreateFailed"
                )
            if found["State"]["Status"] != "removing":
                return found
            await anyio.sleep(PAUSE)
        raise Refused(f"{name} is still being removed", reason="CreateFailed")

    async def _place_anew(self, id: str, mark: Mark) -> None:
        """Give it a place in its network again."""
        found: Json = await self.engine.call(self.engine.api.inspect_container, id)
        name, api = found["HostConfig"]["NetworkMode"], self.engine.api
        kind: Kind = "egress" if name == network_name(mark.installation, "egress") else "internal"
        self.networks.forget(name)
        network = await self.networks.ensure(mark.installation, kind)
        address = str(await self.networks.address(network))
        await self.engine.call(api.disconnect_container_from_network, id, name, force=True)
        await self.engine.call(api.connect_container_to_network, id, name, ipv4_address=address)
        if self.concerns_peers(mark):
            await self.peers.converge(mark.installation)


def _must_start(request: InstanceRequest, image: ImageFacts) -> None:
    wanted = request.instance
    if wanted.command or image.starts or (wanted.args and not image.programs):
        return
    offer = f"; {wanted.package.name} has {', '.join(image.programs)}" if wanted.package else ""
    raise Refused(
        f"nothing says which program to start: name it in spec.command{offer}", reason="CreateFailed"
    )


def _lost_its_place(error: NotFound | Refused) -> bool:
    text = str(error)
    return ("network" in text and "not found" in text) or "Address already in use" in text


def _because(error: Refused, reason: str) -> Refused:
    """With a reason where the daemon's text told none."""
    return Refused(str(error), reason=reason) if error.reason == "Refused" else error
