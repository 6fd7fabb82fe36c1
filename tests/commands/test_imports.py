"""Code of one's own, registered in a config's module, in every command; and classifiers whose layers hold code."""

import json
import shutil
import sys
from importlib import import_module

import keras
import pytest

from commands import imports
from commands.workdir import Workdir
from tfrobust.utils.registry import Registry
from trainers import evaluate, interpret, train
from tuning import search

MINE = '''
"""A layer, a network, an objective and an attack, and the config that uses them."""

import keras
from keras import ops

import tfrobust
from tfrobust.objectives import Objective, Term, register
from tfrobust.objectives.terms import adversarial_cross_entropy
from trainers.configs import digits


@keras.saving.register_keras_serializable(package="mine")
class Invert(keras.layers.Layer):
    def call(self, x):
        return 1.0 - x


@tfrobust.models.register
def tiny(input_shape=(8, 8, 1), classes=10):
    pixels = keras.Input(input_shape)
    return keras.Model(pixels, {"logits": keras.layers.Dense(classes)(keras.layers.Flatten()(Invert()(pixels)))})


def logit_distance(views):
    return ops.mean((views.clean["logits"] - views.adv["logits"]) ** 2, axis=-1)


@register(search={"weight": (0.1, 10.0, "log")})
def logit_squeeze(weight=0.5):
    outer = {"adversarial_cross_entropy": adversarial_cross_entropy, "logit_distance": Term(logit_distance, weight)}
    return Objective(adversarial_cross_entropy, outer)


@tfrobust.attacks.register
def twice(eps=0.1):
    return tfrobust.attacks.pgd(eps=eps, steps=2, step_size=eps)


def get_config():
    config = digits.get_config("logit_squeeze")
    config.model, config.attack = {"name": "tiny"}, {"name": "twice", "eps": 0.15}
    config.epochs, config.data.steps_per_epoch = 1, 2
    config.evaluation = {"attacks": ["fgsm"], "eps": 0.15, "norm": "linf"}
    config.search.trials, config.search.finalists = 1, 0
    return config
'''


def forget():
    """Leaves this process as one that has not imported the code."""
    for registry in Registry.every:
        for name in ("tiny", "logit_squeeze", "twice"):
            registry._factories.pop(name, None)
    keras.saving.get_custom_objects().pop("mine>Invert", None)
    sys.modules.pop("mine", None)
    imports._given.clear()


