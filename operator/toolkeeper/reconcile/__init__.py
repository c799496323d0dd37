"""The loop: observe, plan, execute, report; its queue, its executor, and the protocols it needs of the world.

Lives here: `ports.py` (narrow protocols that stores and toolbox drivers fit by shape), the work queue, the watch on a
toolbox, the pass over it, the executor with its circuit breaker, leadership, and the operator that joins them.
Never here: what to do (planning), how a store or a host is spoken to (stores, dtma).
"""
