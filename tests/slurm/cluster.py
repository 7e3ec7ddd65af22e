"""A real Slurm on this host: one slurmctld and several slurmd with pretended GPUs, as root, without systemd.

For tests, and by hand: ``python tests/slurm/cluster.py start DIR`` prints the exports that a client needs, and
``python tests/slurm/cluster.py stop DIR`` ends every process that the start has begun.

Partitions: ``main`` (2 nodes), ``low`` and ``high`` (1 node, high preempts low), ``low2`` and ``high2`` (2 nodes, the
same), ``fragile`` (2 nodes that tests take down). Whoever reaches the ports may run jobs: for throw-away hosts only.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.patience import PATIENCE, is_alive, wait_for

NODES = 7
# slurmd writes the name of a node into files: names that resolve by themselves need no /etc/hosts.
_NODE = "127.0.1.{}"
_GPUS = 4
# Slurm keeps a credential this long and does not requeue a job before it has expired; its default is 120.
_REQUEUE_SECONDS = 5

_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire={requeue}
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/{tasks}
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=2
MinJobAge={forget}
SlurmctldTimeout=30
SlurmdTimeout={node_timeout}
InactiveLimit=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
GresTypes=gpu
NodeName=127.0.1.[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} RealMemory=8000 \
Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes=127.0.1.[1-2] Default=YES
PartitionName=low Nodes=127.0.1.3 PriorityTier=1 PreemptMode=REQUEUE GraceTime=90
PartitionName=high Nodes=127.0.1.3 PriorityTier=10 PreemptMode=OFF
PartitionName=low2 Nodes=127.0.1.[4-5] PriorityTier=1 PreemptMode=REQUEUE GraceTime=90
PartitionName=high2 Nodes=127.0.1.[4-5] PriorityTier=10 PreemptMode=OFF
PartitionName=fragile Nodes=127.0.1.[6-7]
{accounting}
"""

_ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}
AccountingStorageUser=root
"""

_DBD = """
AuthType=auth/none
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""

_MARIADB = """
[mysqld]
user=root
datadir={folder}/db
socket={folder}/db.sock
pid-file={folder}/db.pid
port={sql}
bind-address=127.0.0.1
skip-log-bin
skip-name-resolve
innodb_buffer_pool_size=64M
innodb_log_file_size=16M
innodb_lock_wait_timeout=900
innodb_flush_log_at_trx_commit=0
innodb_doublewrite=0
performance_schema=OFF
"""

_GRANTS = "create user slurm@'127.0.0.1' identified by 'slurm'; grant all on slurm_acct_db.* to slurm@'127.0.0.1';"


