"""What the tests on a real cluster share: small suites, and a hand that watches a run and strikes it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmark.running import attempts
from benchmark.running.runner import execute_suite
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.suite.expand import Suite, load_suite
from results.record import NETWORK_NAME, MeasurementRecord, NetworkRecord, network_path
from slurm.manifest import submissions
from slurm.profile import load_profile
from slurm.submit import submit
from slurm.survey import Records
from tests.patience import PATIENCE, wait_for
from tests.slurm.cluster import Cluster

ROOT = Path(__file__).parents[2]
LOG_EVERY = 4

# Loading torch takes a job half a minute where it shares two cores with ten others: the runs themselves are short, and
# only the users' page has the few-label probe, for which scikit-learn has to be loaded too.
_SUITE = """
description: tests on a cluster
defaults:
  data: {source: digits, tune_fraction: 0.2}
  augmentation: grey
  backbone: {name: small_cnn, width: 8}
  projector: {hidden: 32}
  epochs: 40
  batch_size: 256
  optimizer: {name: adamw, base_lr: 2e-3, warmup_epochs: 1}
  evaluation: {probes: [knn, embedding], knn_k: [5], draws: 2}
execution: {checkpoint_seconds: 0.1, log_every: 4, device: cpu}
grid:
  method: [sfrik_l2]
  embedding_dim: [16]
  seed: [0]
"""

_environment_lock = threading.Lock()


def write_suite(folder: Path, name: str, *changes: tuple[str, str]) -> Path:
    """A suite file in ``folder``, with parts of its text changed."""
    text = _SUITE
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


@dataclass(frozen=True)
class Stage:
    """A cluster and a folder for the runs on it."""

    cluster: Cluster
    folder: Path
    suite: Path

    def submit(
        self, name: str, *resources: str, cluster: str = "slurm", settings: Sequence[str] = ()
    ) -> tuple[Path, Suite]:
        """Submit the suite to a runs folder of this name, as the command does."""
        runs = self.folder / name
        suite = load_suite(str(self.suite), settings)
        profile = load_profile(cluster, ["memory_gb=0.5", "cpus_per_task=1", *resources])
        with _environment_lock:
            submit(suite, runs, profile)
        return runs, suite

    def watch(self, name: str, *resources: str, cluster: str = "slurm", settings: Sequence[str] = ()) -> Watched:
        """Submit a suite of one run, and watch it."""
        runs, suite = self.submit(name, *resources, cluster=cluster, settings=settings)
        return Watched(self.cluster, runs, runs / suite.cells[0].run.id)

    def undisturbed(self, name: str, settings: Sequence[str] = ()) -> Path:
        """Do the suite in this process; returns its runs folder."""
        import torch

        runs = self.folder / name
        suite = load_suite(str(self.suite), settings)
        execute_suite(suite, runs, Process(torch.device("cpu")), Requests(), retry=False, report=print)
        return runs

    def only(self, runs: Path) -> Watched:
        """The only run of a runs folder whose network is there."""
        return Watched(self.cluster, runs, next(runs.glob(f"*/{NETWORK_NAME}")).parent)

    def command(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``spherebench``, as a user calls it."""
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", *map(str, arguments)],
            cwd=self.folder,
            env=environment(self.cluster),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done


