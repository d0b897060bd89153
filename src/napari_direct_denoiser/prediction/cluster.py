"""Blocks of images on the workers of a dask cluster.

The model goes to each worker once, as a plugin: also to one that joins later, or starts again after it was lost. dask
computes what a lost worker had to do on another.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import dask
import torch
from dask.delayed import delayed
from dask.system import CPU_COUNT
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, as_completed, get_worker

from ..errors import DenoiserError, SettingError
from ..system import reusing_memory

if TYPE_CHECKING:
    from ..co_model import CoModel
    from .predictor import Predictor

Key = TypeVar("Key")

_ANSWER_SECONDS = 10  # until a scheduler has to answer
_WORKER_SECONDS = 60  # that it may be without a worker
_POLL_SECONDS = 0.05
_COUNT_SECONDS = 5.0  # between two looks at how many workers there are
_AT_A_TIME = 3  # blocks of a worker: one is denoised, one read or written, one waits
_RETRIES = 2  # of a block that fails, on any worker
_CONFIG = {"distributed.admin.large-graph-warning-threshold": "1 GiB"}  # images in memory are sent in the graph


class ModelPlugin(WorkerPlugin):
    """A model on a worker: sent as the bytes of its file, and loaded when the first block needs it.

    Parameters
    ----------
    content
        The model file.
    load
        Reads a model file; a function of a module, which the workers import.
    threads
        Threads of torch in each worker; as many as dask's worker has if not given.
    """

    def __init__(self, content: bytes, load: Callable[[Path], Predictor], threads: int | None) -> None:
        self.name = f"direct-denoiser-{uuid.uuid4().hex}"  # each run has its own, which ends with it
        self._content, self._load, self._threads = content, load, threads

    def setup(self, worker: Any) -> None:
        """Called by dask where the worker is."""
        self._lock = threading.Lock()
        self._memory = ExitStack()
        self._model: CoModel | None = None
        self._threads = self._threads or int(worker.state.nthreads)

    def model(self) -> CoModel:
        """The networks, on the device of this worker."""
        with self._lock:
            if self._model is None:
                torch.set_num_threads(self._threads or 1)  # dask allows one, as if each block had a thread of its own
                with TemporaryDirectory() as folder:
                    path = Path(folder) / "model.safetensors"
                    path.write_bytes(self._content)
                    self._model = self._load(path).model
                self._memory.enter_context(reusing_memory(self._model.device))  # from one block to the next
        return self._model

    def teardown(self, worker: Any) -> None:
        """Called by dask where the worker was, in its end."""
        self._memory.close()


def _model_of_worker(name: str) -> CoModel:
    plugin: Any = get_worker().plugins[name]
    model: CoModel = plugin.model()
    return model


class Cluster:
    """Workers that have a model; made by `connected`.

    Attributes
    ----------
    model
        Gives the model of the worker where it is called.
    """

    def __init__(self, client: Client, plugin: ModelPlugin, address: str | None) -> None:
        self.model: Callable[[], CoModel] = partial(_model_of_worker, plugin.name)
        self._client, self._address = client, address
        self._room, self._counted, self._seen = 0, -float("inf"), time.monotonic()

    def run(
        self, calls: Iterable[tuple[Key, Callable[[Any], Any], Any]]
    ) -> Generator[tuple[Key | None, Any], None, None]:
        """Call functions on the workers, a few at a time for each of them.

        Parameters
        ----------
        calls
            A key, a function and its argument, which is computed on the worker if it is a dask array. They are taken
            when they are submitted.

        Yields
        ------
        tuple
            Key and result of a call in the order in which they end; (None, None) now and then while none has ended.

        Raises
        ------
        SettingError
            If there are no workers for a minute.
        DenoiserError
            If a call raises one every time, ends its workers, or the scheduler is lost.
        """
        left, flying = iter(calls), as_completed(loop=self._client.loop)
        keys: dict[str, tuple[Key, Any]] = {}
        try:
            while True:
                for key, function, argument in islice(left, max(self._most() - len(keys), 0)):
                    task = delayed(function, pure=False)(argument)
                    with dask.config.set(_CONFIG):
                        future = self._client.compute(task, retries=_RETRIES)
                    keys[future.key] = key, future
                    flying.add(future)
                if not keys:
                    return
                if not flying.has_ready():
                    time.sleep(_POLL_SECONDS)
                    yield None, None
                    continue
                for future in flying.next_batch(block=False):
                    key, _ = keys.pop(future.key)
                    yield key, _result(future)
        finally:
            with suppress(OSError):  # the scheduler is lost
                self._client.cancel([future for _, future in keys.values()])

    def _most(self) -> int:
        """How many calls may be submitted at a time: more would fill the scheduler."""
        now = time.monotonic()
        if now - self._counted > _COUNT_SECONDS:
            workers = len(self._client.nthreads())
            self._room, self._counted = _AT_A_TIME * max(workers, 1), now
            if workers:
                self._seen = now
            elif now - self._seen > _WORKER_SECONDS:
                raise SettingError(
                    f"Expected workers at the dask scheduler {self._address}, found none for {_WORKER_SECONDS} s: "
                    f"start some with: dask worker {self._address}"
                )
        return self._room


@contextmanager
def connected(
    load: Callable[[Path], Predictor], content: bytes, *, scheduler: str | None = None, workers: int | None = None
) -> Iterator[Cluster]:
    """Send a model to the workers of a dask cluster.

    Parameters
    ----------
    load, content
        As in `ModelPlugin`.
    scheduler
        Address of a dask scheduler, such as ``tcp://10.0.0.5:8786``. Its workers need this package and the files.
    workers
        Instead: number of worker processes to start on this computer, which share its cores.

    Raises
    ------
    SettingError
        If the scheduler does not answer within 10 seconds.
    DenoiserError
        If the workers cannot take the model.
    """
    threads = None if workers is None else max(CPU_COUNT // workers, 1)
    plugin = ModelPlugin(content, load, threads)
    with _client(scheduler, workers) as client:
        try:
            client.register_plugin(plugin)
        except Exception as error:  # whatever a worker lacks
            raise DenoiserError(
                f"The workers of {scheduler or 'this computer'} could not take the model ({_line(error)}): "
                "install the same version of napari-direct-denoiser on each of them"
            ) from error
        try:
            yield Cluster(client, plugin, scheduler)
        finally:
            with suppress(OSError):  # the scheduler is lost
                client.unregister_worker_plugin(plugin.name)


class _Client(Client):
    """A client that ends its thread where it cannot connect.

    `Client` leaves that to the garbage collector. Where this runs while the next client starts, both wait for one lock
    of `LoopRunner`, without end.
    """

    def start(self, **kwargs: Any) -> None:
        try:
            super().start(**kwargs)
        except BaseException:
            self.close()
            self._loop_runner.stop()  # `close` does not, where the failed connection has closed the client
            raise


@contextmanager
def _client(scheduler: str | None, workers: int | None) -> Iterator[Client]:
    if scheduler is None:
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=None,  # a block takes what it takes
                dashboard_address=":0",  # any free port
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client
        return
    try:
        # not the default: napari computes its lazy layers meanwhile, which are not the cluster's
        client = _Client(scheduler, timeout=_ANSWER_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        why = "" if "Timed out" in str(error) else f" ({_line(error)})"
        raise SettingError(
            f"Expected a dask scheduler at {scheduler}, found none that answers within {_ANSWER_SECONDS} s{why}: "
            "check the address, or start one with: dask scheduler"
        ) from None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # it logs what is an error here
    with client:
        yield client


def _result(future: Any) -> Any:
    """Result of a call that has ended."""
    if future.cancelled():
        raise DenoiserError("The dask scheduler was lost, or has forgotten the work: start again")
    error = future.exception()
    if isinstance(error, KilledWorker):
        raise DenoiserError(
            f"A block has ended each worker that had it ({_line(error)}): give the workers more memory"
        ) from error
    if error is not None and not isinstance(error, DenoiserError):
        raise DenoiserError(f"A block has failed on its worker ({type(error).__name__}: {_line(error)})") from error
    if error is not None:
        raise error
    return future.result()


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
