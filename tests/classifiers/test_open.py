"""A shipped file as a classifier: logits are the runtime's, gradients the source's, and errors say what to do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from export import litert, onnx, savedmodel
from tfrobust import classifiers
from trainers import evaluate

pytest.importorskip("ai_edge_litert.interpreter", reason="needs pip install tfrobust[deploy]")
pytest.importorskip("onnxruntime")

FORMATS = {"savedmodel": savedmodel, "litert": litert, "onnx": onnx}
QUICK = {"eps": 0.1, "probes": 0, "verbose": False}


@pytest.fixture
def trained():
    """A classifier that is right on the images of `batch`: its logits are the brightness of each quarter."""
    kernel = np.zeros((6, 6, 1, 4), "float32")
    for label in range(4):
        row, column = 3 * (label // 2), 3 * (label % 2)
        kernel[row : row + 3, column : column + 3, :, label] = 1.0
    inputs = keras.Input((6, 6, 1))
    head = keras.layers.Dense(4)
    classifier = keras.Model(inputs, {"logits": head(keras.layers.Flatten()(inputs))})
    head.set_weights([kernel.reshape(36, 4), np.zeros(4, "float32")])
    return classifier


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_has_the_classifiers_logits(tmp_path, trained, batch, form):
    FORMATS[form].export_classifier(trained, tmp_path / "model")
    opened = classifiers.open(tmp_path / "model")
    assert opened.input_shape == (None, 6, 6, 1) and opened.classes == 4
    expected = trained(batch[0], training=False)["logits"].numpy()
    np.testing.assert_allclose(opened(batch[0])["logits"], expected, atol=1e-5)
    in_graph = tf.function(lambda x: opened(x)["logits"])
    for count in (20, 3, 1):  # batches of other sizes
        np.testing.assert_allclose(in_graph(batch[0][:count]), expected[:count], atol=1e-5)


def test_a_keras_file_is_the_model_itself(tmp_path, trained, batch):
    trained.save(tmp_path / "classifier.keras")
    opened = classifiers.open(tmp_path / "classifier.keras")
    assert isinstance(opened, keras.Model) and classifiers.digest(opened) == classifiers.digest(trained)


def test_gradients_are_those_of_the_source_at_the_logits_of_the_file(tmp_path, trained, batch):
    samples = batch[0]
    version = litert.export_classifier(trained, tmp_path, precision="int8", samples=samples)
    alone, sourced = classifiers.open(version), classifiers.open(version, source=trained)
    np.testing.assert_array_equal(alone(samples)["logits"], sourced(samples)["logits"])

    def gradient(classify):
        x = tf.constant(samples)
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = tf.cast(classify(x)["logits"], tf.float32)[:, 0]
        return tape.gradient(logits, x, unconnected_gradients="zero").numpy()

    assert not gradient(alone).any()
    np.testing.assert_allclose(gradient(sourced), gradient(trained), atol=1e-6)


def test_an_evaluation_takes_the_suite_for_files_and_says_so(tmp_path, trained, batch):
    opened = classifiers.open(onnx.export_classifier(trained, tmp_path))
    few = (batch[0][:4], batch[1][:4])
    report = tfrobust.evaluate(opened, few, **QUICK)
    assert [attack.name for attack in report.attacks] == ["square", "hop_skip_jump"]
    assert any("has no gradients of its own: the suite is 'shipped'" in note for note in report.notes)
    assert any("source=classifier" in note for note in report.notes)
    assert report.clean_accuracy == 1.0 and report.classifier == opened.digest


@pytest.mark.slow
def test_attacks_on_the_source_find_at_least_as_much(tmp_path, trained, batch):
    version = onnx.export_classifier(trained, tmp_path)
    alone = tfrobust.evaluate(classifiers.open(version), batch, **QUICK)
    full = tfrobust.evaluate(classifiers.open(version, source=trained), batch, **QUICK)
    assert [attack.name for attack in full.attacks][:2] == ["transfer", "apgd_ce"]
    assert full.robust_accuracy <= alone.robust_accuracy
    # The file is the float network itself: nothing is lost against attacks on that one.
    assert full.robust_accuracy <= tfrobust.evaluate(trained, batch, **QUICK).robust_accuracy


def test_a_state_belongs_to_one_file_and_its_source(tmp_path, trained, batch):
    few, state = (batch[0][:4], batch[1][:4]), tmp_path / "evaluation.state"

    def resumed(classifier):
        return tfrobust.evaluate(classifier, few, **QUICK, attacks="fgsm", state=state)

    file = onnx.export_classifier(trained, tmp_path / "first")
    assert resumed(classifiers.open(file)).robust_accuracy == resumed(classifiers.open(file)).robust_accuracy
    with pytest.raises(ValueError, match=r"another evaluation.*classifier"):
        resumed(classifiers.open(file, source=trained))
    kernel, bias = trained.get_weights()
    trained.set_weights([1.001 * kernel, bias])  # the same predictions
    with pytest.raises(ValueError, match=r"another evaluation.*classifier"):
        resumed(classifiers.open(onnx.export_classifier(trained, tmp_path / "second")))


def test_a_saved_model_has_its_own_gradients(tmp_path, trained, batch):
    report = tfrobust.evaluate(classifiers.open(savedmodel.export_classifier(trained, tmp_path)), batch, **QUICK)
    assert [attack.name for attack in report.attacks] == ["pgd", "cw_linf"]
    assert report.robust_accuracy == tfrobust.evaluate(trained, batch, **QUICK).robust_accuracy


def linear_onnx(path, kernel, shape):
    """Writes a file as PyTorch has it: images (B, C, H, W), names of its own."""
    onnx_library = pytest.importorskip("onnx")
    helper = onnx_library.helper
    inputs = helper.make_tensor_value_info("input", onnx_library.TensorProto.FLOAT, ["batch", *shape])
    outputs = helper.make_tensor_value_info("output", onnx_library.TensorProto.FLOAT, ["batch", kernel.shape[-1]])
    weights = onnx_library.numpy_helper.from_array(kernel, "kernel")
    flat = helper.make_node("Flatten", ["input"], ["flat"])
    product = helper.make_node("MatMul", ["flat", "kernel"], ["output"])
    graph = helper.make_graph([flat, product], "linear", [inputs], [outputs], [weights])
    opset = helper.make_opsetid("", 17)
    onnx_library.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def test_images_of_another_order_are_transposed(tmp_path):
    kernel = np.random.default_rng(0).normal(size=(48, 5)).astype("float32")
    linear_onnx(tmp_path / "model.onnx", kernel, (3, 4, 4))
    opened = classifiers.open(tmp_path / "model.onnx")
    assert opened.input_shape == (None, 4, 4, 3)
    x = np.random.default_rng(1).uniform(size=(2, 4, 4, 3)).astype("float32")
    expected = x.transpose(0, 3, 1, 2).reshape(2, -1) @ kernel
    np.testing.assert_allclose(opened(x)["logits"], expected, rtol=1e-5)


@pytest.mark.parametrize("pixel", [np.nan, -0.01, 1.01, 255.0])
def test_pixels_that_no_integer_stands_for_get_no_label(tmp_path, trained, batch, pixel):
    """They would be clipped to another image, or wrapped around: a label of that image is not an answer."""
    x = batch[0][:3].copy()
    x[1, 2, 3] = pixel
    version = litert.export_classifier(trained, tmp_path / "int8", precision="int8", samples=batch[0])
    found = classifiers.open(version)(x)["logits"].numpy()
    assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2]]).all()


def test_probabilities_of_a_foreign_file_become_logits(tmp_path, trained, batch):
    softmax = keras.Model(trained.input, keras.layers.Softmax()(trained.output["logits"]))
    converted = tf.lite.TFLiteConverter.from_keras_model(softmax).convert()
    (tmp_path / "foreign.tflite").write_bytes(converted)
    found = classifiers.open(tmp_path / "foreign.tflite")(batch[0])["logits"]
    np.testing.assert_allclose(tf.nn.softmax(found), softmax(batch[0]), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("nothing.tflite", None, FileNotFoundError, "where nothing is"),
        ("empty", "folder", FileNotFoundError, "saved_model.pb or model.tflite or model.onnx"),
        ("model.h5", b"x", ValueError, "expected one that ends in .keras, .pb, .tflite, .onnx"),
        ("model.tflite", b"x" * 100, ValueError, "expected one of LiteRT"),
        ("model.onnx", b"x" * 100, ValueError, "expected one of ONNX"),
    ],
)
def test_a_file_that_is_no_classifier_is_refused(tmp_path, name, content, error, words):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=words):
        classifiers.open(path)


def test_a_source_of_another_shape_is_refused(tmp_path, trained, make_classifier):
    version = litert.export_classifier(trained, tmp_path)
    with pytest.raises(ValueError, match=r"source: expected a classifier of the same"):
        classifiers.open(version, source=make_classifier(classes=5))
    with pytest.raises(ValueError, match="expected a Keras model with named outputs"):
        classifiers.open(version, source=keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten()]))


def test_images_of_another_size_are_refused(tmp_path, trained):
    opened = classifiers.open(onnx.export_classifier(trained, tmp_path))
    with pytest.raises(ValueError, match=r"images for .*: expected shape \(batch, 6, 6, 1\)"):
        opened(np.zeros((2, 8, 8, 1), "float32"))


@pytest.mark.parametrize("address", ["grpc://127.0.0.1:1", "http://127.0.0.1:1/a/b/c", "ftp://127.0.0.1:1/model"])
def test_an_address_that_names_no_model_is_refused(address):
    with pytest.raises(ValueError, match="Invalid server"):
        classifiers.open(address)


def test_a_server_that_is_down_is_one_sentence():
    with pytest.raises(OSError, match="expected a server there"):
        classifiers.open("http://127.0.0.1:9/model", timeout=2)


def test_the_command_evaluates_a_file(tmp_path, run_command):
    classifier = tfrobust.models.get("digits")
    classifier.save(tmp_path / "classifier.keras")
    version = onnx.export_classifier(classifier, tmp_path / "onnx")
    given = [f"--model={version / 'model.onnx'}", "--data=digits", "--eps=0.1", "--images=10", "--probes=0"]
    output = tmp_path / "file.json"
    code, _, error = run_command(evaluate, *given, "--attacks=transfer,square", f"--output={output}")
    assert code == 1 and "sources" in error  # an attack that needs more than the file

    code, _, error = run_command(evaluate, *given, "--attacks=fgsm", f"--output={output}")
    assert code == 0, error
    report = tfrobust.Report.load(output)
    assert report.classifier == classifiers.open(version).digest and report.images == 10
    assert report.robust_accuracy == report.clean_accuracy  # a gradient of zero changes nothing

    follows = [*given, "--attacks=fgsm", f"--source={tmp_path / 'classifier.keras'}"]
    code, _, error = run_command(evaluate, *follows, f"--output={tmp_path / 'follows.json'}")
    assert code == 0, error
    assert tfrobust.Report.load(tmp_path / "follows.json").robust_accuracy <= report.robust_accuracy

    keras_file = [f"--model={tmp_path / 'classifier.keras'}", "--data=digits", "--eps=0.1", "--source=other.keras"]
    assert run_command(evaluate, *keras_file)[::2] == (
        2,
        f"Expected --source beside a --model of another format. Received: {keras_file[0]}\n",
    )
