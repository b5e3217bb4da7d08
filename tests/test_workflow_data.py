"""The real pipeline from the sources of every data set to its store and contact sheet."""

import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import threading

import numpy as np
import pytest
from helpers import sources
from helpers.servers import Reply, serving
from helpers.workflow import SMALL, Workflow
from PIL import Image

from svae.datasets.store import Store
from svae.jobs.files import read_json

pytestmark = pytest.mark.workflow

# The result for the small sources, by data set: number of images, and their shape.
EXPECTED = {
    "mnist": (240, (28, 28, 1)),
    "cifar10": (240, (32, 32, 3)),
    "svhn": (270, (32, 32, 3)),
    "celeba": (60, (64, 64, 3)),
    "lsun": (220, (64, 64, 3)),
    "images": (150, (64, 64, 3)),
}
TARGETS = ("results/dataset.png",)


@pytest.fixture
def workflow(tmp_path):
    return Workflow(tmp_path / "workflow")


def configure(workflow, name, files, **conversion):
    """Set the data set and its files (role -> path)."""
    workflow.configure(
        {
            "dataset": name,
            "sources": {name: {role: str(path) for role, path in files.items()}},
            "conversion": conversion,
            "training": {"batch_size": 10},
        }
    )


def stored(workflow, name):
    with Store(workflow.folder / f"data/{name}.h5") as store:
        images = {split: store.images(split) for split in ("train", "valid", "test")}
        return images, store.attributes


@pytest.mark.parametrize("name", EXPECTED)
def test_from_the_users_own_files_to_the_contact_sheet(workflow, name, tmp_path):
    files = sources.WRITERS[name](tmp_path)
    configure(workflow, name, files)
    workflow.run(*TARGETS)
    images, attributes = stored(workflow, name)
    count, shape = EXPECTED[name]
    assert sum(map(len, images.values())) == count
    assert {part.shape[1:] for part in images.values()} == {shape}
    assert attributes["dataset"] == name
    assert attributes["split_rule"]
    hashes = {
        role: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for role, path in files.items()
    }
    assert attributes["source_sha256"] == hashes
    assert Image.open(workflow.folder / "results/dataset.png").width > 500
    assert workflow.planned(*TARGETS) == {}
    left = {path.name for path in (workflow.folder / "data").iterdir()}
    assert left == {f"{name}.h5"}


def test_the_number_of_cores_changes_no_pixel(workflow, tmp_path):
    configure(workflow, "images", sources.images(tmp_path))
    checksums = set()
    for cores in ("1", "2"):
        # Otherwise, the store converted before would return.
        shutil.rmtree(workflow.folder / "set-aside", ignore_errors=True)
        workflow.run("--cores", cores, "--forcerun", "convert", "--", "data/images.h5")
        checksums.add(stored(workflow, "images")[1]["checksum"])
    assert len(checksums) == 1


def test_images_added_to_a_folder_are_noticed_and_change_no_other_split(workflow):
    """A folder that contains the working directory, with a name for the data set."""
    folder = sources.images(workflow.folder)["archive"]
    configure(workflow, "images", {"archive": "."})
    workflow.configure({"name": "cats"})
    workflow.edit(
        "svae/jobs/folders.py",
        "    digest = hashlib.sha256()",
        "    digest = hashlib.sha256()\n    Path('listed').open('a').write('x')",
    )
    workflow.run(*TARGETS)
    # A job on another machine reads the Snakefile again, and lists nothing if it reads no images.
    workflow.planned("--allowed-rules", "contact_sheet", "--force", *TARGETS)
    assert (workflow.folder / "listed").read_text() == "x"
    before, attributes = stored(workflow, "cats")
    assert attributes["title"] == "cats (your images)" and attributes["unread_files"][".csv"] == 1
    assert workflow.planned(*TARGETS) == {}  # although there is a new results/dataset.png
    (folder / "Thumbs.db").touch()
    assert workflow.planned(*TARGETS) == {}
    for number in range(1000, 1030):
        content = sources.encoded(sources.picture(number, 80, 80), "PNG")
        (folder / "class 1" / f"{number}.png").write_bytes(content)
    assert workflow.planned(*TARGETS) == {"convert": 1, "contact_sheet": 1}
    workflow.run(*TARGETS)
    after, _ = stored(workflow, "cats")
    assert sum(map(len, after.values())) == 180
    for split, images in before.items():
        kept = {image.tobytes() for image in after[split]}
        assert {image.tobytes() for image in images} <= kept


# What changes of settings rerun a conversion.
@pytest.mark.parametrize(
    ("changes", "jobs"),
    [
        ({"conversion": {"crop": 108}}, {"convert": 1, "contact_sheet": 1}),
        ({"conversion": {"size": 32}}, {"convert": 1, "contact_sheet": 1}),
        ({"conversion": {"color": "grey"}}, {"convert": 1, "contact_sheet": 1}),
        ({"conversion": {"on_broken_image": "skip"}}, {"convert": 1, "contact_sheet": 1}),
        ({"fetch": {"timeout": 5, "retries": 1}}, {}),
        ({"training": {"image_memory_mb": 100}}, {}),
    ],
)
def test_what_a_setting_reruns(converted, changes, jobs):
    original = (converted.folder / "config.yaml").read_text()
    converted.configure(changes)
    try:
        assert converted.planned(*TARGETS) == jobs
    finally:
        (converted.folder / "config.yaml").write_text(original)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    workflow = Workflow(folder / "workflow")
    configure(workflow, "celeba", sources.celeba(folder))
    workflow.run(*TARGETS)
    return workflow


