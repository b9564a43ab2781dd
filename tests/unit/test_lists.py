"""connectors/lists: OFAC's and the UN's files, as published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from connectors.lists import ofac, sample, un
from connectors.lists.load import ListError, load_watchlists
from pipeline.stages.watchlist import KINDS, ListEntry

DATA = Path(__file__).parents[3] / "shared/data"
OFAC, UN = DATA / "ofac", DATA / "un/UN_consolidated.xml"

SDN = (
    '36,"AEROCARIBBEAN AIRLINES",-0- ,"CUBA",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- \r\n'
    '101,"BLACKWOOD, Ignatius","individual","X",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,"DOB 1966; ""a, b"""\r\n'
    '102,"SEA LANTERN","vessel","X",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- \r\n'
    '103,"XX-ZQV","aircraft","X",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- \r\n'
    "\x1a"
)
ALT = (
    '101,1,"aka","BLACKWOOD, Iggy",-0- \r\n36,2,"fka","AERO-CARIBBEAN",-0- \r\n101,3,"nka","BLACKWOOD, Ig",-0- \r\n\x1a'
)

ADD = (
    '101,1,"Elm St.","Havana","Cuba",-0- \r\n36,2,-0- ,-0- ,"Burma",-0- \r\n102,3,-0- ,-0- ,"undetermined",-0- \r\n\x1a'
)

UN_XML = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<CONSOLIDATED_LIST dateGenerated="2026-02-27T00:00:09.554Z">
  <INDIVIDUALS>
    <INDIVIDUAL>
      <FIRST_NAME>IGNATIUS</FIRST_NAME>
      <SECOND_NAME>THORNE</SECOND_NAME>
      <THIRD_NAME/>
      <FOURTH_NAME>BLACKWOOD</FOURTH_NAME>
      <REFERENCE_NUMBER>XXi.001</REFERENCE_NUMBER>
      <NAME_ORIGINAL_SCRIPT>إغناطيوس
         بلاكوود</NAME_ORIGINAL_SCRIPT>
      <INDIVIDUAL_ALIAS><QUALITY>Good</QUALITY><ALIAS_NAME>Iggy Blackwood; Ig Blackwood</ALIAS_NAME></INDIVIDUAL_ALIAS>
      <INDIVIDUAL_ALIAS><QUALITY>Low</QUALITY><ALIAS_NAME>a) Iggy b) Ziggy (birth name)</ALIAS_NAME></INDIVIDUAL_ALIAS>
      <INDIVIDUAL_ALIAS><ALIAS_NAME>Ig T. B. (金铁三), born 1 Jan. 1953 (a passport)</ALIAS_NAME></INDIVIDUAL_ALIAS>
      <INDIVIDUAL_ALIAS><QUALITY/><ALIAS_NAME/></INDIVIDUAL_ALIAS>
    </INDIVIDUAL>
  </INDIVIDUALS>
  <ENTITIES>
    <ENTITY>
      <FIRST_NAME>GREYHOLLOW &amp; SONS (GHS)</FIRST_NAME>
      <REFERENCE_NUMBER>XXe.001</REFERENCE_NUMBER>
      <ENTITY_ALIAS><QUALITY>a.k.a.</QUALITY><ALIAS_NAME>Greyhollow</ALIAS_NAME></ENTITY_ALIAS>
    </ENTITY>
  </ENTITIES>
</CONSOLIDATED_LIST>
"""


def ofac_folder(folder: Path, sdn: str = SDN, alt: str = ALT, add: str = ADD) -> Path:
    """A folder with the three files."""
    (folder / "sdn.csv").write_bytes(sdn.encode())
    (folder / "alt.csv").write_bytes(alt.encode())
    (folder / "add.csv").write_bytes(add.encode())
    return folder


def un_file(folder: Path, text: str = UN_XML) -> Path:
    """A file of the UN's."""
    file = folder / "un.xml"
    file.write_text(text, encoding="utf-8")
    return file