class Cluster:
    """One cluster in one folder. ``accounting`` adds slurmdbd with MariaDB, so that sacct answers.

    ``bound``: nodes have this machine's CPUs and no more, and a task keeps to those that it was given.
    """

    def __init__(
        self, folder: Path, *, accounting: bool = False, bound: bool = False, forget_seconds: int = 3600
    ) -> None:
        self.folder = folder
        self.accounting = accounting
        self.bound = bound
        self.forget_seconds = forget_seconds
        self.base_port = free_ports(NODES + 4)
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    @staticmethod
    def missing(*, accounting: bool = False) -> str:
        """Why no cluster can be started here; '' where one can."""
        programs = ["slurmctld", "slurmd", "sbatch", *(["slurmdbd", "mariadbd"] if accounting else [])]
        absent = [program for program in programs if shutil.which(program) is None]
        if absent:
            packages = "slurm-wlm slurmdbd mariadb-server" if accounting else "slurm-wlm"
            return f"not installed: {', '.join(absent)} (apt-get install --no-install-recommends {packages})"
        return "" if os.geteuid() == 0 else "slurmd must be started by root"

    @property
    def configuration(self) -> Path:
        """The file that every command of Slurm has to be told of, by SLURM_CONF."""
        return self.folder / "slurm.conf"

    def start(self) -> None:
        """Start everything; returns once every node is idle."""
        for name in ("state", "spool", "dev", "pids"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._configure()
        if self.accounting:
            self._start_accounting()
        self._spawn("slurmctld", "slurmctld", "-D", "-c")
        wait_for(lambda: "UP" in self.run("scontrol", "ping", check=False))
        for number in range(1, NODES + 1):
            self.start_node(number)
        wait_for(lambda: self.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N", check=False).count("127.") >= NODES)

    def start_node(self, number: int) -> None:
        """Start the slurmd of one node."""
        (self.folder / "spool" / _NODE.format(number)).mkdir(parents=True, exist_ok=True)
        self._spawn(f"slurmd{number}", "slurmd", "-D", "-N", _NODE.format(number))

    def kill_node(self, number: int) -> None:
        """The slurmd of a node dies; what runs on it goes on, as behind a cut in the network."""
        self._end(f"slurmd{number}", signal.SIGKILL)

    def stop(self) -> None:
        """Cancel every job and end every process that was started, the last first."""
        self.run("scancel", "--user=root", check=False)
        try:
            wait_for(lambda: not self.run("squeue", "-h", check=False).strip(), seconds=60)
        except TimeoutError:
            print("jobs are left behind", file=sys.stderr)
        for path in sorted((self.folder / "pids").iterdir(), key=lambda path: -path.stat().st_mtime_ns):
            self._end(path.name, signal.SIGTERM)

    def run(self, *command: str, check: bool = True) -> str:
        """One of Slurm's commands, with a time limit; its output."""
        environment = os.environ | {"SLURM_CONF": str(self.configuration)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def _configure(self) -> None:
        host, first = socket.gethostname().partition(".")[0], self.base_port
        values = {
            "folder": self.folder,
            "host": host,
            "nodes": NODES,
            "gpus": _GPUS,
            "cpus": len(os.sched_getaffinity(0)) if self.bound else 8,
            "tasks": "affinity\nTaskPluginParam=Cores" if self.bound else "none",
            "first": first,
            "last": first + NODES - 1,
            "port": first + NODES,
            "dbd": first + NODES + 1,
            "sql": first + NODES + 2,
            "requeue": _REQUEUE_SECONDS,
            "node_timeout": 15,
            "forget": self.forget_seconds,
        }
        accounting = _ACCOUNTING.format(**values) if self.accounting else ""
        self.configuration.write_text(_CONFIGURATION.format(**values, accounting=accounting))
        (self.folder / "gres.conf").write_text(
            f"NodeName=127.0.1.[1-{NODES}] Name=gpu File={self.folder}/dev/gpu[0-{_GPUS - 1}] Flags=nvidia_gpu_env\n"
        )
        for number in range(_GPUS):
            device = self.folder / "dev" / f"gpu{number}"
            if not device.exists():
                # Slurm wants character devices: these are twins of /dev/null.
                os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))
        if self.accounting:
            (self.folder / "my.cnf").write_text(_MARIADB.format(**values))
            dbd = self.folder / "slurmdbd.conf"
            dbd.write_text(_DBD.format(**values))
            dbd.chmod(0o600)

    def _start_accounting(self) -> None:
        defaults = f"--defaults-file={self.folder}/my.cnf"
        install = ["mariadb-install-db", defaults, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(install, capture_output=True, timeout=PATIENCE, check=True)
        self._spawn("mariadbd", "mariadbd", defaults)
        client = ["--no-defaults", "-u", "root", "-S", f"{self.folder}/db.sock"]
        wait_for(lambda: "alive" in self.run("mariadb-admin", *client, "ping", check=False))
        self.run("mariadb", *client, "-e", _GRANTS)
        self._spawn("slurmdbd", "slurmdbd", "-D")
        wait_for(lambda: "Cluster" in self.run("sacctmgr", "show", "cluster", check=False))
        self.run("sacctmgr", "-i", "add", "cluster", "test", check=False)

    def _spawn(self, name: str, *command: str) -> None:
        # In a session of its own: a daemon outlives neither a test's Ctrl-C by accident nor the fixture's finaliser.
        with (self.folder / f"{name}.out").open("ab") as log:
            started = subprocess.Popen(
                command,
                env=os.environ | {"SLURM_CONF": str(self.configuration)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started[name] = started
        (self.folder / "pids" / name).write_text(str(started.pid))

    def _end(self, name: str, number: signal.Signals) -> None:
        path = self.folder / "pids" / name
        pid = int(path.read_text())
        path.unlink()
        for sent in (number, signal.SIGKILL):
            if is_alive(pid):
                os.kill(pid, sent)
            with suppress(TimeoutError):
                wait_for(lambda: not is_alive(pid), every=0.05, seconds=60)
        if name in self._started:
            self._started.pop(name).wait(PATIENCE)


def free_ports(count: int) -> int:
    """The first of ``count`` neighbouring ports that nobody listens on."""
    for first in range(27000, 31000, 50):
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


if __name__ == "__main__":
    action, place = sys.argv[1], Path(sys.argv[2]).resolve()
    cluster = Cluster(place, accounting="--accounting" in sys.argv)
    if action == "start":
        cluster.start()
        print(f"export SLURM_CONF={cluster.configuration} GLOO_SOCKET_IFNAME=lo")
    else:
        cluster.stop()
