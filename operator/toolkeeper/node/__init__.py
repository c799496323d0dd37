"""The host agent: containers and processes, their networks, images and probes, behind the native API.

Lives here: routes, runtimes, networks, hardening, images, what is observed. The only home of the Docker SDK.
Never here: what should run; the node does what it is told, and only by whom it was claimed.
"""
