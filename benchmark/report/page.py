"""The report: records in, pages, tables and pictures out. The same records give the same bytes.

Writes under the results folder `verdicts.json`, `registry.json`, `report.html` (one file, nothing loaded from
elsewhere), `report.md`, `tables/*.{csv,md,tex}`, `figures/*.svg` and `studies/*/*`. No date, host or path enters
any of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark import words
from benchmark.drawing import contrast, jinja, style
from benchmark.drawing import tables as drawing_tables
from benchmark.drawing.gallery import Gallery
from benchmark.judging import verdicts
from benchmark.judging.verdicts import Judgement
from benchmark.records.store import Record, Store
from benchmark.report import answers, glyphs, headline, mature, pictures, tables, toy_costs
from benchmark.report.gather import Data, gather, rank
from benchmark.report.pictures import Picture
from benchmark.speed.section import section
from benchmark.studies import show
from benchmark.studies.show import Shown
from benchmark.suite import needs
from benchmark.suite.criterion import ALL, VERDICTS, Criterion
from benchmark.suite.entries import Protocol
from benchmark.suite.ledger import Claim, Ledger
from benchmark.suite.load import load_suite

SYMBOLS = {"reproduced": "✓", "contradicted": "✕", "inconclusive": "≈", "incomplete": "○", "invalid": "!"}
MEANINGS = {
    "reproduced": "exact tests place the effect inside what is claimed",
    "contradicted": "exact tests place it outside",
    "inconclusive": "the data allow both; the seeds that would settle it are named",
    "incomplete": "runs or machinery are missing; named with their estimated cost",
    "invalid": "the runs must not be compared",
}


def build(results: Path, cache: Path, protocol: str | None = None, earlier: Path | None = None) -> Path:
    """Judge the records under `results`, write everything, and return the path of `report.html`.

    `protocol` is `quick` if left out. `earlier` is the folder of the last report, whose figures are taken over where
    nothing moved them: `results` if left out. Raises `InputError` for an unknown protocol or a folder that cannot be
    written.
    """
    store, suite = Store(results, cache), load_suite()
    page = suite.protocol(protocol or "quick")
    data = gather(store, page)
    verdicts.write_verdicts(store, data.judgements)
    folder = Path(results)
    made = {
        "verdicts": tables.verdicts(data.judgements),
        "fits": tables.fits(data.scalars),
        "returns": tables.returns(data.curves),
        "constants": tables.constants(suite, page, {"train": "gym:InvertedPendulum-v5", "fit": "dmc:humanoid-run"}),
        "budgets": tables.budgets(suite, page),
        "published": tables.beside(data.curves, page.name),
        **data.together,
        "methods": tables.methods(suite, _methods(data.ledger)),
        "toys": toy_costs.table(toy_costs.costs(data.curves, suite)),
    }
    for name, frame in made.items():
        drawing_tables.write(frame, folder / "tables", name)
    gallery = Gallery(folder, earlier)
    drawn = pictures.draw_all(data, gallery)
    studies = [_study(shown) for shown in show.render_all(store, gallery)]
    sections = {"headline": headline.section(store, gallery), "mature": mature.section(store, gallery)}
    gallery.write()
    rows = [row.to_json() for row in data.judgements]
    answers.write(data.ledger, rows, folder)
    answer = {"answer": answers.context(data.ledger, rows), "paper": answers.PAPER}
    context = _context(data, made, drawn) | answer | {"calibration": _calibration(folder), "studies": studies}
    context |= {"speed": section(folder), **sections}
    context |= {"hues": style.hues(), "headline_id": answers.HEADLINE}
    environment = jinja.environment()
    for name in ("report.md", "report.html"):
        text = environment.get_template(f"{name}.j2").render(context)
        (folder / name).write_text(text, encoding="utf-8")
    return folder / "report.html"


def _study(shown: Shown) -> dict[str, Any]:
    """One study as the templates read it."""
    name = shown.study.id
    return {
        "id": name,
        "title": shown.study.title,
        "text": shown.study.text,
        "runs": f"{shown.present:,} of {shown.wanted:,}" if shown.present < shown.wanted else f"all {shown.wanted:,}",
        "sentences": shown.sentences,
        "pictures": [
            {"name": figure, "caption": drawn.caption, "svg": drawn.elements[0]}
            for figure, drawn in shown.figures.items()
        ],
        "tables": shown.tables,
    }


def _methods(ledger: Ledger) -> list[str]:
    """All arms of the ledger, in the order of the palette."""
    named = {name for claim in ledger.claims for name in (claim.arm, claim.against)} & set(load_suite().methods)
    return sorted(named, key=lambda name: (rank(name), name))


def _context(data: Data, made: dict[str, pd.DataFrame], drawn: dict[str, list[Picture]]) -> dict[str, Any]:
    """What the templates read."""
    counts = Counter(row.outcome.verdict for row in data.judgements)
    chapters = [
        {
            "id": name,
            "title": chapter.title,
            "text": chapter.text,
            "pictures": drawn[name],
            "counts": _chapter_counts(data, name),
            "claims": [_claim(data, claim, drawn[claim.id]) for claim in data.ledger.claims if claim.chapter == name],
        }
        for name, chapter in data.ledger.chapters.items()
    ]
    differs = made["constants"][made["constants"]["differs"]].drop(columns="differs")
    return {
        "protocol": data.protocol,
        "chapters": chapters,
        "counts": [(verdict, counts[verdict], MEANINGS[verdict]) for verdict in VERDICTS],
        "total": len(data.judgements),
        "symbols": SYMBOLS,
        "runs": len(data.records),
        "origins": _origins(data.records),
        "methods": made["methods"].to_dict("records"),
        "colors": {
            name: contrast.variable(style.color(name))
            for name in [*made["methods"]["method"], *made["returns"]["method"]]
        },
        "budgets": made["budgets"].to_dict("records"),
        "departures": differs.to_dict("records"),
        "constants": made["constants"].to_dict("records"),
        "published": [_published_row(row) for row in made["published"].to_dict("records") if _shown(row)],
        "edits": data.ledger.declared_edits,
        "returns": [_return_row(row) for row in made["returns"].to_dict("records")],
        "markdown": {name: drawing_tables.markdown(frame) for name, frame in made.items()}
        | {"departures": drawing_tables.markdown(differs)},
    }


def _chapter_counts(data: Data, chapter: str) -> list[tuple[str, int]]:
    """Verdicts of one chapter, those that occur."""
    found = Counter(row.outcome.verdict for row in data.judgements if row.claim.chapter == chapter)
    return [(verdict, found[verdict]) for verdict in VERDICTS if found[verdict]]


def _claim(data: Data, claim: Claim, drawn: list[Picture]) -> dict[str, Any]:
    """One claim as the templates read it."""
    rows = data.rows(claim)
    scale = glyphs.forest(rows)
    return {
        "id": claim.id,
        "title": claim.title,
        "statement": claim.statement,
        "meaning": claim.meaning,
        "source": claim.source.words,
        "expected": claim.expected,
        "expecting": claim.expecting,
        "compared": f"{claim.arm_label} against {claim.against_label}",
        "estimand": claim.estimand.words,
        "criterion": _criterion(claim.criterion, len(claim.tasks)),
        "confidence": f"{claim.criterion.confidence:.0%}",
        "pictures": drawn,
        "runnable": any(needs.runs(claim, data.protocol)),
        "rerun": f'pytest benchmark/ -m claims -k "{claim.id}[" --protocol {_judged_under(claim, data.protocol)}',
        "counting": claim.criterion.at_least is not None,
        "rows": [_row(row, scale) for row in rows],
        "form": rows[0].registration.form,
        "commit": (rows[0].registration.commit or "")[:12],
        "edited": rows[0].registration.mark,
        "needs": claim.needs,
        "verdicts": " ".join(dict.fromkeys(row.outcome.verdict for row in rows)),
        "untouched": all(row.outcome.verdict == "incomplete" for row in rows),
    }


def _judged_under(claim: Claim, protocol: Protocol) -> str:
    return protocol.name if protocol.name in claim.protocols else claim.protocols[0]


def _row(row: Judgement, scale: glyphs.Forest | None) -> dict[str, Any]:
    out = row.outcome
    return {
        "task": "all tasks" if row.task == ALL else words.task_name(row.task),
        "verdict": out.verdict,
        "why": out.reason if out.verdict not in ("reproduced", "contradicted") or "diverged" in out.reason else "",
        "effect": words.number(out.effect),
        "interval": words.interval(out.interval),
        "n": out.n,
        "p": words.number(out.p),
        "reason": out.reason,
        "forest": "" if scale is None else scale.row(out, f"var(--{out.verdict})"),
    }


def _criterion(criterion: Criterion, tasks: int) -> str:
    """The rule in words."""
    worse = "lower" if criterion.direction == "higher" else "higher"
    by = f" by more than {criterion.words}" if criterion.margin else ""
    rule = {
        "difference": f"{criterion.direction}{by}",
        "non-inferiority": f"not {worse}{by}",
        "equivalence": f"within {criterion.words} either way",
    }[criterion.kind]
    family = f", Holm over {tasks} tasks" if tasks > 1 and not criterion.aggregate else ""
    family = f" of the mean over {tasks} tasks" if criterion.aggregate else family
    count = f", confirmed on at least {criterion.at_least} of {tasks} tasks" if criterion.at_least else ""
    looks = ", ".join(f"{look.seeds} \N{MULTIPLICATION SIGN} the seeds at {look.share:.0%}" for look in criterion.looks)
    planned = f"; looks planned at {looks} of the level" if looks else ""
    return f"{criterion.estimand}: {rule}; one-sided at {criterion.level:.0%}{family}{count}{planned}"


def _return_row(row: dict[str, Any]) -> dict[str, Any]:
    bounds = (row["interval_low"], row["interval_high"])
    return {
        "task": words.task_name(row["task"]),
        "method": row["method"],
        "window": row["window"],
        "iqm": words.number(row["iqm"]),
        "interval": words.interval(bounds),
        "seeds": row["seeds"],
        "steps": f"{row['agent_steps']:,}",
        "frames": f"{row['frames']:,}",
    }


SHOWN = ("sac", "sac-utd20", "mbpo", "ftfl")
"""Methods whose published scores stand on the page; all are in ``tables/published.csv``."""


def _shown(row: dict[str, Any]) -> bool:
    return row["method"] in SHOWN


def _calibration(folder: Path) -> dict[str, str] | None:
    """What `calibrate` found, in the words of the page; None where it has not been run."""
    path = folder / "tables" / "calibration.csv"
    if not path.is_file():
        return None
    table = pd.read_csv(path)
    level, boot = table[table["check"] == "level"], table[table["family"].str.startswith("bootstrap of means")]
    wide, peaked = level[level["ratio"] != 1], level["scores"] != "bimodal"
    shift = table[table["family"].str.startswith("shift of a verdict")]
    return {
        "worst": f"{level.loc[level['ratio'] == 1, 'observed'].max():.1%}",
        "wide": f"{wide.loc[peaked, 'observed'].max():.1%}",
        "widest": f"{wide['ratio'].max():g}",
        "two_peaks": f"{level.loc[~peaked, 'observed'].max():.1%}",
        "level": f"{level['nominal'].max():.0%}",
        "ways": str(level["family"].nunique()),
        "shapes": ", ".join(level["scores"].unique()),
        "seeds": ", ".join(
            f"{n} against {m}" for n, m in sorted(set(zip(level["seeds"], level["against"], strict=True)))
        ),
        "bootstrap": f"{boot['observed'].max():.1%}",
        "coverage": f"{shift['observed'].min():.1%}",
    }


def _published_row(row: dict[str, Any]) -> dict[str, Any]:
    steps, frames = (words.DASH if pd.isna(row[name]) else f"{row[name]:,.0f}" for name in ("agent_steps", "frames"))
    told = {name: words.number(row[name]) for name in ("mean", "sd")}
    kept = {name: row[name] for name in ("whose", "method", "source", "licence")}
    seeds = f"{row['seeds']:.0f}"
    return {**kept, **told, "task": words.task_name(row["task"]), "seeds": seeds, "steps": steps, "frames": frames}


def _origins(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What the records were made with, each kind of origin once, with its number of runs."""
    kinds: Counter[tuple[str, str, str]] = Counter()
    for record in records:
        told = record.provenance
        versions = ", ".join(f"{name} {version}" for name, version in sorted(dict(told.get("versions", {})).items()))
        commit = str(told.get("commit") or "no commit")[:12] + (" with changes" if told.get("dirty") else "")
        kinds[commit, str(told.get("device", "an unnamed device")), versions] += 1
    return [
        {"commit": commit, "device": device, "versions": versions, "runs": count}
        for (commit, device, versions), count in sorted(kinds.items())
    ]
