"""dlt: results, contents and the rows inside them into Parquet on the local disk, by its own parallelism.

Runs in an environment of its own: `python dlt_rows.py FOLDER`. It checks the md5 on the way in; it does not acknowledge,
sync or read back.
"""

import hashlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import dlt
import requests
from requests.adapters import HTTPAdapter

API, TOKEN = os.environ["RICLOUD_URL"], os.environ["RICLOUD_TOKEN"]
WORKERS = 16

session = requests.Session()
session.mount("http://", HTTPAdapter(pool_maxsize=WORKERS))


def pages():
    parameters = {"limit": "1000"}
    while True:
        page = session.get(f"{API}/results", params=parameters, headers={"Authorization": f"Token {TOKEN}"}).json()
        yield page["data"]
        if not page["has_more"]:
            return
        parameters["after_id"] = page["data"][-1]["id"]


def read(result):
    body = session.get(result["signed_url"]["url"]).content
    if hashlib.md5(body).hexdigest() != result["checksum"]:
        raise ValueError(result["id"])
    return result, body


@dlt.source
def ricloud():
    @dlt.resource(name="results", write_disposition="append", primary_key="id")
    def results():
        with ThreadPoolExecutor(WORKERS) as pool:
            for page in pages():
                yield list(pool.map(read, page))

    @dlt.transformer(data_from=results, name="contents")
    def contents(batch):
        yield [{"result_id": result["id"], "md5": result["checksum"], "content": body} for result, body in batch]

    @dlt.transformer(data_from=results, name="records")
    def records(batch):
        for result, body in batch:
            yield [{"result_id": result["id"], **record} for record in json.loads(body)["data"]]

    results_ = results
    results_.selected = False
    return contents, records


if __name__ == "__main__":
    target = sys.argv[1]
    os.environ.update(
        RUNTIME__DLTHUB_TELEMETRY="false",
        EXTRACT__WORKERS=str(WORKERS),
        NORMALIZE__WORKERS=str(os.cpu_count()),
        DATA_WRITER__FILE_MAX_ITEMS="20000",
        NORMALIZE__START_METHOD="spawn",
    )
    pipeline = dlt.pipeline(
        "benchmark",
        pipelines_dir=f"{target}/state",
        destination=dlt.destinations.filesystem(bucket_url=f"file://{target}/lake"),
    )
    print(pipeline.run(ricloud(), loader_file_format="parquet"))
