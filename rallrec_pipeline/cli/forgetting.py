"""The command `forget`."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from rallrec_pipeline.cli.terminal import console, say, tell_findings
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.settings import lake_root

if TYPE_CHECKING:
    from rallrec_pipeline.pipeline.forgetting.certificate import Certificate
    from rallrec_pipeline.pipeline.forgetting.scan import Found


def forget(
    dataset: Annotated[str, typer.Argument(help="A dataset.")],
    user_id: Annotated[str, typer.Argument(help="A user of it, as in the raw files.")],
    plan: Annotated[bool, typer.Option("--plan", help="Only tell what would go.")] = False,
    scan: Annotated[bool, typer.Option("--scan", help="Only search for what is left of the user.")] = False,
) -> None:
    """Forget a user: raw rows, all results made with them, cached answers and adapters go; a certificate says which.

    Then the lake and Dagster's storage are searched; the exit status is 1 where the user is still named. The next run
    makes anew what went, without the user, whatever its source still holds.
    """
    from rallrec_pipeline.pipeline.forgetting.certificate import (
        DATABASE,
        NOT_REACHED,
        certificate_file,
        write_certificate,
    )
    from rallrec_pipeline.pipeline.forgetting.forget import certificate_of, forget_user

    if plan and scan:
        raise ConfigError("--plan and --scan exclude each other: one looks ahead, the other back")
    lake = lake_root()
    certificate = certificate_of(lake, dataset, user_id) if scan else forget_user(lake, dataset, user_id, say, plan)
    if certificate is not None:
        _tell(certificate, plan)
    if plan:
        return
    found = _searched(lake, dataset, user_id)
    if certificate is not None:
        beyond = [*NOT_REACHED, DATABASE] if _has_database() else [*NOT_REACHED]
        write_certificate(lake, replace(certificate, scan=asdict(found), not_reached=beyond))
        path = certificate_file(lake, dataset, certificate.user)
        console.print(f"certificate: {path}", markup=False, highlight=False, soft_wrap=True)
    tell_findings(f"{trace.file}: {trace.place}, {trace.count:,} times" for trace in found.traces)
    if found.traces:
        raise typer.Exit(1)
    how = "as a word in texts, too" if found.everywhere else "where users are named, as the id alone says too little"
    console.print(f"no trace in {found.files:,} files, searched {how}", highlight=False, soft_wrap=True)
    if certificate is not None and certificate.to_be_made_anew and not certificate.made_anew:
        console.print(f"run `rallrec run {dataset}` to make anew what went", markup=False, highlight=False)


def _searched(lake: Path, dataset: str, user_id: str) -> Found:
    from rallrec_pipeline.pipeline.forgetting.forget import redaction_for
    from rallrec_pipeline.pipeline.forgetting.scan import search_lake

    home = _instance().parent if _instance().exists() else None
    return search_lake(lake, redaction_for(lake, dataset, user_id), user_id, home)


def _instance() -> Path:
    return Path(os.environ.get("DAGSTER_HOME") or Path.cwd()) / "dagster.yaml"


def _has_database() -> bool:
    """Whether Dagster's storage lies in Postgres."""
    text = _instance().read_text(encoding="utf-8") if _instance().exists() else ""
    return re.search(r"^\s+postgres:|dagster_postgres", text, re.MULTILINE) is not None


def _tell(certificate: Certificate, plan: bool) -> None:
    table = Table("what", Column("count", justify="right"), "which", title="would go" if plan else "gone")
    for file in certificate.raw_files:
        table.add_row("raw rows", f"{file.rows:,}", Text(file.file))
    stages = dict.fromkeys(held.stage for held in certificate.results)
    if stages:
        table.add_row("results", f"{len(certificate.results):,}", Text(", ".join(stages)))
    for name, rows in certificate.cached_rows.items():
        table.add_row("cached answers", f"{rows:,}", name)
    if certificate.edited:
        table.add_row("edited copies", f"{len(certificate.edited):,}", Text(", ".join(certificate.edited)))
    if certificate.adapters:
        table.add_row("adapters", f"{len(certificate.adapters):,}", Text(", ".join(certificate.adapters)))
    for name, count in (("history", certificate.history_entries), ("temporary files", certificate.temporary_files)):
        if count:
            table.add_row(name, f"{count:,}", "")
    if table.row_count:
        console.print(table)
    for variant, assets in certificate.to_be_made_anew.items():
        made = sum(one["variant"] == variant for one in certificate.made_anew)
        told = "would lose their results" if plan else f"lost their results, {made} of them have new ones"
        console.print(Text(f"{variant}: {len(assets)} assets {told}"), soft_wrap=True)
    if plan:
        console.print("this is the plan: nothing has been removed", highlight=False)
