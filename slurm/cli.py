"""The commands around Slurm: submit, status, cancel, logs, retry, doctor."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from benchmark.cli import TypedPath, download_option, echo_table, format_option, set_option
from benchmark.runtime.errors import UserError

if TYPE_CHECKING:
    from slurm.manifest import Submission

_folder = TypedPath(exists=True, file_okay=False)
runs_folder = click.argument("runs", type=_folder)
some_runs = click.argument("names", metavar="[RUN]...", nargs=-1)
resource_option = click.option(
    *("--resource", "resources"), multiple=True, metavar="KEY=VALUE", help="Override what the profile asks for."
)
force_option = click.option(
    "--force", is_flag=True, help="Also runs that may wait or run where it cannot be asked: they would do so twice."
)


@click.command()
@click.argument("suite")
@click.option("--cluster", required=True, metavar="PROFILE", help="A profile's name, or a YAML file: slurm, local, ...")
@click.option("--out", type=TypedPath(), help="Runs folder.  [default: runs/SUITE]")
@set_option
@download_option
@resource_option
@force_option
@click.option("--dry-run", is_flag=True, help="Print what would be submitted, and write nothing.")
@click.option("--print-sbatch", is_flag=True, help="Prepare everything and print the calls of sbatch, for a shell.")
def submit(
    suite: str,
    cluster: str,
    out: Path | None,
    assignments: tuple[str, ...],
    resources: tuple[str, ...],
    force: bool,
    dry_run: bool,
    print_sbatch: bool,
) -> None:
    """Submit every run of SUITE that is neither done nor queued nor running; print the jobs and leave.

    `doctor` in place of SUITE sends the checks of `doctor --gpu`.
    """
    if suite == "doctor":
        from slurm import first_hour
        from slurm.profile import load_profile as profile_of

        told = first_hour.submit(profile_of(cluster, resources), out or Path("runs"), dry_run=dry_run)
        click.echo(told, nl=False)
        return
    from benchmark.suite.expand import load_suite
    from slurm import submit as room
    from slurm.doctor import unshared_filesystem
    from slurm.manifest import Source
    from slurm.profile import load_profile
    from slurm.send import by_hand, script

    loaded, profile = load_suite(suite, assignments), load_profile(cluster, resources)
    runs = out or Path("runs") / loaded.name
    if print_sbatch and profile.executor != "slurm":
        raise UserError(f"--print-sbatch: --cluster {cluster} is no Slurm cluster but {profile.executor}; leave it out")
    if dry_run:
        nowhere = Source(folder=str(runs.resolve() / "jobs" / "code"), commit=None, dirty=None)
        arrays, left_out = room.plan(loaded, runs, profile, nowhere, force=force)
    else:
        kind = unshared_filesystem(runs) if profile.executor == "slurm" else None
        if kind:
            click.echo(f"warning: {runs} is on {kind}; every node must see it under this path", err=True)
        arrays, left_out = room.submit(loaded, runs, profile, force=force, hand_over=print_sbatch)
        if print_sbatch:
            for line in by_hand(arrays):
                click.echo(line)
            return
    for reason, count in left_out.items():
        click.echo(f"left out {count}: {reason}")
    if not arrays:
        click.echo("nothing to submit")
    if not dry_run:
        _say_sent(arrays, runs)
        return
    for submission in arrays:
        waits = f", each after its job of {submission.after}" if submission.after else ""
        stage = "train and measure" if submission.stage == "both" else submission.stage
        click.echo(f"{len(submission.entries)} jobs on {profile.executor} {stage}, as {submission.name}{waits}")
        lines = script(submission).splitlines() if profile.executor == "slurm" else []
        flags = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
        for line in (*flags, *(entry.id for entry in submission.entries)):
            click.echo(f"  {line}")


def _say_sent(arrays: list[Submission], runs: Path) -> None:
    for submission in arrays:
        jobs = f" as job {', '.join(submission.jobs)}" if submission.jobs else ""
        stage = "" if submission.stage == "both" else f" to {submission.stage}"
        click.echo(f"submitted {len(submission.entries)} runs{stage}{jobs}; manifest {submission.path}")
    if arrays:
        click.echo(f"spherebench status {runs} shows their state")


@click.command()
@runs_folder
@click.option("--watch", is_flag=True, help="Ask again every --every seconds, until no run waits or runs.")
@click.option("--every", type=click.FloatRange(min=1), default=30, show_default=True, help="Seconds between two looks.")
@format_option
def status(runs: Path, watch: bool, every: float, format_: str) -> None:
    """Show where every run of RUNS stands. Exit code: 0 all is measured, 3 some wait or run, 1 otherwise."""
    from slurm.queue import NoAnswer
    from slurm.status import UNDER_WAY, exit_code, row, summary
    from slurm.survey import survey

    while True:
        try:
            standings = list(survey(runs).values())
        except NoAnswer as error:
            if not watch:
                raise
            click.echo(f"warning: {error}; asked again in {every:g} s", err=True)
            time.sleep(every)
            continue
        if watch:
            click.clear()
        notes = (summary(standings),) if format_ == "plain" else ()
        rows = [row(standing, runs / standing.run) for standing in standings]
        echo_table(rows, format_, notes=notes)
        code = exit_code(standings)
        if not watch or code != UNDER_WAY:
            raise SystemExit(code)
        time.sleep(every)


@click.command()
@runs_folder
@some_runs
def cancel(runs: Path, names: tuple[str, ...]) -> None:
    """Cancel the runs of RUNS that wait or run; all of them, or those whose names begin with RUN."""
    from slurm.status import cancel as end

    click.echo(f"cancelled {len(end(runs, names))} runs; spherebench retry {runs} brings them back")


@click.command()
@runs_folder
@some_runs
@resource_option
@force_option
def retry(runs: Path, names: tuple[str, ...], resources: tuple[str, ...], force: bool) -> None:
    """Submit again what failed, a measurement alone, was cancelled or was lost; what was saved goes on from there."""
    from slurm.submit import retry as submit_again

    arrays = submit_again(runs, names, resources, force=force)
    _say_sent(arrays, runs)
    if not arrays:
        click.echo("nothing to submit again")


@click.command()
@click.argument("run", type=_folder)
@click.option("--follow", "-f", is_flag=True, help="Go on printing until the run neither waits nor runs.")
def logs(run: Path, follow: bool) -> None:
    """Print the log of the run in the folder RUN (RUNS/<run id>)."""
    from slurm.status import show_logs

    show_logs(run, follow, lambda text: click.echo(text, nl=False))


@click.command()
@click.option("--out", type=TypedPath(), default="runs", show_default=True, help="Runs folder.")
@click.option("--data-root", type=TypedPath(), default="data", show_default=True)
@click.option("--gpu", is_flag=True, help="Compute on the GPUs for ten minutes: a table, and OUT/doctor.json.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True, help="Of --gpu.")
@format_option
def doctor(out: Path, data_root: Path, gpu: bool, device: str, format_: str) -> None:
    """Check python, torch, GPUs, Slurm, the runs folder and the data sets. Exit code 1 where a needed one is not."""
    if gpu:
        _first_hour(device, out, format_)
    from slurm.doctor import examine

    broken = False
    for finding in examine(out, data_root):
        broken |= finding.needed and not finding.fine
        mark = "ok" if finding.fine else "NO" if finding.needed else "--"
        advice = "" if finding.fine else f": {finding.advice}"
        click.echo(f"{mark}  {finding.what:<17} {finding.found}{advice}")
    raise SystemExit(int(broken))


def _first_hour(device: str, out: Path, format_: str) -> NoReturn:
    from slurm.first_hour import REPORT_NAME
    from slurm.first_hour import examine as compute

    report = compute(device, out, lambda text: click.echo(text, err=True))
    echo_table(report.rows(), format_)
    click.echo(f"wrote {out / REPORT_NAME}", err=True)
    raise SystemExit(int(not report.fine))
