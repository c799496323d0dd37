"""The MCP handshake, as data: is this server alive, which tools does it offer, and what are their definitions?

Lives here: one probe per transport (`endpoint` for URLs, `stdio` for byte streams), the conversation that both
lead with the official SDK, the evidence kept beside it, the named reasons drawn from that evidence, the hashes
that pin tool definitions, and advisory checks of their text.
Never here: deciding what a failed probe means for a rollout, starting or stopping anything, retrying.
The SDK comes in through `sdk`, which leaves out its server side; only `conversation`, `endpoint` and `stdio` speak
through it, the rest is pure.
"""
