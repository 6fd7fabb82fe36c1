"""Export: what the SavedModel says is what the classifier says, without Keras; mistakes are one line."""

import json
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

import tfrobust
from commands import provenance
from commands.workdir import Workdir
from export import card as _card
from export import extra, savedmodel, session
from export.savedmodel import export_classifier, export_model, export_workdir
from export.servable import Servable
from export.tensors import Refusal
from export.verify import TOLERANCES
from export.version import _next_version
from tfrobust.classifiers import digest
from trainers.configs import digits


def command(*arguments):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def small(make_classifier):
    """Attention of two blocks on images 6x6x1, beside what `make_classifier` gives: every signature has something."""
    classifier = make_classifier(batch_norm=True, dropout=0.3)
    convolution = classifier.layers[1](classifier.input)
    weights = {
        "fine": keras.ops.mean(convolution, axis=-1),
        "coarse": keras.ops.mean(convolution, axis=-1)[:, ::3, ::2],
    }
    return keras.Model(classifier.input, {**classifier.output, "attention": weights})


@pytest.fixture
def run(tmp_path, make_classifier):
    """A run's folder with what the export reads: a classifier of digits and its evaluation."""
    workdir = Workdir(tmp_path / "run")
    workdir.claim(digits.get_config("trades").to_dict())
    provenance.record(workdir.provenance)
    classifier = tfrobust.models.get("digits")
    classifier.save(workdir.classifier)
    x, y = next(iter(tfrobust.data.load("digits", "test", batch_size=20)))
    options = {"eps": 0.1, "attacks": ["fgsm"], "probes": 0, "verbose": False}
    tfrobust.evaluate(classifier, (x.numpy(), y.numpy()), **options).save(workdir.evaluation)
    return workdir


def test_the_command_exports_a_run_with_all_that_is_known_of_it(run):
    done = command("-m", "export.savedmodel", f"--workdir={run.path}")
    assert done.returncode == 0, done.stderr
    version = run.saved_model / "1"
    assert done.stdout.strip() == str(version)
    assert [path.name for path in version.parent.iterdir()] == ["1"]  # nothing is left beside it
    assert (version / "assets/class_names.txt").read_text().splitlines() == [str(digit) for digit in range(10)]

    card = json.loads((version / "assets.extra/model_card.json").read_text())
    report = tfrobust.Report.load(run.evaluation)
    assert card["evaluation"]["clean_accuracy"] == report.clean_accuracy
    assert card["evaluation"]["robust_accuracy"] == report.robust_accuracy
    assert card["evaluation"]["alarms"] == list(report.alarms)
    assert [attack["name"] for attack in card["evaluation"]["attacks"]] == ["fgsm"]
    (fit,) = card["training"]["fits"]
    assert fit["objective"] == {"name": "trades", "beta": 6.0}
    assert (fit["attack"]["eps"], fit["attack"]["steps"], fit["epochs"]) == (0.15, 10, 40)
    assert card["training"]["code"] == [provenance.now()]
    assert card["data"]["name"] == "digits" and card["input"]["height"] == 8
    assert card["classifier"]["weights"] == digest(keras.models.load_model(run.classifier))

    # The sums are those of the usual tool, and it finds what was changed.
    sums = ["sha256sum", "--check", "--quiet", "assets.extra/SHA256SUMS"]
    assert subprocess.run(sums, cwd=version).returncode == 0
    assert extra.check_sums(version) == len((version / "assets.extra/SHA256SUMS").read_text().splitlines())


