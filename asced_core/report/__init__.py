"""What a run found, and what can be made of it."""

from .report import ImageReport, Report, unwatched_report
from .run_facts import RunFacts

__all__ = ["ImageReport", "Report", "RunFacts", "unwatched_report"]
