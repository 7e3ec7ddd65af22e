"""What may happen to a run on a cluster, and runs to which it does.

All runs are submitted at the start, and each is struck by a thread of its own: their waiting for Slurm overlaps.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

from benchmark.running import attempts
from benchmark.running.attempts import SCRATCH_NAME
from slurm.survey import Records, survey
from tests.patience import PATIENCE, wait_for
from tests.slurm.stage import Stage, Watched, figures, is_sent, losses, processes

# Of 160 steps, in 40 epochs.
STRIKE_AT = 24
# Before its time limit of 120. Slurm looks every half a minute and warns by so much earlier; by then torch has to be
# loaded: an attempt that is warned before gets no further.
WARNED_SECONDS = 45
# Over several ranks: 48 steps, in 3 epochs, of which the second is struck.
LONG_EPOCHS = ("batch_size=64", "epochs=3", "log_every=1")
STRIKE_SEVERAL_AT = 20
# Runs that are struck as they are measured: in the second of three probes, whose checkpoints tell how far it is.
MEASURED = ("epochs=4", "evaluation.probes=[knn,linear,embedding]", "evaluation.linear_epochs=300")
STRIKE_LINEAR_AT = 30


def requeue_from_outside(run: Watched) -> None:
    """``scontrol requeue`` sends no signal."""
    run.freeze(STRIKE_AT)
    run.cluster.run("scontrol", "requeue", run.job)


def kill_the_task(run: Watched) -> None:
    """``kill -9``, as the kernel does where memory runs out."""
    (pid,) = run.freeze(STRIKE_AT)
    os.kill(pid, signal.SIGKILL)


def preempt(run: Watched) -> None:
    """A job of a higher partition takes the node."""
    pids = run.freeze(STRIKE_AT)
    run.take_nodes("high", 1)
    run.thaw(pids, hearing=signal.SIGUSR2)


def preempt_several(run: Watched) -> None:
    """Two nodes with two tasks each, preempted in mid-epoch."""
    pids = run.freeze(STRIKE_SEVERAL_AT)
    assert len(pids) == 4
    run.take_nodes("high2", 2)
    run.thaw(pids, hearing=signal.SIGUSR2)


def kill_as_it_measures(run: Watched) -> None:
    """``kill -9`` in the linear probe."""
    (pid,) = freeze_linear(run, STRIKE_LINEAR_AT)
    note_finished(run)
    os.kill(pid, signal.SIGKILL)


def disturb_two_as_they_measure(run: Watched) -> None:
    """One rank is killed in the linear probe; later both are asked to stop."""
    pids = freeze_linear(run, STRIKE_LINEAR_AT)
    assert len(pids) == 2
    note_finished(run)
    os.kill(pids[1], signal.SIGKILL)
    run.thaw(pids[:1])
    run.attempt(2)
    pids = freeze_linear(run, 2 * STRIKE_LINEAR_AT)
    assert len(pids) == 2
    run.cluster.run("scancel", "--signal=USR2", run.job)
    run.thaw(pids, hearing=signal.SIGUSR2)


def reach_time_limit_as_it_measures(run: Watched) -> None:
    """The linear probe takes longer than the time limit of the job that measures, twice."""
    for number in (1, 2):
        # The first attempt is the training's, a job of its own.
        run.attempt(number + 1)
        freeze_linear(run, number * STRIKE_LINEAR_AT)
        if number == 1:
            note_finished(run)
        _hold_until_warned(run)
        wait_for(lambda n=number: len(run.ends()) >= n, what=f"end {number} of {run.folder}")


def freeze_linear(run: Watched, epoch: int) -> list[int]:
    """Stop its processes once the linear probe has saved that epoch."""

    def saved() -> int:
        paths = run.folder.glob(f"{SCRATCH_NAME}/*/linear-*/step-*.pt")
        return max((int(path.name.split("-")[1]) for path in paths), default=0)

    wait_for(lambda: saved() >= epoch, what=f"epoch {epoch} of the linear probe of {run.folder}", every=0.02)
    pids = run.freeze_now()
    assert pids, f"{run.folder} was done before it could be disturbed"
    return pids


def finished(run: Watched) -> dict[str, bytes]:
    """The network's files, and the records of what is measured, by name."""
    names = ["network.json", "weights.safetensors"]
    paths = [*(run.folder / name for name in names), *(run.folder / "measurements").glob("*.json")]
    done = {name for name, record in run.measured().items() if record.status == "done"}
    return {path.name: path.read_bytes() for path in paths if path.name in names or path.stem in done}


