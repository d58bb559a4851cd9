"""Weights in repositories of the Hugging Face Hub, by huggingface_hub: download and upload.

The library finds the login (HF_TOKEN, or that of `hf auth login`), the server (HF_ENDPOINT) and the
cache (HF_HOME). The token stays in the library.
"""

import logging
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import realsr
from realsr.core.errors import UserError, import_extra
from realsr.core.file_kinds import identify_file
from realsr.provenance.fingerprints import fingerprint_file

logger = logging.getLogger("realsr")

HUB = "hf://"
MODEL_FILE = "model.safetensors"
"""The name of the weights in an exported folder and in a repository."""
_REPOSITORY = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_CLIENT = {"library_name": "realsr", "library_version": realsr.__version__}
_SNAPSHOT = re.compile(r"/snapshots/([0-9a-f]+)/")
_SOURCE = re.compile(rf"{HUB}({_REPOSITORY})(?:@([\w.-]+))?(?:/(.+))?", re.ASCII)


@cache  # within a process, a name is one file, and its server is asked once
def find_in_hub(source: str) -> Path:
    """Return the path of a repository's weights in the library's cache; download them if necessary.

    source: `hf://OWNER/NAME[@REVISION][/FILE]`. REVISION: a commit, tag or branch; default: the
    main branch. FILE: a safetensors file; default: `MODEL_FILE`.

    Raises UserError, with what to do, if the library is missing, the name is invalid, the download
    fails, or the file is damaged or no safetensors.
    """
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise UserError(f"{source}: expected {HUB}OWNER/NAME[@REVISION][/FILE.safetensors]")
    repository, revision, file = match[1], match[2], match[3] or MODEL_FILE
    if not file.endswith(".safetensors"):
        raise UserError(
            f"{source}: only safetensors are downloaded: name a file that ends in .safetensors"
        )
    library = import_extra("huggingface_hub", f"{source}:", "hub")
    try:
        path = Path(library.hf_hub_download(repository, file, revision=revision, **_CLIENT))
    except Exception as error:  # of the library, and of its libraries for HTTP and files
        raise UserError(
            f"{source}: cannot be downloaded ({_explain(error)}): check the name and the network; "
            "a private repository needs a login (`hf auth login` or HF_TOKEN)"
        ) from error
    _check_content(source, path)
    commit = _SNAPSHOT.findall(path.as_posix())[-1]
    if revision != commit:
        logger.info(
            "%s: to use the same file later: %s%s@%s/%s", source, HUB, repository, commit, file
        )
    return path


def check_upload(repository: str) -> None:
    """Raise UserError, before any work, if nothing can be uploaded to a repository."""
    if re.fullmatch(_REPOSITORY, repository, re.ASCII) is None:
        raise UserError(f"push_to={repository}: expected OWNER/NAME")
    library = import_extra("huggingface_hub", f"push_to={repository}:", "hub")
    if library.get_token() is None:
        raise UserError(f"push_to={repository}: needs a login: run `hf auth login` or set HF_TOKEN")
    try:
        library.HfApi(**_CLIENT).whoami()
    except Exception as error:
        raise UserError(f"push_to={repository}: the login fails ({_explain(error)})") from error


def upload_files(folder: Path, names: Sequence[str], repository: str) -> str:
    """Upload files of a folder in one commit; return the `hf://` source of that commit.

    A new repository is private. Files of these names are replaced, others stay.

    Raises UserError if it fails; then the repository has no commit.
    """
    api = import_extra("huggingface_hub", f"push_to={repository}:", "hub").HfApi(**_CLIENT)
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(names),
            commit_message=f"Export by realsr {realsr.__version__}",
        )
    except Exception as error:
        raise UserError(
            f"push_to={repository}: cannot be uploaded ({_explain(error)}); the files are in {folder}"
        ) from error
    return f"{HUB}{repository}@{commit.oid}"


def _explain(error: Exception) -> str:
    """Return the beginning of an error's text as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]


def _check_content(source: str, path: Path) -> None:
    """Raise UserError if a file is no safetensors, or has not the hash that the server states.

    The library stores large files under their SHA-256, others under another hash.
    """
    digits = path.resolve().name
    if len(digits) == 64 and fingerprint_file(path)["sha256"] != digits:
        raise UserError(
            f"{source}: damaged, its SHA-256 is not {digits}: delete {path.resolve()} and repeat the "
            "command"
        )
    if (kind := identify_file(path)).format != "safetensors":
        raise UserError(f"{source}: is {kind.name}, expected a safetensors file")
