"""From a key to what follows: gather, decide (in a pure module beside this package), act, report.

    rows             the database holds what resources say; many keys at a time, decided in `plan`
    workers          the Deployment of a resource with workers, a step at a time; decided in `steps`
    pod_recovery     what becomes of the tasks of pods that go, restart or fall silent; what a pod's state means is in `pods`
    scaling          how many workers a fleet has, decided in fibflow.scaling; scale_down says which go
    report           what a status tells; decided in `verdict`, and of workers, through worker_report, in `worker_verdict`

What differs from kind to kind is in tasktype, crontask and workerpool, each a `Subject` (subject.py).
"""
