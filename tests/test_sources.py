"""An edit of a user's environment that a short rollout does not show never meets an old record, replay or snapshot."""

from __future__ import annotations

import importlib
import sys
import textwrap

import pytest
from helpers import small
from test_replays import MODEL, SAC

from benchmark.records.spec import FitBudget, Replay, RunSpec
from benchmark.records.store import Store
from benchmark.running import ensure, provenance, replays
from mbpo import Budget, InputError, Method, loop
from mbpo.envs import sources
from mbpo.loop import Run

TASK = "gym:late_plant:Late-v0"
TEXT = """
    # A comment, and a reward that changes long after the canonical rollout.
    import broken_envs
    import gymnasium

    class Late(broken_envs.Walk):
        def reset(self, *, seed=None, options=None):
            self.t = 0
            return super().reset(seed=seed)

        def pay(self):
            self.t += 1
            return 1.0 if self.t < 15 else 2.0

    gymnasium.register("Late-v0", Late, max_episode_steps=20)
"""


MAKER = """
    def make():
        return Late()

    gymnasium.register("Made-v0", make, max_episode_steps=20)
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes the module anew and forgets what was known of the old one, as another process would."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text):
        (tmp_path / "late_plant.py").write_text(textwrap.dedent(text))
        sys.modules.pop("late_plant", None)
        importlib.invalidate_caches()
        for cached in (sources.digest, provenance.engine):
            cached.cache_clear()

    write(TEXT)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield write
    write(TEXT)


EDITED = TEXT.replace("2.0", "200.0")


def test_comments_and_layout_are_no_edit_and_numbers_are(written):
    before = sources.digest(TASK)
    written(TEXT.replace("# A comment", "# Another").replace("1.0 if", "1.0  if"))
    assert sources.digest(TASK) == before
    written(EDITED)
    assert sources.digest(TASK) != before


def test_bases_wrappers_and_makers_count(written):
    digests = {sources.digest(f"gym:broken_envs:{name}-v0") for name in ("Walk", "RightRule", "RunningNorm")}
    assert len(digests) == 1 and None not in digests, "one file makes them all"
    assert sources.digest(TASK) not in digests
    maker = (
        "\n    def make():\n        return Late()\n\n    gymnasium.register('Made-v0', make, max_episode_steps=20)\n"
    )
    written(TEXT + maker)
    made = sources.digest("gym:late_plant:Made-v0")
    assert made == sources.digest(TASK) and made is not None


def test_named_tasks_have_none_and_keep_the_form_of_their_engine():
    for task in ("dmc:hopper-hop", "gym:Hopper-v5", "gym:Pendulum-v1", "gym:Hopper-v5?max_episode_steps=3"):
        assert sources.digest(task) is None
    assert provenance.engine("gym:Pendulum-v1") == provenance.rollout("gym:Pendulum-v1")


def spec(**given):
    budget = Budget(env_steps=40, eval_every=40, eval_episodes=1)
    given = {"budget": budget, "constants": small(model=None, random_steps=30, utd=1), "method": "sac", **given}
    return RunSpec(kind=given.pop("kind", "train"), task=TASK, seed=0, **given)


def fitted():
    source = Replay(
        method="sac", constants=SAC, budget=Budget(env_steps=420, eval_every=420, eval_episodes=1), step=420,
        numerics_version=2,
    )  # fmt: skip
    fit = FitBudget(transitions=150, heldout=50, source=source)
    return spec(kind="fit", method="mbpo", constants=Method(sac=SAC.sac, model=MODEL), budget=None, fit=fit)


def test_an_edit_that_no_rollout_shows_meets_no_record(written, tmp_path):
    store, run = Store(tmp_path / "results", tmp_path / "cache"), spec()
    key = run.key
    ensure.ensure([run], store, device="cpu")
    old = store.read(run).provenance["engine"]
    assert old == provenance.engine(TASK) and old.count("+") == 1
    written(EDITED)
    new = provenance.engine(TASK)
    moves, source, now = old.split("+")[0], old.split("+")[1], new.split("+")[1]
    assert new.split("+")[0] == moves and now != source and spec().key == key
    said = rf"record {key}.*its source was edited.*then rollout {moves} and source {source}, now rollout {moves} and "
    with pytest.raises(InputError, match=said + rf"source {now}\); undo the edit, give the new one another id"):
        ensure.ensure([run], store, device="cpu")
    written(TEXT)
    assert ensure.ensure([run], store, device="cpu") == []


def test_nor_a_kept_replay(written, tmp_path):
    store, run = Store(tmp_path / "results", tmp_path / "cache"), fitted()
    ensure.keep_replays([run.source_run], store, device="cpu")
    assert replays.engine_of(store.cache, run.source_run) == provenance.engine(TASK)
    written(EDITED)
    with pytest.raises(InputError, match=r"not the environment that the replay in \S+ was made with: its source was"):
        ensure.ensure([run], store, device="cpu")
    assert not store.has(run)


def test_a_replay_that_does_not_say_whose_it_is_is_refused(written, tmp_path):
    store, run = Store(tmp_path / "results", tmp_path / "cache"), fitted()
    folder = replays.folder(store.cache, run.source_run)
    folder.mkdir(parents=True)
    (folder / "rows.npy").touch()
    with pytest.raises(InputError, match="does not say which environment made it; delete that folder"):
        ensure.ensure([run], store, device="cpu")


def test_nor_a_snapshot(written, tmp_path):
    runs, budget = [Run(small(model=None), 0)], Budget(env_steps=60, eval_every=30, eval_episodes=1)
    rows = loop.train(TASK, runs, budget, device="cpu", checkpoint=tmp_path / "kept", checkpoint_seconds=0.0)
    for row in rows:
        if row.env_steps == 30:
            break
    rows = loop.train(TASK, runs, budget, device="cpu", checkpoint=tmp_path / "kept", stop=lambda: True)
    with pytest.raises(KeyboardInterrupt):
        list(rows)
    written(EDITED)
    with pytest.raises(InputError, match="is of another job: source of its environment differ"):
        list(loop.train(TASK, runs, budget, device="cpu", checkpoint=tmp_path / "kept"))


@pytest.mark.parametrize("file", ["rows.npy", "policy-420.pt"])
def test_a_flipped_byte_of_a_replay_is_refused(written, tmp_path, file):
    store, run = Store(tmp_path / "results", tmp_path / "cache"), fitted()
    ensure.keep_replays([run.source_run], store, device="cpu")
    path = replays.folder(store.cache, run.source_run) / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    said = f"{file}' is damaged; delete its folder, and the replay is collected again"
    with pytest.raises((InputError, ensure.JobsFailed), match=said):
        if file == "rows.npy":
            ensure.ensure([run], store, device="cpu")
        else:
            replays.load_policy(store.cache, [run], None)
