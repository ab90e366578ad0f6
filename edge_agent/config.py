"""What a site may choose about its agent; parsed once by the command line, frozen from then on."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from edge_agent.tracking import TrackingPolicy


class AgentConfig(BaseModel):
    """Settings of one agent; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    source: str = Field(description="Camera number, device path, picture, folder, video file, or rtsp/http URL.")
    address: str = Field(description="The recognition service, HOST:PORT.")
    identity_folder: Path = Field(description="Folder with client.crt, client.key and ca.crt.")
    split_names: tuple[str, ...] = Field(
        default=(), max_length=4, description="Splits to send; if empty, each installed one that the service reads."
    )
    subject_id: str = Field(default="", max_length=128, description="Decide 1:1 on this subject; 1:N if empty.")
    purpose: str = Field(default="", max_length=64, description="What decisions are for; stands in the audit.")
    on_accept: str = Field(default="", description="Command that an accept runs, without a shell.")
    on_reject: str = Field(default="", description="Command that a reject runs, without a shell.")
    command_timeout_s: float = Field(default=10.0, gt=0, description="After which a command is killed, seconds.")
    window: bool = Field(default=False, description="Show a window with the picture and the reason drawn in.")
    preview_file: Path | None = Field(default=None, description="Write the same picture to this JPEG, twice a second.")
    answer_within_s: float = Field(default=5.0, gt=0, description="A file's question without an answer is given up.")
    tracking: TrackingPolicy = Field(default=TrackingPolicy(), description="When one face is asked about again.")
