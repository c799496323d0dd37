"""Where desired state is kept: memory, sqlite, directory (and later kubernetes, supabase).

Lives here: adapters that fit `toolkeeper.reconcile.ports.Store` by shape, and the translation of their errors.
Never here: what is done with a resource.
"""
