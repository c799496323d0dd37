"""Every reason that a condition or an event may give, what sort of news it is, and what to do about it.

    transient     somebody else's trouble; tried again, often nothing to do
    terminal      stays so until somebody edits something
    progressing   on its way
    fine          as it should be
    advisory      true, worth knowing, and no fault

One sentence each, in the imperative: it stands alone behind an arrow in `toolkeeper describe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Severity = Literal["transient", "terminal", "progressing", "fine", "advisory"]


class Reason(NamedTuple):
    """One row of the table."""

    severity: Severity
    remedy: str


_NOTHING: Final = "Nothing to do."
_WAIT: Final = "Wait; the message says how far it is."

_FINE: Final = {
    "Accepted": _NOTHING,
    "Answers": _NOTHING,
    "Approved": _NOTHING,
    "Authorized": _NOTHING,
    "Available": _NOTHING,
    "CertificateAuthority": _NOTHING,
    "Completed": "Nothing to do; it ended without error and restartPolicy keeps it so.",
    "Deleted": _NOTHING,
    "Fingerprint": _NOTHING,
    "Issued": _NOTHING,
    "LocalSocket": _NOTHING,
    "Loopback": _NOTHING,
    "NothingLeft": _NOTHING,
    "Placed": _NOTHING,
    "Reachable": _NOTHING,
    "Ready": _NOTHING,
    "Resolved": _NOTHING,
    "RolledOut": _NOTHING,
    "Running": _NOTHING,
    "SystemTrust": _NOTHING,
    "ToolsApproved": _NOTHING,
    "Valid": _NOTHING,
}
"""As it should be."""

_PROGRESSING: Final = {
    "Building": _WAIT,
    "BuildingImage": _WAIT,
    "Creating": _WAIT,
    "Deleting": "Wait; it goes when its containers were seen to be gone.",
    "Deploying": _WAIT,
    "Draining": "Wait; the previous version is finishing its calls.",
    "NeverSeen": "Wait for the first answer; check spec.endpoint if none comes.",
    "NotProbed": "Wait for the first handshake.",
    "NotSeen": "Wait for the first handshake.",
    "Pending": _WAIT,
    "Probing": "Wait for the first handshake.",
    "Pulling": _WAIT,
    "PullingImage": _WAIT,
    "ReadingSecrets": "Wait until the secrets are read; check that the store answers if it takes long.",
    "Removing": _WAIT,
    "Restarting": _WAIT,
    "RollingOut": _WAIT,
    "Starting": "Wait for the first handshake.",
    "Stopping": _WAIT,
    "ToolboxNotSeen": "Wait for the first answer; check the toolbox's spec.endpoint if none comes.",
    "WaitingForOtherToolbox": "Wait until the toolbox it is leaving was seen without it, or bring that toolbox back.",
    "WaitingForSurge": "Wait; one rollout at a time has a second container on a toolbox.",
    "WaitingForToolboxes": "Wait until every toolbox that may already run it was seen, or delete those that are gone.",
}
"""On its way."""

_TRANSIENT: Final = {
    "Conflict": _NOTHING,
    "ContainerLost": "Find out who removed it on the toolbox; it is made again.",
    "CreateFailed": "Read the message of the container runtime; the create is tried again.",
    "CredentialsNotGiven": "If the message says why, put another one into the Secret; it is tried again.",
    "Dead": "Check the container runtime's log on the toolbox; the container is made again.",
    "DriftDetected": "Find out who edits the container on the toolbox; it is made anew.",
    "Drifted": "Find out who edits the container on the toolbox; it is made anew.",
    "Fenced": "Nothing to do if another operator leads; else give each installation its own id.",
    "FilesUnavailable": "Check that the toolbox can write below its runtime directory; it is tried again.",
    "HealthCheckFailed": "Read toolkeeper logs; after failureThreshold failed probes it is restarted.",
    "ImagePullFailed": "Check that the toolbox reaches the registry; the pull is tried again.",
    "NoSpace": "Free disk space on the toolbox; unused images and build cache are collected by themselves.",
    "NotReady": "See the conditions that are not True.",
    "NotRunning": "See the reason of Deployed.",
    "PortInUse": "Free the port on the host, or let the server listen on {{port}}.",
    "RuntimeUnavailable": "Start Docker on the toolbox; nothing is concluded until it answers.",
    "ServerNotReady": "See the conditions of the servers in the message.",
    "SourceIncomplete": "Make the whole source readable again; until then nothing is deleted.",
    "SourceUnreachable": "Check that the Git server answers; what was last pulled stays in force.",
    "StartFailed": "Check spec.command and that the program exists in the image; it is tried again.",
    "StoreUnreachable": "Check that the store answers; what runs keeps running.",
    "Timeout": "Check that the server is not overloaded and that spec.path is its MCP endpoint.",
    "ToolboxUnreachable": (
        "Check that toolkeeper node runs there and that spec.endpoint is right; containers keep running."
    ),
}
"""Somebody else's trouble; tried again."""

