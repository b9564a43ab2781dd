"""``ptr``: the pipeline's command line."""

from __future__ import annotations

import importlib
import sys

import click

from pipeline.commands.interrupts import INTERRUPTED, ended_by, forget_interrupt

#: Command name to its module in pipeline.commands and the object there; imported when it is called.
COMMANDS = {
    "demo": ("demo", "demo", "Run the whole pipeline here, with traffic of its own."),
    "worker": ("worker", "worker", "Run stages of the pipeline."),
    "audit-sink": ("audit", "audit_sink", "Write the audit tables."),
    "audit": ("audit_proofs", "audit", "Prove what the audit tables hold, and check it."),
    "privacy": ("privacy", "privacy", "Erase a person, give out what is stored of one, keep the keys."),
    "submit": ("submit", "submit", "Post PTRs from a file."),
    "show": ("show", "show", "Tell the story of a payment."),
    "trace": ("trace", "trace", "Draw where a payment's time went."),
    "events": ("events", "events", "Follow events live."),
    "operations": ("operations", "operations", "Capture, void or refund a payment."),
    "reviews": ("reviews", "reviews", "Show payments that wait for a person, and decide them."),
    "inventory": ("inventory", "inventory", "Post movements of stock from a file."),
    "invoices": ("invoices", "invoices", "Post changes of invoices from a file."),
    "reconcile": ("reconcile", "reconcile", "Compare a PIC's statement with our attempts."),
    "notifications": ("notifications", "notifications", "Receive PICs' notifications over HTTP."),
    "queues": ("queues", "queues", "Show what waits for each PIC, pause and resume one."),
    "exceptions": ("exceptions", "exceptions", "Except parties from sanctions matches, per tenant."),
    "tenants": ("tenants", "tenants", "Publish and list tenants' configurations."),
    "rules": ("rules", "rules", "Check, test and explain business rules."),
    "lists": ("lists", "lists", "Import sanctions lists, show and compare them."),
    "fraud": ("fraud", "fraud", "Train fraud models, publish them, give them roles."),
    "report": ("report", "report", "Money, declines, queues, stock, invoices, latency, fraud: from the audit tables."),
    "pic": ("pic", "pic", "List, check and begin plugins for payment integrations."),
    "topics": ("topics", "topics", "Make the pipeline's topics."),
    "kafka": ("kafka", "kafka", "Run Apache Kafka here, for development."),
    "dead-letters": ("dead_letters", "dead_letters", "List and retry what no stage could handle."),
    "bench": ("bench", "bench", "Measure the pipeline on this machine."),
    "chaos": ("chaos", "chaos", "Kill processes and recount."),
}


class _Lazy(click.Group):
    """Imports a command's module when the command is used: ``ptr --help`` is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(f"pipeline.commands.{module}"), attribute)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:
            code = ended_by(error)
            if code is None:
                raise
            click.echo(f"\nended by {'Ctrl-C' if code == INTERRUPTED else 'SIGTERM'}", err=True)
            raise click.exceptions.Exit(code) from None
        finally:
            forget_interrupt()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, _, about) in COMMANDS.items()])


@click.group(cls=_Lazy)
@click.version_option(package_name="payment-pipeline", prog_name="ptr")
def main() -> None:
    """A multi-tenant payment pipeline on Faust and Kafka.

    \b
    Examples:
      ptr demo                                  see it work, nothing else needed
      ptr kafka up && ptr topics apply          a real Kafka for development
      ptr tenants apply tenants.yaml            configure tenants
      ptr worker & ptr audit-sink &             run it
      ptr submit payments.jsonl                 post payments
      ptr show aurora pay_000001                what became of one
    """


if __name__ == "__main__":
    sys.exit(main())