def note_finished(run: Watched) -> None:
    """Remember what was done before the strike, beside the run."""
    found = finished(run)
    assert {name.partition("-")[0] for name in found} == {"network.json", "weights.safetensors", "knn"}
    for name, content in found.items():
        (run.folder / f"before-{name}").write_bytes(content)


def kill_one_of_two(run: Watched) -> None:
    """``kill -9`` of one rank in mid-epoch; the other finds its connections closed."""
    pids = run.freeze(STRIKE_SEVERAL_AT)
    assert len(pids) == 2
    os.kill(pids[1], signal.SIGKILL)
    run.thaw(pids[:1])


def reach_time_limit(run: Watched) -> None:
    """Slurm's warning before the time limit, three times, of which the last leaves as many steps as other strikes."""
    for number in (1, 2, 3):
        run.attempt(number)
        wait_for(lambda n=number: run.step() >= n * STRIKE_AT // 3 or len(run.ends()) >= n, every=0.02)
        if len(run.ends()) < number:
            _hold_until_warned(run)


def _hold_until_warned(run: Watched) -> None:
    """Hold the run where it is until Slurm has warned it. Maybe it was warned just before, and is about to end."""
    pids = run.freeze_now()
    if pids:
        warned_by = run.time_limit() - timedelta(seconds=WARNED_SECONDS - 5)
        wait_for(lambda: all(is_sent(pid, signal.SIGUSR2) for pid in pids) or datetime.now() > warned_by, every=0.5)
        run.thaw(pids)


def power_off(run: Watched) -> None:
    """The node it runs on dies with everything on it, and comes back later."""
    (pid,) = run.freeze(STRIKE_AT)
    node = run.cluster.run("squeue", "-h", "-j", run.job, "-o", "%N").strip()
    number = int(node.rpartition(".")[2])
    run.cluster.kill_node(number)
    for victim in (*processes(f"slurmstepd: [{run.job.partition('_')[0]}."), pid):
        os.kill(victim, signal.SIGKILL)
    run.attempt(2)
    run.cluster.start_node(number)


def damage_checkpoint(run: Watched) -> None:
    """The newest checkpoint is cut short between two attempts."""
    wait_for(lambda: len(list(run.folder.glob("checkpoints/*.pt"))) == 2, every=0.02)
    (pid,) = run.freeze(STRIKE_AT)
    newest = max(run.folder.glob("checkpoints/*.pt"))
    os.kill(pid, signal.SIGKILL)
    newest.write_bytes(newest.read_bytes()[:1000])


def fill_the_disk(run: Watched) -> None:
    """No byte is left on the runs folder's file system; later there is, and the suite is submitted again."""
    pids = run.freeze(STRIKE_AT)
    ballast = run.runs / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    run.thaw(pids)
    wait_for(lambda: "no space left on the disk" in run.ends(), what="the run to notice the full disk")
    run.wait_for_state("FAILED")
    standing = survey(run.runs)[run.folder.name]
    assert (standing.state, standing.detail) == ("interrupted", "no space left on the disk")
    assert not list(run.folder.rglob("*.tmp"))
    ballast.unlink()


def cancel(run: Watched) -> None:
    """``scancel``, without a word to spherebench."""
    pids = run.freeze(STRIKE_AT)
    run.cluster.run("scancel", run.job)
    run.thaw(pids, hearing=signal.SIGTERM)
    run.wait_for_state("CANCELLED")
    assert survey(run.runs)[run.folder.name].state == "cancelled"


class Theatre:
    """The runs, and what became of them."""

    def __init__(self, stage: Stage, pool: ThreadPoolExecutor, disk: Path) -> None:
        self.stage, self.pool, self.disk = stage, pool, disk
        self.runs: dict[str, Watched] = {}
        self.ended: dict[str, Future[Records]] = {}

    def open(self) -> None:
        """Submit every run and set its striker on it."""
        self.start("limited", reach_time_limit)
        self.start("measured-limited", reach_time_limit_as_it_measures, settings=MEASURED)
        self.start("several", preempt_several, "partition=low2", "nodes=2", "gpus_per_node=2", settings=LONG_EPOCHS)
        self.start("killed-rank", kill_one_of_two, "gpus_per_node=2", settings=LONG_EPOCHS)
        self.start("node", power_off, "partition=fragile")
        self.start("preempted", preempt, "partition=low")
        self.start("measured-two", disturb_two_as_they_measure, "gpus_per_node=2", settings=MEASURED)
        self.start("measured-killed", kill_as_it_measures, settings=MEASURED)
        self.start("requeued", requeue_from_outside)
        self.start("killed", kill_the_task)
        self.start("damaged", damage_checkpoint)
        self.start("cancelled", cancel)
        self.start("disk", fill_the_disk)

    def start(
        self, name: str, strike: Callable[[Watched], None], *resources: str, settings: tuple[str, ...] = ()
    ) -> None:
        """Submit one run and strike it from a thread."""
        profile = self.stage.folder / f"{name}.yaml"
        cluster = str(profile) if profile.exists() else "slurm"
        run = self.stage.watch(name, *resources, cluster=cluster, settings=settings)
        self.runs[name] = run
        self.ended[name] = self.pool.submit(self._play, name, run, strike)

    def _play(self, name: str, run: Watched, strike: Callable[[Watched], None]) -> Records:
        strike(run)
        if name == "cancelled":
            self.stage.command("retry", run.runs)
        if name == "disk":
            self.stage.submit(name)
        return run.finish()


def _answer_late(profile: Path, *commands: str) -> None:
    """A profile in whose jobs these commands of Slurm fail at their first call."""
    folder = profile.with_name(f"{profile.stem}-commands")
    folder.mkdir()
    for name in commands:
        path, failed = folder / name, folder / f"{name}.failed"
        path.write_text(
            f"#!/bin/sh\n[ -e {failed} ] || {{ touch {failed}; echo 'error: Unable to contact' >&2; exit 1; }}\n"
            f'exec {shutil.which(name)} "$@"\n'
        )
        path.chmod(0o755)
    profile.write_text(f"description: x\nenvironment: {{PATH: {folder}:{os.environ['PATH']}}}\n")


@contextlib.contextmanager
def opened(stage: Stage) -> Iterator[Theatre]:
    """Every disturbed run, under way."""
    warned = f"description: told of its time limit long before\nsignal_seconds: {WARNED_SECONDS}\n"
    (stage.folder / "limited.yaml").write_text(f"{warned}resources: {{minutes: 2}}\n")
    (stage.folder / "measured-limited.yaml").write_text(
        f"{warned}shapes: [{{when: {{stage: measure, probe: linear}}, ask: {{minutes: 2, gpus_per_node: 1}}}}]\n"
    )
    _answer_late(stage.folder / "killed.yaml", "squeue", "scontrol")
    disk = stage.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=True, timeout=PATIENCE)
    try:
        with ThreadPoolExecutor(16) as pool:
            theatre = Theatre(stage, pool, disk)
            theatre.open()
            yield theatre
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True, timeout=PATIENCE)


def check_whole(run: Watched, records: Records, undisturbed: Watched) -> None:
    """Bit for bit the undisturbed run: its figures and every logged loss, none missing and none twice."""
    assert {record.status for record in records.all()} == {"done"}, records.faults()
    assert losses(run.folder) == losses(undisturbed.folder)
    assert figures(run.folder) == figures(undisturbed.folder)
    assert len(figures(run.folder)) > 2
    assert survey(run.runs)[run.folder.name].state == "done"


def check_kept(run: Watched) -> None:
    """What was done before the strike has the same bytes."""
    found = finished(run)
    before = {path.name.removeprefix("before-"): path.read_bytes() for path in run.folder.glob("before-*")}
    assert {name: found[name] for name in before} == before
    measured = [event["measurement"] for event in attempts.read(run.folder) if event["event"] == "measure"]
    assert sum(name.startswith("knn-") for name in measured) == 1