def environment(cluster: Cluster) -> dict[str, str]:
    """The environment of a user of the cluster."""
    return os.environ | {"SLURM_CONF": str(cluster.configuration), "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}


@dataclass(frozen=True)
class Watched:
    """One submitted run."""

    cluster: Cluster
    runs: Path
    folder: Path

    @property
    def job(self) -> str:
        """The id of its last job."""
        return f"{submissions(self.runs)[-1].jobs[0]}_0"

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged: the whole lines of metrics.jsonl."""
        path = self.folder / "metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def step(self) -> int:
        """The step it has reached."""
        lines = self.lines()
        return lines[-1]["step"] if lines else 0

    def freeze(self, step: int) -> list[int]:
        """Stop its processes once it is as far as ``step``, so that it cannot end before it is disturbed."""
        wait_for(lambda: self.step() >= step, what=f"step {step} of {self.folder}", every=0.02)
        pids = self.freeze_now()
        assert pids, f"{self.folder} was done before it could be disturbed"
        return pids

    def freeze_now(self) -> list[int]:
        """Stop its processes, if any; returns once they have stopped: on a busy machine later than the signal."""
        pids = self.processes()
        _send(pids, signal.SIGSTOP)
        wait_for(lambda: not any(is_running(pid) for pid in pids), what=f"{pids} to stop", every=0.01)
        return pids

    def thaw(self, pids: list[int], *, hearing: signal.Signals | None = None) -> None:
        """Let frozen processes go on, once each has been sent the signal ``hearing``."""
        if hearing:
            wait_for(lambda: all(is_sent(pid, hearing) for pid in pids), what=f"{hearing.name} to {self.folder}")
        _send(pids, signal.SIGCONT)

    def processes(self) -> list[int]:
        """Its training processes."""
        return processes(str(submissions(self.runs)[-1].folder), "slurm.job")

    def attempt(self, number: int) -> None:
        """Wait until its ``number``-th attempt has begun."""
        wait_for(lambda: attempts.count(self.folder) >= number, what=f"attempt {number} of {self.folder}")

    def network(self) -> NetworkRecord:
        """The record of its network."""
        return NetworkRecord.read(network_path(self.folder))

    def measured(self) -> dict[str, MeasurementRecord]:
        """The records of its measurements that have ended, by id."""
        return {
            name: record
            for name, record in Records.of(self.folder).measurements.items()
            if record.status != "interrupted"
        }

    def finish(self) -> Records:
        """Wait until its network, and all that is to be measured on it, have ended; returns their records."""
        wait_for(self._has_ended, what=f"the end of {self.folder}", every=0.3)
        return Records.of(self.folder)

    def _has_ended(self) -> bool:
        listed = [name for s in submissions(self.runs) for e in s.entries for name in e.measurements]
        return not Records.of(self.folder).missing(listed)

    def wait_for_state(self, *states: str) -> None:
        """Wait until Slurm says that its job is in one of ``states``."""
        query = ("squeue", "-h", "-t", "all", "-j", self.job, "-o", "%T")
        wait_for(lambda: self.cluster.run(*query, check=False).strip() in states, what=f"job {states}")

    def time_limit(self) -> datetime:
        """When Slurm will end its job."""
        return datetime.fromisoformat(self.cluster.run("squeue", "-h", "-j", self.job, "-o", "%e").strip())

    def take_nodes(self, partition: str, nodes: int) -> None:
        """Let a job of another partition take its nodes."""
        self.cluster.run(
            *("sbatch", "-p", partition, "-N", str(nodes), "--exclusive", "--output=/dev/null", "--wrap", "sleep 2")
        )

    def ends(self) -> list[str]:
        """Why its attempts ended, as the batch script saw it."""
        return [event["why"] for event in attempts.read(self.folder) if event["event"] == "end"]


def is_running(pid: int) -> bool:
    """Whether a process exists and is neither stopped nor dead."""
    return _status(pid).get("State", "X")[0] not in "TXZ"


def is_sent(pid: int, number: signal.Signals) -> bool:
    """Whether a stopped process has been sent a signal that it will handle once it goes on."""
    status = _status(pid)
    pending = any(int(status.get(name, "0"), 16) >> (number - 1) & 1 for name in ("SigPnd", "ShdPnd"))
    # Slurm sends SIGCONT too: then it went on, heard the signal, and may have ended.
    return pending or status.get("State", "X")[0] != "T"


def _status(pid: int) -> dict[str, str]:
    """What the kernel says of a process; nothing where there is none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def processes(*texts: str) -> list[int]:
    """The processes whose command line, or whose title, holds every one of ``texts``; srun and shells left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if all(text in line for text in texts) and not line.startswith(("srun", "/bin/bash", "bash", "sh ")):
            found.append(int(path.parent.name))
    return found


def losses(folder: Path) -> list[tuple[int, float]]:
    """Every logged step and its loss."""
    return [
        (line["step"], line["loss"]) for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    ]


def figures(folder: Path) -> dict[str, tuple[float, float | None]]:
    """Every figure of a run's folder, by its full name."""
    records = Records.of(folder).measurements.values()
    return {metric.name: (metric.value, metric.sd) for record in records for metric in record.metrics}
