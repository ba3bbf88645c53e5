"""One repository of the Hugging Face hub: what it lists, each file fetched and checked, each error in one line.

    from scripts.hub.repository import fetch_file, repository
    source = repository("vecbench", "wudq/VECBench", "dataset", "main")
    for file in source.files:
        fetch_file(source, file, Path("input_data"))

Endpoint and token are the library's: ``HF_ENDPOINT`` and ``HF_TOKEN`` of the environment.
"""

from __future__ import annotations

import functools
import re
import time
from dataclasses import dataclass
from pathlib import Path

import requests
from huggingface_hub import HfApi, constants, get_token, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import logging
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from inference.redaction import HIDDEN, redact
from scripts.hub.unpack import leaves_its_folder

logging.set_verbosity_error()  # its warnings are many lines; what ends the job is said in one, here

LISTING_TIMEOUT = 30  # seconds
ATTEMPTS = 10  # of one file, when the connection breaks or the hub asks for patience
RATE_LIMIT_SECONDS = 60  # when the hub asks for patience and does not say for how long


class FetchError(RuntimeError):
    """What ends the job, in one line that says what to do about it."""


class MismatchError(RuntimeError):
    """A file that is not what the hub lists, twice in a row: expected and actual are in the message."""


@dataclass(frozen=True)
class HubFile:
    """A file as the hub lists it; ``checksum`` is SHA-256 (64 digits) of a large file, git's blob id of a small one."""

    path: str
    size: int
    checksum: str


@dataclass(frozen=True)
class Repository:
    """A repository at one commit. ``resource`` is what this project calls it, for messages."""

    resource: str
    repo_id: str
    kind: str  # "dataset" or "model"
    commit: str
    files: tuple[HubFile, ...]


def repository(resource: str, repo_id: str, kind: str, revision: str) -> Repository:
    """Every file of a repository at a revision.

    Raises:
        FetchError: when the hub, the repository or the revision cannot be had.
    """
    try:
        return Repository(resource, repo_id, kind, *_listing(repo_id, kind, revision))
    except (OSError, ValueError, KeyError, TypeError) as error:  # the last two: JSON that is not the hub's
        raise FetchError(explain(error, resource, repo_id, kind, revision)) from error


@functools.cache  # two resources may share a repository
def _listing(repo_id: str, kind: str, revision: str) -> tuple[str, tuple[HubFile, ...]]:
    api = HfApi()
    commit = api.repo_info(repo_id, repo_type=kind, revision=revision, timeout=LISTING_TIMEOUT).sha
    # Not the file list of repo_info: it is cut off in repositories with very many files.
    tree = api.list_repo_tree(repo_id, repo_type=kind, revision=commit, recursive=True)
    files = [
        HubFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for entry in tree
        if isinstance(entry, RepoFile)
    ]
    for file in files:
        if leaves_its_folder(file.path):
            raise ValueError(f"it lists a path outside the repository, {file.path!r}")
    return commit, tuple(files)


def mismatch(path: Path, file: HubFile) -> str | None:
    """How the file on disk differs from what the hub lists, or None."""
    if not path.is_file():
        return "there is no such file"
    if path.stat().st_size != file.size:
        return f"expected {file.size} bytes, got {path.stat().st_size}"
    if len(file.checksum) == 64:
        kind = "SHA-256"
        with open(path, "rb") as content:
            actual = sha_fileobj(content).hex()
    else:
        kind, actual = "git blob id", git_hash(path.read_bytes())
    return None if actual == file.checksum else f"expected {kind} {file.checksum}, got {actual}"


def fetch_file(source: Repository, file: HubFile, folder: Path) -> bool:
    """Have the file below ``folder``, checked; True when it was fetched, False when it was there.

    A partial download goes on where it stopped. A file that does not match is deleted and fetched
    once more from its beginning.

    Raises:
        MismatchError: when it does not match then, either; no such file is left on disk.
        FetchError: when the hub cannot be reached, refuses, or the disk does.
    """
    path = folder / file.path
    try:
        problem = mismatch(path, file)
        if problem is None:
            return False
        for from_the_beginning in (False, True):
            path.unlink(missing_ok=True)
            problem = _download(source, file, folder, from_the_beginning) or mismatch(path, file)
            if problem is None:
                return True
        path.unlink(missing_ok=True)
    except (OSError, ValueError, RuntimeError) as error:  # the last: the library's other protocols, if switched on
        name = f"{source.resource}: {file.path}"
        raise FetchError(explain(error, name, source.repo_id, source.kind, source.commit)) from error
    where = address(source.repo_id, source.kind)
    raise MismatchError(
        f"{source.resource}: {path}: {problem}; from {where}: start again, or set HF_ENDPOINT to a mirror"
    )


