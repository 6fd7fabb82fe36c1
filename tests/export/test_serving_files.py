"""The files of export/serving: what TensorFlow Serving, compose and Kubernetes would read, and that they agree."""

import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from commands.console import COMMANDS

FOLDER = Path(__file__).resolve().parents[2] / "export" / "serving"
NAME, BASE = "classifier", "/models/classifier"

# Flags of tensorflow_model_server 2.21, of those that a file here might use.
FLAGS = {
    "port",
    "rest_api_port",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "allow_version_labels_for_unavailable_models",
    "enable_batching",
    "batching_parameters_file",
    "monitoring_config_file",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
}

# The stubs come without these messages: their fields, as in session_bundle_config.proto and monitoring_config.proto.
NUMBER, TRUTH, TEXT = (getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{t}") for t in ("INT64", "BOOL", "STRING"))
BATCHING = {
    "max_batch_size": ".google.protobuf.Int64Value",
    "batch_timeout_micros": ".google.protobuf.Int64Value",
    "max_enqueued_batches": ".google.protobuf.Int64Value",
    "num_batch_threads": ".google.protobuf.Int64Value",
    "thread_pool_name": ".google.protobuf.StringValue",
    "allowed_batch_sizes": [NUMBER],
    "pad_variable_length_inputs": TRUTH,
}
MONITORING = {"prometheus_config": ".test.PrometheusConfig"}
PROMETHEUS = {"enable": TRUTH, "path": TEXT}


@pytest.fixture(scope="module")
def messages():
    """Makes the classes of the two messages."""
    file = descriptor_pb2.FileDescriptorProto(name="test.proto", package="test", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    known = {"BatchingParameters": BATCHING, "PrometheusConfig": PROMETHEUS, "MonitoringConfig": MONITORING}
    for name, fields in known.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            made = message.field.add(name=field, number=number, label=3 if isinstance(kind, list) else 1)
            if isinstance(kind, str):
                made.type, made.type_name = made.TYPE_MESSAGE, kind
            else:
                made.type = kind[0] if isinstance(kind, list) else kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"test.{name}")) for name in known}


