"""Several processes as one run: JAX's own multi-controller runtime, started by flags.

Every process runs the same command; only process 0 prints. See docs/scaling.md for Slurm,
Kubernetes and cloud machines.
"""

import argparse
import dataclasses
from typing import Any

import jax
from orbax.checkpoint import multihost

from skipdit_jax.cli.numbers import natural, positive
from skipdit_jax.cli.together import watch
from skipdit_jax.sharding import leads

MAX_PORT = 2**16 - 1
WAIT_SECONDS = 3600  # at a barrier: for the slowest process to finish its last batch and compile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """How this process finds the others; without anything given it is alone.

    Attributes:
      coordinator: HOST:PORT of process 0.
      num_processes: of the whole run.
      process_id: of this process, 0..num_processes-1.
      detect: ask the cluster that started the process (Slurm, Open MPI, Kubernetes, Cloud TPU).

    Raises:
      ValueError: flags that are incomplete, contradict each other or make no sense.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    detect: bool = False

    def __post_init__(self) -> None:
        values = (self.coordinator, self.num_processes, self.process_id)
        given = [value for value in values if value is not None]
        if not given:
            return
        if self.detect:
            raise ValueError(
                "--distributed finds the processes by itself: "
                "wanted no --coordinator, --num-processes or --process-id beside it"
            )
        if len(given) < len(values):
            raise ValueError(
                "--coordinator, --num-processes and --process-id belong together: "
                f"found {len(given)} of them, wanted all three"
            )
        _check_address(str(self.coordinator))
        if not 0 <= int(self.process_id or 0) < int(self.num_processes or 0):
            raise ValueError(
                f"--process-id {self.process_id}: wanted 0..{int(self.num_processes or 0) - 1}, "
                f"below --num-processes {self.num_processes}"
            )

    @property
    def alone(self) -> bool:
        """Whether nothing was asked for."""
        return self.coordinator is None and not self.detect


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= MAX_PORT:
        raise ValueError(f"--coordinator {address!r}: wanted HOST:PORT, such as node1:1234")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `Cluster` to a command line; `from_flags` reads them."""
    add = parser.add_argument_group("several processes").add_argument
    add("--coordinator", metavar="HOST:PORT", help="of process 0; default: one process alone")
    add("--num-processes", type=positive, metavar="N", help="all of them")
    add("--process-id", type=natural, metavar="I", help="of this one, 0 to N-1")
    add(
        "--distributed",
        dest="detect",
        action="store_true",
        help="ask Slurm, Open MPI, Kubernetes or Cloud TPU for the three above",
    )


def from_flags(values: dict[str, Any]) -> Cluster:
    """Takes the flags of `add_flags` out of the parsed values.

    Raises:
      ValueError: see `Cluster`.
    """
    return Cluster(**{field.name: values.pop(field.name) for field in dataclasses.fields(Cluster)})


def initialize(cluster: Cluster, program: str = "skipdit_jax") -> None:
    """Joins the other processes and waits for all of them; a second call does nothing.

    Must come before JAX is asked for a device. From here on all processes end with the first error
    of one of them.

    Args:
      cluster: who they are.
      program: what the line begins with that tells of such an error.

    Raises:
      ValueError: no cluster was found, or the processes did not meet in time.
    """
    if cluster.alone or jax.distributed.is_initialized():
        return
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from us
    try:
        if cluster.detect:
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(
                cluster.coordinator, cluster.num_processes, cluster.process_id
            )
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        if cluster.detect:
            raise ValueError(
                "--distributed: no usable Slurm, Open MPI, Kubernetes or Cloud TPU found, give "
                f"--coordinator, --num-processes and --process-id ({error})"
            ) from error
        raise ValueError(f"--coordinator {cluster.coordinator}: {error}") from error
    watch(program)


def say(text: str) -> None:
    """Prints on process 0."""
    if leads():
        print(text, flush=True)


def wait_for_all(name: str) -> None:
    """Returns when every process has come here; does nothing in a process alone.

    It goes through the coordinator, not the devices, so that it may take long.

    Args:
      name: of the place, different for each call.
    """
    multihost.sync_global_processes(name, timeout=WAIT_SECONDS)
