"""The runtime for trying things out where no Docker answers: child processes, which outlive the agent.

Nothing isolates them from the machine or from each other, and status says so.
"""