def model(file):
    (found,) = text_format.Parse(
        (FOLDER / file).read_text(), model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config
    assert (found.name, found.base_path, found.model_platform) == (NAME, BASE, "tensorflow")
    return found


def test_the_first_config_serves_the_latest_version():
    found = model("latest.config")
    assert not found.HasField("model_version_policy")
    assert not found.version_labels  # there is nothing yet that a label could stand for


def test_the_canary_has_both_versions_and_a_label_for_each():
    found = model("models.config")
    assert list(found.model_version_policy.specific.versions) == [1, 2]
    assert dict(found.version_labels) == {"stable": 1, "canary": 2}


def test_the_batching_parameters(messages):
    found = text_format.Parse((FOLDER / "batching.config").read_text(), messages["BatchingParameters"]())
    assert {field.name for field, _ in found.ListFields()} == {
        "max_batch_size",
        "batch_timeout_micros",
        "max_enqueued_batches",
        "num_batch_threads",
    }
    assert all(value.value > 0 for _, value in found.ListFields())
    with pytest.raises(text_format.ParseError, match="no field named"):  # a wrong name would be seen
        text_format.Parse("max_batchsize { value: 1 }", messages["BatchingParameters"]())


def test_the_metrics_are_where_prometheus_looks_for_them(messages):
    found = text_format.Parse((FOLDER / "monitoring.config").read_text(), messages["MonitoringConfig"]())
    assert found.prometheus_config.enable
    (job,) = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["metrics_path"] == found.prometheus_config.path
    (target,) = job["static_configs"][0]["targets"]
    assert target == "serving:8501" and "serving" in compose()["services"]
    pod = kubernetes()["Deployment", NAME]["spec"]["template"]
    assert pod["metadata"]["annotations"]["prometheus.io/path"] == found.prometheus_config.path


def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def kubernetes():
    documents = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


def check_flags(arguments):
    """Checks that the server knows the flags, and that the files they name are here; returns them."""
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    assert set(flags) <= FLAGS
    for name, value in flags.items():
        if name.endswith("_file"):
            assert (FOLDER / value.replace("${CONFIG:-latest.config}", "latest.config")).name in files()
    assert (flags["port"], flags["rest_api_port"]) == ("8500", "8501")
    return flags


def files():
    return {path.name for path in FOLDER.iterdir()}


def test_compose_mounts_what_the_flags_name():
    serving = compose()["services"]["serving"]
    flags = check_flags(serving["command"])
    assert flags["model_config_file"].startswith("/config/") and ".:/config:ro" in serving["volumes"]
    assert any(volume.endswith(f":{BASE}:ro") for volume in serving["volumes"])
    assert all(port.startswith("127.0.0.1:") for port in serving["ports"])
    assert not serving["image"].endswith(":latest") and ":" in serving["image"]


@pytest.mark.parametrize(("state", "healthy"), [("AVAILABLE", True), ("LOADING", False), (None, False)])
def test_the_health_check_of_compose_runs(state, healthy):
    class Status(BaseHTTPRequestHandler):
        def do_GET(self):
            body = f'{{"model_version_status": [{{"version": "1", "state": "{state}"}}]}}'.encode()
            self.send_response(200 if self.path == f"/v1/models/{NAME}" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Status)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    if state:
        thread.start()
    port = server.server_port
    try:
        if not state:
            server.server_close()
        kind, *check = compose()["services"]["serving"]["healthcheck"]["test"]
        assert kind == "CMD"
        check = [part.replace("8501", str(port)) for part in check]
        assert (subprocess.run(check, capture_output=True, timeout=10).returncode == 0) == healthy
    finally:
        if state:
            server.shutdown()
            thread.join()
            server.server_close()


def test_the_parts_of_the_manifest_find_each_other():
    parts = kubernetes()
    spec = parts["Deployment", NAME]["spec"]
    pod, labels = spec["template"]["spec"], spec["template"]["metadata"]["labels"]
    (serving,) = pod["containers"]
    check_flags(serving["args"])
    assert serving["image"] == compose()["services"]["serving"]["image"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in serving["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert serving[probe]["httpGet"] == {"path": f"/v1/models/{NAME}", "port": "rest"}
    services = [part["spec"] for (kind, _), part in parts.items() if kind == "Service"]
    assert len(services) == 2
    for service in services:
        assert service["selector"].items() <= labels.items()
        assert all(port["targetPort"] in ports for port in service["ports"])
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"]: mount["mountPath"] for mount in serving["volumeMounts"]} == {
        "versions": BASE,
        "config": "/config",
    }
    assert ("PersistentVolumeClaim", volumes["versions"]["persistentVolumeClaim"]["claimName"]) in parts
    made = f"kubectl create configmap {volumes['config']['configMap']['name']} --from-file=export/serving/"
    assert made in (FOLDER / "kubernetes.yaml").read_text()
    assert serving["resources"]["requests"] and serving["resources"]["limits"]


def test_the_guide_names_what_is_there():
    guide = FOLDER.parents[1] / "docs" / "serving.md"
    text = guide.read_text()
    links = {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    assert {Path(link).name for link in links} == files()
    assert all((guide.parent / link).is_file() for link in links)
    commands = re.findall(rf"tfrobust ({'|'.join(COMMANDS)})\b((?:[^\n`]*\\\n)*[^\n`]*)", text)
    given = {
        name: {flag for of, rest in commands if of == name for flag in re.findall(r"--(\w+)", rest)}
        for name, _ in commands
    }
    assert set(given) == {"export", "verify", "serve", "client"}
    for name, flags in given.items():
        shown = subprocess.run(
            [sys.executable, "-m", "commands", name, "--help"], capture_output=True, text=True, timeout=60
        ).stdout
        assert flags <= set(re.findall(r"--(?:\[no\])?(\w+)", shown)), name
