"""Putting the parts together: which store, which node, which operator.

Lives here: where state is kept on this machine, opening a store, connecting to toolboxes, running an operator with its
telemetry, the embedded node of `toolkeeper up`.
Never here: decisions, and anything that a person reads.
"""
