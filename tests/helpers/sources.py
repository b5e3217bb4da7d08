"""Small source files of every data set in the official layouts, with generated pictures."""

import gzip
import io
import struct
import zipfile
from pathlib import Path

import lmdb
import numpy as np
import scipy.io
from PIL import Image

from helpers.archives import cifar_members, numbered_images, write_tar


def picture(number: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """uint8 (height, width, channels): smooth, and different for every number."""
    shape = (4, 4, channels)
    coarse = np.random.default_rng(number).integers(0, 256, shape, np.uint8).squeeze()
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth).reshape(height, width, channels)


def encoded(image: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, kind)
    return buffer.getvalue()


def mnist(folder: Path) -> dict[str, Path]:
    counts = {"train_images": 200, "test_images": 40}
    for role, count in counts.items():
        images = numbered_images(count)[:, :28, :28, 0]
        content = struct.pack(">IIII", 2051, count, 28, 28) + images.tobytes()
        (folder / f"{role}.gz").write_bytes(gzip.compress(content))
    return {role: folder / f"{role}.gz" for role in counts}


def cifar10(folder: Path) -> dict[str, Path]:
    members = cifar_members(numbered_images(200), numbered_images(40, 300))
    return {"archive": write_tar(folder / "cifar.tar.gz", members)}


def svhn(folder: Path) -> dict[str, Path]:
    counts = {"train": 200, "extra": 30, "test": 40}
    for role, count in counts.items():
        images = numbered_images(count).transpose(1, 2, 3, 0)
        content = {"X": images, "y": np.ones((count, 1), np.uint8)}
        scipy.io.savemat(folder / f"{role}_32x32.mat", content, do_compression=True)
    return {role: folder / f"{role}_32x32.mat" for role in counts}


def celeba(folder: Path, count: int = 60) -> dict[str, Path]:
    archive, partition = folder / "img_align_celeba.zip", folder / "list_eval_partition.txt"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("img_align_celeba/", b"")
        for number in range(1, count + 1):
            content = encoded(picture(number, 218, 178), "JPEG")
            file.writestr(f"img_align_celeba/{number:06d}.jpg", content)
    ends = count * 2 // 3, count * 5 // 6
    lines = [f"{n:06d}.jpg {sum(n > end for end in ends)}\n" for n in range(1, count + 1)]
    partition.write_text("".join(lines))
    return {"archive": archive, "partition": partition}


def lsun(folder: Path) -> dict[str, Path]:
    counts = {"train": 200, "val": 20}
    for role, count in counts.items():
        database = folder / f"bedroom_{role}_lmdb"
        with (
            lmdb.open(str(database), map_size=1 << 26) as environment,
            environment.begin(write=True) as transaction,
        ):
            for number in range(count):
                content = encoded(picture(number, 256, 200 + number), "WEBP")
                transaction.put(f"{role}{number:036x}".encode(), content)
        with zipfile.ZipFile(folder / f"{role}.zip", "w") as file:
            for name in ("data.mdb", "lock.mdb"):
                file.write(database / name, f"{database.name}/{name}")
    return {role: folder / f"{role}.zip" for role in counts}


def images(folder: Path) -> dict[str, Path]:
    top = folder / "pictures"
    for number in range(150):
        kind = ("JPEG", "PNG", "WEBP")[number % 3]
        path = top / f"class {number % 2}" / f"{number}.{kind.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (60 + number, 90, 1 if kind == "PNG" else 3)
        path.write_bytes(encoded(picture(number, *shape), kind))
    (top / "labels.csv").write_text("not an image\n")
    return {"archive": top}


WRITERS = {
    "mnist": mnist,
    "cifar10": cifar10,
    "svhn": svhn,
    "celeba": celeba,
    "lsun": lsun,
    "images": images,
}
