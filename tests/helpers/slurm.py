"""A real SLURM of two nodes on this machine, below one folder, for the tests.

    with Slurm() as slurm:
        subprocess.run(["sbatch", ...], env=slurm.environment)
        slurm.jobs()

No systemd, no cgroups, no accounting database, nothing in /etc or /run. The nodes claim processors,
memory and a GPU each, which nobody checks. Needs Debian's slurmctld, slurmd, slurm-client, munge.
"""

import contextlib
import getpass
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
NODES, CPUS, MEMORY_MB = ("node1", "node2"), 4, 8000
SECONDS = 30  # until all nodes are idle


def missing() -> list[str]:
    """What is not installed. Debian has daemons in /usr/sbin; `make cluster` has the plugin."""
    plugin = "snakemake_executor_plugin_slurm"
    absent = [] if importlib.util.find_spec(plugin) else [plugin]
    return absent + [name for name in PROGRAMS if not shutil.which(name, path=_path())]


def _path() -> str:
    return f"{os.environ['PATH']}{os.pathsep}/usr/sbin"


class Slurm:
    """Starts the daemons, and ends them with all jobs."""

    def __init__(self) -> None:
        # The path of munge's socket must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{_path()}",
        }
        self._daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "Slurm":
        try:
            self._configure()
            key = self.folder / "munge.key"
            key.touch(mode=0o600)
            key.write_bytes(os.urandom(128))
            files = {"key-file": key, "socket": self._socket}
            files |= {name: self.folder / f"munge.{name}" for name in ("pid-file", "log-file")}
            files["seed-file"] = self.folder / "munge.seed"
            # Sockets below /tmp, where anyone may write, are refused without --force.
            options = (f"--{name}={path}" for name, path in files.items())
            self._start("munged", "--foreground", "--force", *options)
            _wait(self._socket.exists)
            self._start("slurmctld", "-D")
            _wait(lambda: self._call("scontrol", "ping").returncode == 0)
            for node in NODES:
                self._start("slurmd", "-D", "-N", node)
            # A line for each node and partition.
            _wait(lambda: set(self._call("sinfo", "-hN", "-o%T").stdout.split()) == {"idle"})
        except BaseException as error:
            for log in sorted(self.folder.glob("*.log")):
                error.add_note(f"{log.name}: {log.read_text()[-500:]}")
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if len(self._daemons) > 1:
            self._call("scancel", "--user", getpass.getuser())
            with contextlib.suppress(TimeoutError):
                _wait(lambda: not self._call("squeue", "-h").stdout)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        # Without cgroups, a process of a job may survive it.
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.folder) in process.environ().get("PATH", ""):
                    process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def jobs(self) -> list[dict[str, str]]:
        """All jobs, as `scontrol show job` has them: JobId, JobState, NodeList, NumCPUs and more.
        Snakemake names the rule in Comment."""
        lines = self.call("scontrol", "-o", "show", "job").splitlines()
        parts = [[part.partition("=") for part in line.split()] for line in lines]
        return [{key: value for key, _, value in line} for line in parts]

    def call(self, *command: str) -> str:
        done = self._call(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _call(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True)

    def _start(self, *command: str) -> None:
        log = self.folder / f"{command[0]}{len(self._daemons)}.log"
        with log.open("w") as file:
            started = subprocess.Popen(
                command, env=self.environment, stdout=file, stderr=file, stdin=subprocess.DEVNULL
            )
        self._daemons.append(started)

    @property
    def _socket(self) -> Path:
        return self.folder / "munge.socket"

    def _configure(self) -> None:
        user, host, folder = getpass.getuser(), socket.gethostname().partition(".")[0], self.folder
        for name in ("state", "bin", *(f"spool/{node}" for node in NODES)):
            (folder / name).mkdir(parents=True)
        ports = _free_ports(1 + len(NODES))
        settings = {
            "ClusterName": "test",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": ports[0],
            "SlurmUser": user,
            "SlurmdUser": user,
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self._socket}",
            "CredType": "cred/munge",
            "StateSaveLocation": folder / "state",
            "SlurmdSpoolDir": folder / "spool/%n",
            "SlurmctldPidFile": folder / "slurmctld.pid",
            "SlurmdPidFile": folder / "slurmd.%n.pid",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "SwitchType": "switch/none",
            "MpiDefault": "none",
            "AccountingStorageType": "accounting_storage/none",
            "GresTypes": "gpu",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "SlurmdParameters": "config_overrides",  # what the nodes claim is not what they have
            "SchedulerParameters": "sched_interval=2,batch_sched_delay=0,sched_min_interval=0",
            "ReturnToService": 2,
            "KillWait": 10,
            "MinJobAge": 3600,  # seconds for which a job that ended is known
        }
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} "
            f"RealMemory={MEMORY_MB} Gres=gpu:1"
            for node, port in zip(NODES, ports[1:], strict=True)
        ]
        # LLN: the node with the least load, lest the first be filled before the second.
        partition = f"PartitionName=debug Nodes={','.join(NODES)} Default=YES LLN=YES"
        lines = [*(f"{key}={value}" for key, value in settings.items()), *nodes, partition]
        (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
        # A GPU needs a device file; without cgroups, nobody opens it.
        gpus = [f"NodeName={node} Name=gpu File=/dev/null" for node in NODES]
        (folder / "gres.conf").write_text("\n".join(gpus) + "\n")
        # Within a job, Snakemake removes SLURM_CONF before it starts srun.
        srun = folder / "bin/srun"
        real = shutil.which("srun", path=_path())
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {real} "$@"\n')
        srun.chmod(0o755)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait(until: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(f"SLURM did not start or stop within {SECONDS} s")
        time.sleep(0.1)
