"""Records as text, pictures and pages, for people and for spreadsheets. Never imports torch or a stage."""

from toolkit.report.comparison import comparison_markdown
from toolkit.report.comparison_junit import comparison_junit
from toolkit.report.csv_table import bench_csv
from toolkit.report.files import write_pictures, write_report, write_runs_report
from toolkit.report.markdown import bench_markdown
from toolkit.report.page import run_page, runs_page, why_no_page
from toolkit.report.pictures import confusion_picture, learning_curves
from toolkit.report.recommendation import Recommendation, recommend
from toolkit.report.records import RunRecords, read_records
from toolkit.report.tables import bench_table
from toolkit.report.terminal import print_bench, print_comparison, print_evaluation, print_parity, print_review

__all__ = [
    "Recommendation",
    "RunRecords",
    "bench_csv",
    "bench_markdown",
    "bench_table",
    "comparison_junit",
    "comparison_markdown",
    "confusion_picture",
    "learning_curves",
    "print_bench",
    "print_comparison",
    "print_evaluation",
    "print_parity",
    "print_review",
    "read_records",
    "recommend",
    "run_page",
    "runs_page",
    "why_no_page",
    "write_pictures",
    "write_report",
    "write_runs_report",
]
