"""What operators of Toolkeeper can see: metrics, structured logs, the log of control actions.

Lives here: the metric definitions, the log format, the action log.
Never here: decisions.
"""
