"""Numbers on the command line, called by what people know when a value is none. Of both programs; it imports click alone."""

from __future__ import annotations

import click


class Whole(click.IntRange):
    """A whole number within bounds."""

    name = "whole number"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "NUMBER"


class Seconds(click.types.FloatParamType):
    """A number of seconds; what it may be is said where it is used."""

    name = "number of seconds"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "SECONDS"
