"""Numbers on the command line, and what is said of a command line that is wrong. Of both programs; it imports click alone."""

from __future__ import annotations

import io
import re

import click

LONG_WORD = re.compile(r"\S{100,}")


class Whole(click.IntRange):
    """A whole number within bounds."""

    name = "whole number"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "NUMBER"

    def _describe_range(self) -> str:
        """What help says beside it: nothing, where what uses it says the bounds."""
        return "" if self.min is None and self.max is None else super()._describe_range()


class Seconds(click.types.FloatParamType):
    """A number of seconds; what it may be is said where it is used."""

    name = "number of seconds"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "SECONDS"


def tell(error: click.ClickException) -> None:
    """What click says of a command line, but for what is too long to be read in it."""
    told = io.StringIO()
    error.show(told)
    click.echo(LONG_WORD.sub(lambda found: f"{found[0][:80]}...", told.getvalue()), err=True, nl=False)
