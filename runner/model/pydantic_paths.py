"""The models of the files that a job gets and leaves, for documents that Python code builds."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated

from pydantic import Field

from runner.model import fields as rules
from runner.model.pydantic_base import DocumentPart, document_part
from runner.model.pydantic_types import END, FILLED, Fresh, Glob, text_field


@document_part(
    rules.INPUT_FIELDS,
    rules.INPUT_REQUIRED,
    {
        "not": {
            "properties": {
                "s3": {"pattern": f"/{END}"},
                "path": {"not": {"pattern": f"/{END}"}},
            },
            "required": ["path", "s3"],
        }
    },
)
class InputPath(DocumentPart):
    """What is fetched from S3 before the first attempt."""

    s3: Annotated[
        str,
        text_field(
            "s3://bucket/key, or s3://bucket/prefix/ for all keys below it.",
            pattern=f"{FILLED}{rules.S3_SCHEME}{rules.BUCKET_PATTERN}/",
        ),
    ]
    path: Annotated[
        str,
        text_field(
            "Where it goes: a file's name, or with a / at its end a folder.", pattern=FILLED
        ),
    ]


@document_part(rules.RESULT_FIELDS, rules.RESULT_REQUIRED)
class ResultPath(DocumentPart):
    """A glob of the files to keep after success."""

    path: Annotated[Glob, Field(description="Which files.")]
    _: KW_ONLY
    optional: bool = Field(default=False, description="It may match nothing.")
    fresh: Fresh = Field(
        default="keep",
        description="Files older than the job's first start: keep stores and tells them, check "
        "counts them as missing, clear moves them aside before it.",
    )
