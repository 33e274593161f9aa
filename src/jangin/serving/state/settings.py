"""Settings of the server: server.yaml and the options of `jangin serve`, checked."""

import ipaddress
import json
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator

from jangin.core.config import Config
from jangin.core.errors import ConfigError
from jangin.core.model_protocols import EncoderConfig
from jangin.documents.readers.folder import PROJECT_FILE
from jangin.models.catalog import TEMPLATE_NAMES, Base
from jangin.project.problems import describe, line_of
from jangin.project.yaml_source import load_yaml
from jangin.serving.state.caller import DEFAULT_PROJECT
from jangin.training.loop.config import SERVABLE_RANKS

SQLITE_FILE = "server.sqlite"
_DEPTHS = (3, 2)
"""Parts below the folder of `store/STAGE/KEY`, and of `models/NAME` and `bases/KEY`."""
"""Name of the database in the folder."""


class Backend(Config):
    """Another server that computes the answers."""

    type: Literal["local", "vllm", "llamacpp"] = "local"
    """`local` answers in this process; the others pass requests to a server that already runs."""
    url: str = ""
    """Its address, such as `http://127.0.0.1:8001/v1`."""


class ModelEntry(Config):
    """The local model behind one model name."""

    base: Base
    """The local model: `starter`, `hub`, `local` or `gguf`, as in a project file."""
    kind: Literal["chat", "completion"] = "chat"
    """`completion` for a model that is called with a prompt at `/completions`: jobs train prompt,
    completion and the end of text without a chat template, unless `base` chooses one."""
    trainable: bool = True
    """Whether jobs may fine-tune it."""
    context_length: int | None = Field(default=None, ge=16)
    """Longest row in training; default: the context length of the model, which answers use."""
    backend: Backend | None = None
    """What computes the answers of this model and of those tuned from it; default: the server's."""
    sft: dict[str, Any] = Field(default_factory=dict)
    """Settings of the stage `sft` that differ from what the server chooses."""
    dpo: dict[str, Any] = Field(default_factory=dict)
    """Settings of the stage `dpo` that differ from what the server chooses."""

    @field_validator("sft", "dpo")
    @classmethod
    def _servable(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Every adapter that jobs train can be served by vLLM."""
        method = settings.get("method")
        rank = method.get("r") if isinstance(method, dict) else None
        if rank is not None and rank not in SERVABLE_RANKS:
            choices = ", ".join(map(str, SERVABLE_RANKS))
            raise ValueError(f"`method.r` must be one of {choices}, which vLLM serves, too")
        return settings


class Limits(Config):
    """How much a client may send."""

    body_mb: float = Field(default=16, gt=0)
    """Largest request that is no upload, in megabytes."""
    file_mb: float = Field(default=512, gt=0)
    """Largest file of `POST /v1/files`."""
    part_mb: float = Field(default=64, gt=0)
    """Largest part of an upload."""
    upload_gb: float = Field(default=8, gt=0)
    """Largest upload."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests in a minute of one key, and of one address without a key of `jangin keys add`;
    default: no limit."""
    connections: int = Field(default=1_000, ge=1)
    """Connections at a time; more are refused with 503."""
    stalled_seconds: float = Field(default=30, gt=0)
    """Time for the head of a request, and in which some of its body arrives and some of a reply is
    read; then the connection is closed."""
    queued_jobs: int = Field(default=1_000, ge=1)
    """Unfinished jobs of one project."""
    answer_tokens: int = Field(default=4_096, ge=1)
    """Tokens of an answer whose request does not say how many; then it ends with `length`."""
    queued_requests: int = Field(default=512, ge=1)
    """Generations that run or wait; more are refused with 429."""


class ServerSettings(Config):
    """Settings of a server."""

    folder: Path = Path("jangin-server")
    """Database, files, jobs and the store of trained models."""
    host: str = "127.0.0.1"
    """Address to listen on; another one than loopback needs keys."""
    port: int = Field(default=8080, ge=0, le=65535)
    """0 for any free port."""
    require_keys: bool = False
    """Ask for a key of `jangin keys add` on loopback too, for example behind a proxy."""
    hosts: tuple[str, ...] = ()
    """Further names that browsers and proxies may call this server by; they need keys too."""
    proxies: tuple[str, ...] = ()
    """Addresses or networks of reverse proxies, such as `127.0.0.1`: what they say in
    `X-Forwarded-For` and `X-Forwarded-Proto` is believed, and they need keys too."""
    public_url: str = ""
    """Address that people type, where a proxy is before this server: `https://jangin.example.org`.
    Its name counts as one of `hosts`; with `https` cookies are sent over TLS only, and browsers
    remember to use it."""
    origins: tuple[str, ...] = ()
    """Web pages of other addresses whose scripts may call this server: `https://team.example`."""
    database: str = ""
    """`postgresql://USER:PASSWORD@HOST/NAME`; default: SQLite in the folder."""
    storage: str = ""
    """Folder or fsspec URL of the files' bytes, such as `s3://bucket/jangin`; default: `files` in
    the folder."""
    storage_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the fsspec filesystem behind the URL, such as `endpoint_url` of S3; its keys are
    better in the environment, such as `AWS_ACCESS_KEY_ID`."""
    project: Path | None = None
    """Project file whose finished variants can be called, and which the pages are about."""
    new_project: bool = False
    """The project file need not exist yet: the page `/start` writes it."""
    workbench: bool = False
    """Serve the pages for browsers beside the API, as `jangin open` does."""
    owner: str = ""
    """Project of the keys that may see the pages of the project file and use its models; default:
    `default`, as that of new keys. Where no key is needed, everybody may."""
    models: dict[str, ModelEntry] = Field(default_factory=dict)
    """Model names of requests; without any, every name trains a starter from the training file,
    which reads 4096 tokens and not the 512 of a starter that is named here."""
    backend: Backend = Backend()
    """What computes the answers."""
    encoders: dict[str, EncoderConfig] = Field(default_factory=dict)
    """Names of models of `/embeddings`, and the encoder behind each."""
    slots: int = Field(default=1, ge=1)
    """Jobs that train at once; one per GPU."""
    warm_up: bool = True
    """Load the libraries that run models when the server has started, if it has a model to answer
    with; else the first request waits for them."""
    models_during_jobs: Literal["auto", "keep", "unload", "refuse"] = "auto"
    """What becomes of loaded models when a job starts: `keep` leaves them where they are, `unload`
    frees their memory, and requests get 503 until the job has taken its own and load them again
    where the rest suffices, `refuse` answers 503 until the job ends; `auto` is `unload` on a GPU,
    else `keep`. With several slots, only jobs of the first one share the GPU of the models."""
    lease_seconds: int = Field(default=15, ge=2)
    """Seconds without a sign of life after which another process takes over a job."""
    min_examples: int = Field(default=10, ge=1)
    """Fewer rows in a training file fail the job."""
    organization: str = Field(default="local", pattern=r"^[a-z0-9-]{1,32}$")
    """The organisation in the names of fine-tuned models."""
    strict_spec: bool = False
    """Send `error: null` and `hyperparameters: {}` as OpenAI's schema wants it."""
    python_grader: bool = False
    """Run the Python code of graders: everyone who may send one then runs code on this machine."""
    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """Where metrics of jobs with the integration `wandb` go, with the key of this server: `offline`
    writes runs that `wandb sync` uploads to `store/wandb`; `auto` is `online` where there is a key
    (`WANDB_API_KEY`, `wandb login`), and else says in the log of the job that there is none."""
    private_webhooks: bool = False
    """Let webhooks call this machine and its private network, such as `http://127.0.0.1:9000`."""
    log_format: Literal["auto", "text", "json"] = "auto"
    """`auto` writes text to a terminal and JSON lines elsewhere."""
    stored_days: int = Field(default=30, ge=0)
    """Days for which responses, unless they say `store: false`, and chat completions with
    `store: true` are kept for their project; 0 keeps none."""
    log_prompts: bool = False
    """Write requests and answers to the log."""
    limits: Limits = Limits()

    @field_validator("public_url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.path.strip("/")
            or parts.query
            or parts.fragment
            or parts.username
        ):
            raise ValueError("must be the address alone, such as https://jangin.example.org")
        return f"{parts.scheme}://{parts.netloc}".lower() if url else ""

    @field_validator("project")
    @classmethod
    def _file_of(cls, path: Path | None) -> Path | None:
        """The project file of a folder that was given."""
        return path / PROJECT_FILE if path is not None and path.is_dir() else path

    @property
    def is_loopback(self) -> bool:
        """True where only this machine reaches the server."""
        return is_loopback(self.host)

    @property
    def needs_keys(self) -> bool:
        """True where a request needs a key of `jangin keys add`; else any key will do."""
        return self.require_keys or not self.is_loopback or self.has_proxy

    @property
    def has_proxy(self) -> bool:
        """True where requests of others come to loopback, or pages of others may call."""
        return bool(self.hosts or self.origins or self.proxies or self.public_url)

    @property
    def is_encrypted(self) -> bool:
        """True where browsers reach this server over TLS."""
        return self.public_url.startswith("https:")

    def shows_project_to(self, project: str) -> bool:
        """True if keys of this project may see the project file's pages and use its models."""
        return not self.needs_keys or project == (self.owner or DEFAULT_PROJECT)

    @property
    def database_url(self) -> str:
        """The URL of the database, SQLite's included."""
        return self.database or f"sqlite:///{self.folder.absolute() / SQLITE_FILE}"

    @property
    def is_new(self) -> bool:
        """True where the database is SQLite in the folder, and not there yet."""
        return not self.database and not (self.folder / SQLITE_FILE).exists()

    def stored_path(self, path: Path) -> str:
        """A path as the database keeps it: relative if inside the folder, which may be moved."""
        path, folder = path.absolute(), self.folder.absolute()
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)

    def path_of(self, stored: str) -> Path:
        """The path that `stored_path` wrote; a whole one is searched in the folder first."""
        folder, path = self.folder.absolute(), Path(stored)
        if not path.is_absolute():
            return folder / path
        ends = (folder.joinpath(*path.parts[-count:]) for count in _DEPTHS)
        return next((end for end in ends if end.exists()), path)

    @property
    def store(self) -> Path:
        """The store of artifacts that all jobs share."""
        return self.folder / "store"

    @property
    def jobs(self) -> Path:
        """The folder of each job is in here."""
        return self.folder / "jobs"


