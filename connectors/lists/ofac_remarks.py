"""OFAC's remarks: "DOB 01 Jan 1965; alt. DOB circa 1966; POB Havana, Cuba; nationality Cuba; a.k.a. 'BNC'." """

from __future__ import annotations

import re
from typing import Final

from connectors.lists.content import Facts, day, years

_REMARK: Final = re.compile(
    r"(?:alt\. )?(?:"
    r"DOB:? (?P<dob>.+)|POB:? (?P<pob>.+)|(?:nationality(?: of registration)?|citizen) (?P<country>.+)|a\.k\.a\. (?P<alias>.+)"
    r")",
    re.IGNORECASE,
)
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE: Final = re.compile(r"(?:(?:(?P<day>\d{1,2}) )?(?P<month>[A-Z][a-z]{2}) )?(?P<year>\d{4})", re.ASCII)
_BETWEEN: Final = re.compile(r" to |(?<=\d{4})-(?=\d{4})")
_CIRCA: Final = "circa "
#: Marks an alias as weak, and is not part of it; all aliases in the remarks are.
_WEAK: Final = re.compile(r"\s*\(weak\)$", re.IGNORECASE)


def read_remarks(entry_id: str, remarks: str, facts: Facts) -> list[str]:
    """Give ``facts`` what ``remarks`` say of birth and countries; returns the weak aliases in their order."""
    aliases: list[str] = []
    for part in remarks.rstrip(".").split(";"):
        found = _REMARK.fullmatch(part.strip())
        if found is None:
            continue
        if found["dob"]:
            facts.birth_date(entry_id, birth_date(found["dob"]))
        elif found["pob"]:
            facts.place(entry_id, found["pob"])
        elif found["country"]:
            facts.country(entry_id, found["country"])
        elif alias := _unquoted(found["alias"]):
            aliases.append(alias)
    return aliases


def birth_date(text: str) -> str | None:
    """OFAC's date in the form of ``ListEntry.birth_dates``; None when it has none of the forms that OFAC uses.

    "09 Feb 1951", "Feb 1951", "1951", each also as "circa ..." (a range of years), "1951 to 1953" and "1951-1953".
    """
    circa = text.startswith(_CIRCA)
    dates = [_date(part.removeprefix(_CIRCA)) for part in _BETWEEN.split(text.strip())]
    known = [found for found in dates if found is not None]
    if len(known) != len(dates) or len(known) > 2:
        return None
    if len(known) == 1 and not circa:
        return known[0]
    return years(int(known[0][:4]), int(known[-1][:4]), circa=circa)


def _date(text: str) -> str | None:
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    if found["month"] is None:
        return day(found["year"])
    if found["month"] not in _MONTHS:
        return None
    month = f"{found['year']}-{_MONTHS.index(found['month']) + 1:02}"
    return day(f"{month}-{int(found['day']):02}" if found["day"] else month)


def _unquoted(text: str) -> str:
    """Without the quotes around it; an apostrophe that begins a name ("'Abd al-'Iz") stays."""
    text = _WEAK.sub("", text.strip())
    for _ in range(2):  # Some are quoted twice.
        if len(text) > 2 and text[0] == text[-1] == "'":
            text = text[1:-1].strip()
    return text
