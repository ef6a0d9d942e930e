"""The benchmark: fibflow beside a peer and beside a bare loop, in one run, on one private PostgreSQL.

`make bench`, or `cd tests && python -m bench [--only P1,P3] [--quick]`, prints a table and writes `build/bench.json`.
Absolute figures mean little, so every row is a ratio of two things measured in turns. `targets` is what is asked of each
row; `drain`, `enqueue`, `latency`, `bloat`, `idle` and `metrics` measure them on a `course`; `ours`, `pgqueuer_peer`, `floor`,
`floor_latency` and `scrapes` are the contestants, modules of plain functions that `lap` runs in processes of their own.

`schemas` is a study beside it: the two designs of the tables that we chose between.
"""
