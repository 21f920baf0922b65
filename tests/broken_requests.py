"""The corpus of broken workloads, continued: requests."""

from broken import LINES, REQUESTS, Broken, lines, other, requests

CASES: dict[str, Broken] = {
    "duplicate request": requests(
        ("request_id: r1", "request_id: r0"),
        expected='6: requests[1].request_id: "r0" is the id of request 0 too; give each request its',
    ),
    "duplicate key": requests(
        ("    workflow_id: chain", "    workflow_id: chain\n    request_id: r9"),
        expected='5: key "request_id" stands twice in one mapping; remove or rename one of them',
    ),
    "duplicate node time": requests(
        ("{a: 1.5, b: 2.5,", "{a: 1.5, b: 2.5, a: 1.5,"),
        expected='5: key "a" stands twice in one mapping; remove or rename one of them',
    ),
    "unknown workflow": requests(
        ("workflow_id: chain", "workflow_id: chian"),
        expected='4: requests[0].workflow_id: "chian" is an unknown workflow; did you mean chain?',
    ),
    "workflow is a list": requests(
        ("workflow_id: chain", "workflow_id: [chain]"),
        expected="4: requests[0].workflow_id: must be a text, not a list; put it in quotes",
    ),
    "workflow is a mapping": requests(
        ("workflow_id: chain", "workflow_id: {id: chain}"),
        expected="4: requests[0].workflow_id: must be a text, not a mapping; put it in quotes",
    ),
    "id is a number": requests(
        ("request_id: r1", "request_id: 0001"),
        expected="6: requests[1].request_id: must be a text, not 1; put it in quotes",
    ),
    "id is empty": requests(
        ("request_id: r1", 'request_id: ""'),
        expected="6: requests[1]: has no request_id; add a unique id",
    ),
    "fields missing": requests(
        ('    timestamp: "2024-01-01T10:00:00"\n    workflow_id: chain\n', ""),
        expected=(
            "2: requests[0]: has no workflow_id; add the id of its workflow",
            "2: requests[0]: has no timestamp; add its arrival as an ISO 8601 text",
        ),
    ),
    "time negative": requests(
        ("b: 2.5", "b: -2.5"),
        expected="5: requests[0].node_execution_times.b: must be at least 0, not -2.5; correct the",
    ),
    "time NaN": requests(
        ("b: 2.5", "b: .nan"),
        expected="5: requests[0].node_execution_times.b: must be finite, not nan; give a finite number",
    ),
    "time infinite": requests(
        ("b: 2.5", "b: -.inf"),
        expected="5: requests[0].node_execution_times.b: must be finite, not -inf; give a finite",
    ),
    "time null": requests(
        ("b: 2.5", "b: null"),
        expected="5: requests[0].node_execution_times.b: must be a number, not nothing; give a number",
    ),
    "time is a text": requests(
        ("b: 2.5", 'b: "2.5"'),
        expected='5: requests[0].node_execution_times.b: must be a number, not the text "2.5"; write',
    ),
    "time is a boolean": requests(
        ("b: 2.5", "b: false"),
        expected="5: requests[0].node_execution_times.b: must be a number, not false; give a number",
    ),
    "time is a list": requests(
        ("b: 2.5", "b: [2.5]"),
        expected="5: requests[0].node_execution_times.b: must be a number, not a list; give a number",
    ),
    "time of 400 digits": requests(
        ("b: 2.5", f"b: 1{'0' * 400}"),
        expected="5: requests[0].node_execution_times.b: must be at most 1e+15, not 10000",
    ),
    "time out of proportion": requests(
        ("b: 2.5", "b: 1e300"),
        expected="5: requests[0].node_execution_times.b: must be at most 1e+15, not 1e+300; correct",
    ),
    "time of an unknown node": requests(
        ("c: 1}", "d: 1}"),
        expected="5: requests[0].node_execution_times.d: is no node of chain; known: a, b, c",
    ),
    "time missing, no profile": requests(
        ("b: 2.5, ", ""),
        expected="5: requests[0].node_execution_times.b: has no execution time; give it, or give big",
    ),
    "times missing, no profile": requests(
        ("    node_execution_times: {a: 1.5, b: 2.5, c: 1}\n", ""),
        expected="2: requests[0].node_execution_times.b: has no execution time; give it, or give big",
    ),
    "times are a list": requests(
        ("{a: 1.5, b: 2.5, c: 1}", "[1.5, 2.5, 1]"),
        expected=("5: requests[0].node_execution_times: must be a mapping, not a list; write {name: value}",),
    ),
    "problems of every kind": requests(
        ("b: 2.5", "d: 2.5"),
        ("10:00:01", "25:00:01"),
        expected=(
            "5: requests[0].node_execution_times.d: is no node of chain; known: a, b, c",
            "5: requests[0].node_execution_times.b: has no execution time; give it, or give big",
            '7: requests[1].timestamp: "2024-01-01T25:00:01" is no ISO 8601 timestamp; write it like',
        ),
    ),
    "tier is 0": requests(
        ("    workflow_id: chain", "    workflow_id: chain\n    tier: 0"),
        expected="5: requests[0].tier: must be a whole number from 1 to 100, not 0; correct it",
    ),
    "tier and deadline out of range": requests(
        ("    workflow_id: chain", "    workflow_id: chain\n    tier: 101\n    deadline: -0.5"),
        expected=(
            "5: requests[0].tier: must be a whole number from 1 to 100, not 101; correct it",
            "6: requests[0].deadline: must be at least 0, not -0.5; correct the sign or the value",
        ),
    ),
    "tier is not whole": requests(
        ("    workflow_id: chain", "    workflow_id: chain\n    tier: 2.0"),
        expected="5: requests[0].tier: must be a whole number from 1 to 100, not 2.0; correct it",
    ),
    "tier is a text": requests(
        ("    workflow_id: chain", "    workflow_id: chain\n    tier: gold"),
        expected='5: requests[0].tier: must be a whole number from 1 to 100, not "gold"; correct it',
    ),
    "tier is a boolean": requests(
        ("    workflow_id: chain", "    workflow_id: chain\n    tier: true"),
        expected="5: requests[0].tier: must be a whole number from 1 to 100, not true; correct it",
    ),
    "deadline infinite": requests(
        ("    workflow_id: chain", "    workflow_id: chain\n    deadline: .inf"),
        expected="5: requests[0].deadline: must be finite, not inf; give a finite number",
    ),
    "deadline is a timestamp": requests(
        ("    workflow_id: chain", "    workflow_id: chain\n    deadline: 2024-01-01T10:00:30"),
        expected='5: requests[0].deadline: must be a number, not the text "2024-01-01T10:00:30"; write a plain',
    ),
    "deadline in another unit": requests(
        ("    workflow_id: chain", "    workflow_id: chain\n    deadline: 1e18"),
        expected="5: requests[0].deadline: must be at most 1e+15, not 1e+18; correct the value or its unit",
    ),
    "deadline is a mapping": requests(
        ("    workflow_id: chain", "    workflow_id: chain\n    deadline: {seconds: 30}"),
        expected="5: requests[0].deadline: must be a number, not a mapping; give a number",
    ),
    "tier in JSON Lines": lines(
        ('"r1"', '"r1", "tier": -1'),
        expected="3: [1].tier: must be a whole number from 1 to 100, not -1; correct it",
    ),
    "timestamp is a list": requests(
        ('"2024-01-01T10:00:00"', "[2024, 1, 1]"),
        expected="3: requests[0].timestamp: must be an ISO 8601 text or seconds since 1970; write it",
    ),
    "timestamp is a boolean": requests(
        ('"2024-01-01T10:00:00"', "true"),
        expected="3: requests[0].timestamp: must be an ISO 8601 text or seconds since 1970; write it",
    ),
    "timestamp NaN": requests(
        ('"2024-01-01T10:00:00"', ".nan"),
        expected="3: requests[0].timestamp: must be seconds since 1970, not nan; write it like",
    ),
    "timestamp of 400 digits": requests(
        ('"2024-01-01T10:00:00"', f"1{'0' * 400}"),
        expected="3: requests[0].timestamp: must be seconds since 1970, not 1000000000000",
    ),
    "timestamp in milliseconds": requests(
        ('"2024-01-01T10:00:00"', "1704103200000"),
        expected="3: requests[0].timestamp: must be seconds since 1970, not 1704103200000; write it",
    ),
    "timestamp before 1970": requests(
        ('"2024-01-01T10:00:00"', '"1969-12-31T23:59:59.999999"'),
        expected='3: requests[0].timestamp: "1969-12-31T23:59:59.999999" lies outside the years 1970 to',
    ),
    "timestamp in the year 9999": requests(
        ('"2024-01-01T10:00:00"', '"9999-12-31T23:59:59"'),
        expected='3: requests[0].timestamp: "9999-12-31T23:59:59" lies outside the years 1970 to 2262',
    ),
    "timestamps with and without a zone": requests(
        ("10:00:01", "10:00:01Z"),
        expected="7: requests[1].timestamp: is zoned, those before it are naive; give all or none",
    ),
    "request is null": requests(
        ("  - request_id: r1", "  -\n  - request_id: r1"),
        expected="6: requests[1]: must be a mapping, not nothing; see docs/formats.md",
    ),
    "requests empty": other(
        "r.yaml", "requests: []\n", "1: requests: holds no requests; generate some with gsched generate"
    ),
    "requests null": other(
        "r.yaml",
        "requests:\n",
        "1: requests: must be a list of requests, not nothing; see docs/formats.md",
    ),
    "requests misspelt": other(
        "r.yaml",
        REQUESTS.replace("requests:", "request:"),
        "has no requests; rename request to requests",
    ),
    "requests a mapping": other(
        "r.json",
        '{"requests": {"r0": {}}}',
        "1: requests: must be a list of requests, not a mapping; see docs/formats.md",
    ),
    "line of JSON Lines broken": lines(
        ('"chain", "node_execution_times": {"b": 2.5}}\n\n', '"chain", "node_execution_times": {"b": 2.5\n\n'),
        expected="1: is not valid JSON: Expecting ',' delimiter (column 115); correct that line",
    ),
    "last line of JSON Lines cut off": other(
        "requests.jsonl",
        LINES[:-20],
        "3: is not valid JSON: Unterminated string starting at (column 82); the file seems to be",
    ),
    "line of JSON Lines with a problem": lines(
        ('"r1"', '"r0"'),
        expected='3: [1].request_id: "r0" is the id of request 0 too; give each request its own id',
    ),
    "line of JSON Lines with a key twice": lines(
        ('{"request_id": "r1"', '{"request_id": "r2", "request_id": "r1"'),
        expected='3: key "request_id" stands twice in one mapping; remove or rename one of them',
    ),
    "line of JSON Lines null": other(
        "requests.jsonl",
        f"null\n{LINES}",
        "1: [0]: must be a mapping, not nothing; see docs/formats",
    ),
    "JSON under a jsonl name": other(
        "requests.jsonl",
        '{\n "requests": []\n}',
        "1: is not valid JSON: Expecting property name enclosed in double quotes (column 2); correct",
    ),
}
