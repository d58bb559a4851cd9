import pytest
import torch

from realsr.core import memory

CPU = torch.device("cpu")


@pytest.fixture
def system(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    return tmp_path


def test_a_system_that_does_not_tell(system):
    assert memory.free_memory(CPU) is None
    (system / "meminfo").write_text("something else\n")
    assert memory.free_memory(CPU) is None


@pytest.mark.parametrize(
    ("limit", "free"), [(None, 2**30), ("max", 2**30), ("900000000", 800000000), ("5", 0)]
)
def test_the_job_may_have_less_than_the_machine(system, limit, free):
    (system / "meminfo").write_text("MemTotal:  9999999 kB\nMemAvailable:    1048576 kB\n")
    if limit:
        (system / "memory.max").write_text(f"{limit}\n")
        (system / "memory.current").write_text("100000000\n")
    assert memory.free_memory(CPU) == free
