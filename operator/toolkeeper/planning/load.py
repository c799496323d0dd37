"""How much servers take and toolboxes have.

Limits are ceilings, not reservations: only declared capacity bounds their sum.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolkeeper.planning.observed import Observation, Snapshot
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.quantity import memory_bytes, nano_cpus, print_cpus, print_memory
from toolkeeper.resources.toolbox import Toolbox


@dataclass(frozen=True, slots=True)
class Load:
    """Servers, bytes, billionths of a CPU."""

    servers: int = 0
    memory: int = 0
    nano_cpus: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.servers + other.servers, self.memory + other.memory, self.nano_cpus + other.nano_cpus
        )


NOTHING = Load()


def load_of(server: MCPServer) -> Load:
    """What one server may take at most; a stopped one keeps its place."""
    wanted = server.spec.resources
    return Load(1, memory_bytes(wanted.memory), nano_cpus(wanted.cpu))


def fits(toolbox: Toolbox, seen: Observation | None, taken: Load, one: Load) -> str | None:
    """Why one more does not fit; None when it does.

    Declared capacity bounds the sum. The host's own size bounds each single server: limits of many may add up to more
    than the host has, because few reach them.
    """
    declared, total = toolbox.spec.capacity, taken + one
    if declared.servers is not None and total.servers > declared.servers:
        return f"spec.capacity.servers is {declared.servers}"
    if declared.memory is not None and total.memory > memory_bytes(declared.memory):
        left = print_memory(max(memory_bytes(declared.memory) - taken.memory, 0))
        return f"{left} of spec.capacity.memory is left, {print_memory(one.memory)} is wanted"
    if declared.cpu is not None and total.nano_cpus > nano_cpus(declared.cpu):
        left = print_cpus(max(nano_cpus(declared.cpu) - taken.nano_cpus, 0))
        return f"{left} of spec.capacity.cpu is left, {print_cpus(one.nano_cpus)} is wanted"
    if isinstance(seen, Snapshot) and 0 < seen.capacity_memory < one.memory:
        return f"the host has {print_memory(seen.capacity_memory)}, {print_memory(one.memory)} is wanted"
    return None


def room(toolbox: Toolbox, seen: Observation | None, load: Load) -> float:
    """How empty the toolbox is with this load: 1 = empty, negative = more promised than there is."""
    declared = toolbox.spec.capacity
    host_memory = seen.capacity_memory if isinstance(seen, Snapshot) else 0
    host_cpus = seen.capacity_nano_cpus if isinstance(seen, Snapshot) else 0
    memory = memory_bytes(declared.memory) if declared.memory else host_memory
    cpus = nano_cpus(declared.cpu) if declared.cpu else host_cpus
    used = [taken / size for taken, size in ((load.memory, memory), (load.nano_cpus, cpus)) if size]
    if declared.servers:
        used.append(load.servers / declared.servers)
    return 1.0 - max(used, default=load.servers / 1000)