def is_loopback(host: str) -> bool:
    """True for `localhost` and addresses of this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_settings(path: Path | None = None, **options: Any) -> ServerSettings:
    """The settings in a server.yaml, and the options of the command line, which win.

    Options that are None count as absent. Relative paths in the file are relative to its folder.

    Raises:
        ConfigError: one line per problem, with file:line.

    """
    data, root = (
        load_yaml(path, "Name a server.yaml with --models.") if path is not None else ({}, None)
    )
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}:1: this file consists of keys such as `models:`. Write one per line."
        )
    if path is not None:
        data = _beside(data, path.parent)
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return ServerSettings.model_validate_json(
            json.dumps(data | given, default=str), strict=True
        )
    except ValidationError as error:
        raise ConfigError("\n".join(_problems(error, path, root))) from error


def _problems(error: ValidationError, path: Path | None, root: yaml.Node | None) -> list[str]:
    problems = [(p["loc"], describe(ServerSettings, p)) for p in error.errors()]
    if path is None:
        return [text for _, text in problems]
    lines = sorted({(line_of(root, location), text) for location, text in problems})
    return [f"{path}:{line}: {text}" for line, text in lines]


def _beside(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Paths in the file, relative to its folder."""
    moved = dict(data)
    for name in ("folder", "project", "storage"):
        if isinstance(moved.get(name), str) and "://" not in moved[name]:
            moved[name] = str(folder / moved[name])
    models = moved.get("models")
    if isinstance(models, dict):
        moved["models"] = {name: _entry_beside(entry, folder) for name, entry in models.items()}
    return moved


def _entry_beside(entry: Any, folder: Path) -> Any:
    base = entry.get("base") if isinstance(entry, dict) else None
    if not isinstance(base, dict):
        return entry  # of another type, which the check reports
    template = base.get("chat_template")
    paths = ["path", "chat_template"] if template not in TEMPLATE_NAMES else ["path"]
    absolute = {
        key: str((folder / base[key]).absolute()) for key in paths if isinstance(base.get(key), str)
    }
    return entry | {"base": base | absolute}
