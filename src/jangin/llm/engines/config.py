"""Settings of an inference engine, which `evaluate`, `preferences` and teachers share."""

import subprocess
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from jangin.core.config import Added, Advanced, Config, Runtime
from jangin.core.errors import MachineError

CHECK_SECONDS = 60.0
"""How long an interpreter may take to look for vLLM."""


class LocalEngine(Config):
    """The engine of this process."""

    type: Literal["local"] = "local"


class VllmEngine(Config):
    """A vLLM server, started on the model's weights, asked and stopped.

    vLLM is installed in a virtual environment of its own.
    """

    type: Literal["vllm"]
    python: Runtime[Path]
    """Interpreter of the virtual environment with vLLM, such as `/opt/vllm/bin/python`; relative
    to the project file."""
    arguments: tuple[str, ...] = ()
    """Further arguments of `vllm serve`, such as `[--max-model-len, "4096"]`. They are part of what
    identifies an answer."""
    start_seconds: Runtime[float] = Field(default=900.0, gt=0)
    """How long the server may take to load the model."""
    concurrency: Runtime[int] = Field(default=64, ge=1, le=512)
    """Number of requests in flight at once."""
    timeout_seconds: Runtime[Advanced[float]] = Field(default=600.0, gt=0)
    """How long one request may take."""

    def interpreter(self, project_folder: Path) -> Path:
        """Path of the interpreter.

        Raises: MachineError: there is none, or vLLM is not installed there.
        """
        path = project_folder / self.python.expanduser()
        if not path.is_file():
            raise MachineError(
                f"there is no interpreter at {path}, where `engine: python` looks for vLLM. "
                "Install vLLM in a virtual environment of its own and set the path of its python."
            )
        look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
        try:
            result = subprocess.run(  # noqa: S603  the user's own interpreter
                [str(path), "-c", look], check=False, capture_output=True, timeout=CHECK_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MachineError(
                f"{path} does not run: {error}. Set `engine: python` to the interpreter of the "
                "virtual environment with vLLM."
            ) from error
        if result.returncode:
            raise MachineError(
                f"vLLM is not installed for {path}. Install it there, with: {path} -m pip install "
                "vllm, or set `engine: {type: local}`."
            )
        return path


class EndpointEngine(Config):
    """A server that runs already and serves the project's models."""

    type: Literal["endpoint"]
    base_url: Runtime[str]
    """URL up to and including `/v1`."""
    models: dict[str, str]
    """{`base`, `sft` or `tuned`: name of that model at the endpoint}. jangin cannot see which
    weights are served, so serve new ones after each training."""
    parameters: Added[dict[str, Any]] = Field(default={})
    """Further fields of each request, such as `{chat_template_kwargs: {enable_thinking: false}}`
    for a server with another chat template than that of the model's artifact, in which `thinking`
    of the base is set already."""
    key_variable: Runtime[str] = ""
    """Name of the environment variable with the API key; empty if none is needed."""
    concurrency: Runtime[int] = Field(default=64, ge=1, le=512)
    """Number of requests in flight at once."""
    timeout_seconds: Runtime[Advanced[float]] = Field(default=600.0, gt=0)
    """How long one request may take."""


LOCAL = LocalEngine()
Engine = Annotated[LocalEngine | VllmEngine | EndpointEngine, Field(discriminator="type")]
