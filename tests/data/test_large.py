import pytest

from benchmarks import streaming


@pytest.mark.slow  # 10 minutes, and 20 GB of the disk
def test_a_folder_beyond_memory_is_trained_and_evaluated_in_little_of_it(tmp_path):
    streaming.write_pictures(tmp_path, 60_000, 96)
    found = streaming.figures_of(tmp_path, 60_000, 96)
    assert found["evaluated"] == 60_000
    assert found["training"] < 1536 and found["evaluation"] < 1536
    assert found["seconds"]["batch"] < 0.1 * found["seconds"]["step"]
