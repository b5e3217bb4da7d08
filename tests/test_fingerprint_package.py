"""What reruns what: the fingerprints of this package's stages, and what they cover."""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import stores

from svae.jobs.fingerprint import definitions, fingerprint, modules
from svae.report import draw_contact_sheet, seeds
from svae.scores import principal_components
from svae.scores.registry import scores
from svae.scores.score import OPENED_BY

REPOSITORY = Path(__file__).parents[1]

LOOKED_UP = ("svae.model.posteriors:POSTERIORS", "svae.streams:Stream")
POSTERIOR = "svae.model.posteriors:LowRank"  # of the variant whose jobs are tested
READER = "svae.datasets.readers.celeba"


def texts_of_rules():
    """Rule -> its text, of all rules."""
    texts = [path.read_text() for path in sorted((REPOSITORY / "rules").glob("*.smk"))]
    found = [rule for text in texts for rule in re.split(r"^rule ", text, flags=re.M)[1:]]
    return {rule.partition(":")[0]: rule for rule in found}


def entries_of(text):
    """The entries of the fingerprint in a rule's text, those of a variant with its posterior."""
    end = r"(?:\bwithout=|\bsettings=|\),\n)"
    (call,) = re.findall(rf"\bcode=code\w*\((.*?){end}", text, re.S)
    found = re.findall(r'"(svae\.[^"]+)"', call.replace("svae.datasets.readers.{READER}", READER))
    return (*found, POSTERIOR) if "code=code_of_variant" in text else tuple(found)


def entries_of_score(score):
    started = ["svae.jobs.devices:on_device"] if score.tensorflow else []
    model = [POSTERIOR] if "model" in score.needs else []
    measuring = ("svae.scores.measuring:measure", "svae.scores.measuring:Files")
    return (*score.entries, *measuring, *started, *model)


FINGERPRINTED = {rule: text for rule, text in texts_of_rules().items() if "code=code" in text}
# The functions and classes of arguments of each job; for a score, of score_NAME.
ENTRIES = {rule: entries_of(text) for rule, text in FINGERPRINTED.items()}
ENTRIES |= {f"score_{name}": entries_of_score(score) for name, score in scores().items()}
WITHOUT = {
    "train": (
        *("svae.training.tensorboard", "svae.training.diagnosis", "svae.training.progress"),
        *("svae.jobs.set_aside", "svae.scores.spectrum"),
    )
} | {
    f"score_{name}": tuple(module for need, module in OPENED_BY.items() if need not in score.needs)
    for name, score in scores().items()
}
STAGES = sorted({entry.partition(":")[0] for entries in ENTRIES.values() for entry in entries})


STUDY = {"charts", "summary", "report"}
PARZEN = {"score_parzen", "score_linear_vae", "baselines"}
FITTED = {"baselines", "spectrum", "features"}
BOUND = "score_importance_weighted_bound"
MODEL = {"train", "prior", "sample", "examples", "export"}
MODEL |= {"score_parzen", "score_objective", "score_rate", BOUND}
STARTED = MODEL | PARZEN | FITTED | {"score_feature_distances"}  # with TensorFlow
ALL_SCORES = {name for name in ENTRIES if name.startswith("score_")}


