"""The nouns: Toolbox, MCPServer and AgentConnection, as people declare them and as status reports them.

Lives here: pydantic models, conditions, the table of reasons, parsing of documents into resources,
and the rendering of models into CustomResourceDefinitions and JSON Schemas.
Never here: I/O, clocks, decisions about what to do.
"""
