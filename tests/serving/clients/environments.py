"""Environments with the clients that people use, each in a folder of its own.

They are created on first use below `JANGIN_CLIENT_ENVIRONMENTS` (default: `.venv/clients`), with
the newest version that the package index has, unless the table names one.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOLDER = Path(os.environ.get("JANGIN_CLIENT_ENVIRONMENTS", ROOT / ".venv" / "clients"))


@dataclass(frozen=True)
class Environment:
    packages: tuple[str, ...]
    script: str
    in_ci: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables; `{folder}` is that of the test."""


PLOTS = ("pandas", "matplotlib")
ENVIRONMENTS = {
    "openai-newest": Environment(("openai", *PLOTS), "sdk_current.py", in_ci=True),
    "openai-1.109.1": Environment(("openai==1.109.1",), "sdk_current.py", in_ci=True),
    "openai-2": Environment(("openai<3",), "sdk_current.py"),
    "openai-0.28.1": Environment(("openai==0.28.1",), "sdk_028.py"),
    "node": Environment(("openai",), "sdk_node.mjs"),
}
"""{name: what is installed, and the script that runs in it}."""
TOOLS = {
    "wandb": Environment(
        ("wandb", "openai", "pandas", "numpy"),
        "tools/wandb_sync.py",
        settings={
            "WANDB_MODE": "offline",
            "WANDB_DIR": "{folder}",
            "WANDB_API_KEY": "0" * 40,
            "WANDB_SILENT": "true",
        },
    ),
    "dspy": Environment(("dspy",), "tools/dspy_finetune.py"),
    "llama-index": Environment(
        ("llama-index-finetuning", "mistralai<2"), "tools/llama_index_finetune.py"
    ),
    # The last version that tunes OpenAI's models; packages that it does not pin have changed since.
    "kiln": Environment(
        ("kiln-ai==0.24.0", "mcp<1.25", "together<2", "openai<3"),
        "tools/kiln_finetune.py",
        settings={"HOME": "{folder}"},  # where Kiln keeps its settings
    ),
    "instructor": Environment(("instructor", "tqdm"), "tools/instructor_jobs.py"),
    "agents": Environment(("openai-agents", "instructor"), "tools/agents_sdk.py"),
    "lm-eval": Environment(("lm-eval[api]", "openai"), "tools/lm_eval_korean.py"),
}
"""Programs of others that use the API; their scripts take a folder and a model."""
EVERY = ENVIRONMENTS | TOOLS


def chosen(wanted: str) -> list[str]:
    """Names of environments: `ci`, `all`, or names with commas between them."""
    if wanted == "all":
        return list(EVERY)
    if wanted == "ci":
        return [name for name, environment in ENVIRONMENTS.items() if environment.in_ci]
    names = wanted.split(",")
    if unknown := set(names) - set(EVERY):
        raise SystemExit(f"unknown clients {unknown}. Known: ci, all, {', '.join(EVERY)}")
    return names


def python_of(name: str, packages: tuple[str, ...]) -> Path:
    """The interpreter of an environment with these packages, which is created if it is missing."""
    folder = FOLDER / name
    python, stamp = folder / "bin" / "python", folder / "installed"
    text = "\n".join(packages)
    if not stamp.exists() or stamp.read_text() != text:
        uv = [str(Path(sys.executable).with_name("uv"))]
        subprocess.run(
            [*uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True
        )
        subprocess.run(
            [*uv, "pip", "install", "--quiet", "--python", python, *packages], check=True
        )
        stamp.write_text(text)
    return python


def node_folder() -> Path:
    """A folder with the Node client in `node_modules`."""
    folder = FOLDER / "node"
    if not (folder / "node_modules" / "openai").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", "openai"],
            cwd=folder,
            check=True,
        )
    return folder
