"""``mit-semseg data check``: reads every file of some lists and reports each problem with its fix.

`pool` runs `examine` for each pair of files, in several processes. It reads both files (`decode`) and returns
a small `PairFacts`. `tally` compares the facts of all pairs, adds them up and finds duplicates. A problem is
an issue (`issue_types`) with its findings (`findings`). `summary` turns the tally into the content of the
report, and `report` writes it as text or JSON.
"""
