"""Preparation of pictures by worker processes, in the order in which the reader yields them.

A worker is a separate Python process that imports little more than this module. Its only connection
to the process that started it is one socket. It therefore exits when that process exits, for
whatever reason, and a worker that is killed is noticed at once, even in the middle of a message.
(Pools whose workers share a queue wait for the rest of such a message forever.)
"""

import contextlib
import fcntl
import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from svae.datasets.formats.decoding import Alone, Recipe, prepare
from svae.datasets.readers import BrokenImage, Picture
from svae.errors import UserError

# Pictures are sent in blocks of at most this many pictures or bytes, and of at least one picture.
_BLOCK_PICTURES = 64
_BLOCK_BYTES = 1 << 20
_BLOCKS_AHEAD = 3  # for each process, so that none waits and memory is bounded

# It has the import path of its parent, but does not import `__main__`, which would run again.
_START = """
import sys
sys.path[:] = sys.argv[3:]
from svae.datasets.workers import _serve
_serve(*map(int, sys.argv[1:3]))
"""
# The threads of NumPy's linear algebra would only take memory.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Content = np.ndarray | bytes | BrokenImage
Image = np.ndarray | BrokenImage


class Origin(NamedTuple):
    """A picture without its content."""

    split: str
    name: str
    label: str


class Prepared(NamedTuple):
    """One picture with its image, uint8 (height, width, channel), or the problem with it."""

    split: str
    name: str
    image: Image
    label: str


def prepared(
    pictures: Iterable[Picture], recipe: Recipe, processes: int
) -> Generator[list[Prepared], None, None]:
    """Prepare every picture by `recipe`.

    Args:
        pictures: read a bounded number of blocks ahead.
        recipe: how to crop and resize them, and to how many channels.
        processes: largest number of workers. With 1, or if the images need no work, no worker is
            started and this process does the work.

    Yields:
        Blocks of the pictures, in their order, whatever the number of processes.

    Raises:
        UserError: if a worker cannot be started, or is killed.
    """
    blocks = _blocks(pictures, recipe)
    first = next(blocks, [])
    blocks = itertools.chain([first], blocks)
    if processes == 1 or not _needs_work(first, recipe):
        for block in blocks:
            yield _joined(_origins(block), _prepare(_contents(block), recipe))
        return

    with contextlib.closing(_Pool(processes, recipe)) as pool:
        waiting: deque[tuple[list[Origin], Future[Iterable[Image]]]] = deque()
        for block in blocks:
            waiting.append((_origins(block), pool.submit(_contents(block))))
            if len(waiting) == _BLOCKS_AHEAD * processes:
                origins, images = waiting.popleft()
                yield _joined(origins, images.result())
        for origins, images in waiting:
            yield _joined(origins, images.result())


def _blocks(pictures: Iterable[Picture], recipe: Recipe) -> Iterator[list[Picture]]:
    made = (recipe.size or 0) ** 2 * recipe.channels  # bytes of an image that is resized
    block, size = [], 0
    for picture in pictures:
        block.append(picture)
        if not isinstance(picture.content, BrokenImage):
            # An array is a buffer, which its type says from Python 3.12 on.
            size += max(made, memoryview(picture.content).nbytes)  # type: ignore[arg-type]
        if len(block) == _BLOCK_PICTURES or size >= _BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _needs_work(block: list[Picture], recipe: Recipe) -> bool:
    return any(
        isinstance(content, bytes)
        or (recipe.crop, recipe.size, recipe.channels) != (None, None, content.shape[2])
        for content in _contents(block)
        if not isinstance(content, BrokenImage)
    )


def _origins(block: list[Picture]) -> list[Origin]:
    return [Origin(picture.split, picture.name, picture.label) for picture in block]


def _contents(block: list[Picture]) -> list[Content]:
    return [picture.content for picture in block]


def _joined(origins: list[Origin], images: Iterable[Image]) -> list[Prepared]:
    return [
        Prepared(origin.split, origin.name, image, origin.label)
        for origin, image in zip(origins, images, strict=True)
    ]


