"""How long does it take to read a thousand manifests, to tell what is wrong with a thousand broken ones, and to import
the resources?

The baseline of the first two is PyYAML building the node tree with line numbers of the same text; that of the import
is importing pydantic and PyYAML. CPU time of one process throughout, so that neighbours do not count; rounds of
ours and the baseline alternate, and the medians are reported.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from benchmarks.rig import figures
from resources.mutations import broken
from toolkeeper.resources.parse import parse_text
from toolkeeper.resources.printing import print_yaml
from toolkeeper.stores.manifests import Reader
from toolkeeper.testing.builders import make_server

COUNT = 1000
LATER = 1e12
"""So much later than any file was written that its stamp can be trusted."""
IMPORTS = """
import time
begin = time.process_time()
import pydantic, pydantic.main, pydantic.types, pydantic.fields, yaml
pydantic.create_model("Warm", x=(int, ...))
start = time.process_time()
import toolkeeper.resources.kinds, toolkeeper.resources.parse, toolkeeper.resources.reasons
print(start - begin, time.process_time() - start)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        good = written(Path(folder))
        read, tree = in_turn(lambda: Reader(Path(folder)).read(LATER), lambda: composed(good), rounds)
    bad = broken_texts()
    told, bad_tree = in_turn(
        lambda: [parse_text(each, "f.yaml") for each in bad], lambda: composed(bad), rounds
    )
    libraries, nouns = map(figures.median, zip(*(imports() for _ in range(rounds)), strict=True))
    rows = {
        "read good ones": f"{read:.2f} s ({read / tree:.2f} × PyYAML's {tree:.2f} s)",
        "tell what is wrong": f"{told:.2f} s ({told / bad_tree:.2f} × PyYAML's {bad_tree:.2f} s)",
        "import the resources": f"{nouns:.3f} s ({nouns / libraries:.2f} × pydantic's and PyYAML's {libraries:.3f} s)",
    }
    report = {
        "read_s": read,
        "read_ratio_to_yaml": read / tree,
        "broken_s": told,
        "broken_ratio_to_yaml": told / bad_tree,
        "import_s": nouns,
        "import_ratio_to_pydantic": nouns / libraries,
    }
    figures.report(f"{COUNT} manifests, CPU time of one core", rows, report)


def written(folder: Path) -> list[bytes]:
    """The contents of the manifests that are now in the folder."""
    for number in range(COUNT):
        server = make_server(f"s{number}", args=["--verbose"], env=[{"name": "A", "value": "b"}])
        document = server.model_dump(
            mode="json", by_alias=True, include={"metadata", "spec"}, exclude_unset=True
        )
        text = print_yaml([{"apiVersion": server.api_version, "kind": server.kind, **document}])
        place = folder / str(number // 50) / f"s{number}.yaml"
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    problems = Reader(folder).read(LATER).problems
    assert not problems, problems[0]
    return [each.read_bytes() for each in sorted(folder.rglob("*.yaml"))]


def broken_texts() -> list[bytes]:
    """A thousand, each broken in another way or place."""
    chance = random.Random(0)
    return [broken(chance)[1].encode("utf-8", "surrogateescape") for _ in range(COUNT)]


def composed(texts: Iterable[bytes]) -> None:
    """What any reader has to do that tells lines."""
    for each in texts:
        try:
            list(yaml.compose_all(each, yaml.SafeLoader))
        except (yaml.YAMLError, UnicodeDecodeError):
            continue


def in_turn(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The medians of the CPU seconds of both."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    first, second = zip(*pairs, strict=True)
    return figures.median(first), figures.median(second)


def seconds(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def imports() -> tuple[float, float]:
    """CPU seconds of importing (the libraries under the resources, the resources)."""
    ended = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    libraries, nouns = ended.stdout.split()
    return float(libraries), float(nouns)


if __name__ == "__main__":
    main()
