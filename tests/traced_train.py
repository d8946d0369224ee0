"""``train.py`` that also records which images each process trains on: a line of JSON before each iteration.

The folder of the records is in the variable TRACE. A line has the start of the process group (the time of its
rank 0), the iteration, rank and size, and the images.
"""

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mit_semseg.cli import main
from mit_semseg.runtime.distributed import gather_from_processes
from mit_semseg.training import train

_step, _start = train.step, None
_pause = float(os.environ.get("TRACE_PAUSE", "0"))


def step(net, optimizer, batch, process, *, where, **options):
    global _start
    if _start is None:
        _start = gather_from_processes(time.time())[0]
    epoch, number = (int(word.split()[-1]) for word in where.split(", "))
    images = [file for shards in batch for shard in shards for file in shard["info"]]
    line = [_start, epoch, number, process.rank, process.size, images]
    with Path(os.environ["TRACE"], f"{os.getpid()}.jsonl").open("a") as trace:
        trace.write(json.dumps(line) + "\n")
    # After the line, because a process may be killed when another one has all of the iteration, and saves it.
    result = _step(net, optimizer, batch, process, where=where, **options)
    time.sleep(_pause)  # so that the machine has time for the others, too
    return result


train.step = step
sys.exit(main(["train", *sys.argv[1:]]))
