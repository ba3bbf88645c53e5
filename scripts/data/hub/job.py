"""A resource of the hub as a job: what belongs to it, whether the disk is large enough, and doing it.

from scripts.data.hub.job import Resource, check_sizes, fetch, plan
job = plan(Resource("vecbench", "wudq/VECBench", "dataset", "the benchmark"), "wudq/VECBench", "main", folder)
check_sizes([job], folder)
good = fetch(job, workers=8)
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import huggingface_hub
import requests
from huggingface_hub import snapshot_download
from huggingface_hub.utils import disable_progress_bars
from tqdm import tqdm

from scripts.data.hub.repository import (
    FetchError,
    HubFile,
    address,
    hub_problem,
    listing,
    mismatch,
    status_of,
    without_secrets,
)
from scripts.data.hub.unpack import UnpackError, is_archive, is_unpacked, unpack

BAR_SECONDS = 5
# Whether the library resumes a file that an earlier process left unfinished; from version 1 on it starts a new one.
RESUMES_FILES = int(huggingface_hub.__version__.partition(".")[0]) < 1
ATTEMPTS = 10  # in vain, each after twice the pause: more than the five minutes of the hub's rate limits in all
# The library's bars, one per file, would move the cursor, which plain output does not allow.
disable_progress_bars()
# Paths out of the folder. The listing is checked, but the library asks for one of its own.
OUTSIDE = ("/*", "../*", "*/../*")


@dataclass(frozen=True)
class Resource:
    """What can be fetched.

    Attributes:
        only: the folder of the repository that it is, as "NAME/"; empty: the repository.
        without: a folder of the repository that is another resource.
    """

    name: str
    repo_id: str
    kind: str  # "dataset" or "model"
    what: str
    only: str = ""
    without: str = ""

    @property
    def variable(self) -> str:
        return f"{self.name.upper().replace('-', '_')}_REPO"


@dataclass
class Job:
    """A resource to fetch: its repository at one commit, its files there, and its folder here."""

    resource: Resource
    repo_id: str
    commit: str
    files: list[HubFile]
    folder: Path

    def missing(self) -> list[HubFile]:
        """What is not on disk in the right size; checksums are looked at later."""
        paths = {file: self.folder / file.path for file in self.files}
        return [file for file, path in paths.items() if not (path.is_file() and path.stat().st_size == file.size)]

    def archives(self) -> list[HubFile]:
        return [file for file in self.files if self.resource.kind == "dataset" and is_archive(file.path)]


def target_folder(resource: Resource, repo_id: str, output_dir: Path) -> Path:
    """Data keeps the repository's own layout, for its records name images by path; a model has a folder."""
    return output_dir if resource.kind == "dataset" else output_dir / repo_id.rpartition("/")[2]


def plan(resource: Resource, repo_id: str, revision: str, output_dir: Path) -> Job:
    """What the resource consists of.

    Raises:
        FetchError: when it cannot be listed, or has no file.
    """
    try:
        commit, listed = listing(repo_id, resource.kind, revision)
    except (OSError, ValueError, KeyError, TypeError, httpx.HTTPError) as error:
        raise FetchError(hub_problem(error, resource.name, repo_id, resource.kind, revision)) from error
    files = [
        file
        for file in listed
        if file.path.startswith(resource.only) and not (resource.without and file.path.startswith(resource.without))
    ]
    if not files:
        where = f"{repo_id} at {revision}" + (f", folder {resource.only}" if resource.only else "")
        raise FetchError(f"{resource.name}: no file in {where}: name another repository with --repo")
    return Job(resource, repo_id, commit, files, target_folder(resource, repo_id, output_dir))


def partial_files(jobs: Collection[Job]) -> list[Path]:
    """Unfinished files: of this fetch, or of an earlier one that was killed."""
    return [path for folder in {job.folder for job in jobs} for path in folder.glob(".cache/**/*.incomplete")]


def bytes_to_fetch(jobs: Collection[Job], underway: bool = False) -> int:
    """Bytes that are missing, less those of unfinished files that count: all while a fetch is ``underway``."""
    left = sum(file.size for job in jobs for file in job.missing())
    for path in partial_files(jobs) if underway or RESUMES_FILES else ():
        with suppress(FileNotFoundError):  # its file is whole by now
            left -= path.stat().st_size
    return max(0, left)


def size(n_bytes: int) -> str:
    return f"{tqdm.format_sizeof(n_bytes)}B"


