"""Whose account is whose: the operator's file, read by reference: no account number is in a PTR, a topic or a log."""

from __future__ import annotations

from pathlib import Path

import msgspec

from connectors.pic.iso20022.transfers import Account


class TenantAccounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Accounts to charge by the vault's token, accounts to credit by the creditor's id."""

    debtors: dict[str, Account]
    creditors: dict[str, Account]


class AccountsError(ValueError):
    """The file cannot be read. The text has its name and nothing that is in it."""


class Accounts:
    """The file as it is now: it is read again when it was replaced."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`AccountsError`."""
        self._path = path
        self._version: tuple[int, int, int] | None = None
        self._tenants: dict[str, TenantAccounts] = {}
        self._read()

    def of(self, tenant: str, token: str, creditor_id: str) -> tuple[Account | None, Account | None]:
        """The debtor's and the creditor's account; None for one ``tenant`` does not have. Raises :class:`AccountsError`."""
        self._read()
        of_tenant = self._tenants.get(tenant)
        if of_tenant is None:
            return None, None
        return of_tenant.debtors.get(token), of_tenant.creditors.get(creditor_id)

    def _read(self) -> None:
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if version != self._version:
                self._tenants = msgspec.json.decode(self._path.read_bytes(), type=dict[str, TenantAccounts])
                self._version = version
        except OSError as error:
            raise AccountsError(f"{self._path} cannot be read: {error.strerror}") from None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise AccountsError(
                f'{self._path} is not {{tenant: {{"debtors": {{token: account}}, "creditors": {{id: account}}}}}}'
                ' with accounts {"iban": ..., "bic": ...}'
            ) from None
