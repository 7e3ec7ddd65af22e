"""The first hour on a GPU in ten minutes: ``doctor --gpu``, one report and one table. On the CPU the same is asked.

Every check is in processes of its own: what computes in this one would hold memory of a GPU that others measure.
``python -m slurm.first_hour OUT DEVICE`` is one of the processes that train together.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from benchmark.cost import checks
from benchmark.cost.checks import Result
from benchmark.cost.runner import alone
from benchmark.running.runner import execute_suite
from benchmark.runtime.devices import resolve_device
from benchmark.runtime.errors import UserError
from benchmark.runtime.numerics import computing_in
from benchmark.runtime.process import Process, process
from benchmark.runtime.provenance import now, provenance
from benchmark.runtime.signals import Requests
from benchmark.suite.expand import load_suite
from results.record import METRICS_NAME, NetworkRecord, Provenance, RecordFile, network_path
from slurm.profile import Profile
from slurm.send import asked_options, directives, send_script

SUITE = Path(__file__).with_suffix(".yaml")
REPORT_NAME = "doctor.json"
# Of a run's loss, relative: on several processes beside one, and gone on with beside undisturbed; over so many steps,
# since training amplifies what sums round.
CURVE_TOLERANCE, STEPS = 1e-3, 10
END_SECONDS = 60.0  # in which all processes end after one was killed
_TRAIN_SECONDS = 300.0
_MARKS = {True: "ok", False: "NO", None: "info"}


class Report(RecordFile):
    """What was found, and where; of each check as :class:`benchmark.cost.checks.Result` has it."""

    what: ClassVar[str] = "report of doctor --gpu"
    schema_version: Literal[1] = 1
    processes: int
    fine: bool
    results: tuple[dict[str, Any], ...]
    seconds: dict[str, float] = Field(description="that each check took")
    provenance: Provenance

    def rows(self) -> list[dict[str, str]]:
        """For a table."""
        names = ("check", "what", "found", "allowed")
        return [{**{name: row[name] for name in names}, "fine": _MARKS[row["fine"]]} for row in self.results]


def examine(device: str, folder: Path, say: Callable[[str], None]) -> Report:
    """Every check, one after the other; the report is left in ``folder``.

    Raises :class:`UserError` where the device cannot be used at all.
    """
    processes = 2
    if device == "cuda":
        seen = alone(checks.gpus)
        if fault := seen.message or seen.result["fault"]:
            raise UserError(f"no GPU can be used: {fault}; doctor --gpu --device cpu asks the same of two processes")
        processes = min(2, seen.result["count"])
    in_one = (checks.losses, checks.overflow, checks.memory, checks.speed, checks.cost_model)
    asked: dict[str, Callable[[], Iterable[Result]]] = {
        check.__name__.replace("_", " "): partial(_in_one_process, check, device) for check in in_one
    }
    started, seconds = now(), {}
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="spherebench-doctor-") as scratch:
        asked["training"] = partial(_runs, device, processes, Path(scratch))
        for name, check in asked.items():
            say(f"{name} ...")
            began = time.perf_counter()
            results += check()
            seconds[name] = time.perf_counter() - began
    with computing_in("fp32"):
        place = Process(resolve_device(device), world_size=processes)
        made = provenance(place, started, attempts=1, lost_seconds=0.0)
    report = Report(
        processes=processes,
        fine=all(result.fine is not False for result in results),
        results=tuple(asdict(result) for result in results),
        seconds=seconds,
        provenance=made,
    )
    report.write(folder / REPORT_NAME)
    return report


def submit(profile: Profile, folder: Path, *, dry_run: bool = False) -> str:
    """Send the checks to a cluster as one job, on the GPUs that its profile asks for; what to tell the user.

    Raises :class:`UserError` where that asks for none, or is no Slurm cluster.
    """
    asked, folder = profile.resources, folder.resolve()
    if profile.executor != "slurm":
        raise UserError(f"--cluster: is {profile.executor}, no Slurm cluster; spherebench doctor --gpu does it here")
    if not asked.gpus_per_node:
        raise UserError("--cluster: asks for no GPU (--resource gpus_per_node=2 asks for two)")
    # One task, which starts a process on each GPU, with the cores of the tasks that would be.
    own: dict[str, str | int | bool] = {
        "job-name": "spherebench-doctor",
        "output": str(folder).replace("%", "%%") + "/doctor-%j.log",
        "nodes": 1,
        "ntasks-per-node": 1,
        "cpus-per-task": asked.cpus_per_task * asked.tasks_per_node,
    }
    options = asked_options(profile, asked, own)
    command = shlex.join([sys.executable, "-m", "benchmark", "doctor", "--gpu", "--out", str(folder)])
    exports = [f"export {name}={shlex.quote(value)}" for name, value in profile.environment.items()]
    root = f"cd {shlex.quote(str(Path(__file__).parents[1]))}"
    text = "\n".join(["#!/bin/bash", *directives(options), *profile.setup, *exports, root, f"exec {command}", ""])
    if dry_run:
        return text
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "doctor.sh"
    path.write_text(text, encoding="utf-8")
    job = send_script(path, options)
    return f"submitted doctor as job {job}; it writes {folder / REPORT_NAME}, and its table to doctor-{job}.log\n"


def _in_one_process(check: Callable[..., dict[str, Any]], device: str) -> list[Result]:
    ended = alone(check, device=device)
    if ended.status != "done":
        return [Result(check.__name__, "the check itself", f"{ended.status}: {ended.message}", "ends", fine=False)]
    return [Result(**result) for result in ended.result["results"]]


def _runs(device: str, processes: int, scratch: Path) -> Iterator[Result]:
    """A run on all processes beside one process; and one of which a process is killed, which then goes on."""
    gpus = device == "cuda"
    several = f"{processes} {'GPUs' if gpus else 'processes'}"
    whole = {count: scratch / str(count) for count in (1, processes)}
    for count, out in whole.items():
        if told := _run(device, count, out):
            yield Result("training", f"a run on {count} of {several}", told, "ends well", fine=False)
            return
    limit = f"{CURVE_TOLERANCE:g}"
    if processes > 1:
        gap = _gap(whole[1], whole[processes])
        what = f"{STEPS} steps on {several}, {'NCCL' if gpus else 'gloo'} and SyncBN, beside one"
        yield Result("ranks", what, f"losses differ by {gap:.1e}", limit, gap <= CURVE_TOLERANCE)
    out = scratch / "killed"
    ended = _run(device, processes, out, kill=True)
    allowed = f"all end within {END_SECONDS:g} s"
    yield Result("kill", f"one of {several} by SIGKILL", ended, allowed, ended.startswith("all ended"))
    found, fine = _run(device, processes, out), False
    if not found:
        gap, record = _gap(whole[processes], out), _record(out)
        found = f"{record.status} at attempt {record.provenance.attempts}, losses differ by {gap:.1e}"
        fine = gap <= CURVE_TOLERANCE and record.status == "done" and record.provenance.attempts == 2
    yield Result("resume", f"the same run again on {several}", found, limit, fine)


def _run(device: str, count: int, out: Path, *, kill: bool = False) -> str:
    """Train on so many processes; '' where all end well. With ``kill`` the last one is, once a step is logged."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    environment = {**os.environ, **together, **({"OMP_NUM_THREADS": "1"} if device == "cpu" else {})}
    logs = [out.with_name(f"{out.name}-{rank}.log") for rank in range(count)]
    ranks = []
    try:
        for rank, path in enumerate(logs):
            with path.open("w") as log:
                own = {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                command = [sys.executable, "-m", "slurm.first_hour", str(out), device]
                root = Path(__file__).parents[1]
                ranks.append(subprocess.Popen(command, env=own, cwd=root, stdout=log, stderr=subprocess.STDOUT))
        until = time.monotonic() + _TRAIN_SECONDS
        if kill:
            while not list(out.glob(f"*/{METRICS_NAME}")) and ranks[0].poll() is None and time.monotonic() < until:
                time.sleep(0.005)
            ranks[-1].send_signal(signal.SIGKILL)
            until = time.monotonic() + END_SECONDS
        began = time.monotonic()
        codes = [rank.wait(max(0.1, until - time.monotonic())) for rank in ranks]
    except subprocess.TimeoutExpired:
        return f"one is still there after {time.monotonic() - began:.0f} s"
    finally:
        for rank_left in ranks:
            rank_left.kill()
            rank_left.wait()
    if kill:
        was_killed = codes[-1] == -signal.SIGKILL
        return f"all ended after {time.monotonic() - began:.1f} s" if was_killed else "done before it could be killed"
    return f"ended with {codes}: {_last_words(logs)}" if any(codes) else ""


def _last_words(logs: Sequence[Path]) -> str:
    """The last line of each log."""
    return " | ".join(line for log in logs for line in log.read_text(errors="replace").splitlines()[-1:])


def _gap(one: Path, other: Path) -> float:
    """The largest relative difference of the first losses of two runs."""
    curves = []
    for out in (one, other):
        (path,) = out.glob(f"*/{METRICS_NAME}")
        curves.append([json.loads(line)["loss"] for line in path.read_text(encoding="utf-8").splitlines()[:STEPS]])
    return max(abs(a / b - 1) for a, b in zip(*curves, strict=True))


def _record(out: Path) -> NetworkRecord:
    (path,) = out.glob(f"*/{METRICS_NAME}")
    return NetworkRecord.read(network_path(path.parent))


def main(out: Path, device: str) -> None:
    """One of the processes that train."""
    with process(device) as this:
        execute_suite(load_suite(str(SUITE)), out, this, Requests(), retry=False, report=lambda text: None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