def test_the_graph_itself_refuses_images_of_another_size(tmp_path):
    """TensorFlow Serving leaves that to the graph, and a network that pools over all positions would answer."""
    pixels = keras.Input((8, 8, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(pixels))
    classifier = tfrobust.models.expose(keras.Model(pixels, keras.layers.Dense(3)(pooled)))
    version = export_classifier(classifier, tmp_path)
    saved = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    for node in saved.meta_graphs[0].graph_def.node:
        if node.op == "Placeholder":  # its shape is checked by Python's sessions alone
            node.attr["shape"].shape.CopyFrom(tf.TensorShape(None).as_proto())
            node.attr.pop("_output_shapes", None)
    (version / "saved_model.pb").write_bytes(saved.SerializeToString())
    for name in ("serving_default", "logits"):
        whole = session.answers(version, {name: np.zeros((1, 8, 8, 1), "float32")})
        assert whole[f"{name}/logits"].shape == (1, 3)
        for shape in ((1, 5, 5, 1), (1, 16, 16, 1), (1, 8, 8, 3), (8, 8, 1), (1, 64)):
            with pytest.raises(Refusal, match="Shape of tensor") as refusal:
                session.answers(version, {name: np.zeros(shape, "float32")})
            assert refusal.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_hashes_find_every_kind_of_change(tmp_path, make_classifier):
    version = export_classifier(make_classifier(), tmp_path)
    index = version / "variables/variables.index"
    index.write_bytes(index.read_bytes()[:-1] + b"x")
    (version / "fingerprint.pb").unlink()
    (version / "assets/more").write_text("more")
    with pytest.raises(ValueError, match="not as it was written") as error:
        extra.check_sums(version)
    for words in ("variables/variables.index was changed", "fingerprint.pb is missing", "assets/more was added"):
        assert words in str(error.value)


def test_a_session_without_keras_says_what_the_classifier_says(tmp_path, make_classifier, batch):
    classifier = small(make_classifier)
    version = export_classifier(classifier, tmp_path / "out")
    x, whole = batch[0], (255 * batch[0]).astype("uint8")
    requests = {f"serving_default/{size}": x[:size] for size in (1, 3, 20)}
    requests |= {"uint8/20": whole, "logits/20": x, "explain/20": x}
    requests["predict_bytes/20"] = np.array([tf.io.encode_png(image).numpy() for image in whole])
    answers = session.ask(version, requests)

    outputs = classifier(x, training=False)
    largest = np.abs(outputs["logits"]).max()
    of_whole = classifier(whole / np.float32(255), training=False)["logits"]
    for request in requests:
        signature, _, size = request.partition("/")
        expected = (of_whole if signature in ("uint8", "predict_bytes") else outputs["logits"])[: int(size)]
        np.testing.assert_allclose(answers[f"{request}/logits"], expected, atol=1e-5 * largest)
        if signature != "logits":
            probabilities, label = answers[f"{request}/probabilities"], answers[f"{request}/label"]
            np.testing.assert_allclose(probabilities, keras.ops.softmax(expected), atol=1e-5)
            np.testing.assert_array_equal(label, answers[f"{request}/logits"].argmax(axis=-1))
            assert label.dtype == np.int64
    assert {name for name in answers if name.startswith("logits/20/")} == {"logits/20/logits"}
    np.testing.assert_allclose(answers["explain/20/attention_fine"], outputs["attention"]["fine"], atol=1e-5)
    coarse = outputs["attention"]["coarse"]  # 2x3 positions: the corners of the upsampled map are theirs
    assert coarse.shape == (20, 2, 3)
    found = answers["explain/20/attention_coarse"]
    np.testing.assert_allclose(found[:, ::5, ::5], np.asarray(coarse)[:, ::1, ::2], atol=1e-5)
    cam = np.take_along_axis(
        np.asarray(outputs["cam"]), answers["explain/20/label"][:, None, None, None], axis=3
    )  # of one position: the same everywhere
    np.testing.assert_allclose(answers["explain/20/cam"], np.broadcast_to(cam[..., 0], (20, 6, 6)), atol=1e-5)


def test_the_same_batch_is_bit_equal_and_has_its_gradient(tmp_path, make_classifier, batch):
    classifier = make_classifier(batch_norm=True, dropout=0.3)
    loaded = tf.saved_model.load(str(export_classifier(classifier, tmp_path)))
    x = tf.constant(batch[0])

    @tf.function(autograph=False)
    def logits_and_gradient(call, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = call(x)["logits"]
            first = logits[:, 0]
        return logits, tape.gradient(first, x)

    ours = logits_and_gradient(partial(classifier, training=False), x)
    theirs = logits_and_gradient(lambda pixels: loaded.signatures["logits"](pixels=pixels), x)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-6)
    assert np.abs(ours[1]).max() > 0


def test_requests_to_warm_up_with_are_answered(tmp_path, make_classifier):
    version = export_classifier(small(make_classifier), tmp_path / "quarters")
    servable, asked = Servable(version, max_batch=8), set()
    for record in tf.data.TFRecordDataset(str(version / "assets.extra/tf_serving_warmup_requests")):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        assert request.model_spec.name == "quarters"
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        answer = servable.signature(request.model_spec.signature_name)(inputs)
        assert answer["logits"].shape == (1, 4)
        asked.add(request.model_spec.signature_name)
    assert asked == {"serving_default", "uint8", "logits", "explain", "predict_bytes"}


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((1, 6, 6, 1), np.nan, "float32"), "in \\[0, 1\\]"),
        (np.full((1, 6, 6, 1), 200, "float32"), "in \\[0, 1\\]"),
        (np.full((1, 6, 6, 1), -0.1, "float32"), "in \\[0, 1\\]"),
        (np.zeros((0, 6, 6, 1), "float32"), "empty batch"),
    ],
)
def test_what_is_no_image_is_refused_by_the_graph(signatures, pixels, words):
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        signatures["serving_default"](pixels=tf.constant(pixels))


