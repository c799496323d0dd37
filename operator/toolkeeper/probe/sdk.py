"""The parts of the official SDK that a probe speaks through. Imported from here, it costs 12 MB less in every node.

`mcp/__init__.py` and `mcp/client/__init__.py` gather the whole SDK under one name: the server side with its routes,
OAuth and cryptography, which nobody here serves. The modules below need none of that. So the two packages are made
known without running these files; whoever then asks a package for one of its names gets it as ever, because that
runs the file first.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


def defer(package: str) -> None:
    """Have `package` importable, and run its `__init__.py` only when somebody asks it for a name.

    Its modules can be imported at once. Does nothing if it has been imported already.
    """
    if package in sys.modules:
        return
    spec = find_spec(package)
    if spec is None:
        return  # the import itself says so best
    module = sys.modules[package] = module_from_spec(spec)
    parent, _, name = package.rpartition(".")
    if parent:
        setattr(sys.modules[parent], name, module)
    _run_when_asked(module, spec)


def _run_when_asked(module: ModuleType, spec: ModuleSpec) -> None:
    def ask(name: str) -> Any:
        if name.startswith("__") and name != "__all__":  # asked by tools that merely look around
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        vars(module).pop("__getattr__", None)
        assert spec.loader is not None, "what find_spec finds can be loaded"
        spec.loader.exec_module(module)
        return getattr(module, name)

    vars(module)["__getattr__"] = ask  # PEP 562


defer("mcp")
defer("mcp.client")

from mcp.client.session import ClientSession  # noqa: E402 - once both packages are known
from mcp.client.sse import sse_client  # noqa: E402
from mcp.client.streamable_http import streamable_http_client  # noqa: E402
from mcp.shared.dispatcher import CallOptions  # noqa: E402
from mcp.shared.exceptions import MCPError  # noqa: E402
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher  # noqa: E402
from mcp.shared.message import SessionMessage  # noqa: E402
from mcp.shared.transport_context import TransportContext  # noqa: E402

__all__ = [
    "CallOptions",
    "ClientSession",
    "JSONRPCDispatcher",
    "MCPError",
    "SessionMessage",
    "TransportContext",
    "sse_client",
    "streamable_http_client",
]
