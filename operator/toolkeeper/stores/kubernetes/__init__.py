"""The store on Kubernetes: resources are custom resources, people use kubectl, Helm, Argo CD and Flux.

    kopf (own thread) ──events──▶ Beliefs ◀──lists── Relisting
                                     │
                                  Feed ──▶ watch()          write_status, set_finalizer ──▶ Api

Lives here: kopf and aiohttp, the belief about what the cluster holds, writes, Events, the Lease, the installation's id.
Beside them `visit`: the cluster as a person's command sees it, and changes it at that person's word.
Never here: what is done with a resource; a field of a user's object that the operator writes, other than our finalizer
and the status.
"""
