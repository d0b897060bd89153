"""What is prepared for a machine with a GPU runs to its end without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_the_gpu_benchmark_runs_to_its_end_on_a_cpu(tmp_path: Path) -> None:
    command = ["sh", str(PROJECT / "benchmarks" / "gpu.sh"), "--device", "cpu", "--fast", "--output", str(tmp_path)]
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    results = json.loads((tmp_path / "gpu.json").read_text())
    errors = {name: part["error"] for name, part in results["parts"].items() if part["error"]}
    assert not errors, done.stderr
    outside = [check for part in results["parts"].values() for check in part["checks"] if not check["passed"]]
    assert not outside
    assert done.returncode == 0, done.stderr
    assert {name for name, part in results["parts"].items() if part["skipped"]} == {"quick", "balanced"}
    for part in ("agreement", "memory", "speed", "paper", "tests"):
        assert results["parts"][part]["figures"]
    tables = (tmp_path / "performance-gpu.md").read_text()
    assert "| quick |" in tables
    assert "200 000 steps" in tables
