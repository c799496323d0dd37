"""What status says about one server: conditions that carry the truth, and a phase that sums it up.

Everything is first said in plain values and compared with the status that is there; models are built only when
something changed. Nothing in a status changes by itself: no ages, no progress, no counters of a crash loop.
"""

from __future__ import annotations

from datetime import datetime

from toolkeeper.planning.advisories import not_enforced
from toolkeeper.planning.connections import connection
from toolkeeper.planning.failures import answer_reason
from toolkeeper.planning.history import extended
from toolkeeper.planning.lifecycle import Stage, phase
from toolkeeper.planning.observed import Container, Handshake
from toolkeeper.planning.proving import ASKS
from toolkeeper.planning.situation import ELSEWHERE, Situation, Verdict
from toolkeeper.planning.statuses import LONGEST, Said, changed_conditions, word
from toolkeeper.planning.toolpins import pinned
from toolkeeper.planning.unplaced import unplaced
from toolkeeper.resources.conditions import find
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus, Phase

__all__ = ["connection", "report", "unplaced"]

MOST_NAME = 120
ANSWERS = {
    "Reachable": "it answers the MCP handshake",
    "AuthRequired": "it answers, and asks for credentials",
    "CredentialsRefused": "it answers, and refuses the credential of spec.health.credentialsRef",
}


def report(s: Situation, verdict: Verdict, features: tuple[str, ...], now: datetime) -> MCPServer:
    """The server with its new status; the very same object when nothing changed."""
    server = s.wanted.server
    said = _conditions(s, verdict, features)
    fields = _fields(s, verdict)
    status = server.status
    conditions = changed_conditions(status.conditions, said, now)
    if conditions is None and verdict.record is None and _unchanged(status, fields):
        return server
    latest = verdict.record and verdict.record.model_copy(update={"finished_at": now})
    update = {
        **fields,
        "conditions": status.conditions if conditions is None else conditions,
        "history": extended(status.history, latest),
    }
    return server.model_copy(update={"status": status.model_copy(update=update)})


def _unchanged(status: MCPServerStatus, fields: dict[str, object]) -> bool:
    return all(getattr(status, name) == value for name, value in fields.items())


# Conditions ---------------------------------------------------------------------------------------------------------


def _conditions(s: Situation, verdict: Verdict, features: tuple[str, ...]) -> list[Said]:
    """All conditions, in the order people read them."""
    server, status = s.wanted.server, s.wanted.server.status
    generation = server.metadata.generation
    message = _kept_message(s, verdict)
    pins = pinned(s.spec.tools, s.match.handshake if s.match else None, status.tools_hash)
    said = [
        _accepted(s, generation),
        Said("Placed", "True", "Placed", f"on toolbox {s.home}", generation),
        _secrets(s, generation),
        _deployed(s, verdict, message, generation),
        _reachable(s, verdict, message, generation),
        Said("ToolsPinned", word(pins[0]), pins[1], pins[2], generation),
    ]
    if not _at_rest_on_purpose(s, verdict):
        said.append(_ready(s, verdict, message, generation))
    if verdict.mood in ("moving", "held"):
        said.append(Said("Reconciling", "True", verdict.reason, message, generation))
    elif verdict.mood == "stuck":
        said.append(Said("Stalled", "True", verdict.reason, message, generation))
    if _is_rolled_back(s):
        said.append(Said("RolledBack", "True", s.memory.failed_reason, s.memory.failed_message, generation))
    if s.spec.paused or s.toolbox.spec.paused:
        said.append(Said("Paused", "True", "Paused", "observed and reported, not acted upon", generation))
    lacking = not_enforced(s.spec, features) if features else ()
    if lacking:
        said.append(
            Said("Enforced", "False", "NotEnforced", f"no effect here: {', '.join(lacking)}", generation)
        )
    return said


def _at_rest_on_purpose(s: Situation, verdict: Verdict) -> bool:
    """Nothing is to serve, and nothing does: `Ready=False` would tell those who wait for it to go on waiting."""
    return verdict.mood == "resting" and s.serving is None and not verdict.deployed


def _is_rolled_back(s: Situation) -> bool:
    """The wanted version has failed, and an older one stands in for it, as far as anybody knows."""
    if not s.failed or s.spec.rollout.on_failure != "Rollback":
        return False
    if s.at is Stage.UNKNOWN:
        return find(s.wanted.server.status.conditions, "RolledBack") is not None
    return s.keeper is not None


