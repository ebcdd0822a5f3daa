"""Campaigns: many runs from one file, one after the other, with one summary and one exit code."""

from rmqbench.campaign.plan import Campaign, PlannedRun
from rmqbench.campaign.result import CampaignResult, RunOutcome
from rmqbench.campaign.running import run_campaign

__all__ = ["Campaign", "CampaignResult", "PlannedRun", "RunOutcome", "run_campaign"]
