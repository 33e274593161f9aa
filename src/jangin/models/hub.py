"""Which commit a branch or tag of the Hugging Face hub stands for."""

from pathlib import Path


def pinned_commit(model_id: str, revision: str) -> str:
    """The commit whose config.json the cache holds for a revision, else the revision itself.

    Call it when the model's config was loaded: that brings the file into the cache. The config
    object does not always say where it came from (its `_commit_hash` is None for a cached model
    in transformers 5.23).
    """
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model_id, "config.json", revision=revision)
    return Path(path).parent.name if isinstance(path, str) else revision
