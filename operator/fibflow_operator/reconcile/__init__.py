"""From a key to what follows: gather, decide (in `plan`), act, report.

`rows` brings the database to what the resources say, many keys at a time; `report` tells a resource how it stands. What
differs from kind to kind is in tasktype, crontask and workerpool, as a `Subject`. What a resource with workers has besides
its row is brought about by `workers` (its Deployment), `scaling` (how many) and `pods` (what becomes of those that go), and
told by `staffed`.
"""
