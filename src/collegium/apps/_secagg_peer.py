"""Flower's SecAgg+ measured on vectors of the caller's choice: the peer of our aggregation benchmark.

Flower's own client modifier (`secaggplus_mod`) and server workflow (`SecAggPlusWorkflow`) run unmodified and in this
process. Only the transport is replaced: `InProcessGrid` hands each message over as the bytes that would travel, and
keeps their number and the time each side took. Process start, network and training are outside the measure.

Needs the extra `flower`; importing this module without it raises `ModuleNotFoundError`.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.compat.common import recorddict_compat
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.server import LegacyContext, ServerConfig, SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from collegium.errors import CollegiumError

__all__ = ["SecAggMeasure", "SecAggRefusedError", "measure_secagg", "neighbourhood", "random_updates"]

CLIENTS_MIN = 3  # Flower accepts no fewer shares than three
EXCHANGES = 4  # keys, shares, masked vectors, unmasking
RUN_ID = 1


class SecAggRefusedError(CollegiumError):
    """The vectors cannot be summed by SecAgg+, or it stopped before its last exchange."""


@dataclass(frozen=True, slots=True)
class SecAggMeasure:
    """What one unweighted SecAgg+ sum costs; nobody drops out.

    Attributes:
        clients: number of clients.
        parameters: entries of each client's vector.
        neighbours: clients that hold a share of one client's key, itself included.
        exchanges: messages each client must answer, one after the other.
        bytes_up_per_client: mean over clients of all the serialised messages that one sends.
        bytes_down_per_client: the same for what one receives.
        client_seconds: median over repeats of the median client's time in all exchanges.
        client_seconds_range: least and greatest of those over the repeats.
        server_seconds: median over repeats of the server's time in all exchanges, serialisation not counted.
        server_seconds_range: least and greatest of those over the repeats.
        peak_memory_bytes: most memory held at once, clients and server together, in one more run that is not timed.
        max_error: largest difference of an entry of the result from the exact mean; SecAgg+ rounds to 22 bits.
    """

    clients: int
    parameters: int
    neighbours: int
    exchanges: int
    bytes_up_per_client: int
    bytes_down_per_client: int
    client_seconds: float
    client_seconds_range: tuple[float, float]
    server_seconds: float
    server_seconds_range: tuple[float, float]
    peak_memory_bytes: int
    max_error: float


def random_updates(clients: int, parameters: int, seed: int) -> list[NDArray[np.float32]]:
    """One update for each client: normal entries of standard deviation 0.05, the same for the same seed."""
    generator = np.random.default_rng(seed)
    return [generator.normal(0, 0.05, parameters).astype(np.float32) for _ in range(clients)]


def neighbourhood(clients: int) -> tuple[int, int]:
    """The number of shares of each key and how many of them open it, for the logarithmic graph of SecAgg+.

    An odd number of shares near 2 log2(clients) (Bell et al. 2020, eprint 2020/704), two thirds of which reconstruct.
    """
    largest = clients if clients % 2 else clients - 1
    shares = min(2 * math.ceil(math.log2(clients)) + 1, largest)
    return shares, max(2, round(2 * shares / 3))


def measure_secagg(vectors: Sequence[NDArray[np.float32]], *, repeats: int = 3) -> SecAggMeasure:
    """Sums the vectors with SecAgg+ `repeats` times and once more for the memory.

    Args:
        vectors: one per client, all of one length, entries in [-8, 8] (Flower's default clipping range).
        repeats: number of timed runs, at least one.

    Raises:
        SecAggRefusedError: there are fewer than three vectors, their shapes differ, or the protocol stopped early.
    """
    shapes = sorted({vector.shape for vector in vectors})
    if len(vectors) < CLIENTS_MIN or len(shapes) != 1 or len(shapes[0]) != 1:
        raise SecAggRefusedError(
            f"got {len(vectors)} vectors of shapes {shapes}, expected at least {CLIENTS_MIN} of one length",
            clients=len(vectors),
            shapes=shapes,
        )
    if repeats < 1:
        raise SecAggRefusedError(f"got {repeats} repeats, expected at least 1", repeats=repeats)
    with flower_task():
        runs = [run_once(vectors) for _ in range(repeats)]
        tracemalloc.start()
        run_once(vectors)
        _, peak_memory_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    client_seconds = [run.client_seconds for run in runs]
    server_seconds = [run.server_seconds for run in runs]
    return SecAggMeasure(
        clients=len(vectors),
        parameters=shapes[0][0],
        neighbours=neighbourhood(len(vectors))[0],
        exchanges=runs[0].exchanges,
        bytes_up_per_client=runs[0].bytes_up // len(vectors),
        bytes_down_per_client=runs[0].bytes_down // len(vectors),
        client_seconds=statistics.median(client_seconds),
        client_seconds_range=(min(client_seconds), max(client_seconds)),
        server_seconds=statistics.median(server_seconds),
        server_seconds_range=(min(server_seconds), max(server_seconds)),
        peak_memory_bytes=peak_memory_bytes,
        max_error=max(run.max_error for run in runs),
    )


@dataclass(frozen=True, slots=True)
class Run:
    """One sum: times in seconds, bytes over all clients."""

    exchanges: int
    bytes_up: int
    bytes_down: int
    client_seconds: float
    server_seconds: float
    max_error: float


@contextmanager
def flower_task() -> Iterator[None]:
    """Gives this process the identity without which Flower makes no message, and keeps its log to errors."""
    before = (TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id)
    logger = logging.getLogger("flwr")
    level = logger.level
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, 0, 1
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id = before
        logger.setLevel(level)


@dataclass(slots=True)
class InProcessGrid:
    """Carries messages between the server workflow and client apps as bytes, and counts.

    The workflow asks a grid only to `send_and_receive`. Clients answer one after the other.
    """

    apps: dict[int, ClientApp]
    contexts: dict[int, Context]
    seconds: dict[int, float]
    exchanges: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    seconds_carrying: float = 0.0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        del timeout  # nobody is late here
        self.exchanges += 1
        return [self._ask(message) for message in messages]

    def _ask(self, message: Message) -> Message:
        started = time.perf_counter()
        node_id = message.metadata.dst_node_id
        request, size_down = over_the_wire(message)
        asked = time.perf_counter()
        reply = self.apps[node_id](request, self.contexts[node_id])
        answered = time.perf_counter()
        received, size_up = over_the_wire(reply)
        self.bytes_down += size_down
        self.bytes_up += size_up
        self.seconds[node_id] += answered - asked
        self.seconds_carrying += (asked - started) + (time.perf_counter() - answered)
        return received


def over_the_wire(message: Message) -> tuple[Message, int]:
    """The message as its receiver decodes it, and its size in bytes."""
    wire = message_to_proto(message).SerializeToString()
    return message_from_proto(MessageProto.FromString(wire)), len(wire)


def client_app(vector: NDArray[np.float32]) -> ClientApp:
    """An app whose training takes no time and yields `vector`, with weight one, behind the SecAgg+ modifier."""

    class Client(NumPyClient):  # type: ignore[misc]
        def fit(self, parameters: object, config: object) -> tuple[list[NDArray[np.float32]], int, dict[str, float]]:
            return [vector], 1, {}

    def make_client(context: Context) -> object:
        return Client().to_client()

    return ClientApp(client_fn=make_client, mods=[secaggplus_mod])


def new_context(node_id: int) -> Context:
    return Context(run_id=RUN_ID, node_id=node_id, node_config={}, state=RecordDict(), run_config={})


def server_context(grid: InProcessGrid, parameters: int) -> LegacyContext:
    """What the workflow needs to know before round one: who takes part, plain averaging, a model of zeros."""
    manager = SimpleClientManager()
    for node_id in grid.apps:
        manager.register(GridClientProxy(node_id=node_id, grid=grid, run_id=RUN_ID))
    initial = ndarrays_to_parameters([np.zeros(parameters, np.float32)])
    strategy = FedAvg(fraction_fit=1.0, min_fit_clients=len(grid.apps), min_available_clients=len(grid.apps))
    context = LegacyContext(
        context=new_context(0), config=ServerConfig(num_rounds=1), strategy=strategy, client_manager=manager
    )
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
    context.state.array_records[MAIN_PARAMS_RECORD] = recorddict_compat.parameters_to_arrayrecord(initial, True)
    return context


def run_once(vectors: Sequence[NDArray[np.float32]]) -> Run:
    """One round of SecAgg+ from the first message to the averaged vector."""
    node_ids = range(1, len(vectors) + 1)
    grid = InProcessGrid(
        apps={node_id: client_app(vector) for node_id, vector in zip(node_ids, vectors, strict=True)},
        contexts={node_id: new_context(node_id) for node_id in node_ids},
        seconds=dict.fromkeys(node_ids, 0.0),
    )
    context = server_context(grid, vectors[0].size)
    shares, threshold = neighbourhood(len(vectors))
    workflow = SecAggPlusWorkflow(num_shares=shares, reconstruction_threshold=threshold, max_weight=1.0)
    started = time.perf_counter()
    workflow(grid, context)
    elapsed = time.perf_counter() - started
    mean = parameters_to_ndarrays(
        recorddict_compat.arrayrecord_to_parameters(context.state.array_records[MAIN_PARAMS_RECORD], True)
    )[0]
    exact = np.mean(np.stack(vectors), axis=0, dtype=np.float64)
    if grid.exchanges != EXCHANGES or mean.dtype != np.float64:
        raise SecAggRefusedError(
            f"SecAgg+ stopped after exchange {grid.exchanges}, expected {EXCHANGES} and a result",
            exchanges=grid.exchanges,
        )
    return Run(
        exchanges=grid.exchanges,
        bytes_up=grid.bytes_up,
        bytes_down=grid.bytes_down,
        client_seconds=statistics.median(grid.seconds.values()),
        server_seconds=elapsed - grid.seconds_carrying - sum(grid.seconds.values()),
        max_error=float(np.abs(mean - exact).max()),
    )