def check_sizes(jobs: list[Job], output_dir: Path) -> None:
    """Print what will be fetched.

    Raises:
        FetchError: when the disk is too small for it.
    """
    print(f"{'resource':<12} {'repository':<40} {'files':>7} {'size':>8} {'there':>8} {'to fetch':>8}  folder")
    to_unpack = 0
    for job in jobs:
        total, absent = (sum(file.size for file in files) for files in (job.files, job.missing()))
        name = f"{job.repo_id}@{job.commit[:8]}"
        sizes = f"{size(total):>8} {size(total - absent):>8} {size(absent):>8}"
        print(f"{job.resource.name:<12} {name:<40} {len(job.files):>7} {sizes}  {job.folder / job.resource.only}")
        # Images do not compress: unpacked they are about as large as their archive.
        archives = [file for file in job.archives() if not is_unpacked(job.folder / file.path, file.checksum)]
        to_unpack += sum(file.size for file in archives)
    to_fetch = bytes_to_fetch(jobs)
    existing = next(folder for folder in (output_dir, *output_dir.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    needs = f"{size(to_fetch)} to fetch" + (f", about {size(to_unpack)} to unpack" if to_unpack else "")
    has = f"{size(free)} free in {output_dir}"
    print(f"{needs}; {has}", flush=True)
    if to_fetch + to_unpack > free:
        names = ", ".join(job.resource.name for job in jobs)
        raise FetchError(f"{names}: the disk is too small: {needs}, {has}: give another --output_dir")


def fetch(job: Job, workers: int) -> bool:
    """Fetch and check every file of a resource, then unpack its archives; whether all of it is good.

    A file that does not match is deleted and fetched once more. Prints the counts, and on standard error a line
    for each file that does not match then, either.

    Raises:
        FetchError: when the hub, the network or the disk ends it.
    """
    name = job.resource.name
    problems, ended = check(job, job.files), None
    already_there = len(job.files) - len(problems)
    for _ in range(2):
        if problems and not ended:
            try:
                download(job, workers)
            except FetchError as error:
                ended = error
            problems = check(job, problems)
    fetched = len(job.files) - len(problems) - already_there
    counts = f"{already_there} already there + {fetched} fetched + {len(problems)} failed"
    print(f"{name}: {len(job.files)} files listed = {counts}", flush=True)
    if ended:
        raise ended
    where = address(job.repo_id, job.resource.kind)
    for file, problem in problems.items():
        line = f"{name}: {job.folder / file.path}: {problem}; from {where}"
        print(without_secrets(f"{line}: start again, or set HF_ENDPOINT to a mirror"), file=sys.stderr, flush=True)
    return unpack_archives(job, [file for file in job.archives() if file not in problems]) and not problems


def check(job: Job, files: Collection[HubFile]) -> dict[HubFile, str]:
    """What is wrong with each file that is not as the hub lists it; such a file is deleted."""
    with ThreadPoolExecutor() as pool:
        checked = zip(files, pool.map(lambda file: mismatch(job.folder / file.path, file), files), strict=True)
        problems = {file: problem for file, problem in checked if problem}
    for file in problems:
        (job.folder / file.path).unlink(missing_ok=True)
    return problems


def download(job: Job, workers: int) -> None:
    """Fetch what is not on disk, for as long as something arrives.

    A broken connection is resumed. A file that an earlier start left unfinished is resumed by huggingface_hub before
    version 1; later versions download it again.

    Raises:
        FetchError: when the hub cannot be reached, refuses, or the disk does.
    """
    if not RESUMES_FILES:
        remove_partial_files(job)
    resource, in_vain, to_fetch = job.resource, 0, bytes_to_fetch([job])
    arguments = {
        "repo_type": resource.kind,
        "revision": job.commit,
        "local_dir": job.folder,
        "allow_patterns": [resource.only] if resource.only else None,
        "ignore_patterns": [*OUTSIDE, *filter(None, [resource.without])],
        "max_workers": workers,
    }
    while True:
        try:
            with (
                ThreadPoolExecutor(1) as pool,
                tqdm(total=to_fetch, desc=resource.name, unit="B", unit_scale=True, disable=None) as bar,
            ):
                downloading = pool.submit(snapshot_download, job.repo_id, **arguments)
                while wait([downloading], timeout=BAR_SECONDS).not_done:
                    bar.update(max(0, to_fetch - bytes_to_fetch([job], underway=True) - bar.n))
                downloading.result()
                bar.update(to_fetch - bar.n)
                return
        # RuntimeError: of the library's other protocols, if switched on.
        except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
            before, to_fetch = to_fetch, bytes_to_fetch([job])
            in_vain = 0 if to_fetch < before else in_vain + 1
            broken_connection = isinstance(error, (requests.exceptions.ChunkedEncodingError, httpx.RemoteProtocolError))
            if in_vain == ATTEMPTS or not (broken_connection or status_of(error) in (416, 429)):
                line = hub_problem(error, resource.name, job.repo_id, resource.kind, job.commit)
                raise FetchError(line) from error
            if status_of(error) == 416:  # a partial download that is longer than its file
                remove_partial_files(job)
            time.sleep(2**in_vain)


def remove_partial_files(job: Job) -> None:
    for path in partial_files([job]):
        path.unlink(missing_ok=True)


def unpack_archives(job: Job, archives: list[HubFile]) -> bool:
    """Unpack what is not unpacked yet; whether all of it could be."""
    good = True
    listed = {job.folder / file.path for file in job.files}
    for file in archives:
        archive = job.folder / file.path
        if is_unpacked(archive, file.checksum):
            continue
        print(f"{job.resource.name}: unpacking {archive}", flush=True)
        try:
            print(f"{job.resource.name}: {unpack(archive, file.checksum, keep=listed)} files in {archive.parent}")
        except UnpackError as error:
            print(f"{job.resource.name}: {error}", file=sys.stderr, flush=True)
            good = False
    return good
