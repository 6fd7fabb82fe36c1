"""Files for devices: their runtimes compute the classifier's logits, and the card has the file's own figures."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from commands import provenance
from commands.workdir import Workdir
from export import card as _card
from export import litert, onnx, savedmodel, verify
from trainers.configs import digits

interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="needs pip install tfrobust[deploy]")
onnxruntime = pytest.importorskip("onnxruntime")

FORMATS = {"litert": litert, "onnx": onnx}
NETWORKS = [
    {"name": "digits"},
    {"name": "digits", "head": "cosine"},
    {"name": "madry_resnet", "attention": (3, 4), "form": "nonlinear"},
    {"name": "madry_resnet", "attention": (4,), "form": "dot"},
    {"name": "wide_resnet", "depth": 10, "width": 1, "head": "cosine"},
    *(
        pytest.param({"name": name}, marks=pytest.mark.slow)
        for name in tfrobust.models.names()
        if name not in ("digits", "wide_resnet")
    ),
]


def images_for(classifier, count=3):
    return np.random.default_rng(0).uniform(size=(count, *classifier.input_shape[1:])).astype("float32")


def in_litert(version, pixels):
    """The logits of a file as an application computes them: without tfrobust."""
    interpreter = interpreters.Interpreter(model_path=str(version / "model.tflite"))
    (given,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], pixels.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], pixels)
    interpreter.invoke()
    return interpreter.get_tensor(output["index"])


def in_onnx_runtime(version, pixels):
    session = onnxruntime.InferenceSession(str(version / "model.onnx"))
    return session.run(["logits"], {"pixels": pixels})[0]


RUNTIMES = {"litert": in_litert, "onnx": in_onnx_runtime}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("config", NETWORKS, ids=str)
def test_every_network_converts_and_agrees(tmp_path, config, form):
    config = dict(config)
    classifier = tfrobust.models.get(config.pop("name"), **config)
    x = images_for(classifier)
    logits = classifier(x, training=False)["logits"].numpy()
    found = RUNTIMES[form](FORMATS[form].export_classifier(classifier, tmp_path), x)
    assert np.abs(found - logits).max() <= 1e-4 * np.abs(logits).max()


@pytest.mark.parametrize(
    ("precision", "share"), [("float32", 1.1), ("float16", 0.6), ("dynamic", 0.35), ("int8", 0.35)]
)
def test_a_precision_has_its_size(tmp_path, precision, share):
    classifier = tfrobust.models.get("digits")
    version = litert.export_classifier(classifier, tmp_path, precision=precision, samples=images_for(classifier, 20))
    assert (version / "model.tflite").stat().st_size <= share * 4 * classifier.count_params()


@pytest.mark.parametrize("form", FORMATS)
def test_pixels_that_are_no_fractions_get_no_label(tmp_path, make_classifier, form, batch):
    """The arithmetic has the guard: converters drop assertions."""
    x = batch[0][:4].copy()
    x[1] *= 255
    x[2, 0, 0] = np.nan
    x[3, 5, 5] = -0.01
    found = RUNTIMES[form](FORMATS[form].export_classifier(make_classifier(), tmp_path), x)
    assert np.isnan(found[1:]).all() and np.isfinite(found[0]).all()


def test_the_guard_survives_the_conversion_of_a_saved_model(tmp_path, make_classifier, batch):
    version = savedmodel.export_classifier(make_classifier(), tmp_path)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(version), signature_keys=["serving_default"])
    interpreter = interpreters.Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    outputs = interpreter.get_signature_runner("serving_default")(pixels=255 * batch[0][:1])
    assert np.isnan(outputs["probabilities"]).all() and outputs["label"].tolist() == [-1]


def test_the_converters_default_call_takes_an_export_without_pictures(tmp_path):
    classifier = tfrobust.models.get("digits")
    version = savedmodel.export_classifier(classifier, tmp_path, pictures=False)
    converted = tf.lite.TFLiteConverter.from_saved_model(str(version)).convert()
    interpreter = interpreters.Interpreter(model_content=converted)
    assert set(interpreter.get_signature_list()) == {"serving_default", "logits", "uint8", "explain"}
    x = images_for(classifier)
    found = interpreter.get_signature_runner("logits")(pixels=x)["logits"]
    np.testing.assert_allclose(found, classifier(x, training=False)["logits"], atol=1e-5)


def test_integers_take_pixels_of_8_bits_alone(tmp_path, make_classifier, batch):
    """Where the input is uint8, no pixel can be outside the range; fractions are refused by the runtime."""
    version = litert.export_classifier(make_classifier(), tmp_path, precision="int8", samples=batch[0])
    interpreter = interpreters.Interpreter(model_path=str(version / "model.tflite"))
    (given,) = interpreter.get_input_details()
    assert given["dtype"] == np.uint8 and given["quantization"] == (pytest.approx(1 / 255), 0)
    with pytest.raises(ValueError, match="UINT8"):
        in_litert(version, batch[0])


@pytest.mark.parametrize("samples", [None, np.zeros((0, 6, 6, 1), "float32"), np.zeros((2, 8, 8, 1), "float32")])
def test_integers_need_samples_of_the_right_size(tmp_path, make_classifier, samples):
    with pytest.raises(ValueError, match=r"samples: expected images \(N, 6, 6, 1\)"):
        litert.export_classifier(make_classifier(), tmp_path, precision="int8", samples=samples)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def run(tmp_path):
    """A run's folder with what the export reads: a classifier of digits and its evaluation."""
    workdir = Workdir(tmp_path / "run")
    workdir.claim(digits.get_config("standard").to_dict())
    provenance.record(workdir.provenance)
    classifier = tfrobust.models.get("digits")
    classifier.save(workdir.classifier)
    x, y = next(iter(tfrobust.data.load("digits", "test", batch_size=20)))
    options = {"eps": 0.1, "attacks": ["fgsm"], "probes": 0, "verbose": False}
    tfrobust.evaluate(classifier, (x.numpy(), y.numpy()), **options).save(workdir.evaluation)
    return workdir