# The jobs that read a store, and those that write JSON.
READ = {"convert", "contact_sheet", "comparison", "summary", "report", "train", "examples"}
READ |= ALL_SCORES | FITTED | {"prior", "export", "rate_distortion"}
WRITE_JSON = ALL_SCORES | {"convert", "train", "baselines", "result"}
WRITE_JSON |= {"export", "rate_distortion"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of svae, and the digest of every rule; one copy, because parsing takes longest."""
    root = tmp_path_factory.mktemp("copy") / "svae"
    shutil.copytree(REPOSITORY / "svae", root, ignore=shutil.ignore_patterns("__pycache__"))
    return root, digests(root)


def digests(root):
    return {
        rule: fingerprint(*entries, without=(*WITHOUT.get(rule, ()), *LOOKED_UP), package_root=root)
        for rule, entries in ENTRIES.items()
    }


def changed_rules(copy, file, old, new):
    """The rules whose digests an edit changes: `old`, a text or a pattern, is replaced once by
    `new`, a text or a function of the match."""
    root, before = copy
    path = root / file
    if not path.exists():
        (path,) = root.rglob(file)
    text = path.read_text()
    pattern = old if isinstance(old, re.Pattern) else re.compile(re.escape(old))
    edited, count = pattern.subn(new if callable(new) else lambda _: new, text, count=1)
    assert count == 1, f"{file} has no {pattern.pattern}"
    ast.parse(edited)
    path.write_text(edited)
    try:
        return {rule for rule, digest in digests(root).items() if digest != before[rule]}
    finally:
        path.write_text(text)


def lines(pattern):
    """Whole lines that match."""
    return re.compile(rf"^{pattern}\n", re.M | re.S)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        # Comments and layout.
        ("store.py", "import h5py\n", "import h5py  # of HDF5\n"),
        ("vae.py", lines(" +# [^\n]*"), ""),
        (
            "wasserstein.py",
            "return [*levels, images]",
            "return [\n        *levels, images\n    ]",
        ),
        ("objectives.py", "\n\n\n", "\n\n\n\n\n"),
        # Docstrings.
        ("parzen_window.py", '"""', '"""In other words. '),
        (
            "parzen_window.py",
            'class ParzenResult:\n    """',
            'class ParzenResult:\n    """Other. ',
        ),
        (
            "parzen_window.py",
            '-> bool:\n    """',
            '-> bool:\n    """Other. ',
        ),
        (
            "parzen_window.py",
            '    log_likelihood: float\n    """',
            '    log_likelihood: float\n    """Or. ',
        ),
        ("spectrum.py", re.compile(r'(?<=    mean: np.ndarray\n)    """[^\n]*\n'), ""),
        ("pixels.py", re.compile(r'    """.*?"""\n', re.S), ""),
        (
            "parzen_window.py",
            "    best = choose",
            "    'The best of the grid.'\n    best = choose",
        ),
        ("__init__.py", '__version__ = "', '__version__ = "1.'),
        # Annotations.
        ("wasserstein.py", "def down(images: np.ndarray)", "def down(images)"),
        ("wasserstein.py", "(side: int) -> list[int]:", "(side: int) -> tuple[int, ...]:"),
        ("copies.py", "result: dict[str, Any] = {}", "result = {}"),
        ("nearest.py", "d2 = x @ r.T", "d2: np.ndarray = x @ r.T"),
        ("nearest.py", "    d2 = x @ r.T", "    nearest: np.ndarray\n    d2 = x @ r.T"),
        ("settings/parzen.py", re.compile(r"n_valid: [^=]* ="), "n_valid: int ="),
        ("posteriors.py", "stem: bool", "stem: int"),
        ("posteriors.py", "import NamedTuple, Self\n", "import Any, NamedTuple, Self\n"),
        # Descriptions of settings.
        ("settings/parzen.py", '"which images choose sigma"', '"the images that choose sigma"'),
        ("settings/training.py", '"largest norm of', '"the largest norm of'),
        # Texts of errors; two adjacent string literals make one text.
        ("spectrum.py", "raise UserError(", 'raise UserError("In other words: " '),
        ("wasserstein.py", "raise UserError(", 'raise UserError("In other words: " '),
        ("train.py", "raise UserError(", 'raise UserError("In other words: " '),
        ("posteriors.py", "raise ValueError(", 'raise ValueError("In other words: " '),
        ("stopping.py", "raise Stopped(", 'raise Stopped("In other words: " '),
        (
            "decoding.py",
            'raise BrokenImage(f"',
            'raise BrokenImage(f"in other words: ',
        ),
        (
            "archives.py",
            'return BrokenImage("',
            'return BrokenImage("in other words: ',
        ),
        ("loop.py", "return UserError(", 'return UserError("In other words: " '),
        ("loop.py", 'self._lost(where, "', 'self._lost(where, "in other words '),
        (
            "celeba.py",
            '_no_partition(path, "',
            '_no_partition(path, "in other words: ',
        ),
        ("verify.py", "raise UserError(", 'raise UserError("In other words: " '),
        # Log lines and warnings.
        ("store_score.py", "log.info(", 'log.info("In other words: " '),
        ("run_folder.py", "log.warning(", 'log.warning("In other words: " '),
        ("loop.py", "log.info(", 'log.info("In other words: " '),
        ("prior.py", lines(r" +log\.info\([^\n]*"), ""),
        ("train.py", "log.info(", "log.debug("),
        ("nearest.py", "    d2 = x @ r.T", "    warnings.warn('slow')\n    d2 = x @ r.T"),
        ("nearest.py", "import math\n", "import logging\nimport math\nimport warnings\n"),
        ("seeds.py", "\n\n\ndef", "\n\nlog = logging.getLogger(__name__)\n\n\ndef"),
        # Modules that no rule covers.
        ("svhn.py", "_PIXELS = 32", "_PIXELS = 64"),
        ("tensorboard.py", "import numpy as np\n", "import numpy\n"),
        ("set_aside.py", 'FOLDER = "set-aside"', 'FOLDER = "elsewhere"'),
        ("resolve.py", '"parzen"', '"score"'),
        # Definitions that nothing uses, new ones and those of other stages, and their order.
        ("posteriors.py", "def limited(", "def fifth(raw):\n    return raw\n\n\ndef limited("),
        # Another posterior, and its name.
        ("posteriors.py", "POSTERIORS: ", "class Fifth(Naive):\n    stem = True\n\n\nPOSTERIORS: "),
        ("posteriors.py", '"mvn": M', '"fifth": Naive,\n    "mvn": M'),
        # Another stream of random numbers.
        ("streams.py", "    GAUSSIAN = 22\n", "    GAUSSIAN = 22\n    OTHER = 23\n"),
        ("posteriors.py", "PUBLISHED = ", "HALF = 0.5\nPUBLISHED = "),
        (
            *("posteriors.py", "import math\n"),
            "import functools\nimport math\n\nLATER = functools.cache(math.log)\n",
        ),
        ("loop.py", "import keras\n", "from svae import charts\nimport keras\n"),
        (
            "posteriors.py",
            re.compile(r"(def limited\(.*?)(?=\n\n\ndef )(.*)", re.S),
            lambda found: f"{found[2].lstrip()}\n\n{found[1]}\n",
        ),
        # Code that only affects the warnings of a training.
        ("diagnosis.py", "FEW_ACTIVE = 0.5", "FEW_ACTIVE = 0.4"),
    ],
)
def test_edits_of_the_package_that_rerun_nothing(copy, file, old, new):
    assert changed_rules(copy, file, old, new) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "rules"),
    [
        # Numbers, operators and formulas.
        (
            "memorisation.py",
            "JUDGED = 2_500",
            "JUDGED = 3",
            {"score_memorisation"},
        ),
        ("step.py", "epsilon=1e-8", "epsilon=1e-7", {"train"}),
        (
            "sanity_rows.py",
            "// IMAGES_A_CENTROID",
            "/ IMAGES_A_CENTROID",
            {"baselines", "features"},
        ),
        ("posteriors.py", "mu[:, :, None, :] * nu", "mu[:, :, None, :] + nu", MODEL),
        ("posteriors.py", "0.5 * (tf.square(", "2.0 * (tf.square(", MODEL),
        ("parzen_window.py", "math.sqrt(len(values))", "math.sqrt(len(values) - 1)", PARZEN),
        ("spectrum.py", "0.5 * float(np.sum(", "float(np.sum(", {"score_linear_vae"}),
        (
            "wasserstein.py",
            "(1000.0 * np.array(found)",
            "(100.0 * np.array(found)",
            {"score_sliced_wasserstein"},
        ),
        ("nearest.py", "d2 *= -2.0", "d2 *= -1.0", {"score_memorisation", "examples"}),
        ("copies.py", "(to_train < to_held_out)", "(to_train > 0)", {"score_memorisation"}),
        ("pixels.py", "math.log2(HALF_RANGE)", "math.log2(255)", PARZEN | {BOUND}),
        (
            "pixels.py",
            "np.rint(",
            "np.floor(",
            {"comparison", "examples", "export", "features", "score_feature_distances"},
        ),
        ("grids.py", "GAP = 12", "GAP = 13", {"contact_sheet", "comparison", "grids"}),
        (
            "celeba.py",
            "_PAPER_TRAINING = 160_000",
            "_PAPER_TRAINING = 16",
            {"convert"},
        ),
        ("intervals.py", "PRIOR_DEGREES = 0.1", "PRIOR_DEGREES = 0.2", STUDY),
        # Code that runs in another process.
        ("workers.py", "Connection(descriptor)", "Connection(descriptor, 1)", {"convert"}),
        # Strings.
        (
            "prior.py",
            'batch_norm == "batch"',
            'batch_norm == "moving"',
            {"sample", "score_parzen"},
        ),
        ("seeds.py", '"log_likelihood_mean":', '"mean":', {"result"}),
        ("summary.py", '"posterior": first', '"family": first', {"summary"}),
        ("principal_components.py", 'store.split("train")', 'store.split("t")', FITTED),
        (
            "linear_vae_samples.py",
            "samples += spectrum.mean",
            "samples -= spectrum.mean",
            {"score_linear_vae", "score_feature_distances"},
        ),
        ("page.py", '"answer": answer', '"result": answer', {"report"}),
        (
            "draw_curves.py",
            'values("learning_rate")',
            'values("seconds")',
            {"training_curves"},
        ),
        ("draw_charts.py", 'score.get("sigma")', 'score.get("grid_sigma")', {"charts"}),
        ("draw_contact_sheet.py", '"train": 3', '"train": 4', {"contact_sheet"}),
        ("celeba.py", r"\.jpg(?:", r"\.png(?:", {"convert"}),
        # Arguments and decorators.
        ("parzen_window.py", "count: int = 10\n", "count: int = 11\n", PARZEN),
        ("sampling.py", "(frozen=True", "(frozen=False", {"sample", "score_parzen"}),
        # Fields.
        (
            "sliced_wasserstein.py",
            "    images: int",
            "    pictures: int",
            {"score_sliced_wasserstein"},
        ),
        ("settings/model.py", "dropout:", "drop:", MODEL),
        ("curves.py", "wide: bool = False", "wide: bool = True", {"training_curves"}),
        ("curves.py", "wide: bool = False", "wide = False", {"training_curves"}),
        # Errors, except their texts.
        (
            "seeds.py",
            "raise ValueError(",
            "raise TypeError(",
            STUDY | {"comparison", "rate_distortion"},
        ),
        (
            "seeds.py",
            lines(r" +raise ValueError\([^\n]*"),
            "        pass\n",
            STUDY | {"comparison", "rate_distortion"},
        ),
        ("stopping.py", ", self._number)", ", 1)", {"train"}),
        ("verify.py", "{set_aside(path)}", "{path}", {"convert"}),
        # Effects within a log line.
        ("loop.py", "self._save())", "self.run_folder)", {"train"}),
        # Modules of many rules.
        ("devices.py", "op_determinism()", "op_determinism(1)", STARTED),
        (
            "devices.py",
            "POLL_SECONDS = 1.0",
            "POLL_SECONDS = 2.0",
            STARTED - {"prior", "sample", "export"},
        ),
        (
            *("store.py", '_JSON_STARTS = ("{"', '_JSON_STARTS = ("("'),
            READ,
        ),
        ("files.py", "indent=2", "indent=4", WRITE_JSON),
        ("files.py", "temporary.replace(target)", "temporary.rename(target)", set(ENTRIES)),
    ],
)
def test_edits_of_the_package_that_rerun_the_rules_that_use_them(copy, file, old, new, rules):
    assert changed_rules(copy, file, old, new) == rules