@pytest.fixture(autouse=True)
def fresh_process():
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run, beside the file of its code."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.py").write_text(MINE)
    train.run(imports.load(str(folder / "mine.py")).get_config().to_dict(), folder / "run")
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the run, whose code is where it was."""
    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path / "run"


COMMANDS = {
    "evaluate": (evaluate, ["--workdir={run}", "--attacks=twice", "--probes=0", "--output={run}/other.json"]),
    "evaluate a file": (
        evaluate,
        ["--model={run}/classifier.keras", "--data=digits", "--eps=0.1", "--attacks=fgsm", "--probes=0"],
    ),
    "interpret": (interpret, ["--workdir={run}", "--sections=gradients", "--images=10"]),
    "export": ("export.savedmodel", ["--workdir={run}"]),
}


def start(run_command, name, run, *more):
    module, arguments = COMMANDS[name]
    module = import_module(module) if isinstance(module, str) else module
    return run_command(module, *(argument.format(run=run) for argument in arguments), *more)


def test_a_run_lists_the_modules_that_registered_what_it_uses(finished):
    assert Workdir(finished / "run").read_config()["imports"] == [str(finished / "mine.py")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_loads_the_run_imports_them(name, run, run_command):
    code, out, err = start(run_command, name, run)
    assert code == 0, out + err


@pytest.mark.parametrize("name", ["evaluate", "export"])
def test_code_that_was_moved_is_named_with_the_flag_that_finds_it(name, run, run_command, tmp_path):
    config = json.loads((run / "config.json").read_text())
    missing = str(tmp_path / "gone/mine.py")
    (run / "config.json").write_text(json.dumps({**config, "imports": [missing]}))
    code, _, err = start(run_command, name, run)
    assert code == 1 and len(err.splitlines()) == 1
    assert f"{run} needs code of its own: expected --import=MODULE or --import=FILE.py" in err and missing in err
    (tmp_path / "mine.py").write_text(MINE)
    code, out, err = start(run_command, name, run, f"--import={tmp_path / 'mine.py'}")
    assert code == 0, out + err


def test_a_class_that_nothing_has_registered_is_named_with_its_module(run, run_command, tmp_path, finished):
    shutil.copy(run / "classifier.keras", tmp_path / "alone.keras")
    arguments = [f"--model={tmp_path}/alone.keras", "--data=digits", "--eps=0.1", "--attacks=fgsm", "--probes=0"]
    code, _, err = run_command(evaluate, *arguments)
    assert code == 1 and len(err.splitlines()) == 1
    assert "--import=FILE.py of the code that registers its layers. Received: mine>Invert of the module mine" in err
    code, out, err = run_command(evaluate, *arguments, f"--import={finished}/mine.py")
    assert code == 0, out + err


def test_code_may_be_named_before_a_row_of_a_packaged_config(run_command, finished):
    code, out, err = run_command(
        train, "--config=digits:logit_squeeze", f"--import={finished}/mine.py", "--list_fields"
    )
    assert code == 0 and "--config.objective.weight=0.5" in out.splitlines(), err


def test_an_objective_of_ones_own_that_is_not_imported_names_the_flag(finished):
    config = {"objective": {"name": "logit_squeeze"}, "phases": ()}
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "tfrobust")  # as before the slow imports
        with pytest.raises(ValueError, match=r"Unknown objective.*by --import=MODULE or --import=FILE.py"):
            train._check_objectives(config)


def test_a_name_that_nothing_has_registered_names_the_flag(run_command, tmp_path):
    code, _, err = run_command(train, "--config.model.name=tiny", f"--workdir={tmp_path}/run")
    assert code == 1 and len(err.splitlines()) == 1 and "Unknown model" in err
    assert err.endswith("Code of your own is imported by --import=MODULE or --import=FILE.py.\n")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("--import=nowhere.mine", "nowhere.mine cannot be imported: ModuleNotFoundError"),
        ("--import=nowhere.py", "nowhere.py cannot be imported: FileNotFoundError: there is no file"),
        ("--import=", "Expected a value for --import. Received: an empty one"),
    ],
)
def test_code_that_is_not_there_is_refused_in_one_line(given, text, run_command):
    code, _, err = run_command(train, "--workdir=x", given)
    assert code == 2 and text in err and len(err.splitlines()) == 1


def test_a_run_goes_on_with_code_that_was_moved(finished, run):
    config = Workdir(run).read_config()
    Workdir(run).claim({**config, "imports": ["elsewhere"]})
    assert Workdir(run).read_config() == {**config, "imports": ["elsewhere"]}


def test_a_file_whose_name_a_module_has_leaves_that_module_alone(tmp_path):
    (tmp_path / "json.py").write_text("mine = True")
    module = imports.load(str(tmp_path / "json.py"))
    assert module.mine and sys.modules["json"] is json and imports.load(str(tmp_path / "json.py")) is module
    assert imports._entry(module.__name__) == str(tmp_path / "json.py")
    del sys.modules[module.__name__]


@pytest.mark.slow
def test_the_best_config_of_a_search_trains(finished, tmp_path, run_command):
    code, out, err = run_command(search, f"--config={finished}/mine.py", f"--workdir={tmp_path}/search")
    assert code == 0, out + err
    assert json.loads((tmp_path / "search/best.json").read_text())["imports"] == [str(finished / "mine.py")]
    forget()
    code, out, err = run_command(train, f"--config={tmp_path}/search/best.json", f"--workdir={tmp_path}/best")
    assert code == 0, out + err


@pytest.fixture
def trusted(tmp_path):
    """A classifier with a Lambda layer, whose code Keras does not run unless it is asked to."""
    pixels = keras.Input((8, 8, 1))
    inverted = keras.layers.Lambda(lambda x: 1.0 - x, output_shape=(8, 8, 1))(pixels)
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(inverted))
    keras.Model(pixels, {"logits": logits}).save(tmp_path / "lambda.keras")
    yield tmp_path / "lambda.keras"
    keras.src.backend.common.global_state.set_global_attribute("safe_mode_saving", None)


@pytest.mark.parametrize("flag", ["--allow-unsafe", "--allow_unsafe"])
def test_a_lambda_layer_is_loaded_where_it_is_trusted(flag, trusted, run_command, tmp_path):
    commands = [
        (evaluate, [f"--model={trusted}", "--data=digits", "--eps=0.1", "--attacks=fgsm", "--probes=0"]),
        (import_module("export.savedmodel"), [f"--model={trusted}", f"--out={tmp_path}/out", "--unevaluated"]),
    ]
    for module, arguments in commands:
        code, _, err = run_command(module, *arguments)
        assert code == 1 and len(err.splitlines()) == 1 and "or --allow-unsafe if you trust the file" in err
        code, out, err = run_command(module, *arguments, flag)
        assert code == 0, out + err
        keras.src.backend.common.global_state.set_global_attribute("safe_mode_saving", None)
