"""The vendor's documented loop with its own client: list, download, md5, rows by pandas, acknowledge one by one.

Runs in an environment of its own: `python vendor.py each|pages|contents|list FOLDER [LIMIT]`. It proves the md5 on the way
in; it neither syncs nor reads back what it wrote. Rows are normalised result by result, as the loop goes (`each`), or those of
a page together, which takes half as long (`pages`).
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import pandas
import requests
import ricloud
from ricloud import Result

ricloud.url, ricloud.token = os.environ["RICLOUD_URL"], os.environ["RICLOUD_TOKEN"]


def pages(limit):
    parameters = {"limit": min(1000, limit)}
    seen = 0
    while seen < limit:
        page = Result.list(**parameters)
        yield list(page)[: limit - seen]
        seen += len(page)
        if not page.has_more:
            return
        parameters["after_id"] = page[-1].id


def ingest(folder, limit, *, rows):
    session = requests.Session()
    for number, page in enumerate(pages(limit)):
        records, contents = [], []
        for result in page:
            body = session.get(result.signed_url["url"]).content
            if hashlib.md5(body).hexdigest() != result.checksum:
                raise ValueError(result.id)
            contents.append({"id": result.id, "date_created": result.date_created, "content": body})
            if rows == "each":
                records.append(pandas.json_normalize(json.loads(body)["data"]).assign(result_id=result.id))
            elif rows == "pages":
                records += [{"result_id": result.id, **record} for record in json.loads(body)["data"]]
        pandas.DataFrame(contents).to_parquet(folder / f"contents-{number}.parquet")
        if rows:
            table = pandas.concat(records) if rows == "each" else pandas.json_normalize(records)
            table.to_parquet(folder / f"records-{number}.parquet")
        for result in page:
            result.acknowledge()


def list_only(folder, limit):
    for number, page in enumerate(pages(limit)):
        pandas.DataFrame([dict(result) for result in page]).to_parquet(folder / f"results-{number}.parquet")


if __name__ == "__main__":
    what, target, most = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 10**9
    target.mkdir(parents=True)
    if what == "list":
        list_only(target, most)
    else:
        ingest(target, most, rows="" if what == "contents" else what)
