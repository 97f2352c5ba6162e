"""The catalogue of faults: what may go wrong, by number, and which tests show what becomes of it. Reads the tests' sources.

A test cites numbers in its name (`test_fault_057_...`, `test_faults_092_to_101_...`) or in the key of a case
(`"fault_057 an expired signature": ...`). Numbers are never given anew; gaps are where a fault was dropped.

    python -m tests.faults        writes tests/FAULTS.md anew
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
TABLE = TESTS / "FAULTS.md"

_API = {
    "001": "the list answers 401 or 403",
    "002": "the list answers 404",
    "003": "429 with seconds to wait",
    "004": "429 with a wait that is a date, past, negative, no number, or endless",
    "005": "a burst of 5xx",
    "006": "5xx without end",
    "007": "200 with a login page",
    "008": "200 with no body",
    "009": "200 with half a document",
    "010": "a list answered with 204 or 206",
    "011": "the API redirects",
    "012": "nobody listens, or the name does not resolve",
    "013": "the connection is reset among the headers or in the body",
    "014": "a certificate that is expired, of another host or of nobody; an old TLS",
    "015": "proxies and passwords in the surroundings",
    "016": "the server falls silent and keeps the connection",
    "017": "the server sends a byte now and then",
    "018": "headers without end, or no HTTP at all",
    "019": "the document is a list, null or a string",
    "020": "`data` is missing, null or an object",
    "021": "an acknowledgement is applied to some of its ids",
    "022": "an acknowledgement is answered with something unknown",
    "023": "one id makes a whole batch be refused",
    "025": "the answer of an acknowledgement is lost",
    "026": "an acknowledgement is applied and answered 5xx",
    "027": "a batch is too large",
    "029": "empty pages that promise more",
    "030": "the same cursor again and again",
    "032": "new cursors that bring no new id",
    "033": "`has_more` is missing or no boolean",
    "035": "an id that is long, or holds what a URL gives a meaning to",
    "036": "an id twice in one page, or in two",
    "038": "an item is put in front while pages are read",
    "039": "an item appears while pages are read",
    "040": "the page size is ignored",
    "042": "a cursor is forgotten half-way",
    "043": "the filter is ignored",
    "044": "the list is in any order",
    "045": "many items of one moment across pages",
}
_TIME = {
    "046": "an item at the first instant of a day, and at its end",
    "047": "microseconds at the end of a day; a server that cuts them off",
    "048": "a result arrives late, into a day that is done",
    "049": "dates in the year 1, 1970, 9999 or the future",
    "050": "a date that is null or none",
    "052": "an epoch instead of a date",
    "053": "a machine in any time zone",
    "054": "a clock that is wrong",
    "056": "a signature that seems to have run out",
}
_DOWNLOAD = {
    "057": "a signature has run out",
    "058": "the content is gone",
    "059": "a body shorter than promised",
    "060": "a body longer than promised",
    "062": "a chunked body that is cut",
    "063": "a range is answered with everything",
    "064": "a range is answered with another one",
    "066": "a reset after the first byte, in the middle, after the last",
    "067": "a range that cannot be had",
    "068": "a body said to be compressed: a bomb",
    "069": "a host that decompresses unless asked for gzip",
    "071": "a content of no bytes",
    "072": "no bytes listed, a million come",
    "073": "more bytes listed than are ever read",
    "074": "a body without end",
    "075": "a hundred thousand small contents",
    "076": "the host asks to slow down",
    "077": "a bucket without credentials, in another region, where the requester pays",
    "079": "a local path where none is allowed, or outside its root",
}
_INTEGRITY = {
    "080": "another md5 than listed",
    "081": "another size than listed, with the right md5",
    "082": "no md5 listed",
    "084": "a bit flips between download and file",
    "085": "a bit flips in the stored file",
    "086": "a stored file is cut, or is no Parquet",
    "087": "an id comes back with another md5",
    "088": "two ids with one content",
    "089": "two contents with one md5",
    "091": "an ETag that is no md5",
}
_CRASH = {
    "092": "killed around the listing",
    "093": "killed around the scan of a partition",
    "094": "killed while contents are fetched",
    "095": "killed while the file is built and decoded",
    "096": "killed around its fsync",
    "097": "killed around the commit",
    "098": "killed around the fsync of folders",
    "099": "killed while the file is read back",
    "100": "killed around the acknowledgement",
    "101": "killed before its rows are written",
    "102": "killed again while recovering",
    "103": "killed between two batches of acknowledgements",
    "104": "interrupted or terminated",
    "105": "out of memory while a file is built",
    "106": "the power fails",
    "106b": "the power fails after another run has acknowledged",
    "107": "staging that a dead run left",
    "108": "killed, or without power, while the first folders are made",
    "110": "a part of the program dies with a download in its hands",
}
_CONCURRENCY = {
    "112": "runs over one partition at once",
    "113": "runs whose listings overlap",
    "114": "a slow run wakes after a fast one has acknowledged",
    "115": "two runs acknowledge the same",
    "117": "two machines whose clocks differ by a day",
    "118": "the sweeper meets a living run",
    "119": "a backfill by many workers",
    "121": "readers that glob all the time",
}
_DISK = {
    "122": "the disk is full",
    "123": "fsync fails",
    "124": "a disk or a folder that may not be written",
    "125": "staging on another file system",
    "126": "a file system without hard links",
    "127": "a bucket stores and answers 500",
    "128": "a bucket does not answer a create in time",
    "129": "412 for what this run wrote itself",
    "130": "409 with nothing there",
    "132": "a bucket asks to slow down",
    "133": "a bucket's list lags behind",
    "134": "a part is missing in the middle",
    "135": "a store that replaces what it was to refuse",
    "136": "a bucket's credentials run out",
    "137": "a bucket gives other bytes than were written",
    "138": "an object is deleted between commit and proof",
    "140": "a versioned bucket with a delete marker in the chain",
}
_MALICE = {
    "141": "identifiers that are paths, control characters, device names",
    "142": "URLs of metadata services",
    "143": "addresses in every way that somebody reads",
    "144": "URLs in which parsers find different hosts",
    "145": "a public name at a private address, or at another one the second time",
    "146": "redirects to the inside, to other schemes, without end",
    "148": "from https to http",
    "149": "the token on its way to another host",
    "150": "a bucket that is not allowed",
    "151": "local paths by links, devices, pipes, /proc",
    "152": "JSON nested a hundred thousand deep",
    "153": "a number of thousands of digits",
    "154": "ids beyond 64 bits",
    "156": "NaN and infinity",
    "157": "a key twice in one object",
    "158": "half a surrogate pair",
    "159": "byte order marks, NUL, bytes that are no UTF-8",
    "160": "a size that is negative, a text, a fraction, too large",
    "161": "a state nobody knows",
    "162": "fields nobody knows",
    "163": "a field of another type in each row",
    "164": "a hundred thousand keys, a text of megabytes",
    "165": "column names that collide",
    "166": "markup and scripts in texts that are shown",
    "169": "the token in an error, a redirect, a URL",
    "170": "a content that is a bomb for whoever opens it",
    "171": "a JSON content that harms its parser",
    "172": "a million errors",
    "174": "a partition key that is a path",
}
_SECRETS = {
    "175": "secrets in logs at DEBUG",
    "176": "secrets in exceptions, their variables included",
    "177": "secrets in Dagster's storage, a run's config included",
    "178": "secrets in metadata and reports",
    "179": "secrets in Parquet and control files",
    "180": "secrets in the environment or arguments of processes that are started",
}
CATALOGUE = _API | _TIME | _DOWNLOAD | _INTEGRITY | _CRASH | _CONCURRENCY | _DISK | _MALICE | _SECRETS

# Faults that cannot befall this connector, and why.
NOT_APPLICABLE: dict[str, str] = {}

_CITED = re.compile(r"(?:test_)?faults?_(\d{3}b?(?:_(?:and_|to_)?\d{3}b?)*)(?![0-9])")


def cited_in(name: str) -> list[str]:
    """The numbers that a test's name, or the key of a case, begins with."""
    found = _CITED.match(name)
    if found is None:
        return []
    numbers: list[str] = []
    for joint, number in re.findall(r"(to_)?(\d{3}b?)", found[1]):
        if joint:
            between = (f"{each:03}" for each in range(int(numbers[-1]) + 1, int(number)))
            numbers += [each for each in between if each in CATALOGUE]
        numbers.append(number)
    return numbers


def citations() -> dict[str, list[str]]:
    """By number, the tests that cite it: `file::test`, or `file: key` of a case."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                name, shown = node.name, f"{path.name}::{node.name}"
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("fault_"):
                name, shown = node.value, f"{path.name}: {node.value}"
            else:
                continue
            for number in cited_in(name):
                found.setdefault(number, []).append(shown)
    return found


def table() -> str:
    """The table as `tests/FAULTS.md` holds it."""
    cited = citations()
    lines = [
        "# What may go wrong, and the tests that show what becomes of it",
        "",
        f"{len(CATALOGUE)} faults. Made by `python -m tests.faults` from the tests' names and the keys of their cases.",
        "",
        "| fault | what goes wrong | tests |",
        "| --- | --- | --- |",
    ]
    for number, text in CATALOGUE.items():
        tests = [f"`{test}`" for test in sorted(cited.get(number, []))]
        lines.append(f"| {number} | {text} | {'<br>'.join(tests) or NOT_APPLICABLE.get(number, '')} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
