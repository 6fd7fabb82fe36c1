"""The training step, side by side with others in one run: `python -m benchmarks.training [--peers=torch,art]`.

Steps of Madry and TRADES and PGD alone over their floor of gradients, with searches or all of it in bfloat16; a PyTorch
loop of the same network, plain, with channels last, autocast and `torch.compile`; ART's trainer on the Keras network;
one and two logical devices on the same cores; peak memory of a step; the input pipeline's share of it; the operations
that take its time. Steps in bfloat16 are measured where the machine has units for it, or where --peers names them.
Absolute times of different machines or runs mean nothing: the functions that are compared take turns in one process,
and every ratio is of medians.

Writes --out; `--write=FILE.md` measures nothing and puts the tables of --out into a document, between its two marks.
"""

import collections
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import tfrobust
from benchmarks import documents
from benchmarks.floor import LEARNING_RATE, Floor, medians
from benchmarks.steps import LIBRARIES, Bench, Ours, Settings, first_losses
from benchmarks.subprocesses import isolated
from commands import cli
from tfrobust.training.precision import has_units

METHODS = ("madry", "trades")
# Greatest relative difference of the first losses where the method is the same: ten times the effect of rounding. The
# first loss depends on search and loss, the next ones on the update too.
SAME = 0.005
SAME_IN_BFLOAT16 = 0.2  # TRADES' divergence near an image is a difference of nearly equal numbers
STEPS_OF_FIT = 3
BEGIN = "<!-- figures: python -m benchmarks.training -->"


def define_flags() -> None:
    """Defines the flags of the command."""
    usual = Settings()
    flags.DEFINE_integer("batch_size", usual.batch_size, "Images of a batch.", lower_bound=2)
    flags.DEFINE_integer("image_size", usual.image_size, "Height and width of an image, in pixels.", lower_bound=8)
    flags.DEFINE_integer("repeats", usual.repeats, "Number of measurements of each function.", lower_bound=1)
    flags.DEFINE_integer("threads", 0, "Threads of each library; 0: as many as cores may be used.", lower_bound=0)
    usable = [name for name, library in LIBRARIES.items() if has_units() or not library.bfloat16]
    flags.DEFINE_list("peers", usable[1:], f"Which others of {', '.join(list(LIBRARIES)[1:])}; may be empty.")
    documents.define_flags("training")


def bench_of(settings: Settings) -> Bench:
    """Returns the batch, in a process that uses as many threads as the settings say."""
    tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
    tf.config.threading.set_inter_op_parallelism_threads(settings.threads)
    return Bench(settings)


def unbuilt(settings: Settings, peer: str) -> str:
    """Returns why a compiled peer does not take a step on this machine; "" if it does."""
    try:
        LIBRARIES[peer](bench_of(settings), "madry").step()
    except Exception as error:  # a compiler that is missing or fails has many errors
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".replace("|", "/")
    return ""


def differences(settings: Settings) -> dict[str, list[float]]:
    """Returns the distance of the others' first losses from ours, relative to our greatest one; refuses a large one."""
    bench, found = bench_of(settings), {}
    bench.learn()
    ours = {method: np.array(first_losses("tfrobust", bench, method)) for method in METHODS}
    for peer in settings.peers:
        for method in LIBRARIES[peer].methods:
            theirs = np.array(first_losses(peer, bench, method))
            apart = np.abs(theirs - ours[method]) / np.max(ours[method])
            same = SAME_IN_BFLOAT16 if LIBRARIES[peer].bfloat16 else SAME
            if not np.all(apart <= same):
                raise ValueError(
                    f"{peer} does not take the same step of {method}: expected losses within {same} (relatively) of "
                    f"{ours[method].tolist()}. Received: {theirs.tolist()}"
                )
            found[f"{peer} {method}"] = apart.tolist()
    return found


def steps(settings: Settings) -> dict[str, dict[str, float]]:
    """Returns the seconds of every step and search, of the parts of their floors, and of their floors."""
    bench = bench_of(settings)
    x, y = tf.constant(bench.x), tf.constant(bench.y)
    functions: dict[str, Callable[[], Any]] = dict(Floor(bench.classifier(), x, y).functions)
    for library in ("tfrobust", *settings.peers):
        made = {method: LIBRARIES[library](bench, method) for method in LIBRARIES[library].methods}
        functions.update({f"{library} {method}": side.step for method, side in made.items()})
        functions[f"{library} pgd"] = made["madry"].search
    seconds = medians(functions, settings.repeats)
    floors = {
        method: Floor.of(tfrobust.objectives.get(method), bench.attack(), seconds, bench.classifier())
        for method in METHODS
    }
    return {"seconds": seconds, "floors": {**floors, "pgd": settings.steps * seconds["gradients_10"] / 10}}


