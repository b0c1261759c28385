"""What a prompt goes through before it is cut into pieces: as the captions of the weights did.

LatteT2V and PixArt-alpha were trained on captions of the web that were cleaned of what is no
description: addresses, file names, numbers of articles, advertisements (docs/notes.md, Text
encoders). Their pipelines clean a prompt twice; HunYuan-DiT's only strips it.
"""

import html
import re
import unicodedata
import urllib.parse
import warnings
from collections.abc import Callable, Mapping

Clean = Callable[[str], str]

FORMATS = r"(?:png|jpe?g|bmp|webp|eps|pdf|apk|mp4)"
DOMAINS = r"(?:com|co|ru|net|org|edu|gov|it)"

_BEFORE_MARKUP = (
    (r"<person>", "person"),  # of data sets that hide names; no tag
    (rf"\b(?:https?:/{{1,3}})?[a-z0-9.-]+\.{DOMAINS}\b[\w/-]*(?!@)", ""),  # addresses
)
_AFTER_MARKUP = (
    (r"@\w+\b", ""),  # names of users
    (r"[\u31c0-\u9fff]+", ""),  # Chinese characters and strokes
    (r"-+", "-"),
    (r"[`´«»“”„]", '"'),
    (r"[‘’]", "'"),
    (r"\d{1,3}(?:\.\d{1,3}){3}", " "),  # addresses of machines
    (r"\\n", " "),  # a line break that was spelt out
    (r"#\d+\b|\b\d{6,}\b", ""),  # numbers of articles
    (rf"\S+\.{FORMATS}", ""),  # names of files
    (r"[\"']{2,}", '"'),
    (r"\.{2,}", " "),
    (r"[#®•©™&@·º½¾¿¡§~)(\][}{|\\/*]+", " "),
)
_AFTER_WORDS = (
    (r"\b[a-z]{1,3}\d{3,}\b", ""),  # jc6640
    (r"\b[a-z]+(?:\d+[a-z]+)+\d*\b", ""),  # jc6640vc, j2d1a2a3
    (r"\b\d+[a-z]+\d+\b", ""),  # 6640vc231
    (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
    (r"(?:free\s)?download(?:\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b{FORMATS}(?:\simages?)?\b", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),  # 3x4, with the letter of either alphabet
    (r"\b\s+:\s+", ": "),
    (r"(\D[,./])\b", r"\1 "),
    (r"\s+", " "),
)
_ENDS = (
    (r"^([\"'])(.+)[\"']$", r"\2"),  # quoted as a whole
    (r"^['_,\-:;]", ""),
    (r"['_,\-:+]$", ""),
    (r"^\.\S+$", ""),
)
MANY_JOINTS = 3  # more of them join words: this-is-my-cute-cat-photo


def stripped(prompt: str) -> str:
    """The prompt without white space at its ends."""
    return prompt.strip()


def lowered(prompt: str) -> str:
    """The prompt in lower case, without white space at its ends."""
    return prompt.lower().strip()


def cleaned(prompt: str) -> str:
    """Cleans a caption twice, as the pipelines of LatteT2V and PixArt-alpha do.

    >>> cleaned("A man's face, f/1.8 &amp; <b>ISO400</b>, see https://www.example.com/a")
    "a man's face, f 1.8 , see"
    """
    return cleaned_once(cleaned_once(prompt))


def cleaned_once(prompt: str) -> str:
    """Returns a caption in lower case without what is no description of a picture."""
    import ftfy  # takes a while to import

    text = urllib.parse.unquote_plus(prompt).strip().lower()
    text = _text_of_markup(_replaced(text, _BEFORE_MARKUP))
    text = _replaced(_same_dashes(text), _AFTER_MARKUP)
    if len(re.findall(r"[-_]", text)) > MANY_JOINTS:
        text = re.sub(r"[-_]", " ", text)
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    text = _replaced(text, _AFTER_WORDS).strip()
    return _replaced(text, _ENDS).strip()


def _replaced(text: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, by in rules:
        text = re.sub(pattern, by, text)
    return text


def _same_dashes(text: str) -> str:
    """A minus for each dash of any script and width."""
    return "".join("-" if unicodedata.category(c) == "Pd" else c for c in text)


def _text_of_markup(text: str) -> str:
    """What a page would show of HTML."""
    import bs4  # takes a while to import

    with warnings.catch_warnings():  # that a caption looks like an address or a file
        warnings.simplefilter("ignore", bs4.MarkupResemblesLocatorWarning)
        return bs4.BeautifulSoup(text, features="html.parser").get_text()


CLEANERS: Mapping[str, Clean] = {"caption": cleaned, "lower": lowered, "strip": stripped}
"""Ways to clean by name."""
