"""Where and when the pipeline runs: Ray, and what Dagster does by itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rallrec_pipeline.settings.section import Section


class RaySettings(Section):
    """More than one machine: LLM stages spread their chunks over actors of a Ray cluster, each with an engine."""

    address: str = Field(
        "",
        description="Empty: this process alone. `auto`: the cluster that this machine is part of. `ray://host:10001` "
        "or `host:6379`: one elsewhere. `local`: several engines on this machine.",
    )
    actors: int = Field(
        0,
        ge=0,
        description="Engines; 0 takes as many as the nodes have room for at the start of a stage. Those for which "
        "there is no room yet start on nodes that join later.",
    )
    cpus_per_actor: float = Field(1, gt=0, description="Cores of one engine.")
    gpus_per_actor: float | None = Field(
        None, ge=0, description="GPUs of one engine; None takes `model.tensor_parallel` where the cluster has any."
    )
    memory_per_actor: float | None = Field(
        None,
        ge=0,
        description="GiB of main memory of one engine without GPUs; None takes an estimate, 0 asks for none.",
    )
    send_model: bool = Field(
        True,
        description="Send the model to the nodes that lack it. Off: the lake lies at the same path on every node.",
    )
    wait_s: float = Field(600, gt=0, description="A stage gives up when no actor was ready for so long.")


class AutomationSettings(Section):
    """What Dagster does by itself, and how; read when definitions are loaded, from the environment's profile."""

    refresh_cron: str = Field("0 3 * * 0", description="When the schedule refreshes all datasets (UTC).")
    sensor_interval_s: int = Field(60, gt=0, description="Shortest time between two looks at raw files.")
    conditions: bool = Field(False, description="Give every stage a condition: Dagster then runs what has new inputs.")
    executor: Literal["in_process", "multiprocess"] = Field(
        "in_process", description="`multiprocess`: a process for each stage of a run that Dagster starts."
    )
