"""Upstream rows from the Hugging Face hub: renamed ids first, then the old ones, only the files of one split.

Nothing here runs code of the repositories, and no token is required. Being offline is found out by one request,
before the libraries start their own retries.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dmlr.benchmarks.schema import Benchmark, Source, Split
from dmlr.benchmarks.sources import RowSource, choose_parquet, open_local
from dmlr.errors import UserError

logger = logging.getLogger(__name__)

PREFLIGHT_SECONDS = 15.0


def open_hub(benchmark: Benchmark, split_name: str, revision: str | None = None) -> RowSource:
    """Rows of one split from the first of the benchmark's hub ids that exists, at a fixed commit.

    Raises `UserError` (one line: hub id, HF_ENDPOINT, --from) when the hub cannot be reached, no id exists, or
    `revision` is unknown.
    """
    missing = []
    for source in benchmark.sources:
        found = _find(source, revision)
        if found is None:
            missing.append(source.repo)
            continue
        commit, names = found
        if source.files:
            return _raw_source(benchmark, split_name, source, commit)
        return _dataset_source(benchmark, split_name, source, commit, names)
    raise UserError(
        f"{benchmark.name}: the hub has none of {', '.join(missing)} (or asks for a login); {_ways_out()}"
    )


def _ways_out() -> str:
    return "set HF_ENDPOINT to a mirror that has it, or give --from DIR with the files downloaded elsewhere"


def _unreachable(source: Source, error: Exception) -> UserError:
    from huggingface_hub import constants

    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(
        f"{source.repo}: the hub at {constants.ENDPOINT} cannot be reached ({reason}); {_ways_out()}"
    )


def _find(source: Source, revision: str | None) -> tuple[str, list[str]] | None:
    """Commit and file names of a repository, None when it does not exist or is not open to us."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi().dataset_info(source.repo, revision=revision, timeout=PREFLIGHT_SECONDS)
    except RevisionNotFoundError:
        raise UserError(
            f"{source.repo}: no revision {revision!r} on the hub; give a commit, branch or tag"
        ) from None
    except RepositoryNotFoundError:
        logger.info("%s is not on the hub, trying the next id", source.repo)
        return None
    except (HTTPError, OSError) as error:
        raise _unreachable(source, error) from None
    return info.sha or "main", [file.rfilename for file in info.siblings or []]


def _dataset_source(
    benchmark: Benchmark, split_name: str, source: Source, commit: str, names: list[str]
) -> RowSource:
    from datasets import VerificationMode, load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

    split = benchmark.splits[split_name]
    config = split.config or source.config
    # Without `data_files` the library downloads every split of the configuration before it yields one of them.
    chosen = choose_parquet(names, benchmark, split, config)
    logger.info("loading %s, %s split %s at %s", source.repo, config, split.upstream, commit[:12])
    try:
        dataset = load_dataset(
            source.repo,
            config,
            split=split.upstream,
            revision=commit,
            data_files={split.upstream: chosen} if chosen else None,
            verification_mode=VerificationMode.NO_CHECKS,
        )
    except (LocalEntryNotFoundError, HTTPError, ConnectionError) as error:
        raise _unreachable(source, error) from None
    except (DatasetsError, OSError, ValueError) as error:
        raise UserError(f"{source.repo}: {' '.join(str(error).split())[:300]}") from None
    return RowSource(
        _undecoded(dataset, split),
        {"repo": source.repo, "config": config, "split": split.upstream, "revision": commit},
        total=len(dataset),
        drop_imageless=source.drop_imageless,
    )


def _undecoded(dataset: Any, split: Split) -> Iterator[dict[str, Any]]:
    """Rows with every picture as {"bytes", "path"}: decoding and encoding again would change its bytes."""
    from datasets import Image

    for name, feature in dataset.features.items():
        if isinstance(feature, Image):
            dataset = dataset.cast_column(name, Image(decode=False))
    yield from dataset


def _raw_source(benchmark: Benchmark, split_name: str, source: Source, commit: str) -> RowSource:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    try:
        folder = snapshot_download(
            source.repo, repo_type="dataset", revision=commit, allow_patterns=list(source.files)
        )
    except (HTTPError, OSError) as error:
        raise _unreachable(source, error) from None
    opened = open_local(benchmark, split_name, Path(folder))
    opened.provenance = {"repo": source.repo, "config": None, "split": split_name, "revision": commit}
    return opened
