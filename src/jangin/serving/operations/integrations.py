"""Where else the metrics of a job are sent: the `integrations` of its request."""

import importlib.util
import netrc
import os
from collections.abc import Mapping, Sequence
from typing import Any

from jangin.serving.state.settings import ServerSettings

_PACKAGE, _HOST = "wandb", "api.wandb.ai"
NOT_SENT = "The integration 'wandb' of this job is not used: {}"
SENT = "Metrics are sent to Weights & Biases ({}): project '{}', run '{}'"


def trackers_of(
    integrations: Sequence[Mapping[str, Any]], job_id: str, settings: ServerSettings
) -> tuple[list[dict[str, Any]], list[str]]:
    """(entries of `track` for the job's project file, one for each integration; reasons for none).

    The key of W&B is the server's: `WANDB_API_KEY`, or that of `wandb login`.
    """
    if not integrations:
        return [], []
    mode, reason = _mode(settings)
    if reason:
        return [], [NOT_SENT.format(reason)]
    entries = []
    for each in integrations:
        given = each["wandb"]
        entries.append(
            {
                "type": "wandb",
                "project": given["project"],
                "entity": given.get("entity") or "",
                "run_name": given.get("name") or job_id,
                "tags": list(given.get("tags") or ()),
                "mode": mode,
                "largest_file_mib": 0,
            }
        )
    return entries, []


def sent(entry: Mapping[str, Any]) -> str:
    """The line of the log on an entry of `trackers_of`."""
    return SENT.format(entry["mode"], entry["project"], entry["run_name"])


def _mode(settings: ServerSettings) -> tuple[str, str]:
    """(`online` or `offline`, why neither)."""
    if settings.wandb == "off":
        return "", "server.yaml says `wandb: off`"
    if importlib.util.find_spec(_PACKAGE) is None:
        return "", "the server lacks the package wandb: pip install 'jangin[wandb]'"
    if settings.wandb != "auto":
        return settings.wandb, ""
    if os.environ.get("WANDB_MODE") == "offline":
        return "offline", ""
    if not (os.environ.get("WANDB_API_KEY") or _has_login()):
        return "", (
            "the server has no key of Weights & Biases. Set WANDB_API_KEY where it is started, or "
            "`wandb: offline` in server.yaml"
        )
    return "online", ""


def _has_login() -> bool:
    """Whether `wandb login` has left a key in ~/.netrc."""
    try:
        return netrc.netrc().authenticators(_HOST) is not None
    except (OSError, netrc.NetrcParseError):
        return False