@pytest.mark.slow
def test_the_card_of_a_file_has_the_files_own_figures(run, run_command):
    code, out, error = run_command(litert, f"--workdir={run.path}", "--precision=int8", "--images=30")
    assert code == 0, error
    version = run.path / "litert" / "1"
    assert out.strip().endswith(str(version))
    card = _card.read(version)
    names = [attack["name"] for attack in card["evaluation"]["attacks"]]
    assert "transfer" in names and "square" in names and card["evaluation"]["images"] == 30
    assert [attack["name"] for attack in card["classifier_evaluation"]["attacks"]] == ["fgsm"]
    assert card["classifier"]["precision"] == "int8"
    assert (version / "assets/class_names.txt").read_text().split() == [str(digit) for digit in range(10)]

    code, out, _ = run_command(verify, version.parent, "--images=100", takes="DIR")
    assert code == 0 and "FAILED" not in out and "robust accuracy, PGD-10 on the classifier" in out
    (version / "model.tflite").write_bytes(b"other")
    code, _, error = run_command(verify, version.parent, takes="DIR")
    assert code == 1 and "model.tflite was changed" in error


@pytest.mark.parametrize("form", [litert, onnx])
def test_verification_finds_another_classifier(run, run_command, form):
    version = form.export_model(run.classifier, run.path / "out", data="digits", unevaluated=True)
    given = [version, "--eps=0.1", "--images=50", f"--model={run.classifier}"]
    code, out, error = run_command(verify, *given, takes="DIR")
    assert code == 0, out + error

    classifier = keras.models.load_model(run.classifier)
    x, y = next(iter(tfrobust.data.load("digits", "test", batch_size=50)))
    moved = keras.models.clone_model(classifier)
    moved.set_weights([1.01 * weights for weights in classifier.get_weights()])
    options = {"eps": 0.1, "norm": "linf", "precision": "float32"}
    checks = verify.verify_file(version, moved, x.numpy(), y.numpy(), **options)
    assert not {check.name: check for check in checks}["logits/clean"].holds


def test_a_file_needs_data_for_its_figures(run, run_command):
    given = [f"--model={run.classifier}", f"--out={run.path / 'out'}", f"--evaluation={run.evaluation}"]
    code, _, error = run_command(litert, *given)
    assert code == 2 and "Expected --data=NAME" in error