def test_package_does_not_read_what_is_not_covered():
    """Docstrings, annotations and source, and the texts of errors to make decisions."""
    covered = {path for rule in ENTRIES for path in modules(*ENTRIES[rule]).values()}
    for path in sorted(covered):
        tree = ast.parse(path.read_text())
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert used.isdisjoint(READ_AT_RUN_TIME), path
        caught = {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)} - {
            None
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                decides = ast.unparse(node)
                for name in caught:
                    text = rf"\bstr\({name}\)|\b{name}\.args\b"
                    assert not re.search(text, decides), f"{path}: {decides}"


READ_AT_RUN_TIME = {
    *("__doc__", "getdoc", "__annotations__", "get_annotations", "get_type_hints"),
    *("singledispatch", "singledispatchmethod", "getsource", "inspect"),
}


def test_every_rule_is_here():
    """Only downloads use the package in a rule without a fingerprint."""
    assert texts_of_rules().keys() - FINGERPRINTED.keys() == {"fetch"}


def script_of(rule):
    """What calls the entries of a rule: its script, or what the script of all scores calls."""
    return "svae/scores/job.py" if rule.startswith("score_") else f"scripts/{rule}.py"


# Used by scripts without affecting results: destinations of log lines, what is set aside or kept.
BESIDE = {
    *("svae.jobs.logs", "svae.jobs.set_aside", "svae.jobs.neutral", "svae.jobs.provenance"),
    *("svae.errors", "svae.scores.kept", "svae.scores.registry", "svae.scores.score"),
}


@pytest.mark.parametrize("rule", ENTRIES)
def test_entries_cover_what_the_script_of_the_rule_uses(rule):
    """Functions, and classes of arguments: a function that annotates them does not use them."""
    tree = ast.parse((REPOSITORY / script_of(rule)).read_text())
    found = definitions(*ENTRIES[rule], without=(*WITHOUT.get(rule, ()), *LOOKED_UP))
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "svae":
            for name in node.names:
                module = f"{node.module}.{name.name}"
                if importlib.util.find_spec(node.module).submodule_search_locations:
                    reads = rf"\b{name.name}\.(\w+)"
                    used |= {(module, read) for read in re.findall(reads, ast.unparse(tree))}
                else:
                    used.add((node.module, name.name))
    used = {(module, name) for module, name in used if module not in BESIDE}
    if rule in ALL_SCORES and rule not in STARTED:  # without TensorFlow, on no device
        used.discard(("svae.jobs.devices", "on_device"))
    assert used
    assert {(module, name) for module, name in used if name not in found.get(module, ())} == set()


# Each stage is imported in its own process, forked after the slow imports.
IMPORT_EACH = """
import importlib, json, os, sys
import h5py, jinja2, keras, matplotlib.figure, scipy.ndimage, sklearn.cluster, tensorflow
assert not [name for name in sys.modules if name.partition(".")[0] == "svae"]
for stage in sys.argv[1:]:
    sys.stdout.flush()
    if os.fork():
        assert os.wait()[1] == 0, stage
    else:
        importlib.import_module(stage)
        names = [name for name in sys.modules if name.partition(".")[0] == "svae"]
        print(json.dumps([stage, names]), flush=True)
        os._exit(0)
"""


@pytest.fixture(scope="module")
def imported():
    """The modules of svae that importing each stage imports."""
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, *STAGES],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return dict(json.loads(line) for line in run.stdout.splitlines())