def test_ofac_entries_have_their_aliases_and_kinds(tmp_path: Path) -> None:
    """Four kinds, ``-0-`` as an entity, quotes within quotes, aliases by entity number."""
    assert ofac.load(ofac_folder(tmp_path)) == [
        ListEntry("ofac", "36", "organisation", ("AEROCARIBBEAN AIRLINES", "AERO-CARIBBEAN"), countries=("MM",)),
        ListEntry(
            "ofac",
            "101",
            "person",
            ("BLACKWOOD, Ignatius", "BLACKWOOD, Iggy", "BLACKWOOD, Ig"),
            birth_dates=("1966",),
            countries=("CU",),
        ),
        ListEntry("ofac", "102", "vessel", ("SEA LANTERN",)),
        ListEntry("ofac", "103", "aircraft", ("XX-ZQV",)),
    ]


@pytest.mark.parametrize(
    ("sdn", "alt", "says"),
    [
        (SDN.rstrip("\x1a"), ALT, "sdn.csv:4: the list is cut off"),
        (SDN, ALT.rstrip("\x1a"), "alt.csv:3: the list is cut off"),
        (SDN[:200], ALT, "sdn.csv:3"),
        (SDN[:150], ALT, "sdn.csv:2"),
        (SDN, ALT[:40], "alt.csv:2"),
        ("", ALT, "sdn.csv: the list is cut off"),
        ("\x1a", ALT, "sdn.csv:1: the list is empty"),
        (SDN, "\x1a", "alt.csv:1: the list is empty"),
        (SDN + "\r\n" + SDN, ALT, "sdn.csv:6: something follows"),
        (
            SDN.replace(",-0- \r\n102", "\r\n102").replace('"DOB', '-0- ,"DOB'),
            ALT,
            "sdn.csv:2: 13 fields instead of 12",
        ),
        (SDN.replace('103,"XX', 'x103,"XX'), ALT, "sdn.csv:4: the entity number"),
        (SDN.replace("103,", "102,"), ALT, "sdn.csv:4: the same entity number twice"),
        (SDN.replace('"aircraft"', '"balloon"'), ALT, "sdn.csv:4: the type"),
        (SDN.replace('"XX-ZQV"', "-0- "), ALT, "sdn.csv:4: an entity without a name"),
        (SDN, ALT.replace('"AERO-CARIBBEAN"', '""'), "alt.csv:2: an alias without a name"),
        (SDN, ALT.replace('"fka"', '"xka"'), "alt.csv:2: the kind of alias"),
        (SDN, ALT.replace("36,2", "37,2"), "alt.csv:2: an alias of an entity that sdn.csv does not have"),
        ("<html>not found</html>", ALT, "sdn.csv:1: 1 fields instead of 12"),
        (SDN, ALT.replace(",-0- \r\n36", "\r\n36"), "alt.csv:1: 4 fields instead of 5"),
    ],
)
def test_a_damaged_ofac_list_is_refused_whole(tmp_path: Path, sdn: str, alt: str, says: str) -> None:
    """Cut off anywhere, of another format or of two days: an error with file and line, and nobody's name."""
    with pytest.raises(ListError) as caught:
        ofac.load(ofac_folder(tmp_path, sdn, alt))
    assert says in str(caught.value)
    assert "BLACKWOOD" not in str(caught.value)


@pytest.mark.parametrize(
    ("add", "says"),
    [
        (ADD.rstrip("\x1a"), "add.csv:3: the list is cut off"),
        (ADD.replace("36,2", "37,2"), "add.csv:2: an address of an entity that sdn.csv does not have"),
        (ADD.replace('"Havana",', ""), "add.csv:1: 5 fields instead of 6"),
        (ADD[:30], "add.csv:1"),
        ("", "add.csv: the list is cut off"),
    ],
)
def test_damaged_addresses_refuse_the_whole_list(tmp_path: Path, add: str, says: str) -> None:
    """The third file is as much a part of the list as the others."""
    with pytest.raises(ListError) as caught:
        ofac.load(ofac_folder(tmp_path, add=add))
    assert says in str(caught.value)
    (tmp_path / "add.csv").unlink()
    with pytest.raises(ListError, match=r"add\.csv: cannot be read: No such file"):
        ofac.load(tmp_path)


