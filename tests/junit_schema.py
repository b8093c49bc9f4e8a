"""What the xUnit plugin of Jenkins, the strictest reader of JUnit XML, lets stand in a file.

https://github.com/jenkinsci/xunit-plugin/blob/master/src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd/junit-10.xsd
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

_SAID = {"message", "type"}
ELEMENTS: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuite": (
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
    ),
    "properties": ({"property"}, set(), set()),
    "property": (set(), {"name", "value"}, set()),
    "testcase": (
        {"skipped", "error", "failure", "system-out", "system-err"},
        {"name"},
        {"time", "classname", "group"},
    ),
    **{name: (set(), set(), _SAID) for name in ("skipped", "error", "failure")},
    **{name: (set(), set(), set()) for name in ("system-out", "system-err")},
}
"""Name to the names of children, of attributes that must be there, and of those that may."""
_TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")


def require_fit(text: str) -> None:
    """Hold a file against it."""
    root = ET.fromstring(text.encode())
    assert root.tag == "testsuite"
    assert _TIME.fullmatch(root.attrib.get("time", "0"))
    for element in root.iter():
        children, required, allowed = ELEMENTS[element.tag]
        assert {child.tag for child in element} <= children, element.tag
        assert required <= element.attrib.keys() <= required | allowed, element.tag
