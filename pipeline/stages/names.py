"""Names of people and organisations: one spelling for all that are the same, and how alike two are.

Pure. A name becomes its *tokens*: lower case, without accents, punctuation, titles and legal forms, in alphabetical
order, so that ``Hussein, Saddam`` is ``saddam hussein``.
"""
from __future__ import annotations
import re, unicodedata
