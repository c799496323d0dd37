"""Toolkeeper keeps MCP servers on Docker hosts in the state somebody declared.

The packages below import downwards only:
cli → wiring → console | gateway | node → stores | dtma | probe → reconcile → planning → resources
→ errors | clock | settings | telemetry. `testing` is for tests and nothing shipped imports it.

Nothing but the version lives here.
"""

__version__ = "0.1.0"
