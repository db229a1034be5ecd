"""Rows as files, tables, plots and pages."""

from robust_jax.report.attack_tables import attack_survey_table, attack_tables, autoattack_table
from robust_jax.report.html import write_comparison, write_report
from robust_jax.report.rows import read_rows, write_rows
from robust_jax.report.seeds import pool_seeds
from robust_jax.report.tables import comparison_markdown, comparison_table, headline

__all__ = [
    "attack_survey_table",
    "attack_tables",
    "autoattack_table",
    "comparison_markdown",
    "comparison_table",
    "headline",
    "pool_seeds",
    "read_rows",
    "write_comparison",
    "write_report",
    "write_rows",
]
