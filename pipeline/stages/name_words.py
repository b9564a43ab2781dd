"""Words of names that say little about who it is: titles, legal forms, particles, and names known under several forms.

General knowledge of how names are written, kept as data; one line is one kind or one family of forms.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Written before or after a name and never part of it.
TITLES: Final = _words(
    "mr mrs ms miss mister dr doctor prof professor sir madam mme mlle herr frau senor senora sra monsieur madame "
    "sheikh shaikh shaykh sheik cheikh shaikhah sheikha mullah mulla molla mawlawi maulavi mawlavi molvi maulana mawlana "
    "moulana haji hajji hadji hajj alhaj alhaji hojjat hojatoleslam ayatollah ustad ustadh ustaz qari hafiz imam mufti "
    "president prasident presidente minister excellency hon honourable honorable reverend rev capt lieutenant lt col "
    "colonel brigadier gen mv mt"
)
#: Legal forms by what they are; two names with forms of different classes are not quite the same.
LEGAL_FORMS: Final = {
    form: kind
    for kind, forms in {
        "limited": "ltd limited limitada ltda pty pte pvt bhd sdn private lda kft eood ood llc llp lp gmbh ug bv bvba srl "
        "sarl sro spolka doo dooel ooo tov too mchj sprl spzoo zoo fze fzco fzc lllp pllc mbh sl slu oy aps as sp z",
        "public": "plc ag sa sas spa se nv ab asa oyj jsc ojsc cjsc pjsc oao zao pao ao tas nyrt kgaa sab dd ad pjs",
        "corporation": "inc incorporated incorporation corp corporation co company cie companhia compania kk na pt tbk",
        "partnership": "kg ohg snc sc sca gbr cv gp",
    }.items()
    for form in forms.split()
}
#: Legal forms of several words, as they are written out; folded, in written order.
LEGAL_PHRASES: Final = {
    "limited liability company": "llc",
    "limited liability partnership": "llp",
    "public limited company": "plc",
    "private limited company": "ltd",
    "private limited": "ltd",
    "open joint stock company": "ojsc",
    "closed joint stock company": "cjsc",
    "public joint stock company": "pjsc",
    "joint stock company": "jsc",
    "public joint stock": "pjsc",
    "gesellschaft mit beschrankter haftung": "gmbh",
    "aktiengesellschaft": "ag",
    "kommanditgesellschaft": "kg",
    "societe anonyme": "sa",
    "societe a responsabilite limitee": "sarl",
    "sociedad anonima": "sa",
    "sociedade anonima": "sa",
    "sociedad de responsabilidad limitada": "srl",
    "societa per azioni": "spa",
    "societa a responsabilita limitata": "srl",
    "societatea cu raspundere limitata": "srl",
    "naamloze vennootschap": "nv",
    "besloten vennootschap": "bv",
    "spolka z ograniczona odpowiedzialnoscia": "spzoo",
    "sp z o o": "spzoo",
    "sp zoo": "spzoo",
    "общество с ограниченнои ответственностью": "ooo",
    "открытое акционерное общество": "oao",
    "закрытое акционерное общество": "zao",
    "публичное акционерное общество": "pao",
    "акционерное общество": "ao",
    "ооо": "ooo",
    "оао": "oao",
    "зао": "zao",
    "пао": "pao",
    "a s": "as",
    "s a r l": "sarl",
    "g m b h": "gmbh",
}
#: Small words that are left out in names of all kinds.
SMALL_WORDS: Final = _words("de the and of for und et y e i")
#: Parts of names that join others and come and go between spellings; they count a fraction.
PARTICLES: Final = _words(
    "al el ul ar as ad an az ash at le la les los las du des da do dos di del della van von der den ter ten zu zur "
    "bin ibn ben bint bn binte ould ag abu abou abo umm um na"
)
#: How ``Abd``, ``Abdul``, ``Abdel`` is written here, a part of so many names that alone it says little.
SERVANT: Final = "abdul"
#: Words that thousands of organisations and ships share; they count less than what is theirs alone.
GENERIC: Final = _words(
    "group groupe gruppe holding holdings international global general trading trade enterprise enterprises industry "
    "industries industrial services service solutions systems foundation organization organisation association society "
    "bank banco banque trust fund funds capital partners investment investments finance financial insurance management "
    "development construction engineering technology technologies import export shipping maritime marine transport "
    "logistics petroleum oil gas energy company factory bureau institute center centre committee council union network "
    "front movement army party islamic national state united new world republic federation series department ministry"
)
#: Names of one person in several languages or as short forms; each line is one family.
_FAMILIES: Final = """
muhammad mohammed mohamed mohammad muhammed mohamad muhamad mohamud mahomed mehmet mehmed mohd muhammet maxamed magomed
ahmed ahmad ahmet achmad akhmad axmed
abdullah abdallah abdulla abdellah abdalla cabdullaahi
hussein hussain husayn husain hossein hussien hosain hossain huseyin khusein
yusuf youssef yousef yusif yousuf yussuf josef joseph jose giuseppe iosif
ali aly
usama osama oussama
umar omar omer cumar
uthman othman osman usman
ibrahim abraham ebrahim avraham
ishaq ishak isaac isaak
yaqub yaqoub yakub jacob jakob jacques yacoub
musa moussa moses mousa moshe
isa eesa issa ciise
daud dawood dawud david davud
sulayman suleiman soleiman sulaiman solomon suleyman
khalid khaled halid
said saeed sayed saied
mahmud mahmoud mahmood mehmood
hasan hassan hasen xasan
qasim kassem qassem kasim ghassem
john juan jean johann johannes ivan ioan joao giovanni jan johan hans jon ian sean jack
william guillaume guillermo wilhelm willem bill will billy
george georg georges jorge giorgio georgi georgiy yuri juri jiri
michael michel miguel mikhail mikhael michal mihail mike mick mihai
nicholas nikolai nikolay nicolas nikolaus nicola nick mykola niklas
alexander aleksandr alexandre alejandro alessandro oleksandr aleksandar alex sasha iskandar
peter pierre pedro pietro pyotr petr piotr pyotr petro
paul pablo paolo pavel paulo pawel
andrew andrei andrey andreas andre andres andrea andrzej andrii andy
charles carlos carlo karl carl karol charlie
henry henri enrique heinrich enrico hendrik harry
james jim jimmy jaime jacques giacomo
robert roberto bob rob bobby
richard ricardo riccardo dick rick
thomas tomas tom tommaso tommy
edward eduardo edouard ed eddie ted
theodore theodor fyodor fedor teodoro ted
benjamin ben benny binyamin
anthony antonio antoine anton antoni tony
joseph joe josef josip
daniel dan danny danilo
samuel sam sammy
stephen steven stefan stephane esteban etienne steve stefano
elizabeth elisabeth liz beth isabel elisabeta yelizaveta
catherine katherine kate ekaterina yekaterina katarina catalina kathy
mary maria marie miriam maryam mariam
margaret margarita marguerite maggie
helen elena helena yelena olena helene
dmitry dmitri dmitriy dmytro dimitri
sergei sergey serhiy sergio serge sergejs
vladimir volodymyr wladimir uladzimir
evgeny yevgeny eugene yevgeniy evgeniy eugen
igor ihor
oleg oleh
kim gim
lee li yi rhee ri
park pak bak
choe choi
"""


def _family_of() -> dict[str, frozenset[int]]:
    families: dict[str, set[int]] = {}
    for number, line in enumerate(_FAMILIES.strip().splitlines()):
        for word in line.split():
            families.setdefault(word, set()).add(number)
    return {word: frozenset(numbers) for word, numbers in families.items()}


#: To which families a word belongs; two words with one in common are forms of one name.
FAMILIES: Final = _family_of()
_NUMBER_WORDS: Final = (
    *("zero", "one first 1st", "two second 2nd", "three third 3rd", "four fourth 4th", "five fifth 5th"),
    *("six sixth 6th", "seven seventh 7th", "eight eighth 8th", "nine ninth 9th", "ten tenth 10th", "eleven", "twelve"),
)
#: Numbers in words.
NUMBERS: Final = {word: str(number) for number, words in enumerate(_NUMBER_WORDS) for word in words.split()}
TENS: Final = {
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
#: Short forms of words in names of organisations, as several words.
EXPANDED: Final = {
    "us": "united states",
    "usa": "united states",
    "uk": "united kingdom",
    "intl": "international",
    "natl": "national",
    "dept": "department",
    "univ": "university",
    "mfg": "manufacturing",
    "assn": "association",
    "bros": "brothers",
    "govt": "government",
}