def scaling(settings: Settings) -> dict[str, float]:
    """Returns the seconds of a step of `fit` on one device and on two that share the same cores."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    bench = bench_of(settings)
    both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def fitted(strategy: Any) -> Callable[[], Any]:
        with strategy.scope():
            trainer = tfrobust.AdversarialTrainer(bench.classifier(), "madry", bench.attack())
            trainer.compile(keras.optimizers.SGD(LEARNING_RATE, momentum=0.9))
        data = tf.data.Dataset.from_tensors((bench.x, bench.y)).repeat(STEPS_OF_FIT)
        return lambda: trainer.fit(data, verbose=0)

    with warnings.catch_warnings(action="ignore"):  # advice on how to train
        seconds = medians({"1": fitted(tf.distribute.get_strategy()), "2": fitted(both)}, settings.repeats)
    return {devices: value / STEPS_OF_FIT for devices, value in seconds.items()}


def memory(settings: Settings, library: str, method: str) -> float | None:
    """Returns the greatest growth of the process, in MB, in its first three steps, tracing included."""
    side = LIBRARIES[library](bench_of(settings), method)
    return documents.growth(lambda: [side.step() for _ in range(3)])


def pipeline(settings: Settings) -> float:
    """Returns the seconds that `tfrobust.data` takes for one batch, cropped and mirrored, while nothing else runs."""
    bench_of(settings)
    shape = (100 * settings.batch_size, settings.image_size, settings.image_size, 3)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npz"
        images, labels = rng.integers(0, 256, shape, "uint8"), rng.integers(0, 10, shape[0])
        np.savez(file, x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
        augment = {"pad": 4, "flip": True}
        data = tfrobust.data.load(
            f"npz:{file}", "train", batch_size=settings.batch_size, validation=0.0, augment=augment
        )
    return medians({"pass": lambda: [None for _ in data]}, settings.repeats)["pass"] / len(data)


def profile(settings: Settings) -> dict[str, float]:
    """Returns the share of time of each kind of operation in Madry's step, the greatest first."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    step = Ours(bench_of(settings), "madry").step
    step()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            step()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    spent: collections.Counter[str] = collections.Counter()
    for plane, line in ((each, line) for each in space.planes for line in each.lines):
        for event in line.events if line.name.startswith("tf_Compute") else ():
            kind = plane.event_metadata[event.metadata_id].name.partition(":")[2]  # an operation is named "name:kind"
            if kind.isidentifier():  # other events are the executor's own
                spent[kind] += event.duration_ps
    return {kind: value / spent.total() for kind, value in spent.most_common(8)}


def measured() -> dict[str, Any]:
    """Returns all figures of a run and their origin."""
    settings = settings_of(flags.FLAGS)
    compiled = [peer for peer in settings.peers if getattr(LIBRARIES[peer], "compiled", False)]
    failed = {peer: reason for peer in compiled if (reason := isolated(unbuilt, settings, peer))}
    settings = settings._replace(peers=tuple(peer for peer in settings.peers if peer not in failed))
    results = {
        **documents.origin("benchmarks.training"),
        "settings": settings._asdict(),
        "unbuilt": failed,
        "differences": isolated(differences, settings),
        **isolated(steps, settings),
        "scaling": isolated(scaling, settings),
        "pipeline": isolated(pipeline, settings),
        "profile": isolated(profile, settings),
    }
    for name in sorted({LIBRARIES[peer].module for peer in settings.peers}):
        results["versions"][name] = importlib.import_module(name).__version__
    if Path("/proc/self/clear_refs").exists():  # Linux
        libraries = ("tfrobust", *settings.peers)
        pairs = [("tfrobust", "standard"), *((name, m) for name in libraries for m in LIBRARIES[name].methods)]
        results["memory"] = {f"{name} {m}": isolated(memory, settings, name, m) for name, m in pairs}
    return results


TITLES = {
    "madry": "Madry, PGD-{steps}",
    "trades": "TRADES, PGD-{steps}",
    "pgd": "PGD-{steps} alone",
    "standard": "without an attack",
    "tfrobust": "tfrobust",
    "tfrobust_search_bfloat16": "tfrobust, searches in bfloat16",
    "tfrobust_mixed_bfloat16": "tfrobust, all in bfloat16 (Keras' mixed policy)",
    "torch": "PyTorch loop",
    "torch_channels_last": "PyTorch loop, channels last",
    "torch_autocast": "PyTorch loop, channels last, autocast to bfloat16",
    "torch_compile": "PyTorch loop, channels last, compiled",
    "torch_compile_autocast": "PyTorch loop, channels last, compiled, autocast to bfloat16",
    "art": "ART",
}


