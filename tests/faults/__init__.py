"""The faults: workers are killed, stopped and overtaken, and nothing is lost, doubled or overwritten.

`cd tests && python -m faults [--only F1,late] [--quick] [--seed N]` prints a table and writes `build/faults.json`. Every
row says what was asked of it and whether that was met. `late` needs no processes: `scenes` take attempts away from their
worker, and `writes` are what it then still tries.
"""
