"""Hostile manifests: items and inputs that name files outside the folder, and invalid manifests.

Each replaces a real manifest. The stage is run with overwrite=true, which deletes the listed files,
and without, which reuses them.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from judge import Failure, compare_folders, judge_run
from scenes import ARGUMENTS, PHOTOS, RUN, STAGE, Scenes
from sites import Site
from trials import Trial, Verdict

Edit = Callable[[Site, Path, dict[str, Any]], None]
DEPTH = 100_000


@dataclass(frozen=True)
class Stage:
    """A stage whose manifest is replaced.

    scene: what its folder holds before. folder: where its manifest is; section: its name in there. prepare: what is
    run first, where the scene has no such section. item: the item whose files are named. config: what is another
    setting than the manifest's, so that overwrite=true deletes.
    """

    name: str
    scene: str
    command: str
    arguments: tuple[str, ...]
    folder: str
    section: str
    config: str
    prepare: bool = False


STAGES = (
    Stage("kernels", "kernels", "estimate_kernels", ARGUMENTS["estimate_kernels"], "work/pool", "kernels", "seed=1"),
    Stage("gaussian", "pairs", "estimate_kernels",
          (*PHOTOS, "pool=gaussian", "pool.estimator.count=3", "pool_dir=work/gaussian"),
          "work/gaussian", "kernels", "seed=1", prepare=True),
    Stage("noise", "noise", "collect_noise", ARGUMENTS["collect_noise"], "work/pool", "noise", "noise.max_variance=26"),
    Stage("pairs", "pairs", "make_pairs", PHOTOS, "work/pairs", "pairs", "seed=1"),
    Stage("rebuild", "pairs", "rebuild_pair", (*ARGUMENTS["rebuild_pair"], "pair=a"), "work/pairs", "pairs", "seed=1"),
    Stage("train", "train", "train", STAGE, RUN, "training", "seed=1"),
)  # fmt: skip


def hostile_names(site: Site, folder: Path) -> dict[str, str]:
    """Return names that lead out of a stage's folder, or nowhere, by kind."""
    up = "../" * len(folder.relative_to(site.here).parts)
    return {
        "parent": f"{up}sentinel.txt",
        "work_dir": "../" * (len(folder.relative_to(site.here).parts) - 1) + "sentinel.txt",
        "absolute": str(site.root / "outside" / "sentinel.txt"),
        "through": f"a/../{up}../outside/sentinel.txt",
        "home": f"{up}../home/sentinel.txt",
        "file link": "link.txt",
        "folder link": "linked/sentinel.txt",
        "NUL": "a\0b.png",
        "empty": "",
        "dot": ".",
        "long": "x" * 5000,
    }


HOSTILE = (
    "parent", "work_dir", "absolute", "through", "home", "file link", "folder link", "NUL", "empty", "dot", "long",
)  # fmt: skip
PLACES = ("items", "inputs", "shard")
LISTING = (
    "item",
    "file",
    "size",
    "nested",
    "section",
)  # invalid manifests that affect deletion
READ = ("kernel", "photo")  # files that rebuild_pair reads by the name in an item


