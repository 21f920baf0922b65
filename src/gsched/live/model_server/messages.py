"""What goes over the wire: requests, checked, and answers."""

from collections.abc import Mapping
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

T = TypeVar("T")

MOST_SECONDS = 1e7  # of a call, about four months


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable")
    return text


ModelName = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_printable)]
DeviceName = Annotated[str, Field(max_length=8192)]
DeviceNames = DeviceName | Annotated[list[DeviceName], Field(min_length=1, max_length=1024)]


class CallData(BaseModel):
    """What a model is asked; further keys are handed on to it."""

    model_config = ConfigDict(extra="allow")

    prompt: str = ""
    max_length: int | None = Field(default=None, ge=1, le=1_000_000, description="tokens of the answer at most")
    temperature: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    steps: int | None = Field(default=None, ge=1, le=10_000, description="denoising steps of an image")
    guidance_scale: float | None = Field(default=None, ge=0, le=1000, allow_inf_nan=False)
    width: int | None = Field(default=None, ge=8, le=8192, description="of an image, in pixels")
    height: int | None = Field(default=None, ge=8, le=8192, description="of an image, in pixels")
    seconds: float | None = Field(
        default=None,
        ge=0,
        le=MOST_SECONDS,
        allow_inf_nan=False,
        description="how long the call takes in seconds of the workload; only the emulated backend looks at it",
    )

    def plain(self) -> dict[str, Any]:
        """Return what was given."""
        return self.model_dump(exclude_none=True)


class DownloadRequest(BaseModel):
    """Bring a model to this machine."""

    model_name: ModelName
    source: Annotated[str, Field(max_length=256)] = "huggingface"


class LoadRequest(BaseModel):
    """Load a model into the CPU's memory, or onto GPUs for a later serve."""

    model_name: ModelName
    target: Literal["dram", "gpu"] = "dram"
    device: DeviceNames | None = None


class ServeRequest(BaseModel):
    """Make an instance of a model on devices."""

    model_name: ModelName
    device: DeviceNames


class CallRequest(BaseModel):
    """Call an instance, or estimate such a call."""

    instance_id: Annotated[str, Field(max_length=64)] | None = None
    data: CallData


class EstimateRequest(BaseModel):
    """How long a call would take."""

    model_name: ModelName
    device: DeviceNames = "cpu"
    data: CallData = CallData()


class OffloadRequest(BaseModel):
    """Unload all instances of a model."""

    model_name: ModelName
    target: Literal["disk", "dram"] = "disk"


class Success(BaseModel, Generic[T]):
    """An answer."""

    success: Literal[True] = True
    message: str
    data: T


class Failure(BaseModel):
    """The answer to what cannot be done."""

    detail: str


class Health(BaseModel):
    """The server answers."""

    status: Literal["healthy"] = "healthy"
    backend: str
    version: str


class ModelState(BaseModel):
    """A model and where it is."""

    model_name: str
    model_type: str
    memory_gb: float
    status: Literal["disk", "dram", "served"]
    in_dram: bool
    instances: list[str]


class InstanceState(BaseModel):
    """An instance and what it does."""

    instance_id: str
    model_name: str
    model_type: str
    device: str
    devices: list[str]
    port: int
    url: str
    endpoint: str
    created_at: str
    status: Literal["loading", "loaded", "serving", "unloading"]
    memory_gb: float
    calls_served: int
    calls_waiting: int


class DeviceState(BaseModel):
    """A device; `memory_total_gb` is null where its memory is not counted."""

    name: str
    memory_total_gb: float | None
    memory_used_gb: float
    busy: bool
    instances: list[str]


class Status(BaseModel):
    """All that the server knows of itself."""

    backend: str
    version: str
    time_scale: float
    port: int
    calls_waiting: int
    max_queue: int
    devices: list[DeviceState]
    models: list[ModelState]
    instances: list[InstanceState]


class CallAnswer(BaseModel):
    """What a call has brought: a text or the path of an image."""

    response: str | None = None
    image_path: str | None = None
    model_type: str
    instance_id: str
    port: int
    device_used: str
    execution_seconds: float = Field(description="wall-clock seconds that it computed")
    queue_seconds: float = Field(description="wall-clock seconds that it waited before")


class Estimate(BaseModel):
    """How long a call should take, in seconds of the workload."""

    estimated_execution_time: float
    estimated_time_unit: Literal["seconds"] = "seconds"
    model_type: str
    device: str
    data_features: Mapping[str, Any]
    timestamp: str
