"""The claims as tests: train what is missing, judge, and say so in pytest's own words.

reproduced passes, contradicted and invalid fail, inconclusive is an expected failure, incomplete is skipped; under
`--strict` the last two fail as well, and under `--accept-contradicted` a contradiction is an expected failure too.
"""

from collections.abc import Iterator

import pytest
from filelock import FileLock

from benchmark.conftest import Options
from benchmark.judging import verdicts as claims
from benchmark.records.store import Store
from benchmark.running import ensure
from benchmark.suite import needs
from benchmark.suite.entries import Protocol
from benchmark.suite.ledger import Claim, load_ledger
from mbpo.config import InputError

CASES = [(claim, task) for claim in load_ledger().claims for task in claim.rows]


@pytest.fixture(scope="session", autouse=True)
def verdicts(store: Store, protocol: Protocol, options: Options) -> Iterator[None]:
    """Leave `verdicts.json` behind, judged anew from all records.

    Every worker does so as it ends. The last to take the lock sees every record of the session, so what stays is whole.
    """
    yield
    try:
        store.prepare()
    except InputError:
        if options.train:
            raise
        return  # someone else's records, which may be read only
    with FileLock(store.cache / "verdicts.lock"):
        claims.write_verdicts(store, claims.judge_all(store, protocol))


@pytest.fixture(scope="session")
def selected(request: pytest.FixtureRequest) -> list[Claim]:
    """The claims that this session judges: their runs may train together."""
    calls = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    return list({params["claim"].id: params["claim"] for params in calls if "claim" in params}.values())


@pytest.mark.claims
@pytest.mark.parametrize(("claim", "task"), CASES, ids=[f"{claim.id}[{task}]" for claim, task in CASES])
def test_claim(
    claim: Claim,
    task: str,
    request: pytest.FixtureRequest,
    selected: list[Claim],
    store: Store,
    protocol: Protocol,
    options: Options,
) -> None:
    ensure.ensure(needs.family(claim, selected, protocol), store, train=options.train)
    row = next(row for row in claims.judge_claim(claim, store, protocol) if row.task == task)
    request.node.user_properties.append(("verdict", row.to_json()))
    verdict, reason = row.outcome.verdict, f"{row.outcome.verdict}: {row.outcome.reason}"
    if verdict == "contradicted" and options.accept_contradicted:
        pytest.xfail(reason)
    if verdict in ("contradicted", "invalid") or (options.strict and verdict != "reproduced"):
        pytest.fail(reason, pytrace=False)
    if verdict == "inconclusive":
        pytest.xfail(reason)
    if verdict == "incomplete":
        pytest.skip(reason)
