"""Made-up names of people and shops, put together from short word lists in the script of a country."""

from __future__ import annotations

from random import Random
from typing import Final

#: By style: given names, family names, what joins them, whether the family name comes first.
_PEOPLE: Final[dict[str, tuple[str, str, str, bool]]] = {
    "german": (
        "Anneliese Bärbel Friedhelm Gisela Jürgen Käthe Lothar Mechthild Ottokar Wiebke",
        "Ackerpflug Birnstiel Drosselbein Fensterle Grünspecht Hafermehl Kräutner Mühlstein Regenpfeifer Zwirnig",
        " ",
        False,
    ),
    "french": (
        "Aurélie Bastien Célestine Dorothée Étienne Félicien Honorine Léonce Maëlle Zéphyrin",
        "Boisvert Chantegrive Dubosquet Fontbrune Grandvaux L'Hermelin Montclairel Pâquerette Ruisselet Tournesac",
        " ",
        False,
    ),
    "spanish": (
        "Amparo Beltrán Consuelo Eleuterio Itziar Leocadia Macarena Nicanor Remedios Ximena",
        "Aldecoriza Barrancal Cantueso Fontarriba Garzamora Jaramago Lagunilla Pedrosuela Retamares Zarzaquemada",
        " ",
        False,
    ),
    "italian": (
        "Agostina Brunello Concetta Donatella Ermenegildo Fiorenza Ludovica Nazareno Ottavia Ubaldo",
        "Acquarossa Boscoverde D'Ambrosetto Fontechiara Granalunga Mezzaluce Pratofiorito Sassolino Ventolesto",
        " ",
        False,
    ),
    "english": (
        "Agatha Barnaby Clementine Dunstan Elspeth Fergus Henrietta Lancelot Philippa Winifred",
        "Applewhistle Bramblewick Dunnockshaw Featherstow Hollowmere Kettleborough O'Larkin Wrenfield",
        " ",
        False,
    ),
    "greek": (
        "Αγλαΐα Βασιλική Γεράσιμος Ευανθία Θεοφάνης Ιφιγένεια Λεωνίδας Μυρτώ Παντελής Χαρίκλεια",
        "Ανεμογιάννης Βουνόπουλος Γλαροπούλου Θυμαρίδης Καραβόπουλος Μελισσάκης Πευκιάδης Ροδάκης Συκιώτης Χελιδονάκης",
        " ",
        False,
    ),
    "japanese": (
        "あかね 一輝 さくら 千尋 大和 なつめ 遥 瑞穂 悠斗 蓮",
        "朝霧 雨宮 風早 霧島 月野 鳥羽 花岡 星川 水瀬 雪村",
        " ",
        True,
    ),
    "nordic": (
        "Åsa Bjørn Dagny Eirik Ingegerd Jörgen Løvise Sölve Torbjörg Øystein",
        "Almkvistad Björkenlund Dagrønning Fjällstrand Granhøy Isbrekke Kråkemark Lövängsson Næsgaard Sjövindh",
        " ",
        False,
    ),
    "finnish": (
        "Aamu Eevert Hilkka Ilmari Kielo Lempi Onerva Päiviö Tuovi Väinämö",
        "Aaltosuo Havukainio Järvenkukka Koskilehto Lumipuro Mäntyharju Pyryniemi Suokurki Tuulentie Ylähonka",
        " ",
        False,
    ),
    "polish": (
        "Bożena Czesława Grażyna Jędrzej Łucja Mścisław Świętopełk Wacława Żaneta Zdzisław",
        "Brzozogajski Dębołęcka Jaskółkiewicz Kwiatogórska Łąkowicz Modrzewiak Śnieżnicki Wrzosowska Źródlany",
        " ",
        False,
    ),
    "cyrillic": (
        "Аглая Вячеслав Евдокия Лукерья Матвей Пелагея Родион Серафима Тимофей Устинья",
        "Березняков Ветродуев Зимородкова Калиновский Лебедянская Медуницын Перелесков Росинкина Снегирёв Черёмухина",
        " ",
        False,
    ),
    "arabic": (
        "أمينة بدر جمانة رائد زينب طارق لبنى مازن نوال ياسر",
        "البستاني الزيتوني السنديان الغزال الفجري القنديل الكروان المرجان النخيل الياسميني",
        " ",
        False,
    ),
    "chinese": (
        "安琪 博文 春燕 海涛 佳怡 美玲 思远 晓峰 雅静 志明",
        "欧阳 司马 上官 诸葛 令狐 慕容 南宫 东方 夏侯 皇甫",
        "",
        True,
    ),
}
_TRADES: Final = ("Bakery", "Books", "Bikes", "Coffee", "Flowers", "Furniture", "Garden", "Shoes", "Tea", "Toys")
_FORMS: Final[dict[str, str]] = {
    "german": "GmbH",
    "french": "SARL",
    "spanish": "S.L.",
    "italian": "S.r.l.",
    "english": "Ltd",
    "greek": "Ε.Π.Ε.",
    "japanese": "株式会社",
    "nordic": "AB",
    "finnish": "Oy",
    "polish": "Sp. z o.o.",
}
_SPLIT: Final = {style: (given.split(), family.split()) for style, (given, family, *_) in _PEOPLE.items()}


def person(style: str, rng: Random) -> str:
    """A person's name in one of the styles; different people may share one, as in life."""
    givens, families = _SPLIT[style]
    *_, join, family_first = _PEOPLE[style]
    given, family = rng.choice(givens), rng.choice(families)
    return f"{family}{join}{given}" if family_first else f"{given}{join}{family}"


def shop(style: str, rng: Random) -> str:
    """A shop's name: a family's, a trade, a legal form."""
    return f"{rng.choice(_SPLIT[style][1])} {rng.choice(_TRADES)} {_FORMS[style]}"