REMARKS = [
    # The forms that OFAC uses, and what ListEntry wants: worked out by hand.
    ("DOB 09 Feb 1951.", ("1951-02-09",), (), ()),
    ("DOB Feb 1951; alt. DOB 1953.", ("1951-02", "1953"), (), ()),
    ("DOB circa 1966.", ("1964/1968",), (), ()),
    ("DOB circa 05 Mar 1966.", ("1964/1968",), (), ()),
    ("DOB 1951 to 1953; alt. DOB 01 Jan 1960 to 31 Dec 1960.", ("1951/1953", "1960"), (), ()),
    ("DOB circa 1960-1965.", ("1958/1967",), (), ()),
    ("POB Gaza; POB Havana, Cuba; alt. POB Guadalajara, Jalisco.", (), ("CU", "PS"), ()),
    ("nationality Korea, North; citizen Turkey; alt. citizen Cote d'Ivoire.", (), ("CI", "KP", "TR"), ()),
    ("Nationality of Registration Man, Isle of; Former Vessel Flag Iran.", (), ("IM",), ()),
    (
        "a.k.a. 'BNC'; a.k.a. ''FOOPIE''; a.k.a. ''ABD-AL-'IZ'; a.k.a. 'X, Y' (weak).",
        (),
        (),
        ("BNC", "FOOPIE", "'ABD-AL-'IZ", "X, Y"),
    ),
    ("a.k.a. 'BLACKWOOD, Iggy'.", (), (), ()),  # Strong already.
    ("Passport D1 (Cuba); Linked To: DOB INC.; Gender Male; SSN 1-1.", (), (), ()),
]


@pytest.mark.parametrize(("remarks", "birth_dates", "countries", "weak_names"), REMARKS)
def test_ofac_remarks_are_read(
    tmp_path: Path,
    remarks: str,
    birth_dates: tuple[str, ...],
    countries: tuple[str, ...],
    weak_names: tuple[str, ...],
) -> None:
    """Birth dates, countries of birth, nationality and registration, and weak aliases; everything else is left alone."""
    sdn = SDN.replace('DOB 1966; ""a, b""', remarks)
    content = ofac.read(ofac_folder(tmp_path, sdn, add=ADD.replace("101,1", "103,1")))
    (entry,) = [entry for entry in content.entries if entry.entry_id == "101"]
    assert (entry.birth_dates, entry.countries, entry.weak_names) == (birth_dates, countries, weak_names)
    assert (content.unknown_countries, content.unread_dates) == ({}, 0)


#: The vessel's row up to its flag.
VESSEL = '"SEA LANTERN","vessel","X",-0- ,-0- ,-0- ,-0- ,-0- ,'


def test_what_cannot_be_read_is_counted_and_kept_out(tmp_path: Path) -> None:
    """A country that is not known and a date that is none are neither guessed nor a reason to keep the old list."""
    sdn = SDN.replace('DOB 1966; ""a, b""', "DOB 31 Feb 1951; DOB Spring 1952; nationality Atlantis; citizen Cuba")
    sdn = sdn.replace(f"{VESSEL}-0- ", f'{VESSEL}"Avalon"')
    content = ofac.read(ofac_folder(tmp_path, sdn))
    by_id = {entry.entry_id: entry for entry in content.entries}
    assert (by_id["101"].birth_dates, by_id["101"].countries, by_id["102"].countries) == ((), ("CU",), ())
    assert (content.unread_dates, content.unknown_countries) == (2, {"Atlantis": 1, "Avalon": 1})


def test_a_vessel_has_its_flag_and_an_alias_its_mark(tmp_path: Path) -> None:
    """The flag is a country of the vessel; an alias whose remarks call it weak is weak."""
    sdn = SDN.replace(f"{VESSEL}-0- ", f'{VESSEL}"Panama"')
    alt = ALT.replace('"BLACKWOOD, Ig",-0- ', '"BLACKWOOD, Ig","Weak"')
    by_id = {entry.entry_id: entry for entry in ofac.load(ofac_folder(tmp_path, sdn, alt))}
    assert by_id["102"].countries == ("PA",)
    assert by_id["101"].weak_names == ("BLACKWOOD, Ig",)
    assert by_id["101"].names == ("BLACKWOOD, Ignatius", "BLACKWOOD, Iggy")


