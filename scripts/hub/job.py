"""A resource of the hub as a job: what belongs to it, whether the disk is large enough, and doing it.

from scripts.hub.job import Resource, check_sizes, fetch, plan
job = plan(Resource("vecbench", "wudq/VECBench", "dataset", "the benchmark"), "wudq/VECBench", "main", folder)
check_sizes([job], folder)
problems = fetch(job, workers=8)
"""

from __future__ import annotations

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from tqdm import tqdm

from scripts.hub.repository import (
    FetchError,
    HubFile,
    MismatchError,
    Repository,
    fetch_file,
    repository,
    without_secrets,
)
from scripts.hub.unpack import UnpackError, is_archive, is_unpacked, unpack

BARS = 50  # more files than this have one bar in common


@dataclass(frozen=True)
class Resource:
    """What can be fetched.

    Attributes:
        only: the folder of the repository that it is; empty: the repository.
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
    source: Repository
    files: list[HubFile]
    folder: Path

    def missing(self) -> list[HubFile]:
        """What is not on disk in the right size; checksums are looked at later."""
        return [file for file in self.files if not _has_size(self.folder / file.path, file.size)]

    def archives(self) -> list[HubFile]:
        return [file for file in self.files if self.resource.kind == "dataset" and is_archive(file.path)]


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def target_folder(resource: Resource, repo_id: str, output_dir: Path) -> Path:
    """Data keeps the repository's own layout, for its records name images by path; a model has a folder."""
    return output_dir if resource.kind == "dataset" else output_dir / repo_id.rpartition("/")[2]


def plan(resource: Resource, repo_id: str, revision: str, output_dir: Path) -> Job:
    """What the resource consists of.

    Raises:
        FetchError: when it cannot be listed, or has no file.
    """
    source = repository(resource.name, repo_id, resource.kind, revision)
    files = [
        file
        for file in source.files
        if file.path.startswith(resource.only) and not (resource.without and file.path.startswith(resource.without))
    ]
    if not files:
        where = f"{repo_id} at {revision}" + (f", folder {resource.only}" if resource.only else "")
        raise FetchError(f"{resource.name}: no file in {where}: name another repository with --repo")
    return Job(resource, source, files, target_folder(resource, repo_id, output_dir))


def size(n_bytes: int) -> str:
    return f"{tqdm.format_sizeof(n_bytes)}B"


def check_sizes(jobs: list[Job], output_dir: Path) -> None:
    """Print what will be fetched.

    Raises:
        FetchError: when the disk is too small for it, or a file too large for plain HTTP.
    """
    print(f"{'resource':<12} {'repository':<40} {'files':>7} {'size':>8} {'there':>8} {'to fetch':>8}  folder")
    to_fetch = to_unpack = 0
    for job in jobs:
        missing = job.missing()
        total, absent = sum(file.size for file in job.files), sum(file.size for file in missing)
        name = f"{job.source.repo_id}@{job.source.commit[:8]}"
        sizes = f"{size(total):>8} {size(total - absent):>8} {size(absent):>8}"
        print(f"{job.resource.name:<12} {name:<40} {len(job.files):>7} {sizes}  {job.folder / job.resource.only}")
        to_fetch += absent
        # Images do not compress: unpacked they are about as large as their archive.
        archives = [file for file in job.archives() if not is_unpacked(job.folder / file.path, file.checksum)]
        to_unpack += sum(file.size for file in archives)
        for file in missing:
            if file.size > constants.MAX_HTTP_DOWNLOAD_SIZE and constants.HF_HUB_DISABLE_XET:
                limit = size(constants.MAX_HTTP_DOWNLOAD_SIZE)
                raise FetchError(f"{job.resource.name}: {file.path} is over {limit}: set HF_HUB_DISABLE_XET=0")
    partial = [path for folder in {job.folder for job in jobs} for path in folder.glob(".cache/**/*.incomplete")]
    to_fetch = max(0, to_fetch - sum(path.stat().st_size for path in partial))
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

    Prints the counts, and on standard error a line for each file that is not.

    Raises:
        FetchError: when the hub, the network or the disk ends it.
    """
    many = len(job.missing()) > BARS
    (disable_progress_bars if many or not sys.stderr.isatty() else enable_progress_bars)()  # the library's, one a file
    bar = tqdm(
        total=sum(file.size for file in job.files),
        desc=job.resource.name,
        unit="B",
        unit_scale=True,
        file=sys.stdout,
        mininterval=0.5 if sys.stdout.isatty() else 15.0,
    )
    with bar, ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(fetch_file, job.source, file, job.folder): file for file in job.files}
        try:
            for future in as_completed(futures):
                if isinstance(future.exception(), FetchError):  # the next file's, too: do not try them all
                    pool.shutdown(wait=False, cancel_futures=True)
                    break
                bar.update(futures[future].size)
        except KeyboardInterrupt:
            print(f"{job.resource.name}: interrupted: start again to go on", file=sys.stderr, flush=True)
            os._exit(130)  # threads cannot be stopped otherwise; a killed download is one to go on with
    done = {file: future for future, file in futures.items() if not future.cancelled()}
    good = {file for file, future in done.items() if future.exception() is None}
    fetched = sum(done[file].result() for file in good)
    counts = f"{len(good) - fetched} already there + {fetched} fetched + {len(job.files) - len(good)} failed"
    print(f"{job.resource.name}: {len(job.files)} files listed = {counts}", flush=True)
    errors = [future.exception() for future in done.values() if future.exception() is not None]
    for error in errors:
        if isinstance(error, MismatchError):
            print(without_secrets(str(error)), file=sys.stderr, flush=True)
    for error in errors:
        if not isinstance(error, MismatchError):
            raise error
    return unpack_archives(job, [file for file in job.archives() if file in good]) and not errors


def unpack_archives(job: Job, archives: list[HubFile]) -> bool:
    """Unpack what is not unpacked yet; whether all of it could be."""
    good = True
    listed = {job.folder / file.path for file in job.source.files}
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