@pytest.mark.parametrize("stage", STAGES)
def test_everything_that_a_stage_imports_is_found(imported, stage):
    assert stage in imported[stage]
    assert set(imported[stage]) <= set(modules(stage))


@pytest.fixture
def inputs(tmp_path):
    """A folder with a store, and two scores of a variant with the entries that `combine` reads."""
    rng = np.random.default_rng(0)
    splits = {
        split: rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        for split, count in (("train", 40), ("valid", 20), ("test", 20))
    }
    attributes = {"dataset": "a", "title": "A", "crop": None, "size": None, "padding": 0}
    stores.write(tmp_path / "a.h5", splits, {**attributes, "split_rule": "by hash"})
    for seed in (0, 1):
        score = {"log_likelihood": float(seed), "seed": seed}
        (tmp_path / f"{seed}.json").write_text(json.dumps(score))
    return tmp_path


@pytest.mark.parametrize("rule", sorted(MODEL))
def test_the_code_of_higher_ranks_and_arrangements_counts_only_for_these(rule):
    def covered(**settings):
        parts = definitions(
            *ENTRIES[rule],
            without=(*WITHOUT.get(rule, ()), *LOOKED_UP),
            settings={"rank": 1, "arrangement": "maps", **settings},
        )
        return {(module, name) for module, names in parts.items() for name in names}

    neutral = covered()
    ranks = {("svae.model.posteriors", name) for name in ("HigherRank", "cosines")}
    assert covered(rank=2) - neutral - {("svae.settings.model", "ModelSection")} == ranks
    arranged = covered(arrangement="dense") - neutral
    assert {module for module, _ in arranged} >= {"svae.model.arrangement"}
    assert ("svae.model.arrangement", "Dense") in arranged
    assert not any(module == "svae.model.arrangement" for module, _ in neutral)


