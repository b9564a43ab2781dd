"""``ptr notifications``: the endpoint that PICs send their notifications to."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

import click
from prometheus_client import REGISTRY

from agents.notifications import NotificationServer, served
from connectors.broker.awaited import AwaitedPoster
from connectors.broker.one import PostError
from connectors.pic.calls import Pic
from connectors.pic.options import PicSettingError
from connectors.pic.registry import UnknownPicError, make_pic
from pipeline.commands.shared import broker_option, codec_of, settings_with
from pipeline.engine.metrics import Metrics
from pipeline.settings import Settings
from pipeline.topics import NOTIFIED

HOST = "127.0.0.1"
PORT = 8090


@click.command()
@click.option("--host", default=HOST, show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--pic", "names", multiple=True, metavar="NAME", help="Serve only this one (default: all of PTR_PICS).")
@broker_option
def notifications(host: str, port: int, names: tuple[str, ...], broker: str | None) -> None:
    """Receive PICs' notifications: POST /notifications/PIC, until SIGTERM or Ctrl-C.

    A PIC is served when its plugin has the secret that its notifications are signed with. What is rightly signed is published
    to payments.notified.v1, and answered with 200 once Kafka has it. It listens on loopback: put a proxy with TLS before it.

    \b
    Answers:
      200  Kafka has it, or it is about nothing that waits for it
      400  not a notification of this PIC       401  wrong signature, or signed too long ago
      404  no such PIC is served                413  too large
      408  too slow                             503  busy, or Kafka is away: send it again

    \b
    Examples:
      PTR_PICS=stripe PTR_PIC_STRIPE_WEBHOOK_SECRET_FILE=secrets/whsec ptr notifications
      ptr notifications --port 8443 --pic stripe
      curl -f http://127.0.0.1:8090/ready
    """
    settings = settings_with(broker=broker)
    pics = _pics(settings, names or settings.pics)
    try:
        if not served(pics):
            raise click.ClickException(
                f"none of {', '.join(pics)} has signed notifications: set its secret (docs/plugins.md), or name others"
                " with --pic or PTR_PICS"
            )
        asyncio.run(_serve(settings, pics, host, port))
    except PostError as error:
        raise click.ClickException(str(error)) from None


def _pics(settings: Settings, names: tuple[str, ...]) -> dict[str, Pic]:
    try:
        return {
            # It never calls: nothing is allowed.
            name: make_pic(
                name,
                timeout_s=settings.pic_timeout_s,
                simulator_ledger=settings.simulator_ledger,
                allowed=lambda: False,
            )
            for name in names
        }
    except (UnknownPicError, PicSettingError) as error:
        raise click.ClickException(str(error)) from None


async def _serve(settings: Settings, pics: dict[str, Pic], host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    poster = AwaitedPoster(settings.access, NOTIFIED.name)
    metrics = Metrics(REGISTRY)
    server = NotificationServer(pics, poster, codec_of(settings), metrics=metrics, token=settings.web_token)
    try:
        await asyncio.to_thread(poster.start)
        metrics.ready.set(1)
        try:
            taken = await server.start(host, port)
        except OSError as error:
            raise click.ClickException(f"port {port} on {host} is not free: {error.strerror}") from None
        for name in sorted(served(pics)):
            click.echo(f"http://{host}:{taken}/notifications/{name}", err=True)
        if left := sorted(pics.keys() - served(pics).keys()):
            click.echo(f"not served, for want of a secret or of signed notifications: {', '.join(left)}", err=True)
        await stop.wait()
    finally:
        await server.stop()
        await asyncio.to_thread(poster.close)
        for pic in pics.values():
            with suppress(Exception):
                await pic.close()
