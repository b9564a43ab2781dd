"""connectors/lists: OFAC's and the UN's files, as published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from connectors.lists import ofac, sample, un
from connectors.lists.load import ListError, load_watchlists
from pipeline.stages.screening import KINDS, ListEntry

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


def ofac_folder(folder: Path, sdn: str = SDN, alt: str = ALT) -> Path:
    """A folder with the two files."""
    (folder / "sdn.csv").write_bytes(sdn.encode())
    (folder / "alt.csv").write_bytes(alt.encode())
    return folder


def un_file(folder: Path, text: str = UN_XML) -> Path:
    """A file of the UN's."""
    file = folder / "un.xml"
    file.write_text(text, encoding="utf-8")
    return file


def test_ofac_entries_have_their_aliases_and_kinds(tmp_path: Path) -> None:
    """Four kinds, ``-0-`` as an entity, quotes within quotes, aliases by entity number."""
    assert ofac.load(ofac_folder(tmp_path)) == [
        ListEntry("ofac", "36", "organisation", ("AEROCARIBBEAN AIRLINES", "AERO-CARIBBEAN")),
        ListEntry("ofac", "101", "person", ("BLACKWOOD, Ignatius", "BLACKWOOD, Iggy", "BLACKWOOD, Ig")),
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
    ],
)
def test_a_damaged_ofac_list_is_refused_whole(tmp_path: Path, sdn: str, alt: str, says: str) -> None:
    """Cut off anywhere, of another format or of two days: an error with file and line, and nobody's name."""
    with pytest.raises(ListError) as caught:
        ofac.load(ofac_folder(tmp_path, sdn, alt))
    assert says in str(caught.value)
    assert "BLACKWOOD" not in str(caught.value)


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
    individual, entity = un.load(un_file(tmp_path))
    assert individual == ListEntry(
        "un",
        "XXi.001",
        "person",
        (
            "IGNATIUS THORNE BLACKWOOD",
            "Iggy Blackwood",
            "Ig Blackwood",
            "Iggy",
            "Ziggy",
            "Ig T. B.",
            "金铁三",
            "إغناطيوس بلاكوود",
        ),
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
    for needed in ("sdn.csv", "alt.csv"):
        if not (OFAC / needed).exists():
            pytest.skip(f"../shared/data/ofac/{needed} is not there")
    entries = ofac.load(OFAC)
    kinds = Counter(entry.kind for entry in entries)
    assert kinds == {"person": 4620, "organisation": 3673, "vessel": 406, "aircraft": 277}
    by_id = {entry.entry_id: entry for entry in entries}
    assert by_id["306"].names == ("BANCO NACIONAL DE CUBA", "NATIONAL BANK OF CUBA")


def test_un_as_published() -> None:
    """The list of February 2026: 730 individuals and 273 entities."""
    if not UN.exists():
        pytest.skip("../shared/data/un/UN_consolidated.xml is not there")
    entries = un.load(UN)
    assert Counter(entry.kind for entry in entries) == {"person": 730, "organisation": 273}
    by_id = {entry.entry_id: entry for entry in entries}
    assert by_id["CDi.001"].names == ("ERIC BADEGE",)
    assert "GREAT LAKES BUSINESS COMPANY" in by_id["CDe.003"].names
