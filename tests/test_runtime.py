"""medtrain.runtime: what a process runs, its rank, and a cluster that is looked at before work begins."""

import os
import subprocess
import sys

import pytest
import torch

from medtrain import plugins, runtime
from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store


def test_report_names_versions_and_plug_ins() -> None:
    report = runtime.report()
    assert report["medtrain"] == [__import__("medtrain").__version__]
    assert report["ray"] != ["absent"]
    assert report["package plug-ins"] == plugins.names(plugins.PACKAGE)


def test_every_reported_package_is_a_dependency() -> None:
    assert [name for name, version in runtime.report().items() if version == ["absent"]] == []


@pytest.mark.parametrize(
    ("settings", "field"), [({"workers": 0}, "workers"), ({"cpus_per_worker": 0}, "cpus_per_worker")]
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, int], field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field}=0"):
        parse(RuntimeConfig, settings)


def test_rank_and_world_outside_and_inside_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (runtime.rank(), runtime.world_size()) == (0, 1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert (runtime.rank(), runtime.world_size()) == (1, 3)


def test_threads_follow_the_reserved_cores() -> None:
    before = torch.get_num_threads()
    try:
        runtime.set_threads(0.5)
        assert torch.get_num_threads() == 1
        runtime.set_threads(2.0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_cluster_runs_what_the_driver_runs(
    ray_cluster: None, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime.connect()
    runtime.check_cluster(store)
    said = capsys.readouterr().out
    assert "workers: 1 node(s) run medtrain" in said
    assert store.files() == [], "the nonce is left behind"
    assert not runtime.wants_gpu(RuntimeConfig(use_gpu=False))


def test_a_node_with_another_version_is_named(ray_cluster: None, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtrain.__version__", "9.9.9")
    with pytest.raises(ConfigError, match=r"node .*: runs medtrain .* \(driver: 9\.9\.9\)"):
        runtime.check_cluster(store)
    assert store.files() == []


def test_deepspeed_is_imported_without_mlflow_which_stays_importable() -> None:
    look = "import sys; from medtrain import runtime\nwith runtime.importing():\n    import deepspeed\n"
    look += "print('mlflow' in sys.modules)\nimport mlflow\nprint(mlflow.__name__)"
    there = {**os.environ, "PYTHONPATH": str(plugins.PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, env=there)
    assert done.stdout.splitlines()[-2:] == ["False", "mlflow"]


def test_deterministic_kernels_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    cuda = torch.backends.cuda
    try:
        runtime.be_deterministic()
        assert torch.are_deterministic_algorithms_enabled() and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert not cuda.mem_efficient_sdp_enabled() and not cuda.cudnn_sdp_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        cuda.enable_mem_efficient_sdp(True)
        cuda.enable_cudnn_sdp(True)


def test_float32_products_of_a_gpu_alone_are_cut() -> None:
    before, factor = torch.backends.cuda.matmul.fp32_precision, torch.tensor([[1 + 2**-20]])
    try:
        runtime.multiply_in_tf32()
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert (factor @ torch.ones(1, 1)).item() == 1 + 2**-20
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
