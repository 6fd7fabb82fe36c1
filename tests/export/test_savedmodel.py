"""Export: what the SavedModel says is what the classifier says, without Keras; mistakes are one line."""

import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from absl import flags

from export.savedmodel import export_classifier

SERVE = """
import sys
sys.modules["keras"] = None
sys.modules["tfrobust"] = None
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
serve = loaded.signatures["serving_default"]
print(serve.structured_input_signature[1]["pixels"])
results = {}
for size in (1, 3, 20):
    x = np.load(sys.argv[2])[:size]
    for name, value in serve(pixels=tf.constant(x)).items():
        results[f"{name}{size}"] = value.numpy()
np.savez(sys.argv[3], **results)
"""


def command(*arguments):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def test_the_command_writes_what_runs_without_keras(tmp_path, make_classifier, batch):
    classifier = make_classifier(batch_norm=True, dropout=0.3)
    classifier.save(tmp_path / "classifier.keras")
    done = command("-m", "export.savedmodel", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    version = tmp_path / "saved_model" / "1"
    assert done.stdout.strip() == str(version)
    assert [path.name for path in version.parent.iterdir()] == ["1"]  # nothing is left beside it

    x = batch[0]
    np.save(tmp_path / "x.npy", x)
    served = command("-c", SERVE, version, tmp_path / "x.npy", tmp_path / "results.npz")
    assert served.returncode == 0, served.stderr
    assert "shape=(None, 6, 6, 1), dtype=tf.float32, name='pixels'" in served.stdout
    results = np.load(tmp_path / "results.npz")
    for size in (1, 3, 20):
        logits = keras.ops.convert_to_numpy(classifier(x[:size])["logits"])
        np.testing.assert_allclose(results[f"logits{size}"], logits, atol=1e-5)
        np.testing.assert_allclose(results[f"probabilities{size}"].sum(axis=-1), np.ones(size), atol=1e-5)
        np.testing.assert_allclose(results[f"probabilities{size}"], keras.ops.softmax(logits), atol=1e-5)
        assert results[f"label{size}"].dtype == np.int64
        np.testing.assert_array_equal(results[f"label{size}"], results[f"logits{size}"].argmax(axis=-1))


def test_versions_count_on(tmp_path, make_classifier):
    (tmp_path / "out" / "7").mkdir(parents=True)
    (tmp_path / "out" / "notes").mkdir()
    assert export_classifier(make_classifier(), tmp_path / "out") == tmp_path / "out" / "8"


def test_a_failed_export_leaves_nothing(tmp_path, make_classifier, monkeypatch):
    import tensorflow as tf

    def killed(module, path, **options):
        (tmp_path / "out" / path).mkdir()
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
    import tensorflow as tf

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
        ([], 2, "expected one of --workdir=DIR and --model=FILE. Received: neither"),
        (["--workdir=x", "--model=y.keras"], 2, "Received: both"),
        (["--model=y.keras"], 2, "expected --out=DIR"),
        (["--workdir=x", "more"], 2, "Unexpected arguments"),
        (["--workdir=nowhere"], 1, "Received: nowhere/classifier.keras, where no file is"),
        (["--model={tmp}/text.keras", "--out=o"], 1, "is no .keras file"),
        (["--model={tmp}/weights.h5", "--out=o"], 1, "is no .keras file"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, code, words):
    (tmp_path / "text.keras").write_text("text")
    (tmp_path / "weights.h5").write_text("text")
    done = command("-m", "export.savedmodel", *(a.format(tmp=tmp_path) for a in arguments))
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_foreign_archive_is_a_mistake_without_traceback(tmp_path):
    with zipfile.ZipFile(tmp_path / "foreign.keras", "w") as archive:
        archive.writestr("a", "b")
    done = command("-m", "export.savedmodel", f"--model={tmp_path / 'foreign.keras'}", f"--out={tmp_path / 'out'}")
    assert done.returncode == 1
    assert "expected a classifier saved as FILE.keras" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_help_comes_without_tensorflow():
    hidden = "import runpy, sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; sys.argv = ['x', '--help'];"
    done = command("-c", hidden + "runpy.run_module('export.savedmodel', run_name='__main__')")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--workdir" in done.stdout