def tables(results: Mapping[str, Any]) -> str:
    """Returns a run's figures in Markdown."""
    settings = results["settings"]
    kinds = ", ".join(f"{kind} {100 * value:.0f} %" for kind, value in results["profile"].items())
    size = settings["image_size"]
    described = (
        f"batches of {settings['batch_size']} images of {size}x{size}x3, medians of {settings['repeats']}, "
        f"{settings['threads']} threads for all; "
    )
    parts = (
        _table_of_steps(results),
        documents.table(("what else", "measured"), _others(results)),
        f"Where Madry's step spends its time: {kinds}.",
        documents.signature(results, described),
    )
    return "\n\n".join(parts)


def _table_of_steps(results: Mapping[str, Any]) -> str:
    settings, seconds = results["settings"], results["seconds"]
    lines = ["| step | | ms | images/s | over the floor | tfrobust is faster |", "|---|---|---|---|---|---|"]
    for case, floor in results["floors"].items():
        title = TITLES[case].format(**settings)
        lines.append(f"| {title} | floor | {1000 * floor:.0f} | {settings['batch_size'] / floor:.1f} | 1 | |")
        for name in LIBRARIES:
            if value := seconds.get(f"{name} {case}"):
                ours = LIBRARIES[name].module == "tfrobust"
                faster = "" if ours else f"{value / seconds[f'tfrobust {case}']:.2f} times"
                rate = settings["batch_size"] / value
                ratio = f"{value / floor:.3f}"
                lines.append(f"| {title} | {TITLES[name]} | {1000 * value:.0f} | {rate:.1f} | {ratio} | {faster} |")
            elif reason := results.get("unbuilt", {}).get(name):
                lines.append(f"| {title} | {TITLES[name]} | | | | does not build here: {reason} |")
    return "\n".join(lines)


def _fastest(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields how much faster the fastest step of this library is than the fastest one of PyTorch, in one line each."""
    for case in results["floors"]:
        times = {name: results["seconds"].get(f"{name} {case}") for name in LIBRARIES}
        of = {
            module: min((value, name) for name, value in times.items() if value and LIBRARIES[name].module == module)
            for module in {LIBRARIES[name].module for name, value in times.items() if value}
        }
        if "torch" in of:
            (theirs, peer), (ours, own) = of["torch"], of["tfrobust"]
            title = TITLES[case].format(**results["settings"])
            yield f"{title}: the fastest of PyTorch ({TITLES[peer]}) over {TITLES[own]}", f"{theirs / ours:.2f} times"


def _others(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _fastest(results)
    one, two = results["scaling"]["1"], results["scaling"]["2"]
    yield "throughput of 2 logical devices over that of 1, on the same cores", f"{one / two:.3f}"
    yield "a batch of the input pipeline, cropped and mirrored", f"{1000 * results['pipeline']:.2f} ms"
    share = results["pipeline"] / results["seconds"]["tfrobust madry"]
    yield "its share of Madry's step", f"{100 * share:.2f} %"
    for case, megabytes in results.get("memory", {}).items():
        name, method = case.split()
        title = TITLES[method].format(**results["settings"])
        yield f"growth of the process in a step: {title}, {TITLES[name]}", f"{megabytes:.0f} MB"
    if apart := list(results["differences"].values()):
        worst = [f"{100 * max(values):.3f}" for values in zip(*apart, strict=True)]
        yield f"losses of the others' first {len(worst)} steps, away from ours at most by", f"{', '.join(worst)} %"


def settings_of(values: flags.FlagValues) -> Settings:
    """Returns the settings that the flags give; raises `Misuse` if a library is unknown or not installed."""
    known = [name for name in LIBRARIES if name != "tfrobust"]
    for peer in values.peers:
        if peer not in known:
            raise cli.Misuse(f"Invalid value for --peers: expected some of {', '.join(known)}. Received: {peer}")
        if importlib.util.find_spec(module := LIBRARIES[peer].module) is None:
            raise cli.Misuse(
                f"{module} is not installed: expected pip install 'tfrobust[peers]', or --peers= for none. "
                f"Received: --peers={','.join(values.peers)}"
            )
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Settings(values.batch_size, values.image_size, values.repeats, values.threads or usable, tuple(values.peers))


if __name__ == "__main__":
    cli.run(lambda _: documents.publish(BEGIN, measured, tables), define_flags)