def _kept_message(s: Situation, verdict: Verdict) -> str:
    """What the host says differs from time to time; as long as it means the same, status keeps the first words."""
    if verdict.quoted and s.same_as_reported and not _learnt_more(s):
        for before in s.wanted.server.status.conditions:
            if before.reason == verdict.reason and before.type in ("Reconciling", "Stalled"):
                return before.message
    return verdict.message[:LONGEST]


def _learnt_more(s: Situation) -> bool:
    """Between two crashes a host may not know the exit code; once it does, the first words were too few."""
    status = s.wanted.server.status
    return status.exit_code is None and s.match is not None and s.match.exit_code is not None


def _accepted(s: Situation, generation: int) -> Said:
    if s.wanted.refused is not None:
        return Said("Accepted", "False", *s.wanted.refused, generation)
    return Said("Accepted", "True", "Valid", "the spec is valid", generation)


def _secrets(s: Situation, generation: int) -> Said:
    if s.wanted.missing_secrets:
        missing = "; ".join(s.wanted.missing_secrets)[:LONGEST]
        return Said("SecretsResolved", "False", s.wanted.missing_reason, missing, generation)
    return Said("SecretsResolved", "True", "Resolved", "no secret is missing", generation)


def _deployed(s: Situation, verdict: Verdict, message: str, generation: int) -> Said:
    if verdict.deployed:
        return Said("Deployed", "True", "Running", "its container runs", generation)
    return Said("Deployed", word(verdict.deployed), verdict.reason, message, generation)


def _reachable(s: Situation, verdict: Verdict, message: str, generation: int) -> Said:
    """Whether the wanted version answers: an older one that still serves does not count here."""
    handshake = s.match.handshake if s.match is not None else None
    match _shown(s, verdict):
        case Stage.SERVING:
            reason = answer_reason(handshake) if handshake is not None and handshake.ok else _reason_before(s)
            return Said("Reachable", "True", reason, ANSWERS.get(reason, "it answers"), generation)
        case Stage.STARTING | Stage.PREPARING | Stage.REMOVING:
            return Said("Reachable", "Unknown", "NotProbed", "no handshake yet", generation)
        case Stage.LOST | Stage.SILENT | Stage.UNKNOWN:
            status = None if s.at is Stage.UNKNOWN else False
            return Said("Reachable", word(status), verdict.reason, message, generation)
        case Stage.ABSENT if verdict.deployed is None:
            return Said("Reachable", "Unknown", verdict.reason, message, generation)
        case _:
            return Said("Reachable", "False", "NotRunning", "the wanted version does not run", generation)


def _shown(s: Situation, verdict: Verdict) -> Stage:
    """A create that is tried again is still the failure that is quoted."""
    return Stage.FAILED if s.at is Stage.PREPARING and verdict.quoted else s.at


def _reason_before(s: Situation) -> str:
    """A failed probe below the threshold changes nothing yet."""
    before = find(s.wanted.server.status.conditions, "Reachable")
    return before.reason if before is not None and before.status == "True" else "Reachable"


def _ready(s: Situation, verdict: Verdict, message: str, generation: int) -> Said:
    """Whether something serves, and for which generation that was proven."""
    if s.wanted.server.metadata.deletion_timestamp is not None:
        return Said("Ready", "False", "Deleting", message, generation)
    if s.at is Stage.UNKNOWN:
        return Said("Ready", "Unknown", verdict.reason, message, generation)
    serving = s.serving
    if serving is None or (serving is s.match and verdict.barred):
        return Said("Ready", "False", verdict.reason, message, generation)
    if serving is s.match:
        return Said("Ready", "True", "Available", f"it serves {_service(s, serving)}", generation)
    proven = _proven_generation(s, serving)
    told = f"the previous version serves {_service(s, serving)}"
    return Said("Ready", "True", "PreviousVersion", told, proven)


