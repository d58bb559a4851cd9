"""The records of a sweep's jobs: `job_<number>.json` in the folder of the sweep."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from realsr.core.errors import UserError
from realsr.core.files import parse_json, write_bytes

JOB_FILE = re.compile(r"job_(\d+)\.json")


@dataclass(frozen=True)
class Job:
    """A job of a sweep.

    overrides: `key=value`. result: the folder with its metrics.json, None if it is unknown.
    error: the reason of a failure; None if the job succeeded. seconds: None if it has not ended.
    """

    number: int
    overrides: list[str]
    result: Path | None
    error: str | None
    seconds: float | None

    def values(self) -> dict[str, str]:
        """Return the values of the overrides by key, without the quotes of Hydra's grammar."""
        pairs = (override.lstrip("+").partition("=") for override in self.overrides)
        return {key: re.sub(r"^'(.*)'$|\\([{}])", r"\1\2", text) for key, _, text in pairs}


def read_sweep(folder: Path) -> list[Job]:
    """Return the jobs of a sweep, from the `job_<number>.json` in the folder of the sweep.

    Raises UserError if there are none, or if one of them is not a job's record.
    """
    jobs = []
    for file in folder.glob("job_*.json"):
        if match := JOB_FILE.fullmatch(file.name):
            try:
                content = parse_json(file.read_bytes())
                result, seconds = content["result"], content["seconds"]
                jobs.append(
                    Job(
                        int(match[1]),
                        list(map(str, content["overrides"])),
                        None if result is None else Path(result),
                        None if content["error"] is None else str(content["error"]),
                        None if seconds is None else float(seconds),
                    )
                )
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(f"{file}: not the record of a job ({error!r})") from error
    if not jobs:
        raise UserError(
            f"sweep={folder}: has no records of jobs (job_0.json, …): start the sweep with "
            f"-m hydra.sweep.dir={folder}"
        )
    return sorted(jobs, key=lambda job: job.number)


def write_job(folder: Path, job: Job) -> None:
    """Write the record of a job, atomically."""
    content = {
        "overrides": job.overrides,
        "result": None if job.result is None else str(job.result.absolute()),
        "error": job.error,
        "seconds": job.seconds,
    }
    write_bytes(folder / f"job_{job.number}.json", json.dumps(content, indent=1).encode())