_TERMINAL: Final = {
    "AgentNotAdmitted": "Add the agent to spec.agents of the Toolbox and spec.access.agents of the MCPServer.",
    "AuthenticationFailed": "Put the node's current token into the Secret of spec.tokenRef.",
    "BoundToLoopback": "Let the server listen on 0.0.0.0, often by an argument --host or a variable HOST.",
    "BuildFailed": "Check name, version, with and system of spec.package against the message.",
    "CertificateMismatch": "If it is really that host, add the fingerprint that toolkeeper node enroll prints.",
    "ConnectionRefused": "Let spec.port be the port that the server really listens on.",
    "CrashLoopBackOff": "Read the last lines with toolkeeper logs, then correct args, env or the image.",
    "CredentialsRefused": "Put a token that the server accepts into the Secret of spec.health.credentialsRef.",
    "DeletionBlocked": "Bring the toolbox back, or annotate toolkeeper.dev/force-delete=true to leave its containers.",
    "DriftPersists": "Compare the field in the message with the toolbox; it cannot be made so there.",
    "Exited": "Read the last lines with toolkeeper logs; a server must stay in the foreground.",
    "Expired": "Set spec.expiresAt to a later time, or delete the connection.",
    "Forbidden": "Grant the operator's account the permission that the message names.",
    "Frozen": "Run docker unpause on the toolbox; somebody paused the container there.",
    "HandshakeTimeout": "Raise spec.health.startupSeconds if it starts slowly; else check transport, port and path.",
    "HealthBudgetSpent": "Find out with toolkeeper logs why it keeps failing, then restart it or edit its spec.",
    "HostRejected": "Set spec.hostHeader to the Host that the server accepts.",
    "HttpError": "Read toolkeeper logs; the message has the HTTP status of the server's answer.",
    "ImageNotFound": "Correct spec.image or push that image; a first deployment looks for it every five minutes.",
    "InsufficientCapacity": "Lower spec.resources, raise the toolbox's spec.capacity, or add a Toolbox.",
    "Invalid": "Change the field that the message names; the toolbox does not accept it.",
    "InvalidManifest": "Correct the manifest at the line in the message; its last good content stays in force.",
    "LimitTooLow": "Raise the limit that the message names.",
    "MethodNotAllowed": "Update the node agent; it is older than this operator.",
    "MountRefused": "Mount the volume or file at another path.",
    "NameConflict": "Rename the server, or remove the foreign container that has its name.",
    "NameTooLong": "Shorten the name that the message shows.",
    "NamespaceNotAllowed": "Add this namespace to spec.allowedNamespaces of the Toolbox, or choose another.",
    "NoHandshake": "Raise spec.health.startupSeconds if it starts slowly; else check transport, port and path.",
    "NoToolGranted": "Let spec.tools.allow match tools that spec.access.tools of the MCPServer admits.",
    "NoToolboxFits": "Free capacity on one of the toolboxes in the message, or add a Toolbox.",
    "NoToolboxMatches": "Correct spec.toolboxSelector, or label a Toolbox and let it admit this namespace.",
    "NotMCP": "Let spec.path and spec.transport be those of the server's MCP endpoint.",
    "NotOurs": "Rename the server, or remove the foreign thing that has its name.",
    "OOMKilled": "Raise spec.resources.memory, or find what needs that much.",
    "PlainHTTP": "Give the node a certificate and use https:// in spec.endpoint.",
    "ProgressDeadlineExceeded": "Raise spec.rollout.deadlineSeconds, or read toolkeeper logs for why it starts slowly.",
    "ProtocolViolation": "Update the server; its answer is not valid MCP, as the message shows.",
    "Refused": "Change what the message names; the other side will not accept it as it is.",
    "RegistryDenied": "Set spec.pullSecretRef to a Secret whose user may pull this image.",
    "RestartBudgetSpent": "Find out with toolkeeper logs why it keeps failing, then restart it or edit its spec.",
    "RolledBack": "Correct the spec as the message says; only toolkeeper restart tries this version again.",
    "RolloutFailed": "Correct the spec as the message says; the previous version serves meanwhile.",
    "RuntimeUnsupported": "Place it on a toolbox with Docker, or remove the fields that the message names.",
    "SameHost": "Delete one of the two and stop its own agent, or let the allowedNamespaces of one serve both.",
    "SecretInvalid": "Store the secret as UTF-8 text below 1 MiB, under a plain name.",
    "SecretMissing": "Create the Secret with the key that the message names.",
    "SecretForToolboxes": "Name another Secret; who has this one can do to the toolbox whatever the operator can.",
    "SecretNotMarked": "Label the Secret toolkeeper.dev/credential=true if it may be used here.",
    "SecretRefused": "Label the Secret toolkeeper.dev/credential=true if it may be used here.",
    "SecretUnreadable": "Repair the file that declares the secret; its values are kept nowhere else.",
    "ServerNotFound": "Declare that MCPServer, or correct spec.serverRef or spec.serverSelector.",
    "NotSynced": "Correct the file that the message names in the repository; nothing of it changes until then.",
    "SourceRefused": "Check the URL and the credentials of the Git source against the message.",
    "SourceUnsupported": "Name an image or a package instead; catalog and remote are not deployed yet.",
    "StdoutNoise": "Let the server log to stderr; with stdio only protocol messages may go to stdout.",
    "TooLarge": "Make env, args and files smaller; together they are more than the toolbox accepts.",
    "TokenSecretTaken": "Name another Secret in spec.tokenSecretRef, or delete the one that is there.",
    "ToolboxDeleting": "Choose another Toolbox.",
    "ToolboxDraining": "End the drain (spec.drain: false), or choose another Toolbox.",
    "ToolboxNotFound": "Declare that Toolbox, or correct spec.toolboxRef.",
    "ToolboxPaused": "Run toolkeeper resume for the Toolbox, or choose another one.",
    "UnsupportedSource": "Name an image or a package instead; catalog and remote are not deployed yet.",
    "VolumesPinServer": "Move the data by hand, then delete the server and declare it anew.",
}
"""Stays so until somebody edits something."""

