"""The loop: observe, plan, execute, report; its queue, its executor, and the protocols it needs of the world.

Lives here: `ports.py` (narrow protocols that stores and toolbox drivers fit by shape), the work queue, the pass over one
toolbox, the executor with its circuit breaker, leadership.
Never here: what to do (planning), how a store or a host is spoken to (stores, dtma).
"""
