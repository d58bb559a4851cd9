"""Where what a stage has made differs from what it is asked to make."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any


def find_differences(
    parts: Collection[Mapping[str, Any]], request: Mapping[str, Any], present: Collection[str], fixed: bool
) -> list[str]:
    """Tell where the sections of what was made differ from what is asked, each on a line.

    request: the config, seed, inputs and files that are asked for: of `inputs` the fingerprints of those to be done
    of the inputs `present`, of `files` those of the files that values of the config name, by key.
    fixed: whether new inputs are a difference.
    """
    config, seed, inputs = request["config"], request["seed"], request["inputs"]
    lines = []
    for old in parts:
        lines += [] if old["seed"] == seed else [f"seed: {old['seed']} there, {seed} now"]
        keys = old["config"].keys() | config.keys()
        # First what both have: what only one has follows from it, as a method's own settings do from the method.
        for key in sorted(keys, key=lambda key: (key not in old["config"] or key not in config, key)):
            if difference := compare_value(old, key, config.get(key, "nothing"), request["files"]):
                lines.append(difference)
    known = {name: content for old in parts for name, content in old["inputs"].items()}
    for name, content in known.items():
        if name not in present:
            lines.append(f"{name}: was there, is gone now")
        elif name in inputs and inputs[name]["sha256"] != content["sha256"]:
            lines.append(f"{name}: has another content now")
    if fixed:
        lines += [f"{name}: new" for name in inputs if name not in known]
    return list(dict.fromkeys(lines))


def compare_value(old: Mapping[str, Any], key: str, now: object, files: Mapping[str, Any]) -> str | None:
    """Tell where a value of a section's config differs from what is asked now; None where it does not.

    A file is compared by its content, whatever its path is. files: fingerprints
    of the files that values of the config name now, by key.
    """
    there = old["config"].get(key, "nothing")
    record, content = old.get("files", {}).get(key), files.get(key)
    if record and content and record["sha256"] != content["sha256"] and there == now:
        return f"{key}: {now} has another content now"
    if key == "init":  # earlier versions noted that file alone, once the training had begun
        record = record or old.get("notes", {}).get("init")
    same = there == now or (record and content and record["sha256"] == content["sha256"])
    return None if same else f"{key}: {there} there, {now} now"


def list_differences(differences: Sequence[str], most: int = 10) -> str:
    """Return the first differences, one a line."""
    more = [f"and {len(differences) - most} more"] if len(differences) > most else []
    return "\n".join(f"  {line}" for line in [*differences[:most], *more])


def explain_differences(
    folder: Path, stage: str, differences: Sequence[str], sharded: bool, changes: str | None = None
) -> str:
    """Return the message that lists differences and says what to do.

    A shard may not overwrite; `changes` is the key that lets the stage go on with what is there.
    """
    advice = "To make them anew say overwrite=true, to keep them choose another work_dir."
    if changes is not None:
        advice = (
            f"To begin anew say overwrite=true, to keep it choose another run=FOLDER; to go on from there with what "
            f"differs say {changes}=true."
        )
    if sharded:
        advice = (
            "A shard deletes nothing, since others may be at work: choose another work_dir, or make all anew without "
            "shard and shards and with overwrite=true."
        )
    head = f"{folder}: {stage} made with another configuration or from other inputs:"
    return f"{head}\n{list_differences(differences)}\n{advice}"
