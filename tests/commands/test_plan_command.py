import json
from pathlib import Path

import pytest
from small_work import TINY, Command, write_photos

from realsr.api.training_plan import count_cache
from realsr.config.composition import load_config
from realsr.data.cache import cache_pairs
from realsr.data.pairs import list_pairs


def test_a_plan_needs_no_photos_and_trains_nothing(command: Command, tmp_path: Path) -> None:
    outcome = command("plan", "+track=dped", *TINY, "rate=10", "output=new/plan.json")
    assert outcome.code == 0, outcome.log
    for part in ("parameters: generator ", "memory in fp32: ", "unknown", "A100", "rate=10 images"):
        assert part in outcome.log
    values = json.loads((tmp_path / "new" / "plan.json").read_text())
    assert values["costs"]["fp32"]["parameters"]["generator"] > 0
    assert values["memory"]["fp32"] > 0
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "plan.json"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("output=plan.txt", "output=plan.txt: expected the name of a JSON file"),
        ("trainer.crop=30", "trainer.crop=30: expected a multiple of scale=4"),
        ("utilisation=2", "utilisation=2"),
    ],
)
def test_wrong_values_are_refused(command: Command, argument: str, message: str) -> None:
    outcome = command("plan", "+track=dped", *TINY, argument)
    assert outcome.code == 1
    assert message in outcome.log


def test_the_cache_has_the_planned_size(command: Command, tmp_path: Path) -> None:
    source = write_photos(tmp_path / "photos", "abc", (97, 75))
    target = write_photos(tmp_path / "clean", "xy", (49, 66))
    arguments = ["+track=df2k", f"data.source={source}", f"data.target={target}"]
    config = load_config("plan", [*arguments, f"work_dir={tmp_path / 'work'}"])
    before = count_cache(config)
    assert command("make_pairs", *arguments, f"work_dir={tmp_path / 'work'}").code == 0
    pairs = list_pairs(config.pairs_dir, 4)
    images = cache_pairs(tmp_path / "cache", pairs)
    size = sum(lr.nbytes + hr.nbytes for lr, hr in (images[n] for n in range(len(pairs))))
    assert before == count_cache(config) == size