BORN = "<INDIVIDUAL_DATE_OF_BIRTH><TYPE_OF_DATE>{}</TYPE_OF_DATE>{}</INDIVIDUAL_DATE_OF_BIRTH>"


@pytest.mark.parametrize(
    ("kind", "inside", "birth_dates", "unread"),
    [
        ("EXACT", "<DATE>1965-01-09</DATE>", ("1965-01-09",), 0),
        ("EXACT", "<YEAR>1965</YEAR><NOTE>passport</NOTE>", ("1965",), 0),
        ("APPROXIMATELY", "<YEAR>1965</YEAR>", ("1963/1967",), 0),
        ("BETWEEN", "<FROM_YEAR>1963</FROM_YEAR><TO_YEAR>1968</TO_YEAR>", ("1963/1968",), 0),
        ("BETWEEN", "<FROM_YEAR>1968</FROM_YEAR><TO_YEAR>1963</TO_YEAR>", (), 1),
        ("BETWEEN", "<FROM_YEAR>1968</FROM_YEAR>", (), 1),
        ("EXACT", "<DATE>1965-02-30</DATE>", (), 1),
        ("EXACT", "<NOTE>30-35 years old</NOTE>", (), 0),
        ("", "", (), 0),
    ],
)
def test_un_birth_dates(tmp_path: Path, kind: str, inside: str, birth_dates: tuple[str, ...], unread: int) -> None:
    """Exact, approximate and between two years; a date that is none is counted."""
    content = un.read(un_file(tmp_path, UN_XML.replace("</INDIVIDUAL>", BORN.format(kind, inside) + "</INDIVIDUAL>")))
    assert (content.entries[-1].birth_dates, content.unread_dates) == (birth_dates, unread)


def test_un_countries_and_dates_of_aliases(tmp_path: Path) -> None:
    """Of nationality, address and birth; an alias may have a birth date of its own. The file says when it was made."""
    more = (
        "<NATIONALITY><VALUE>Syrian Arab Republic</VALUE><VALUE>na</VALUE><VALUE>former Soviet Union</VALUE></NATIONALITY>"
        "<INDIVIDUAL_ADDRESS><COUNTRY>Iran (Islamic Republic of)</COUNTRY><CITY>Cuba</CITY></INDIVIDUAL_ADDRESS>"
        "<INDIVIDUAL_PLACE_OF_BIRTH><COUNTRY>Türkiye</COUNTRY></INDIVIDUAL_PLACE_OF_BIRTH>"
        "<INDIVIDUAL_ALIAS><QUALITY>Good</QUALITY><ALIAS_NAME>Ig</ALIAS_NAME>"
        "<DATE_OF_BIRTH>1955-12-01</DATE_OF_BIRTH></INDIVIDUAL_ALIAS>"
    )
    content = un.read(un_file(tmp_path, UN_XML.replace("</INDIVIDUAL>", more + "</INDIVIDUAL>")))
    person = content.entries[-1]
    assert (person.countries, person.birth_dates) == (("IR", "SY", "TR"), ("1955-12-01",))
    assert "Ig" in person.names
    assert content.unknown_countries == {"former Soviet Union": 1}
    assert content.source_at_ms == 1772150409554
    with pytest.raises(ListError, match="dateGenerated is not a time"):
        un.read(un_file(tmp_path, UN_XML.replace("2026-02-27T00:00:09.554Z", "yesterday")))


def test_the_order_of_a_file_is_no_part_of_the_list(tmp_path: Path) -> None:
    """The same entries in another order are the same list."""
    lines = SDN.rstrip("\x1a").splitlines(keepends=True)
    one = ofac.read(ofac_folder(tmp_path))
    assert ofac.read(ofac_folder(tmp_path, "".join(reversed(lines)) + "\x1a")) == one


