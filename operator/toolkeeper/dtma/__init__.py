"""Talking to a toolbox: the wire models, the HTTP client, and what an answer means.

Lives here: everything that crosses the network between operator and node agent, defined once; both sides import it.
Never here: what to ask for.
"""
