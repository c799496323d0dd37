"""Fakes and builders that we ship: held to the same contract suites as the real things.

Lives here: a fake toolbox, a virtual clock and event loop, builders of resources, small real MCP servers.
Never here: anything that the product itself imports.
"""