def _download(source: Repository, file: HubFile, folder: Path, from_the_beginning: bool) -> str | None:
    """Fetch one file; what is wrong with what arrived, if the library says so."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            hf_hub_download(
                source.repo_id,
                file.path,
                repo_type=source.kind,
                revision=source.commit,
                local_dir=folder,
                force_download=from_the_beginning and attempt == 1,  # what breaks then is gone on with, too
            )
            return None
        except (OSError, ValueError) as error:
            # What the library keeps of a partial download can be too long to go on from (416).
            if _status(error) == 416 or str(error).startswith("Consistency check failed"):
                return str(error).partition("\n")[0]
            seconds = _patience(error)
            if seconds is None or attempt == ATTEMPTS:
                raise
            time.sleep(seconds)


def _patience(error: Exception) -> float | None:
    """Seconds after which trying again makes sense, or None."""
    if isinstance(error, requests.exceptions.ChunkedEncodingError):  # the connection broke within a file
        return 1.0
    if _status(error) != 429:
        return None
    headers = _cause(error).response.headers
    stated = re.search(r"\bt=(\d+)", headers.get("RateLimit", "")) or re.match(r"(\d+)", headers.get("Retry-After", ""))
    return float(stated[1]) if stated else RATE_LIMIT_SECONDS


def _cause(error: BaseException) -> BaseException:
    """What the hub or the network said, where the library says that the file cannot be had."""
    return error.__cause__ if isinstance(error, ValueError) and error.__cause__ else error


def _status(error: BaseException) -> int | None:
    return getattr(getattr(_cause(error), "response", None), "status_code", None)


def address(repo_id: str, kind: str) -> str:
    """Where a person finds the repository."""
    return f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repo_id}"


def without_secrets(text: str) -> str:
    """The text in one line, without the token and without a password in an address."""
    token = get_token()  # of a file, perhaps: the environment's is known to redact
    text = text.replace(token, HIDDEN) if token else text
    return " ".join(redact(text).split())


def explain(error: BaseException, name: str, repo_id: str, kind: str, revision: str) -> str:
    """One line for a person: what could not be had, from where, and what to do."""
    error = _cause(error)
    where, status = address(repo_id, kind), _status(error)
    resource = name.partition(":")[0]
    if isinstance(error, HFValidationError):
        text = f"expected a repository of the form OWNER/NAME, got {repo_id!r}"
    elif isinstance(error, GatedRepoError):
        sent = " (the token that was sent has no access)" if get_token() else ""
        text = f"{where} is gated: accept its terms there, then set HF_TOKEN to a token of that account{sent}"
    elif isinstance(error, RepositoryNotFoundError):
        text = (
            f"{where} does not exist or is private: name another one with --repo {resource}=OWNER/NAME, "
            "or set HF_TOKEN to a token that may read it"
        )
    elif isinstance(error, RevisionNotFoundError):
        text = f"{where} has no revision {revision!r}: give another --revision"
    elif isinstance(error, OfflineModeIsEnabled):
        text = f"{where} is not asked because HF_HUB_OFFLINE is set: set HF_HUB_OFFLINE=0"
    elif status in (401, 403):
        text = f"{where} refuses access ({status}): set HF_TOKEN to a valid token that may read it"
    elif status is not None:
        text = f"{where} answers with status {status}: start again later, or set HF_ENDPOINT to a mirror"
    elif isinstance(error, requests.RequestException) and not isinstance(error, requests.exceptions.JSONDecodeError):
        text = f"{where} cannot be reached ({_root(error)}): check the network, or set HF_ENDPOINT to a mirror"
    elif isinstance(error, OSError) and error.errno is not None:
        text = str(error)
    else:
        text = f"{where} does not answer as the hub does ({type(error).__name__}: {error}): check HF_ENDPOINT"
    return without_secrets(f"{name}: {text}")


def _root(error: BaseException) -> BaseException:
    """The first of a chain of errors: the operating system's own words."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return error