@pytest.fixture(scope="module")
def signatures(tmp_path_factory):
    inputs = keras.Input((6, 6, 1))
    classifier = keras.Model(inputs, {"logits": keras.layers.Dense(4)(keras.layers.Flatten()(inputs))})
    loaded = tf.saved_model.load(str(export_classifier(classifier, tmp_path_factory.mktemp("plain"))))
    yield loaded.signatures
    assert "explain" not in loaded.signatures  # it has nothing to show; and the weights have to outlive the tests


def test_images_that_are_no_pictures_have_no_bytes(tmp_path):
    inputs = keras.Input((6, 6, 2))
    classifier = keras.Model(inputs, {"logits": keras.layers.Dense(4)(keras.layers.Flatten()(inputs))})
    loaded = tf.saved_model.load(str(export_classifier(classifier, tmp_path)))
    assert set(loaded.signatures) == {"serving_default", "uint8", "logits"}


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 1e-3), ("bfloat16", 5e-3)])
def test_kernels_in_16_bits_take_half_the_room(tmp_path, make_classifier, batch, precision, tolerance):
    classifier = make_classifier(batch_norm=True, classes=200)
    sizes = []
    for stored in ("float32", precision):
        version = export_classifier(classifier, tmp_path, precision=stored)
        sizes.append((version / "variables/variables.data-00000-of-00001").stat().st_size)
    loaded = tf.saved_model.load(str(version))
    logits, expected = loaded.signatures["logits"](pixels=batch[0])["logits"], classifier(batch[0])["logits"]
    assert 0 < np.abs(logits - expected).max() / np.abs(expected).max() < tolerance
    assert 0.5 < sizes[1] / sizes[0] < 0.6
    assert _card.read(version)["classifier"]["precision"] == precision


