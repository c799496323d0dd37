"""The decisions: pure functions from what is wanted and what was seen to an ordered plan and a truthful status.

Lives here: rendering a spec into the exact container wanted, its hash, drift, rollout, placement, adoption,
orphans, deletion, and the conditions that report all of it.
Never here: awaiting, logging, reading a clock, importing a driver.
"""
