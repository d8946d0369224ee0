"""``mit-semseg data check``: reads every file of some lists and reports what is wrong, with the fix for each.

A pair of files is looked at in a process of its own (``pool``): read once (``decode``), turned into a small
`Finding` (``examine``), compared within itself (``compare``), added up (``tally``) and, at the end, compared
with the others (``duplicates``, ``summary``). ``kinds`` says what each problem is and how it is mended;
``report`` and ``as_json`` write it down.
"""
