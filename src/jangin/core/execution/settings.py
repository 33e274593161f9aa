"""Settings of where the work of stages is done: the section `cluster` of a project file."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from jangin.core.config import Config
from jangin.core.executor import Resources


class LocalMachine(Config):
    """All work is done on the machine of `jangin run`."""

    type: Literal["local"] = "local"


class CallResources(Config):
    """What one call of a stage needs while it runs."""

    cpus: float = Field(default=1, ge=0)
    """Cores; a call uses as many threads."""
    gpus: float = Field(default=0, ge=0)
    """GPUs, or a part of one, such as 0.5."""
    memory_gb: float = Field(default=0, ge=0)
    """Memory that the node must have left, in GB; 0: any."""

    @model_validator(mode="after")
    def _fits_a_device(self) -> "CallResources":
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError("`gpus` above 1 must be a whole number")
        if not self.cpus and not self.gpus:
            raise ValueError("`cpus` and `gpus` cannot both be 0")
        return self

    def as_resources(self) -> Resources:
        """For an executor."""
        return Resources(self.cpus, self.gpus, int(self.memory_gb * 1e9))


class RayCluster(Config):
    """The work of some stages is done on the nodes of a Ray cluster that is running already."""

    type: Literal["ray"]
    address: str = Field(default="auto", pattern=r"^(auto|[^\s/:]+:\d+)$")
    """`host:port` of the head node; `auto` is `RAY_ADDRESS`, or the cluster of which this machine
    is a node."""
    authentication: Literal["token", "off"] = "token"
    """`token`: refuse a cluster that admits everybody who reaches its ports. `off`: allow it, as
    where only the cluster's own pods can reach them."""
    wait_minutes: float = Field(default=5, ge=0)
    """How long to wait for a node that can do a stage's work."""
    resources: dict[str, CallResources] = Field(default_factory=dict)
    """By stage: what one call needs, such as `{load: {memory_gb: 2}}`, in place of what the stage
    asks for."""


Cluster = Annotated[LocalMachine | RayCluster, Field(discriminator="type")]
