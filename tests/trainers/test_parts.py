"""The files that divide an evaluation among jobs: what each job would run."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "docs" / "distributed"


@pytest.fixture
def printed(tmp_path):
    """Runs a command of bash where `python` prints its arguments: `printed(*command, **environment)` -> arguments."""
    python = tmp_path / "python"
    python.write_text('#!/bin/bash\necho "$@"\n')
    python.chmod(0o755)

    def run(*command, **environment):
        path = f"{tmp_path}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHON": str(python), **environment}
        return subprocess.run(["bash", *command], env=environment, capture_output=True, text=True, check=True).stdout

    return run


def test_a_task_of_the_array_evaluates_its_part(printed):
    script = FOLDER / "evaluate.sbatch"
    assert "#SBATCH --array=1-8\n" in script.read_text()  # from 1, as parts are counted
    out = printed(str(script), "--workdir=runs/a", "--eps=0.1", SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_TASK_COUNT="8")
    assert out == "-m trainers.evaluate --shard=3/8 --workdir=runs/a --eps=0.1\n"


def test_a_pod_of_the_job_evaluates_its_part(printed):
    job = yaml.safe_load((FOLDER / "evaluate.yaml").read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    shards = set()
    for index in range(job["completions"]):
        out = printed("-c", *container["args"], JOB_COMPLETION_INDEX=str(index))
        module, *flags = out.split()[1:]
        assert module == "trainers.evaluate" and "--workdir=/runs/trades" in flags
        shards.update(flag for flag in flags if flag.startswith("--shard"))
    assert shards == {f"--shard={k}/{job['completions']}" for k in range(1, job["completions"] + 1)}
