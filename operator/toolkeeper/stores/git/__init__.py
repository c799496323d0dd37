"""A Git repository as the source of a folder of manifests.

Lives here: what may be asked of which repository, running the `git` program, and the cache that each commit is copied
to at once or not at all. The folder in the cache is then read by `DirectoryStore` like any other.
Never here: what a manifest means, and what follows from a file that is missing (`judgement`).

address ──▶ repository (git, with what `access` proves) ──▶ tree ──▶ cache: trees/<commit>, current ──▶ DirectoryStore
                                       puller: when, and what came of it
"""