def broken_manifests() -> dict[str, Callable[[dict[str, Any], str], bytes]]:
    """Return functions that make invalid manifests of a manifest and its section, by name."""

    def change(edit: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any], str], bytes]:
        def make(manifest: dict[str, Any], section: str) -> bytes:
            edit(manifest[section])
            return json.dumps(manifest).encode()

        return make

    def of_item(edit: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any], str], bytes]:
        return change(lambda section: edit(next(iter(section["items"].values()))))

    def of_file(edit: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any], str], bytes]:
        return of_item(
            lambda item: edit(
                item["files"].setdefault(next(iter(item["files"]), "x.png"), {"size": 1})
            )
        )

    deep = b'{"kernels": ' + b"[" * DEPTH + b"]" * DEPTH + b"}"
    return {
        "empty": lambda manifest, section: b"",
        "zeros": lambda manifest, section: bytes(len(json.dumps(manifest))),
        "half": lambda manifest, section: json.dumps(manifest).encode()[
            : len(json.dumps(manifest)) // 2
        ],
        "not UTF-8": lambda manifest, section: b'{"\xff\xfe": 1}',
        "nested": lambda manifest, section: deep,
        "nested items": change(lambda section: section.update(items=_nest(900))),
        "list": lambda manifest, section: b"[]",
        "number": lambda manifest, section: b"7",
        "null": lambda manifest, section: b"null",
        "section a list": lambda manifest, section: json.dumps(manifest | {section: []}).encode(),
        "section null": lambda manifest, section: json.dumps(manifest | {section: None}).encode(),
        "items a list": change(lambda section: section.update(items=list(section["items"]))),
        "items null": change(lambda section: section.update(items=None)),
        "item null": change(lambda section: section["items"].update(a=None)),
        "inputs a list": change(lambda section: section.update(inputs=[])),
        "input a number": change(
            lambda section: section["inputs"].update(dict.fromkeys(section["inputs"], 5))
        ),
        "notes a string": change(lambda section: section.update(notes="x")),
        "config a list": change(lambda section: section.update(config=[1])),
        "complete a string": change(lambda section: section.update(complete="no")),
        "files a string": of_item(lambda item: item.update(files="x.png")),
        "files missing": of_item(lambda item: item.pop("files")),
        "size a string": of_file(lambda file: file.update(size="12")),
        "size negative": of_file(lambda file: file.update(size=-1)),
        "size a list": of_file(lambda file: file.update(size=[1])),
        "sha256 a number": of_file(lambda file: file.update(sha256=5)),
        "sha256 missing": of_file(lambda file: file.pop("sha256", None)),
        "unknown keys": change(lambda section: section.update(later_version={"a": 1})),
    }


def list_trials(scenes: Scenes) -> list[Trial]:
    """Return a trial for each stage, kind of manifest, and way of running the stage."""
    trials = []
    selection = scenes.choose([stage.name for stage in STAGES])
    stages = [stage for stage in STAGES if stage.name in selection]
    for stage in stages:
        for mode in ("again", "overwrite"):
            if stage.name == "rebuild" and mode == "overwrite":
                continue
            # One pair is rebuilt from the manifest alone, so shards are not read.
            for place in PLACES[:2] + READ if stage.name == "rebuild" else PLACES:
                for kind in HOSTILE if place == "items" else ("parent", "absolute"):
                    name = f"manifests/{stage.name}/{mode}/{place} {kind}"
                    fault = f"a manifest from elsewhere: {place} name a file: {kind}"
                    trials.append(
                        Trial(name, fault, partial(play_hostile, scenes, stage, mode, place, kind))
                    )
            for kind in broken_manifests():
                if mode == "overwrite" and not kind.startswith(LISTING):
                    continue
                name = f"manifests/{stage.name}/{mode}/{kind}"
                trials.append(
                    Trial(
                        name,
                        f"the manifest is: {kind}",
                        partial(play_broken, scenes, stage, mode, kind),
                    )
                )
    for name in sorted({stage.scene for stage in stages}):
        scenes[name]
    return trials


def play_hostile(
    scenes: Scenes, stage: Stage, mode: str, place: str, kind: str, folder: Path
) -> Verdict:
    """Run a stage with a manifest that names files outside its folder."""
    site, path, manifest = _prepare(scenes, stage, folder)
    name = hostile_names(site, path.parent)[kind]
    _make_links(site, path.parent)
    section = manifest[stage.section]
    target = path
    if place == "inputs":
        section["inputs"] |= {name: _record(path.parent / name)}
    elif place in READ:
        _mislead(section, site, place, name)
        (path.parent / ("LR" if place == "kernel" else "HR") / "a.png").unlink()
    else:
        _hand_over(section, path.parent, name)
    if place == "shard":
        target = path.with_name(f"manifest.{stage.section}.shard0of2.json")
        target.write_text(json.dumps({stage.section: section}))
        manifest[stage.section]["complete"] = False
    else:
        path.write_text(json.dumps(manifest))
    names = (target.name, stage.folder) if place == "inputs" else (target.name, name)
    return _judge(scenes, site, stage, mode, names, works=place == "inputs")


