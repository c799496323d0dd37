"""The chart, as Helm renders it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.helm import helm

CHART = Path(__file__).parents[2] / "helm" / "toolkeeper"
Json = dict[str, Any]


class Rendered:
    """The documents of one `helm template`."""

    def __init__(self, documents: list[Json]) -> None:
        self.documents = documents

    def of(self, kind: str) -> list[Json]:
        """All documents of a kind."""
        return [each for each in self.documents if each["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Json:
        """The only document of that kind, or of that name."""
        found = [each for each in self.of(kind) if name in (None, each["metadata"]["name"])]
        assert len(found) == 1, [each["metadata"]["name"] for each in self.of(kind)]
        return found[0]

    @property
    def pod(self) -> Json:
        """The operator's Pod."""
        spec: Json = self.one("Deployment")["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> Json:
        """Its one container."""
        [container] = self.pod["containers"]
        assert isinstance(container, dict)
        return container


Template = Callable[..., Rendered]


@pytest.fixture
def template() -> Template:
    """`template(values, namespace=…)` renders the chart as release `tk`."""

    def rendered(values: Json | None = None, *, namespace: str = "tools") -> Rendered:
        said = template_output(values or {}, namespace)
        return Rendered([each for each in yaml.safe_load_all(said) if each])

    return rendered


def template_output(values: Json, namespace: str = "tools") -> str:
    """What `helm template` prints. Raises AssertionError with what it says when it fails."""
    done = helm("template", "tk", str(CHART), "-n", namespace, "-f", "-", given=json.dumps(values))
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(values: Json) -> str:
    """What Helm says about values that it refuses."""
    done = helm("template", "tk", str(CHART), "-f", "-", given=json.dumps(values))
    assert done.returncode != 0, "these values are taken"
    return done.stderr