def _prepare(
    contents: list[Content], recipe: Recipe, alone: Alone = contextlib.nullcontext
) -> list[Image]:
    return [_prepared_or_broken(content, recipe, alone) for content in contents]


def _prepared_or_broken(content: Content, recipe: Recipe, alone: Alone) -> Image:
    if isinstance(content, BrokenImage):
        return content
    try:
        return prepare(content, recipe, alone)
    except BrokenImage as problem:
        return problem


class _Pool:
    """Threads that each pass blocks to their own worker, which is started when first needed."""

    def __init__(self, processes: int, recipe: Recipe) -> None:
        self._recipe = recipe
        self._threads = ThreadPoolExecutor(processes)
        self._own = threading.local()
        self._lock = tempfile.TemporaryFile()  # noqa: SIM115  see `close`
        self._workers: list[_Worker] = []

    def submit(self, contents: list[Content]) -> Future[Iterable[Image]]:
        return self._threads.submit(self._prepare, contents)

    def _prepare(self, contents: list[Content]) -> Iterable[Image]:
        if not hasattr(self._own, "worker"):
            self._own.worker = _Worker(self._recipe, self._lock.fileno())
            self._workers.append(self._own.worker)
        return self._own.worker.prepare(contents)

    def close(self) -> None:
        """Kill all workers, whatever they are doing."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown()
        for worker in self._workers:  # one may have been started in between
            worker.close()
        self._lock.close()


class _Worker:
    """The parent's end of a worker process."""

    def __init__(self, recipe: Recipe, lock: int) -> None:
        near, far = socket.socketpair()
        with far:
            try:
                # In its own session, it gets no Ctrl-C and prints no traceback for one.
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _START, str(far.fileno()), str(lock), *sys.path],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[far.fileno(), lock],
                    start_new_session=True,
                    env={**os.environ, **_ENVIRONMENT},
                )
            except OSError as error:
                near.close()
                raise UserError(
                    f"a worker process cannot be started ({error.strerror}); {_FEWER}"
                ) from error
        self._connection = Connection(near.detach())
        self._recipe = recipe

    def prepare(self, contents: list[Content]) -> Iterable[Image]:
        try:
            _send(self._connection, (contents, self._recipe))
            images = _receive(self._connection)
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if isinstance(images, str):
            raise RuntimeError(f"in a worker process:\n{images}")
        return images

    def _ended(self) -> Exception:
        code = self._process.wait()
        if code >= 0:
            return RuntimeError(f"a worker process ended with exit code {code}")
        name = signal.Signals(-code).name
        return UserError(
            f"a worker process of the conversion was killed by {name}"
            + (", which Linux sends when memory runs out" if name == "SIGKILL" else "")
            + f"; {_FEWER}"
        )

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self.kill()
        self._process.wait()
        self._connection.close()


_FEWER = "free some memory, or use fewer cores (snakemake --cores N), and run the pipeline again."


def _serve(descriptor: int, lock: int) -> None:
    """The worker's end: answer blocks until the socket is closed. lock: of an open file, see
    `_alone`."""
    connection = Connection(descriptor)
    answer: np.ndarray | list[Image] | str
    with contextlib.suppress(EOFError, OSError):
        while True:
            contents, recipe = _receive(connection)
            try:
                answer = _stacked(_prepare(contents, recipe, partial(_alone, lock)))
            except Exception:
                answer = traceback.format_exc()
            _send(connection, answer)


@contextlib.contextmanager
def _alone(lock: int) -> Iterator[None]:
    """What only one of the processes that have this file may do at a time."""
    with contextlib.suppress(OSError):  # not all file systems have locks
        fcntl.lockf(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.lockf(lock, fcntl.LOCK_UN)


def _stacked(images: list[Any]) -> np.ndarray | list[Image]:
    """The images as one array if possible, which is faster to send."""
    shapes = {None if isinstance(image, BrokenImage) else image.shape for image in images}
    return np.stack(images) if len(shapes) == 1 and None not in shapes else images


def _send(connection: Connection, message: Any) -> None:
    connection.send_bytes(pickle.dumps(message, protocol=5))  # `send` takes 4, slow with arrays


def _receive(connection: Connection) -> Any:
    return pickle.loads(connection.recv_bytes())