def play_broken(scenes: Scenes, stage: Stage, mode: str, kind: str, folder: Path) -> Verdict:
    """Run a stage with an invalid manifest."""
    site, path, manifest = _prepare(scenes, stage, folder)
    path.write_bytes(broken_manifests()[kind](manifest, stage.section))
    return _judge(scenes, site, stage, mode, (path.name,), works=True)


def _prepare(scenes: Scenes, stage: Stage, folder: Path) -> tuple[Site, Path, dict[str, Any]]:
    site = Site(folder, ("work",))
    site.fill(scenes[stage.scene].result)
    if stage.prepare:
        first_run = site.run(stage.command, *stage.arguments)
        if first_run.code != 0:
            raise RuntimeError(f"{first_run.command}: {first_run.text}")
    for path in sorted((site.here / stage.folder).rglob("manifest*.json")):
        manifest = json.loads(path.read_text())
        if "items" in manifest.get(stage.section, {}):
            return site, path, manifest
    raise RuntimeError(f"{stage.folder}: no manifest with a section {stage.section}")


def _hand_over(section: dict[str, Any], folder: Path, name: str) -> None:
    """Let the first item of a section name another file; remove its own files."""
    item = next(iter(section["items"].values()))
    for file in item["files"]:
        (folder / file).unlink()
    item["files"] = {name: _record(folder / name)}


def _mislead(section: dict[str, Any], site: Site, place: str, name: str) -> None:
    """Let the item `a` name a kernel or a photo outside the folder."""
    item = section["items"]["a"]
    up = "../work/pairs/" if place == "photo" else "../../pairs/"
    path = name if name.startswith("/") else up + name
    item[place] = f"source/{path}" if place == "photo" else path
    key = item[place] if place == "photo" else f"kernels/{path}"
    section["inputs"][key] = _record(site.here / "work" / "pairs" / name)


def _record(path: Path) -> dict[str, Any]:
    """Return the record of a valid file."""
    try:
        content, time = path.read_bytes(), path.stat().st_mtime_ns
    except (OSError, ValueError):
        content, time = b"", 0
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "mtime_ns": time}


def _make_links(site: Site, folder: Path) -> None:
    outside = site.root / "outside"
    (folder / "link.txt").symlink_to(outside / "sentinel.txt")
    (folder / "linked").symlink_to(outside)


def _judge(
    scenes: Scenes, site: Site, stage: Stage, mode: str, names: tuple[str, ...], works: bool
) -> Verdict:
    """Run the stage and judge it: an error that names the manifest, or the correct result."""
    before = _list_results(site, stage)
    site.remember()
    extra = ("overwrite=true", stage.config) if mode == "overwrite" else ()
    run = site.run(stage.command, *stage.arguments, *extra)
    failures = judge_run(run, (0, 1), names)
    failures += site.find_violations([run])
    if run.code == 1:
        if losses := sorted(before - _list_results(site, stage)):
            failures.append(Failure("deviation", f"refused, but deleted: {', '.join(losses[:5])}"))
    elif run.code == 0 and mode == "again":
        failures += _judge_results(scenes, site, stage)
    if run.code == 0 and not works and not failures and names[0] not in run.text:
        failures.append(
            Failure("message", "accepted without a word about the name that leads elsewhere")
        )
    return Verdict(failures, run.end)


def _judge_results(scenes: Scenes, site: Site, stage: Stage) -> Iterator[Failure]:
    """Yield differences of the results from those of a new run, without manifests."""
    reference = scenes[stage.scene].result
    for words in compare_folders(reference, site.here, (stage.folder,)):
        extra = words.endswith("should not be") or "manifest" in words.split(" ", 1)[0]
        if not extra and not words.startswith("TensorBoard"):
            yield Failure("deviation", f"exit code 0, but {words}")
    if stage.prepare and stage.name == "gaussian":
        number = len(list((site.here / stage.folder).rglob("*_x2.mat")))
        if number != 3:
            yield Failure("deviation", f"exit code 0, but {number} kernels of 3")


def _list_results(site: Site, stage: Stage) -> set[str]:
    return {
        path.relative_to(site.here).as_posix()
        for path in (site.here / stage.folder).rglob("*")
        if path.is_file()
    }


def _nest(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value
