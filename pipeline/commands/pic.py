"""``ptr pic``: list the plugins for PICs, check one against the conformance kit, begin a new one."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click

from connectors.pic.base import KINDS, Abilities
from connectors.pic.conformance import kit
from connectors.pic.conformance.kit import Result
from connectors.pic.conformance.scenario import Scenario
from connectors.pic.conformance.scenarios import ALL
from connectors.pic.conformance.stand import Stand, find_stand, stands
from connectors.pic.new import NewPluginError, write_package
from connectors.pic.options import PicSettingError
from connectors.pic.registry import CODES_GROUP, UnknownPicError, abilities_of, codes_of, find_plugin, plugins
from pipeline.commands.shared import json_option, print_json

_SAID = {"pass": "pass", "fail": "FAIL", "not_offered": "-"}


@click.group()
def pic() -> None:
    """List the plugins for payment integration clients (PICs), check them, begin a new one.

    docs/plugins.md tells how to write one.

    \b
    Examples:
      ptr pic list
      ptr pic codes stripe
      ptr pic check simulator
      ptr pic new acme-bank
    """


@pic.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """Name every installed plugin, a line each, with what it can do.

    What a plugin can do is asked of the plugin, made with the settings of this environment (PTR_PIC_<NAME>_<KEY>); where one
    is missing, it is named instead.

    \b
    Examples:
      ptr pic list
      ptr pic list --json
    """
    try:
        found = sorted(plugins().values())
    except UnknownPicError as error:
        raise click.ClickException(str(error)) from None
    have_stands = stands()
    rows = [_described(point, stand=point.name in have_stands) for point in found]
    if as_json:
        print_json(rows)
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        told = row["error"] or _abilities_in_words(row["abilities"])
        click.echo(f"{row['name'].ljust(width)}  {told}  ({row['package']}{'' if row['stand'] else ', no stand'})")


@pic.command()
@click.argument("name")
@json_option
def codes(name: str, as_json: bool) -> None:
    """Tell what each code of the PIC NAME means, and what may be tried after it.

    A line each: the PIC's own code, the standard decline code that events show, and the retry: "never", "here" (later, here or
    elsewhere) or "elsewhere" (another PIC only).

    \b
    Examples:
      ptr pic codes stripe
      ptr pic codes iso8583 --json
    """
    try:
        point = _plugin_of(name)
        table = codes_of(point.name)
    except UnknownPicError as error:
        raise click.ClickException(str(error)) from None
    if table is None:
        raise click.ClickException(
            f"the plugin {point.name} names no table of codes: its package names one in the entry points {CODES_GROUP}"
            " (docs/plugins.md)"
        )
    if as_json:
        print_json([{"code": code, "decline_code": meant.code, "retry": meant.retry} for code, meant in table.items()])
        return
    widths = max(map(len, table)), max(len(meant.code) for meant in table.values())
    for code, meant in table.items():
        click.echo(f"{code.ljust(widths[0])}  {meant.code.ljust(widths[1])}  {meant.retry}")


@pic.command()
@click.argument("name")
@click.option("--only", metavar="TEXT", help="Only scenarios whose theme or name has TEXT in it.")
@json_option
def check(name: str, only: str | None, as_json: bool) -> None:
    """Run the conformance kit against the plugin NAME and print what came of it.

    The plugin is run against its stand, which stands for the PIC on this machine: no PIC is called, and settings of this
    environment are not read. A scenario that needs what the plugin does not say it can do is marked "-". The exit code is 1
    when a scenario fails.

    \b
    Examples:
      ptr pic check simulator
      ptr pic check simulator --only refund
      ptr pic check simulator --json
    """
    stand = _stand_of(name)
    scenarios = [each for each in ALL if only is None or only in f"{each.theme} {each.name}"]
    if not scenarios:
        raise click.UsageError(f"no scenario has {only!r} in its name")
    # A stand that breaks connections on purpose is no news.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    told = (lambda result: None) if as_json else _printer(scenarios)
    results = asyncio.run(kit.check(kit.installed(name), stand, scenarios, told))
    counts: Counter[str] = Counter(result.verdict for result in results)
    if as_json:
        print_json(
            {"pic": name, **{verdict: counts[verdict] for verdict in _SAID}, "scenarios": list(map(_row, results))}
        )
    else:
        click.echo(f"{name}: {counts['pass']} passed, {counts['fail']} failed, {counts['not_offered']} not offered")
    if counts["fail"]:
        raise SystemExit(1)


@pic.command()
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write it (default: ptr-pic-NAME, here).",
)
def new(name: str, directory: Path | None) -> None:
    """Write a package for a plugin called NAME: the plugin, a stand, and a test that passes as it is written.

    \b
    Examples:
      ptr pic new acme-bank
      ptr pic new acme-bank --directory plugins/acme
    """
    folder = directory or Path(f"ptr-pic-{name}")
    try:
        written = write_package(name, folder)
    except NewPluginError as error:
        raise click.ClickException(str(error)) from None
    for path in written:
        click.echo(path)
    click.echo(f"then: pip install -e {folder} && ptr pic check {name}")


def _described(point: EntryPoint, *, stand: bool) -> dict[str, Any]:
    abilities, error = None, ""
    try:
        abilities = abilities_of(point.name)
    except (UnknownPicError, PicSettingError) as reason:
        error = str(reason)
    package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    return {
        "name": point.name,
        "package": package,
        "entry_point": point.value,
        "stand": stand,
        "abilities": abilities,
        "error": error,
    }


def _abilities_in_words(abilities: Abilities) -> str:
    words: list[str] = [kind for kind in KINDS if kind in abilities.kinds]
    words += [name.replace("_", " ") for name in abilities.__struct_fields__ if getattr(abilities, name) is True]
    if abilities.notifications != "none":
        words.append(f"{abilities.notifications} notifications")
    for field in ("currencies", "methods"):
        if named := getattr(abilities, field):
            words.append(f"{field} {'/'.join(sorted(named))}" if len(named) <= 5 else f"{len(named)} {field}")
    return ", ".join(words)


def _plugin_of(name: str) -> EntryPoint:
    point = find_plugin(name)
    if point is None:
        raise click.ClickException(f"no plugin for PIC {name!r}: there are {', '.join(sorted(plugins())) or 'none'}")
    return point


def _stand_of(name: str) -> Stand:
    try:
        point = _plugin_of(name)
    except UnknownPicError as error:
        raise click.ClickException(str(error)) from None
    try:
        stand = find_stand(point.name)
    except (ImportError, AttributeError) as error:
        raise click.ClickException(f"the stand of {point.name} cannot be loaded: {error}") from None
    if stand is None:
        raise click.ClickException(
            f"the plugin {point.name} has no stand: its package names one in the entry points payment_pipeline.pic_stands"
            " (docs/plugins.md)"
        )
    return stand


def _printer(scenarios: Sequence[Scenario]) -> Any:
    themes = max(len(each.theme) for each in scenarios)
    names = max(len(each.name) for each in scenarios)

    def told(result: Result) -> None:
        each = result.scenario
        line = f"{each.theme.ljust(themes)}  {each.name.ljust(names)}  {_SAID[result.verdict]}  {result.why}"
        click.echo(line.rstrip())

    return told


def _row(result: Result) -> dict[str, Any]:
    return {
        "theme": result.scenario.theme,
        "scenario": result.scenario.name,
        "about": result.scenario.about,
        "verdict": result.verdict,
        "why": result.why,
        "seconds": round(result.seconds, 3),
    }
