"""Checks of HTML pages: their syntax, and what readers of every kind need."""

import re
from collections import Counter

import html5lib


def problems_of(text):
    """What is wrong with a page: the syntax, ids that are not unique or missing, names, and what it loads."""
    try:
        document = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    except html5lib.html5parser.ParseError as error:
        return [f"syntax: {error}"]
    elements = list(document.iter())
    found = [f"id {name!r} is not unique" for name, count in Counter(ids_of(elements)).items() if count > 1]
    known = set(ids_of(elements))
    for element in elements:
        found += [f"{key}={value!r} leads outside" for key, value in element.items() if leads_outside(key, value)]
        found += [f"no element has the id {name!r}" for name in references_of(element) if name not in known]
        if element.tag == "img" and not element.get("alt"):
            found.append("an image has no alt text")
        if element.tag in ("input", "button", "canvas", "svg") and not is_named(element, document):
            found.append(f"<{element.tag}> has no name: {dict(element.items())}")
    for needed in ("title", "h1", "main", "meta[@name='viewport']"):
        if document.find(f".//{needed}") is None:
            found.append(f"there is no {needed}")
    if not document.get("lang"):
        found.append("the page has no language")
    return found


def ids_of(elements):
    return [element.get("id") for element in elements if element.get("id") is not None]


def leads_outside(key, value):
    """Whether an attribute loads something that is not in the page."""
    name = str(key).rpartition("}")[2]
    if name in ("src", "srcset", "poster", "data", "action", "formaction", "background"):
        return not value.startswith("data:")
    return name == "href" and not value.startswith(("data:", "#"))


def references_of(element):
    """The ids that an element refers to."""
    for key, value in element.items():
        name = str(key).rpartition("}")[2]
        if name == "href" and value.startswith("#"):
            yield value[1:]
        if name in ("for", "aria-labelledby", "aria-describedby"):
            yield from value.split()
        yield from re.findall(r"url\(#([^)]+)\)", value)


def is_named(element, document):
    """Whether a control or a picture has a name for readers who do not see it."""
    if element.get("aria-label") or "".join(element.itertext()).strip():
        return True
    if any(label.get("for") == element.get("id") for label in document.iter("label")):
        return True
    return any(element in list(label.iter()) and "".join(label.itertext()).strip() for label in document.iter("label"))