def _service(s: Situation, serving: Container) -> str:
    """Where, who and how much, in a few words; as last seen while nobody has asked it again."""
    handshake, status = serving.handshake, s.wanted.server.status
    seen = handshake if handshake is not None and handshake.ok else status
    who = " ".join(filter(None, (seen.server_name, seen.server_version)))[:MOST_NAME]
    where = f"at {serving.address}" if serving.address else "over stdio"
    count = "1 tool" if len(seen.tools) == 1 else f"{len(seen.tools)} tools"
    if handshake is not None and handshake.reason in ASKS and not handshake.tools:
        told = "without credentials" if handshake.reason == "AuthRequired" else "with the credential it has"
        count = f"tools unknown {told}"
    return f"{where}: {who}, {count}" if who else f"{where}: {count}"


def _proven_generation(s: Situation, serving: Container) -> int:
    """The generation whose rollout that container ended, as far as the history goes; 0 = an unknown, older one."""
    for past in reversed(s.wanted.server.status.history):
        if past.hash == serving.hash and past.outcome == "Succeeded":
            return past.generation
    return 0


# Fields -------------------------------------------------------------------------------------------------------------


def _fields(s: Situation, verdict: Verdict) -> dict[str, object]:
    """The plain fields of the status, by name."""
    server, status = s.wanted.server, s.wanted.server.status
    fields: dict[str, object] = {
        "observed_generation": server.metadata.generation,
        # Where it may still run is what must be remembered, until that is ruled out.
        "toolbox": (verdict.reason == ELSEWHERE and status.toolbox) or s.home,
        "memory": s.memory if verdict.memory is None else verdict.memory,
        "wanted_hash": s.wanted_hash,
    }
    if s.at is Stage.UNKNOWN:
        fields["phase"] = "unknown"
        return fields
    serving = s.serving
    fields["phase"] = _phase(s, verdict)
    fields["running_hash"] = _running_hash(s, verdict, status)
    fields["endpoint"] = serving.address if serving is not None else ""
    subject = serving or s.match or s.keeper
    fields |= _subject(subject, s, status, verdict)
    if serving is not None and serving.handshake is not None and serving.handshake.ok:
        fields |= _server_info(serving.handshake)
    return fields


def _phase(s: Situation, verdict: Verdict) -> Phase:
    if s.serving is not None:
        return "active"
    at = _shown(s, verdict) if s.match is not None or s.keeper is None or s.spec.running else s.kept_at
    word = phase(at, running=s.spec.running and s.wanted.server.metadata.deletion_timestamp is None)
    if word == "starting" and s.wanted.instance is None:
        return "error"
    if word == "starting" and verdict.mood != "moving":
        return "error" if verdict.mood == "stuck" else "stopped"
    return word


def _running_hash(s: Situation, verdict: Verdict, status: MCPServerStatus) -> str:
    """The hash that has proven itself and is still there."""
    if s.at is Stage.SERVING and s.match is not None and verdict.deployed and not verdict.barred:
        return s.match.hash
    if any(each.hash == status.running_hash for each in s.present):
        return status.running_hash
    return s.keeper.hash if s.keeper is not None and s.kept_at is Stage.SERVING else ""


def _subject(
    subject: Container | None, s: Situation, status: MCPServerStatus, verdict: Verdict
) -> dict[str, object]:
    """What is said about the one container that matters most."""
    if subject is None:
        return {"container": "", "container_id": "", "restarts": 0, "exit_code": None, "last_log": ()}
    held = (
        verdict.quoted
        and s.same_as_reported
        and status.container == subject.name
        and _says(status, verdict)
        and not _learnt_more(s)
    )
    ended = s.stage(subject) in (Stage.CRASHING, Stage.EXITED, Stage.DEAD, Stage.FAILED)
    return {
        "container": subject.name,
        "container_id": subject.container_id,
        "image": subject.image,
        "image_digest": subject.image_digest,
        "restarts": status.restarts if held else subject.restarts,
        "exit_code": status.exit_code if held else subject.exit_code if ended else None,
        "last_log": status.last_log if held else subject.last_log if ended else (),
    }


def _says(status: MCPServerStatus, verdict: Verdict) -> bool:
    return any(each.reason == verdict.reason for each in status.conditions)


def _server_info(handshake: Handshake) -> dict[str, object]:
    return {
        "server_name": handshake.server_name,
        "server_version": handshake.server_version,
        "era": handshake.era,
        "protocol_version": handshake.protocol_version,
        "capabilities": handshake.capabilities,
        "tools": handshake.tools,
        "tools_hash": handshake.tools_hash,
    }