def test_an_ofac_list_that_is_not_utf_8_or_not_there(tmp_path: Path) -> None:
    """Named with file and line, or with file and why."""
    ofac_folder(tmp_path)
    (tmp_path / "alt.csv").write_bytes(ALT.encode().replace(b"Iggy", b"Igg\xff"))
    with pytest.raises(ListError, match=r"alt\.csv:1: not UTF-8"):
        ofac.load(tmp_path)
    (tmp_path / "alt.csv").unlink()
    with pytest.raises(ListError, match=r"alt\.csv: cannot be read: No such file"):
        ofac.load(tmp_path)


def test_every_cut_of_an_ofac_file_is_noticed(tmp_path: Path) -> None:
    """Wherever a download stopped, the list is refused; the only thing that may be missing is nothing."""
    for length in range(len(SDN)):
        with pytest.raises(ListError):
            ofac.load(ofac_folder(tmp_path, sdn=SDN[:length]))


def test_un_entries_have_their_aliases_and_scripts(tmp_path: Path) -> None:
    """Parts of a name put together, several names in one field taken apart, remarks left out, other scripts kept."""
    entity, individual = un.load(un_file(tmp_path))
    assert individual == ListEntry(
        "un",
        "XXi.001",
        "person",
        (
            "IGNATIUS THORNE BLACKWOOD",
            "Iggy Blackwood",
            "Ig Blackwood",
            "Ig T. B.",
            "金铁三",
            "إغناطيوس بلاكوود",
        ),
        ("Iggy", "Ziggy"),
    )
    assert entity == ListEntry("un", "XXe.001", "organisation", ("GREYHOLLOW & SONS", "Greyhollow"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "un.xml:1: not XML, or cut off"),
        (UN_XML[: UN_XML.index("Ziggy")], "un.xml:13: not XML, or cut off"),
        (UN_XML.replace("</CONSOLIDATED_LIST>", ""), "not XML, or cut off"),
        ("<html></html>", "un.xml:1: the root is not CONSOLIDATED_LIST"),
        ("<CONSOLIDATED_LIST>\n<INDIVIDUALS/>\n</CONSOLIDATED_LIST>", "un.xml:3: no ENTITIES"),
        ("<CONSOLIDATED_LIST>\n<INDIVIDUALS/>\n<ENTITIES/>\n</CONSOLIDATED_LIST>", "un.xml:4: the list is empty"),
        (UN_XML.replace("XXe.001", "XXi.001"), "un.xml:23: the same reference number twice"),
        (UN_XML.replace("<REFERENCE_NUMBER>XXe.001</REFERENCE_NUMBER>", ""), "un.xml:23: an entry with 0 reference"),
        (UN_XML.replace("ENTITY>", "THING>"), "un.xml:19: an unexpected element in ENTITIES"),
        (UN_XML.replace("ENTITIES>", "THINGS>"), "un.xml:18: neither INDIVIDUALS nor ENTITIES"),
        (
            UN_XML.replace("GREYHOLLOW &amp; SONS (GHS)", "").replace("Greyhollow", ""),
            "un.xml:23: an entry without a name",
        ),
        (
            '<!DOCTYPE a [<!ENTITY x "y">]>\n<CONSOLIDATED_LIST/>',
            "un.xml:1: refused: DTDForbidden",
        ),
    ],
)
def test_a_damaged_un_list_is_refused_whole(tmp_path: Path, text: str, says: str) -> None:
    """Cut off, of another format or with a document type (entity bombs): an error with file and line."""
    with pytest.raises(ListError) as caught:
        un.load(un_file(tmp_path, text))
    assert says in str(caught.value)
    assert "BLACKWOOD" not in str(caught.value)


def test_every_cut_of_a_un_file_is_noticed(tmp_path: Path) -> None:
    """Wherever a download stopped, the list is refused."""
    whole = UN_XML.rstrip()
    for length in range(0, len(whole), 7):
        with pytest.raises(ListError):
            un.load(un_file(tmp_path, whole[:length]))