# Fetching -----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def address(tmp_path):
    """A loopback server of the files in tmp_path."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_at_another_address_is_fetched_once(workflow, tmp_path, address):
    archive = sources.cifar10(tmp_path)["archive"]
    own = {"archive": f"{address}/{archive.name}", "sha256": sha256(archive)}
    configure(workflow, "cifar10", own)
    workflow.run(*TARGETS)
    raw = workflow.folder / "data/raw/cifar10" / archive.name
    assert raw.read_bytes() == archive.read_bytes()
    # Snakemake did not touch it since, so it was hashed only once.
    note, status = read_json(raw.with_name(f".{raw.name}.checksums.json")), raw.stat()
    assert status.st_ctime_ns in note["stamp"]
    images, attributes = stored(workflow, "cifar10")
    assert sum(map(len, images.values())) == 240
    assert attributes["source_sha256"] == {"archive": sha256(archive)}
    # The script reruns, and the file stays.
    archive.unlink()
    workflow.run("--forcerun", "fetch", "--", *TARGETS)
    assert raw.exists()


def test_a_page_instead_of_a_file_gives_one_message_and_is_removed(workflow, tmp_path, address):
    page = tmp_path / "img_align_celeba.zip"
    page.write_bytes(b"<!DOCTYPE html><html><title>Quota exceeded</title></html>")
    workflow.configure(
        {
            "dataset": "celeba",
            "sources": {"celeba": {"archive": f"{address}/{page.name}"}},
            "conversion": {"split": "paper"},
            "fetch": {"retries": 0},
        }
    )
    done = workflow.run(*TARGETS, check=False)
    assert done.returncode == 1
    for part in ("img_align_celeba.zip", "HTML", "Quota exceeded", "mmlab", "data/raw/celeba"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    raw = workflow.folder / "data/raw/celeba"
    assert not raw.exists() or list(raw.iterdir()) == []


@pytest.mark.parametrize("after_a_kill", [False, True])
def test_a_file_placed_by_hand_is_checked_and_used(workflow, tmp_path, after_a_kill):
    """Even if Snakemake marked this file as incomplete after a killed download."""
    archive = sources.cifar10(tmp_path)["archive"]
    own = {"archive": "http://127.0.0.1:9/cifar.tar.gz", "sha256": sha256(archive)}
    if after_a_kill:
        own["archive"] = _kill_while_it_downloads(workflow, own)
    configure(workflow, "cifar10", own)
    raw = workflow.folder / "data/raw/cifar10/cifar.tar.gz"
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_bytes(archive.read_bytes())
    if after_a_kill:
        workflow.run("--unlock")
    workflow.run("--rerun-incomplete", *TARGETS)
    images, _ = stored(workflow, "cifar10")
    assert sum(map(len, images.values())) == 240


def _kill_while_it_downloads(workflow, own):
    """Kill Snakemake and its processes in the middle of a download; return the file's address."""
    asked = threading.Event()

    def part(request):
        asked.set()
        return Reply(body=b"whole", stop=3, how="stall")

    with serving({"/cifar.tar.gz": part}) as server:
        address = f"{server.url}/cifar.tar.gz"
        configure(workflow, "cifar10", {**own, "archive": address})
        with workflow.start(*TARGETS, stderr=subprocess.DEVNULL) as process:
            while not asked.wait(1):
                assert process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
    return address


def test_a_wrong_file_placed_by_hand_is_refused_and_renamed(workflow):
    raw = workflow.folder / "data/raw/cifar10/cifar-10-binary.tar.gz"
    raw.parent.mkdir(parents=True)
    raw.write_bytes(b"<html><title>Sign in</title></html>")
    workflow.configure({"dataset": "cifar10"})
    done = workflow.run(*TARGETS, check=False)
    assert done.returncode == 1
    for part in ("cifar-10-binary.tar.gz", "HTML", "Sign in", "toronto"):
        assert part in done.stderr
    assert not raw.exists()
    assert not (workflow.folder / "data/cifar10.h5").exists()


# Broken images ------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_broken_image_stops_the_run_or_is_listed(workflow, tmp_path, policy):
    folder = sources.images(tmp_path)["archive"]
    broken = folder / "class 1" / "7.png"
    broken.write_bytes(broken.read_bytes()[:100])
    (folder / "class 0" / "nowhere.jpg").symlink_to(folder / "absent")
    configure(workflow, "images", {"archive": folder}, on_broken_image=policy)
    done = workflow.run(*TARGETS, check=False)
    if policy == "stop":
        assert done.returncode == 1
        assert "class 0/nowhere.jpg" in done.stderr and "on_broken_image" in done.stderr
        assert not (workflow.folder / "data/images.h5").exists()
    else:
        assert done.returncode == 0
        images, attributes = stored(workflow, "images")
        assert sum(map(len, images.values())) == 149
        assert attributes["broken_images"] == 2
        assert attributes["broken_image_names"] == ["class 0/nowhere.jpg", "class 1/7.png"]


def test_a_sorted_folder_is_trained_on(workflow, tmp_path):
    """The user's own images through the whole pipeline, in windows smaller than the split."""
    configure(workflow, "images", sources.images(tmp_path))
    workflow.configure(SMALL)
    workflow.configure(
        {
            "training": {"batch_size": 10, "image_memory_mb": 1},
            "sampling": {"n_samples": 20},
            "sliced_wasserstein": {"images": 20},
            "variants": {"low_rank": {"posterior": "low_rank"}},
        }
    )
    workflow.run("--cores", "2")
    score = json.loads((workflow.folder / "results/parzen_low_rank.json").read_text())
    assert np.isfinite(score["log_likelihood"]) and score["dimension"] == 12288