@pytest.mark.parametrize("rule", ["sample", "score_parzen"])
def test_the_code_of_fitted_priors_counts_only_for_these(rule):
    def covered(**settings):
        return definitions(
            *ENTRIES[rule],
            without=(*WITHOUT.get(rule, ()), *LOOKED_UP),
            settings={"fitted_prior": False, "prior_statistics": False, **settings},
        )

    assert not covered().get("svae.sampling.prior_file")
    for name in ("fitted_prior", "prior_statistics"):
        assert {"use", "Drawn"} <= covered(**{name: True})["svae.sampling.prior_file"]


# Stages without TensorFlow, and a call of each.
CHEAP = {
    "contact_sheet": lambda folder: draw_contact_sheet.draw(folder / "a.h5", folder / "a.png"),
    "spectrum": lambda folder: principal_components.fit(folder / "a.h5", 8).save(folder / "a.npz"),
    "result": lambda folder: seeds.combine(
        [folder / "0.json", folder / "1.json"], folder / "a.json"
    ),
}


def definition_at(path, line):
    """The names that the top-level statement around a line binds."""
    for node in ast.parse(path.read_text()).body:
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        if first <= line <= node.end_lineno:
            assigned = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            return {node.name} if hasattr(node, "name") else assigned
    return set()


@pytest.mark.parametrize("rule", CHEAP)
def test_everything_that_a_stage_calls_is_covered(inputs, rule):
    """Observed at run time: every function of the package that runs is in a covered definition."""
    called = set()

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and Path(code.co_filename).is_relative_to(REPOSITORY / "svae"):
            called.add((frame.f_globals["__name__"], code.co_filename, code.co_firstlineno))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        CHEAP[rule](inputs)
    finally:
        sys.setprofile(before)
    found = definitions(*ENTRIES[rule])
    assert len(called) > 2
    for module, path, line in called:
        assert definition_at(Path(path), line) & found.get(module, set()), (module, line)
