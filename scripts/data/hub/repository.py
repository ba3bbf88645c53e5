"""One repository of the Hugging Face hub: what it lists, how a file differs from that, each error in one line.

    from scripts.data.hub.repository import listing, mismatch
    commit, files = listing("wudq/VECBench", "dataset", "main")
    problems = [mismatch(Path("input_data") / file.path, file) for file in files]

Endpoint and token are the library's: ``HF_ENDPOINT`` and ``HF_TOKEN`` of the environment.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import httpx
import requests
from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import logging
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from inference.common.redaction import HIDDEN, redact
from inference.common.storage import explain

logging.set_verbosity_error()  # its warnings are many lines; what ends the job is said in one, here

LISTING_TIMEOUT = 30  # seconds
NETWORK = (requests.RequestException, httpx.HTTPError)  # the library's errors before and from its version 1 on


class FetchError(RuntimeError):
    """What ends the job, in one line that says what to do about it."""


@dataclass(frozen=True)
class HubFile:
    """A file as the hub lists it; ``checksum`` is SHA-256 (64 digits) of a large file, git's blob id of a small one."""

    path: str
    size: int  # bytes
    checksum: str


@functools.cache  # two resources may share a repository
def listing(repo_id: str, kind: str, revision: str) -> tuple[str, tuple[HubFile, ...]]:
    """(commit, every file) of a repository of ``kind`` "dataset" or "model" at a revision.

    Raises:
        OSError, ValueError, KeyError, TypeError: see ``hub_problem`` (the last two: JSON of another kind).
    """
    api = HfApi()
    commit = api.repo_info(repo_id, repo_type=kind, revision=revision, timeout=LISTING_TIMEOUT).sha
    # Not the file list of repo_info: it has no checksums, and is cut off in repositories with very many files.
    tree = api.list_repo_tree(repo_id, repo_type=kind, revision=commit, recursive=True)
    files = [
        HubFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for entry in tree
        if isinstance(entry, RepoFile)
    ]
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts:
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


def _cause(error: BaseException) -> BaseException:
    """What the hub or the network said, where the library says that the file cannot be had."""
    return error.__cause__ if isinstance(error, (ValueError, LocalEntryNotFoundError)) and error.__cause__ else error


def status_of(error: BaseException) -> int | None:
    return getattr(getattr(_cause(error), "response", None), "status_code", None)


def address(repo_id: str, kind: str) -> str:
    """Where a person finds the repository."""
    return f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repo_id}"


def without_secrets(text: str) -> str:
    """The text in one line, without the token and without a password in an address."""
    token = get_token()  # of a file, perhaps: the environment's is known to redact
    text = text.replace(token, HIDDEN) if token else text
    return " ".join(redact(text).split())


def hub_problem(error: BaseException, resource: str, repo_id: str, kind: str, revision: str) -> str:
    """One line for a person: what could not be had, from where, and what to do."""
    error = _cause(error)
    where, status = address(repo_id, kind), status_of(error)
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
    elif isinstance(error, NETWORK) and not isinstance(error, requests.exceptions.JSONDecodeError):
        text = f"{where} cannot be reached ({_root(error)}): check the network, or set HF_ENDPOINT to a mirror"
    elif isinstance(error, OSError) and error.errno is not None:
        text = explain(error)
    else:
        text = f"{where} does not answer as the hub does ({type(error).__name__}: {error}): check HF_ENDPOINT"
    return without_secrets(f"{resource}: {text}")


def _root(error: BaseException) -> BaseException:
    """The first of a chain of errors: the operating system's own words."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return error
