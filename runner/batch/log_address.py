"""Where a container's log is: its group and stream, and CloudWatch's page of it.

Pure. Facts: Batch User Guide, "Using the awslogs log driver"; the console writes the parts of its
address after the # quoted twice, with $ in place of %.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from runner.batch.job_detail import ContainerDetail, JobDetail

GROUP = "/aws/batch/job"
"""Where Batch has logs written, unless the definition names another group."""

_CONSOLES = {
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
"""AWS's own partitions, by the second part of an ARN; all others have console.aws.amazon.com."""


@dataclass(frozen=True, slots=True)
class LogAddress:
    """A stream of CloudWatch Logs."""

    region: str
    group: str
    stream: str
    partition: str = "aws"

    @property
    def url(self) -> str:
        """The console's page of it."""
        console = _CONSOLES.get(self.partition, "console.aws.amazon.com")
        place = f"log-group/{_quoted(self.group)}/log-events/{_quoted(self.stream)}"
        region = quote(self.region, safe="")
        return (
            f"https://{region}.{console}/cloudwatch/home?region={region}#logsV2:log-groups/{place}"
        )


def log_address(
    job: JobDetail, container: ContainerDetail, region: str | None = None
) -> LogAddress | None:
    """Where the container's last attempt wrote to; None where that isn't CloudWatch, or isn't
    known yet. ``region``: where the job is, for answers without an ARN."""
    settings = container.log_settings
    if container.log_stream is None or (settings is not None and settings.driver != "awslogs"):
        return None
    options = settings.options if settings is not None else {}
    partition, of_job = _place(job.arn or job.queue_arn)
    where = options.get("awslogs-region") or of_job or region
    if not where:
        return None
    group = options.get("awslogs-group") or GROUP
    return LogAddress(where, group, container.log_stream, partition)


def region_of_arn(arn: str) -> str | None:
    """The region that an ARN names."""
    return _place(arn)[1]


def _place(arn: str | None) -> tuple[str, str | None]:
    parts = (arn or "").split(":")
    if len(parts) < 6 or parts[0] != "arn":
        return "aws", None
    return parts[1], parts[3] or None


def _quoted(text: str) -> str:
    return quote(quote(text, safe=""), safe="").replace("%", "$")
