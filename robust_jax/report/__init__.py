"""Rows as files, tables, plots and pages."""

from robust_jax.report.html import write_comparison, write_report
from robust_jax.report.rows import read_rows, write_rows
from robust_jax.report.seeds import pool_seeds
from robust_jax.report.tables import comparison_markdown, comparison_table, headline
from robust_jax.report.text_tables import suite_tables

__all__ = [
    "comparison_markdown",
    "comparison_table",
    "headline",
    "pool_seeds",
    "read_rows",
    "suite_tables",
    "write_comparison",
    "write_report",
    "write_rows",
]
