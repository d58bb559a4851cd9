"""Folders that vanish while a command works, and current folders that are read-only."""

import shutil
from functools import partial
from pathlib import Path

import namespaces
from file_hook import Fault
from judge import Failure, judge_run
from kills import judge_files
from scenes import ARGUMENTS, RUN, Scene, Scenes, all_names
from sites import Site
from trials import Trial, Verdict

# Vanishing paths by scene, and the fractions of the operations.
VANISHING = {
    "train": (
        f"{RUN}/checkpoints",
        f"{RUN}/tensorboard",
        f"{RUN}/samples",
        RUN,
        "work",
        "work/pairs/cache",
    ),
    "kernels": ("work", "work/pool/kernels"),
    "noise": ("work/pool/noise",),
    "pairs": ("work/pairs", "work/pairs/LR"),
    "evaluate": ("out", "out/images"),
    "upscale": ("big",),
}
PARTS = {"train": (0.5, 0.65, 0.8, 0.95)}
COMMANDS = (
    "check_data",
    "estimate_kernels",
    "collect_noise",
    "make_pairs",
    "train",
    "evaluate",
    "upscale",
    "export",
)


def list_trials(scenes: Scenes) -> list[Trial]:
    """Return a trial for each folder and time, and for each command in a read-only folder."""
    trials = []
    selection = scenes.choose([*VANISHING, "cwd"])
    for name in (name for name in VANISHING if name in selection):
        scene = scenes[name]
        for path in VANISHING[name]:
            for part in PARTS.get(name, (0.4, 0.8)):
                number = scene.points[int(part * len(scene.points))]
                text = f"{path} vanishes before {scene.describe(number)}"
                trials.append(
                    Trial(
                        f"vanish/{name}/{path}/{number}", text, partial(play, scene, path, number)
                    )
                )
    if "cwd" in selection:
        scenes["train"]
    for command in COMMANDS if "cwd" in selection else ():
        for way in ("outside", "here", "help", "-m"):
            text = f"the current folder is read-only: {way}"
            trials.append(
                Trial(
                    f"vanish/cwd/{command}/{way}",
                    text,
                    partial(play_read_only, scenes, command, way),
                )
            )
    return trials


def play(scene: Scene, path: str, number: int, folder: Path) -> Verdict:
    """Remove a folder before an operation, judge how the command ends, and run it again."""
    site = Site(folder, scene.writes)
    site.fill(scene.template)
    (site.here / "work" / "sentinel.txt").unlink()
    site.remember()
    fault = Fault("call", number, call=partial(shutil.rmtree, site.here / path, ignore_errors=True))
    first = site.run(scene.command, *scene.arguments, fault=fault)
    verdict = Verdict(notes=first.end)
    names = [
        *all_names(site, scene.writes),
        *(Path(line["path"]).name for line in first.operations),
        path,
    ]
    verdict.failures += judge_run(first, (0, 1), names)
    retry = site.run(scene.command, *scene.arguments)
    if retry.code == 1 and "overwrite=true" in retry.last:
        retry = site.run(scene.command, *scene.arguments, "overwrite=true")
    verdict.failures += judge_run(retry)
    if retry.code == 0:
        for failure in judge_files(site, scene):
            is_loss = failure.detail.startswith(f"{path}/") and "is missing" in failure.detail
            has_message = (
                failure.detail.startswith("TensorBoard") and "tensorboard" in f"{path}/tensorboard"
            )
            if not is_loss and not has_message:
                verdict.failures.append(failure)
    verdict.failures += site.find_violations([first, retry])
    return verdict


def play_read_only(scenes: Scenes, command: str, way: str, folder: Path) -> Verdict:
    """Run a command in a read-only folder, with results outside it or in it, or only --help."""
    if not namespaces.has_namespaces():
        return Verdict(skipped=namespaces.REASON)
    site = Site(folder, ())
    site.fill(scenes["train"].result)
    outside = site.root / "outside"
    outside.mkdir()
    namespaces.enter_namespace()
    namespaces.make_read_only(site.here)
    run = site.run(command, *_arguments(command, way, outside))
    codes = (0,) if way in ("outside", "help") or command == "check_data" else (0, 1)
    failures = judge_run(run, codes)
    if way == "here" and command != "check_data" and run.code == 0:
        failures.append(Failure("deviation", "exit code 0, although nothing can be written"))
    failures += site.find_violations([run])
    return Verdict(failures, run.end)


def _arguments(command: str, way: str, outside: Path) -> tuple[str, ...]:
    output = Path("new") if way == "here" else outside
    if way == "help":
        return ("--help",)
    multirun = ("-m",) if way == "-m" else ()
    if command == "evaluate":
        return (
            f"weights=[bicubic,{RUN}]",
            "data.hr=clean",
            f"output={output}",
            "protocol.metrics=[psnr,ssim]",
            *multirun,
        )
    if command == "upscale":
        return ("input=photos", f"output={output}", f"weights={RUN}", *multirun)
    if command == "export":
        return (f"weights={RUN}", f"output={output}/model.pth", *multirun)
    stage = [
        f"work_dir={output}" if value == "work_dir=work" else value for value in ARGUMENTS[command]
    ]
    if command == "make_pairs":
        stage.append("pool_dir=work/pool")
    return (*stage, *multirun)
