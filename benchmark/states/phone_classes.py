"""Phones by the way they are made: six broad classes of ARPAbet, the labels of synthetic and recorded corpora."""

from collections.abc import Iterable

from ...recipes.corpora.corpus import PHONE_SET, SIL

OTHER = "other"  # of a phone that is not ARPAbet
MEMBERS = {
    "vowels": "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW",
    "approximants": "L R W Y",
    "nasals": "M N NG",
    "fricatives": "CH DH F HH JH S SH TH V Z ZH",  # with the affricates, most of whose length is friction
    "stops": "B D G K P T",
    "silence": SIL,
}
BROAD_CLASSES = (*MEMBERS, OTHER)
_CLASS_OF = {phone: name for name, phones in MEMBERS.items() for phone in phones.split()}
assert sorted(_CLASS_OF) == sorted(PHONE_SET), "every phone has one class"


def broad_class(phone: str) -> str:
    """The class of a phone as corpora name it: ARPAbet without stress, ``SIL`` for every silence; else ``other``."""
    return _CLASS_OF.get(phone, OTHER)


def without_class(phones: Iterable[str]) -> list[str]:
    """The phones that are of no class but ``other``, sorted."""
    return sorted({phone for phone in phones if broad_class(phone) == OTHER})
