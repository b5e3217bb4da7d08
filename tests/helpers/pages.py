"""Reads an HTML page for the tests: its elements, strictly nested."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


@dataclass(eq=False)
class Element:
    """A tag, its attributes, and its content: texts and elements, in order."""

    tag: str
    attributes: dict
    content: list = field(default_factory=list)

    def all(self, *tags):
        """Every element inside with one of these tags, in the order of the page."""
        for part in self.content:
            if isinstance(part, Element):
                if part.tag in tags or not tags:
                    yield part
                yield from part.all(*tags)

    def text(self, without=()):
        """All text inside, except that of some tags."""
        return "".join(
            part if isinstance(part, str) else "" if part.tag in without else part.text(without)
            for part in self.content
        )

    def one(self, tag, **attributes):
        """The only element with this tag and these attributes."""
        (found,) = (
            element for element in self.all(tag) if attributes.items() <= element.attributes.items()
        )
        return found


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open = [Element("page", {})]

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in {self.get_starttag_text()}"
        element = Element(tag, dict(attrs))
        self.open[-1].content.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> at {self.getpos()} closes {self.open[-1].tag}"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].content.append(data)


def parse(text):
    """The page as one element; an assertion fails if tags are not closed in order."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].tag}> is not closed"
    return reader.open[0]
