"""What the tests themselves stand on."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.patience import MARK, end_marked, is_alive, wait_for

# Holding none of the pipes that its parent's end is waited for by.
STARTS = "import subprocess as s, sys; print(s.Popen(['sleep', '600'], stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"


def test_a_process_that_was_left_behind_is_found_and_killed() -> None:
    environment = os.environ | {MARK: f"{os.getpid()}-left"}
    # Its parent is gone before it is looked for.
    done = subprocess.run([sys.executable, "-c", STARTS], env=environment, capture_output=True, text=True, check=True)
    assert end_marked(environment[MARK], seconds=0) == {int(done.stdout): "sleep 600"}
    assert end_marked(environment[MARK], seconds=60) == {}
    # Where it has given its memory back, marks and all, it may not have ended yet.
    wait_for(lambda: not is_alive(int(done.stdout)), seconds=60)
