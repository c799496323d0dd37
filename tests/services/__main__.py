"""`python -m services [COMMAND…]`: set up what the groups need, say a line on each, run COMMAND, tidy up.

Without COMMAND what was started stays, for tests run by hand. `--ask GROUP` sets nothing up: it only says whether
the group can run, by its exit code.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from services import engine, groups


def main() -> int:
    parser = argparse.ArgumentParser(prog="services", description=__doc__)
    parser.add_argument("--ask", choices=sorted(groups.ALL), help="only say whether this group can run")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.ask:
        return _answer(given.ask)
    used = groups.in_use()
    needs_engine = any(group.marker in groups.NEED_ENGINE for group in used)
    daemon, no_engine = engine.start() if needs_engine else (None, None)
    try:
        for group in used:
            reason = no_engine if group.marker in groups.NEED_ENGINE else None
            reason = reason or group.install() or group.absent()
            print(f"service {group.marker}: {f'skipped: {reason}' if reason else 'ready'}", flush=True)
        return subprocess.run(given.command, check=False).returncode if given.command else 0
    finally:
        if daemon is not None and given.command:
            engine.stop(daemon)


def _answer(marker: str) -> int:
    reason = groups.absent(marker)
    if reason:
        print(f"group {marker}: skipped: {reason}", flush=True)
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