_ADVISORY: Final = {
    "AuthRequired": "Set spec.health.credentialsRef to prove more than that it answers.",
    "DriftRepaired": "Find out who edits containers on the toolbox.",
    "ForceDeleted": "Remove its containers by hand if the toolbox ever comes back.",
    "HealthRestart": "Read toolkeeper logs of the time before the restart.",
    "Inactive": "Set spec.active to true to let the agent in.",
    "NoEffectYet": "Remove the fields in the message, or leave them; this version does nothing with them.",
    "NoGateway": "Nothing to do; the gateway that admits agents is not part of this version.",
    "NotApproved": "Review the tools, then set spec.tools.approved to status.toolsHash.",
    "NotEnforced": "Place it on a toolbox that enforces the fields in the message, or remove them.",
    "NotPinned": "Write the image with its digest (@sha256:…), so that every toolbox runs the same.",
    "NotPlaced": "See the reason of Placed.",
    "OrphanFound": "Nothing to do; it is removed after a second look, within a cap that --allow-prune lifts.",
    "Paused": "Run toolkeeper resume to let it be acted upon again.",
    "PinOff": "Set spec.tools.pin to Warn or Enforce to be told of changed tools.",
    "PreviousVersion": "See the reason of Deployed for the version that is wanted.",
    "Stopped": "Run toolkeeper start, or set spec.running to true, to start it again.",
    "StoppedOnRequest": "Run toolkeeper start, or set spec.running to true, to start it again.",
    "StoppedOutside": "Set spec.running to false if it should stay stopped; it is started again.",
    "TokensNotKept": "Nothing to do; only a store on Kubernetes keeps tokens for agents.",
    "ToolsChanged": "Review the tools, then set spec.tools.approved to status.toolsHash, or run toolkeeper rollback.",
    "ToolsDrifted": "Review the tools, then set spec.tools.approved to status.toolsHash, or run toolkeeper rollback.",
}
"""True, worth knowing, and no fault."""

REASONS: Final[Mapping[str, Reason]] = {
    **{name: Reason("fine", sentence) for name, sentence in _FINE.items()},
    **{name: Reason("progressing", sentence) for name, sentence in _PROGRESSING.items()},
    **{name: Reason("transient", sentence) for name, sentence in _TRANSIENT.items()},
    **{name: Reason("terminal", sentence) for name, sentence in _TERMINAL.items()},
    **{name: Reason("advisory", sentence) for name, sentence in _ADVISORY.items()},
}

UNKNOWN: Final = (
    "Read the message; this Toolkeeper does not know the reason, so it may be older than the node."
)


def remedy(reason: str) -> str:
    """What to do about it, in one sentence; also for a reason that a newer node invented."""
    known = REASONS.get(reason)
    return known.remedy if known else UNKNOWN


def table() -> str:
    """The whole table as text, sorted by severity and name."""
    rows = sorted((row.severity, name, row.remedy) for name, row in REASONS.items())
    return "".join(f"{severity:<11}  {name:<24}  {sentence}\n" for severity, name, sentence in rows)
