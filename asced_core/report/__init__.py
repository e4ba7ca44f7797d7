"""What a run found, and what can be made of it."""

from .report import ImageReport, Report, RunFacts, unwatched_report

__all__ = ["ImageReport", "Report", "RunFacts", "unwatched_report"]