def test_nothing_of_the_optimizer_nor_anything_twice(tmp_path, make_classifier):
    classifier = make_classifier(batch_norm=True)
    classifier.compile("adam", loss={"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    version = export_classifier(classifier, tmp_path)
    kept = tf.train.list_variables(str(version / "variables/variables"))
    shapes = sorted(tuple(shape) for name, shape in kept if name.startswith("weights/"))
    assert shapes == sorted(tuple(variable.shape) for variable in classifier.variables)
    assert len(kept) == len(shapes) + 1  # what TensorFlow says of the objects


def test_an_evaluation_of_other_weights_is_refused(run, make_classifier):
    tfrobust.models.get("digits").save(run.classifier)
    with pytest.raises(ValueError, match="of another classifier"):
        export_workdir(run)
    assert not run.saved_model.exists()


def test_an_unevaluated_classifier_is_exported_on_demand_alone(run):
    run.evaluation.unlink()
    with pytest.raises(ValueError, match=r"Expected an evaluation .* or --unevaluated"):
        export_workdir(run)
    with pytest.raises(ValueError, match=r"--evaluation=FILE\.json"):
        export_model(run.classifier, run.path / "out")
    version = export_model(run.classifier, run.path / "out", data="digits", unevaluated=True)
    card = _card.read(version)
    assert "without an evaluation" in card["evaluation"] and card["training"] is None


def test_the_classifier_of_a_file_brings_its_report(run):
    version = export_model(run.classifier, run.path / "out", evaluation=run.evaluation)
    assert _card.read(version)["evaluation"]["images"] == 20


@pytest.mark.parametrize(
    ("classifier", "options", "words"),
    [
        ("digits", {"precision": "int8"}, "precision"),
        ("digits", {"facts": _card.Facts(class_names=["a", "b"])}, "expected 10. Received: 2"),
        ("any size", {}, "images of one size"),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path, classifier, options, words):
    if classifier == "any size":
        inputs = keras.Input((None, None, 1))
        pooled = keras.layers.GlobalAveragePooling2D()(inputs)
        network = keras.Model(inputs, {"logits": keras.layers.Dense(2)(pooled)})
    else:
        network = tfrobust.models.get(classifier)
    with pytest.raises(ValueError, match=words):
        export_classifier(network, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "options",
    [{"name": name} for name in tfrobust.models.names()]
    + [
        {"name": "madry_resnet", "attention": (3, 4), "head": "cosine"},
        {"name": "resnet18", "head": "cosine"},
    ],
    ids=str,
)
def test_every_network_is_served_as_it_is(tmp_path, options, precision):
    keras.utils.set_random_seed(0)
    classifier = tfrobust.models.get(options)
    rng = np.random.default_rng(0)
    for variable in classifier.non_trainable_variables:  # as after a training: not 0 and 1
        if "moving_variance" in variable.path:
            variable.assign(rng.uniform(0.5, 2, variable.shape))
    x = rng.uniform(size=(8, *classifier.input_shape[1:])).astype("float32")
    version = export_classifier(classifier, tmp_path, precision=precision)
    expected = tf.function(partial(classifier, training=False))(x)["logits"].numpy()
    largest = np.abs(expected).max()
    served = tf.saved_model.load(str(version)).signatures["serving_default"](pixels=tf.constant(x))["logits"].numpy()
    answers = session.ask(version, {"serving_default/8": x, "serving_default/3": x[:3]})
    # Kernels in 16 bits: of random weights the logits are small differences of large sums, so the probabilities count.
    if precision == "float32":
        np.testing.assert_array_equal(served, expected)
        for size in (3, 8):
            np.testing.assert_allclose(answers[f"serving_default/{size}/logits"], expected[:size], atol=1e-5 * largest)
    tolerance = TOLERANCES[precision]
    probabilities = tf.nn.softmax(expected).numpy()
    np.testing.assert_allclose(answers["serving_default/8/probabilities"], probabilities, atol=tolerance)


def test_versions_count_on(tmp_path, make_classifier):
    (tmp_path / "out" / "7").mkdir(parents=True)
    (tmp_path / "out" / "notes").mkdir()
    assert export_classifier(make_classifier(), tmp_path / "out") == tmp_path / "out" / "8"


def test_a_failed_export_leaves_nothing(tmp_path, make_classifier, monkeypatch):
    def killed(module, path, **options):
        (tmp_path / "out" / path / "variables").mkdir()
        raise OSError("disk full")

    monkeypatch.setattr(tf.saved_model, "save", killed)
    with pytest.raises(OSError, match="disk full"):
        export_classifier(make_classifier(), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_only_classifiers_are_exported(tmp_path):
    with pytest.raises(ValueError, match="expected a Keras model with named outputs"):
        export_classifier(keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()]), tmp_path)


def test_importing_the_function_defines_no_flags():
    assert not {"workdir", "model", "out"} & set(flags.FLAGS.flags_by_module_dict().get("export.savedmodel", ()))


def test_mixed_precision_serves_float32(tmp_path, make_classifier, batch):
    keras.config.set_dtype_policy("mixed_float16")
    classifier = make_classifier()
    serve = tf.saved_model.load(str(export_classifier(classifier, tmp_path))).signatures["serving_default"]
    outputs = serve(pixels=tf.constant(batch[0]))
    assert outputs["logits"].dtype == outputs["probabilities"].dtype == tf.float32
    np.testing.assert_array_equal(outputs["logits"], tf.cast(classifier(batch[0])["logits"], tf.float32))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--modle=x"], 2, "Unknown command line flag 'modle'"),
        ([], 2, "Expected one of --workdir=DIR and --model=FILE. Received: neither"),
        (["--workdir=x", "--model=y.keras"], 2, "Received: both"),
        (["--model=y.keras"], 2, "expected --out=DIR"),
        (["--workdir=x", "more"], 2, "Unexpected arguments"),
        (["--workdir=x", "--data=digits"], 2, "A run knows its data"),
        (["--workdir=nowhere"], 1, "Received: nowhere, without config.json"),
        (["--model=nowhere.keras", "--out=o"], 1, "Received: nowhere.keras, where no file is"),
        (["--model={tmp}/text.keras", "--out=o"], 1, "is not a .keras file"),
        (["--model={tmp}/weights.h5", "--out=o"], 1, "is not a .keras file"),
        (["--model={tmp}/foreign.keras", "--out=o"], 1, "Expected an evaluation"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, code, words):
    (tmp_path / "text.keras").write_text("text")
    (tmp_path / "weights.h5").write_text("text")
    foreign(tmp_path)
    done = command("-m", "export.savedmodel", *(a.format(tmp=tmp_path) for a in arguments))
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def foreign(folder):
    with zipfile.ZipFile(folder / "foreign.keras", "w") as archive:
        archive.writestr("a", "b")
    return folder / "foreign.keras"


def test_a_foreign_archive_is_a_mistake_without_traceback(run_command, tmp_path):
    given = [f"--model={foreign(tmp_path)}", f"--out={tmp_path / 'out'}", "--unevaluated"]
    code, _, error = run_command(savedmodel, *given)
    assert code == 1 and "expected a classifier saved as FILE.keras" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_help_comes_without_tensorflow():
    hidden = "import runpy, sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; sys.argv = ['x', '--help'];"
    done = command("-c", hidden + "runpy.run_module('export.savedmodel', run_name='__main__')")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--workdir" in done.stdout


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["kernel", "moving_variance"])
def test_weights_that_are_not_finite_are_not_exported(value, name, tmp_path, make_classifier):
    classifier = make_classifier(batch_norm=True)
    variable = next(v for v in classifier.variables if v.path.endswith(name))
    broken = np.array(variable)
    broken.flat[-1] = value
    variable.assign(broken)
    with pytest.raises(tfrobust.InvalidArgument, match=f"expected finite weights. Received: .* in {variable.path};"):
        export_classifier(classifier, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_killed_export_left_is_swept_and_nothing_else(tmp_path, make_classifier):
    for name in (".0a1b2c3d-1", ".mine", ".0a1b2c3d", "notes"):
        (tmp_path / name).mkdir()
    export_classifier(make_classifier(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".0a1b2c3d", ".mine", "1", "notes"]


def test_exports_to_one_folder_come_one_after_the_other(tmp_path, make_classifier):
    """A second one neither removes what the first one is writing nor takes its number."""
    classifier, second = make_classifier(), []
    with _next_version(tmp_path) as (version, beside):
        beside.mkdir()
        thread = threading.Thread(target=lambda: second.append(export_classifier(classifier, tmp_path)))
        thread.start()
        time.sleep(0.5)
        assert beside.is_dir() and not second
    thread.join(60)
    assert (version, second) == (tmp_path / "1", [tmp_path / "2"])