def test_a_un_list_that_is_not_there(tmp_path: Path) -> None:
    """Named with file and why."""
    with pytest.raises(ListError, match=r"none\.xml: cannot be read: No such file"):
        un.load(tmp_path / "none.xml")


def test_the_sample_is_small_and_invented() -> None:
    """A dozen entries of every kind with names, under the version ``sample``; loaded where no list is configured."""
    entries = sample.load()
    assert len(entries) == 12
    assert {entry.kind for entry in entries} == KINDS - {"unknown"}
    assert len({entry.entry_id for entry in entries}) == 12
    lists = load_watchlists(())
    assert (lists.version, lists.entries_count) == ("sample", 12)
    found = lists.best_match("Ignatius Thorne Blackwood")
    assert found is not None
    assert (found.list, found.entry_id, found.score) == ("sample", "sample-1", 1.0)


def test_lists_are_loaded_by_name(tmp_path: Path) -> None:
    """Both lists together; the version is the content's, so it is the same from any folder."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    lists = load_watchlists((("ofac", str(ofac_folder(one))), ("un", str(un_file(one)))))
    again = load_watchlists((("ofac", str(ofac_folder(two))), ("un", str(un_file(two)))))
    assert lists.entries_count == 6
    assert lists.version == again.version
    with pytest.raises(ListError, match=r"no list is called 'eu'; choose from ofac, un"):
        load_watchlists((("eu", str(one)),))
    (one / "sdn.csv").write_bytes(SDN[:-1].encode())
    with pytest.raises(ListError):
        load_watchlists((("un", str(one / "un.xml")), ("ofac", str(one))))


def test_ofac_as_published() -> None:
    """The list of July 2021: 8,976 records and 11,910 aliases, of the kinds that its own column counts."""
    for needed in ofac.FILES:
        if not (OFAC / needed).exists():
            pytest.skip(f"../shared/data/ofac/{needed} is not there")
    entries = ofac.load(OFAC)
    kinds = Counter(entry.kind for entry in entries)
    assert kinds == {"person": 4620, "organisation": 3673, "vessel": 406, "aircraft": 277}
    by_id = {entry.entry_id: entry for entry in entries}
    banco = by_id["306"]
    assert banco.names == ("BANCO NACIONAL DE CUBA", "NATIONAL BANK OF CUBA")
    assert (banco.weak_names, banco.countries) == (("BNC",), ("CH", "ES", "JP", "PA"))
    content = ofac.read(OFAC)
    assert content.unread_dates == 0
    # Regions, and a country that exists no more.
    assert set(content.unknown_countries) == {
        "Netherlands Antilles",
        "Region: Crimea",
        "Region: Kafia Kingi",
        "Region: Northern Mali",
        "possibly Palestinian",
    }
    # As many as have a part that begins with "DOB" in their remarks; as many as have parts that begin with "a.k.a.".
    assert sum(bool(entry.birth_dates) for entry in entries) == 4428
    assert sum(len(entry.weak_names) for entry in entries) == 2415


def test_un_as_published() -> None:
    """The list of February 2026: 730 individuals and 273 entities."""
    if not UN.exists():
        pytest.skip("../shared/data/un/UN_consolidated.xml is not there")
    entries = un.load(UN)
    assert Counter(entry.kind for entry in entries) == {"person": 730, "organisation": 273}
    by_id = {entry.entry_id: entry for entry in entries}
    assert by_id["CDi.001"].names == ("ERIC BADEGE",)
    assert "GREAT LAKES BUSINESS COMPANY" in by_id["CDe.003"].names
    iyamuremye = by_id["CDi.003"]
    assert iyamuremye.weak_names == ("Rumuli",)
    assert (iyamuremye.birth_dates, iyamuremye.countries) == (("1948",), ("CD", "RW"))
    content = un.read(UN)
    assert content.source_at_ms == 1772150409554  # 2026-02-27T00:00:09.554Z
    assert (content.unread_dates, content.unknown_countries) == (0, {"former Soviet Union": 1})
