"""Help in sections: the everyday options first, the others by what they are about.

Plain text, which reads alike on a terminal, in a pipe and at 80 columns, and imports nothing to be drawn.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

WHICH_RUN = "Where runs are"
"""The section of what says which folder is meant."""
TRUST = "Bundles from elsewhere"
"""The section of what guards against strangers' files."""
MORE = "Seldom needed"
EVERYDAY = "Options"


class GroupedCommand(TyperCommand):
    """A command whose options are listed by their ``rich_help_panel``; those without one come first."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section for arguments, one for everyday options, and one for each further group."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], EVERYDAY: []}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                is_argument = parameter.param_type_name == "argument"
                if is_argument and parameter.metavar:  # it says more than the type that typer adds
                    record = (parameter.metavar, record[1])
                panel = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or EVERYDAY
                sections.setdefault(panel, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
