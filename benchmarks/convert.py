"""Measures speed and memory of the conversion of CelebA.

    python benchmarks/convert.py [--archive img_align_celeba.zip] [--counts 10000 50000 202599]

Repeats the JPEGs of an archive in CelebA's layout (default: 500 generated pictures of its size) up
to each count, and converts them with the default crop of 148 and size of 64 in separate processes,
on all cores. The same decoding, cropping and resizing, with JPEGs in memory and results discarded,
is timed in bare Pillow loops, first one, then one per core: before and after each conversion, and
every ten seconds during it, while it is paused. Prints images per second, their ratios, and the
peak memory of all processes of the conversion together (proportional set size); the last line is
one JSON object.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

CROP, SIZE = 148, 64
BARE = 4000  # images in a bare loop
BETWEEN = 10  # seconds of the conversion between bare loops
SPLITS = (0.80341, 0.90147)  # ends of CelebA's training and validation images, as shares

CONVERT = """
import sys
from svae.datasets.convert import convert
archive, partition, output, processes = sys.argv[1:]
convert(
    "celeba", {"archive": archive, "partition": partition}, output, sha256={}, crop=148, size=64,
    channels=3, options={"split": "official"}, on_broken_image="stop", processes=int(processes),
)
"""


def jpegs(archive: Path | None) -> list[bytes]:
    """Return the JPEGs of an archive, or generated ones."""
    if archive:
        with zipfile.ZipFile(archive) as file:
            return [file.read(name) for name in file.namelist() if name.endswith(".jpg")]
    generator = np.random.default_rng(0)
    return [_generated(generator) for _ in range(500)]


def _generated(generator: np.random.Generator) -> bytes:
    coarse = Image.fromarray(generator.integers(0, 256, (14, 11, 3), np.uint8))
    smooth = np.asarray(coarse.resize((178, 218), Image.Resampling.BICUBIC)).astype(int)
    noisy = np.clip(smooth + generator.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_archive(folder: Path, images: list[bytes], count: int) -> tuple[Path, Path]:
    """Write CelebA's two files with `count` images; return their paths."""
    archive, partition = folder / "img_align_celeba.zip", folder / "list_eval_partition.txt"
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(1, count + 1):
            content = images[(number - 1) % len(images)]
            file.writestr(f"img_align_celeba/{number:06d}.jpg", content)
    ends = [round(share * count) for share in SPLITS]
    lines = (
        f"{number:06d}.jpg {sum(number > end for end in ends)}\n" for number in range(1, count + 1)
    )
    partition.write_text("".join(lines))
    return archive, partition


def bare_loop(images: list[bytes], ready, go, seconds) -> None:
    """Decode, crop and resize only."""
    left, top = (178 - CROP) // 2, (218 - CROP) // 2
    ready.wait()
    go.wait()
    start = time.monotonic()
    for content in images:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        image = image.crop((left, top, left + CROP, top + CROP))
        np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    seconds.put(time.monotonic() - start)


def bare(images: list[bytes], processes: int) -> float:
    """Return images per second of this many bare loops together."""
    context = multiprocessing.get_context("spawn")
    ready, go, seconds = context.Barrier(processes + 1), context.Event(), context.Queue()
    shares = [images[index::processes] for index in range(processes)]
    workers = [
        context.Process(target=bare_loop, args=(share, ready, go, seconds)) for share in shares
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    go.set()
    slowest = max(seconds.get() for _ in workers)
    for worker in workers:
        worker.join()
    return len(images) / slowest


def memory(process: psutil.Process) -> int:
    """Return the bytes of a process and its children, counting shared memory once."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total


def conversion(
    archive: Path, partition: Path, processes: int, bare_loops: Callable[[], None]
) -> tuple[float, int]:
    """Return seconds (with start-up and checksums, without pauses) and peak bytes."""
    output = archive.with_name("celeba.h5")
    command = [sys.executable, "-c", CONVERT, archive, partition, output, str(processes)]
    start = time.monotonic()
    child = psutil.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
    peak, halted, last = 0, 0.0, start
    while child.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, memory(child))
            if time.monotonic() - last > BETWEEN:
                halt = time.monotonic()
                members = [child, *child.children(recursive=True)]
                for member in members:
                    member.suspend()
                bare_loops()
                for member in members:
                    member.resume()
                last = time.monotonic()
                halted += last - halt
        time.sleep(0.5)
    seconds = time.monotonic() - start - halted
    if child.returncode:
        sys.exit(f"the conversion failed with exit code {child.returncode}")
    output.unlink()
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, help="img_align_celeba.zip, or a part of it")
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 50_000, 202_599])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument(
        "--folder", type=Path, help="for the archives; default: the system's temporary folder"
    )
    arguments = parser.parse_args()

    images = jpegs(arguments.archive)
    sample = (images * (BARE // len(images) + 1))[:BARE]
    rows = []
    for count in arguments.counts:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            archive, partition = write_archive(Path(folder), images, count)
            loops, together = [], []

            def bare_loops(loops=loops, together=together):
                loops.append(bare(sample, 1))
                together.append(bare(sample, arguments.processes))

            bare_loops()
            seconds, peak = conversion(archive, partition, arguments.processes, bare_loops)
            bare_loops()
        row = {
            "images": count,
            "seconds": round(seconds, 1),
            "images_per_second": round(count / seconds),
            "ratio_to_bare_processes": round(count / seconds / statistics.mean(together), 3),
            "ratio_to_one_loop": round(count / seconds / statistics.mean(loops), 3),
            "bare_processes_images_per_second": [round(value) for value in together],
            "one_loop_images_per_second": [round(value) for value in loops],
            "peak_megabytes": round(peak / 1e6),
        }
        rows.append(row)
        print(*(f"{name} {value}" for name, value in row.items()), sep="\n  ", flush=True)
    print(json.dumps({"processes": arguments.processes, "rows": rows}))


if __name__ == "__main__":
    main()
