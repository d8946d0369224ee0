import os
import subprocess
import sys

import pytest
import torch

from mit_semseg.errors import ProcessError
from mit_semseg.runtime.launch import run_processes

CPU = torch.device("cpu")


def take_memory(process):
    torch.empty(2**50, dtype=torch.uint8)


def take_memory_of_a_gpu(process):
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity"
    )


def fail_otherwise(process):
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.parametrize(
    ("entry", "size"), [(take_memory, "1125899906842624 bytes"), (take_memory_of_a_gpu, "20.00 MiB")]
)
def test_a_lack_of_memory_is_a_message_with_what_to_do(entry, size):
    with pytest.raises(ProcessError) as caught:
        run_processes(entry, [CPU], timeout_s=60)
    message = str(caught.value)
    assert message.startswith(
        f"Memory ran out on cpu at a request for {size}. In training, lower TRAIN.batch_s"
    )
    assert "INFERENCE.tile" in message


def test_other_errors_of_torch_stay_as_they_are():
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2"):
        run_processes(fail_otherwise, [CPU], timeout_s=60)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_a_command_limits_spinning_unless_the_user_has_decided(given, wanted):
    code = (
        "import os; from mit_semseg.cli import main; main(['config', 'DIR']);"
        "print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    decided = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    clean = {key: value for key, value in os.environ.items() if key not in decided}
    done = subprocess.run([sys.executable, "-c", code], env=clean | given, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == wanted, done.stderr
