"""What the names of columns tell, in English and the other commonest languages of shops."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

USER = """
user userid uid useridx customer customerid customerno client clientid reviewer reviewerid visitor visitorid member
memberid account accountid person personid who buyer reader readerid sessionid profilename
kundennr kundennummer kundenid kdnr kunde benutzerid benutzernr benutzer nutzerid nutzer kaufer kaeufer
utilisateur cliente usuario utente klantnummer klantnr klantid klant gebruiker
"""
ITEM = """
item itemid iid movie movieid film filmid product productid parentasin asin sku isbn book bookid business
businessid game gameid appid song songid track trackid artist artistid news newsid article articleid video
videoid anime animeid recipe recipeid show showid what goods goodsid itemidlist productno
artikelnummer artikelnr artikelid artnr produktnummer produktnr produktid artikel produkt
produit producto articulo prodotto articolo produto artigo
"""
RATING = """
rating ratings stars star score overall ratingvalue bookrating recommend recommended reviewoverall userrating ratinglist
preference grade isrecommended liked starrating reviewrating reviewscore
bewertung bewertungen kundenbewertung sternebewertung sterne anzahlsterne wertung
evaluation valoracion puntuacion calificacion valutazione beoordeling waardering avaliacao
"""
VAGUE_RATING = "note schulnote nota voto rate points point punkte"
"""Words that name something else as well: remarks, a tax, loyalty points. The values must be those of a scale."""
TIME = """
timestamp time date ts datetime eventtime unixreviewtime reviewtime dateupdated createdat created posted when day
reviewdate unixtime ratedat datecreated timestamplist purchasedate orderdate dateadded startedat lastupdated
zeitstempel zeitpunkt datum bewertungsdatum bestelldatum kaufdatum fecha
"""
TITLE = """
title name movietitle booktitle productname productitle itemname itemtitle headline songname trackname filmtitle
originaltitle producttitle gamename titlename appname
titel artikelname artikelbezeichnung produktname bezeichnung artikel produkt
"""
EVENT = "event eventtype action behavior behaviour behaviortype actiontype type interaction interactiontype"
VOCABULARY = {
    role: words.split()
    for role, words in {
        "user_id": USER, "item_id": ITEM, "rating": f"{RATING} {VAGUE_RATING}", "timestamp": TIME, "title": TITLE,
        "event": EVENT,
    }.items()
}  # fmt: skip
GRADES = ("note", "schulnote", "nota", "grade")
AMOUNT = re.compile(
    "betrag|preis|price|prix|prijs|precio|prezzo|preco|amount|bedrag|montant|importe|importo|total|summe|umsatz|kosten|"
    "cost|rabatt|discount|menge|anzahl|stueck|stuck|quantit|cantidad|aantal|quantidade|qty|count|helpful|gewicht|weight"
)
OTHER = re.compile(
    "(id|nr|no|num|nummer|number|code|key|index|plz|zip)$|^(age|alter|year|jahr|month|monat|weekday|wochentag|hour|"
    "stunde|gender|geschlecht|status|verified)$"
)


def is_named(name: str, words: Sequence[str]) -> bool:
    """Whether a column's name, or its last part after a dot, is one of `words`."""
    return any(text in words for text in _plain(name))


def is_named_otherwise(name: str) -> bool:
    """Whether a name tells that the column is no rating but an amount, a count, an id, a code."""
    return any(AMOUNT.search(text) or OTHER.search(text) for text in _plain(name))


def _plain(name: str) -> tuple[str, str]:
    """The name and its last part, without accents, marks and capitals."""
    folded = unicodedata.normalize("NFKD", name.rstrip(". ")).lower()
    return re.sub(r"[^a-z0-9]", "", folded), re.sub(r"[^a-z0-9]", "", folded.rpartition(".")[2])
