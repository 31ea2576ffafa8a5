"""Routing rules tried on the past: what they would have made of payments that have been.

    python -m infra.backtest --rules rules.json [--against current.json]
                             [--history history.jsonl | --seed 0] [--account acc_new=stripe]
                             [--bootstrap 1000] [--replays 4] [--least 30]

Rules are the JSON of ``PUT /v1/routing``, its ``version`` left out or not; the history has the lines of infra/past.py,
or is made up by its seed. Compared is with where the payments really went, or with where ``--against`` would have sent
them. Every payment is one first attempt: retries play no part. Costs are those of ``--rules``, on both sides. Exits
with 2 if nothing can be said about more than a tenth of the payments, with 1 if something given is wrong. The
tables are the same for the same history, rules and seed on every machine.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalicelib.domain import routing_settings
from chalicelib.domain.errors import ErrorClass, InvalidRequest
from chalicelib.domain.money import EXPONENTS
from infra import counterfactual, history
from infra.counterfactual import LEAST, Case, compare
from infra.past import HistoryError, read
from infra.replay import candidates, path_of, replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chalicelib.domain.routing_rules import RoutingSettings
    from infra.counterfactual import Comparison, Interval, Known, Row
    from infra.past import Past

RESAMPLES = 1_000
REPLAYS = 4
REFUSED = 0.1  # of the payments: with more, the answer as a whole is none

_NOT_RULES = ("object", "mode", "version", "updated_at")  # beside them in what GET /v1/routing shows


def accounts_of(past: Sequence[Past], more: Mapping[str, str]) -> dict[str, str]:
    """The providers by account: of the history, and of accounts that are not in it yet."""
    return {**more, **{one.account: one.provider for one in past}}


def rules(text: str, accounts: Mapping[str, str], name: str) -> RoutingSettings:
    """A rule set from JSON; raises HistoryError that says which field of the file ``name`` is wrong."""
    try:
        data = json.loads(text)
        if isinstance(data, dict):
            data = {field: value for field, value in data.items() if field not in _NOT_RULES}
        return routing_settings.parse(data, accounts)
    except (json.JSONDecodeError, RecursionError) as error:
        message = f"{name}: not JSON"
        raise HistoryError(message) from error
    except InvalidRequest as error:
        message = f"{name}: {error.param or 'the whole'}: {error.detail}"
        if error.code in ("unknown_account", "unknown_provider"):
            message += " It is not in the history: say at which provider it is, such as --account acc_new=stripe."
        raise HistoryError(message) from error


def cases(
    past: Sequence[Past], new: RoutingSettings, old: RoutingSettings | None, accounts: Mapping[str, str]
) -> list[Case]:
    """The payments that say something about their account, each under both rule sets; ``old`` None is what was done."""
    able = candidates(past, accounts)
    chosen = [_chosen(past, settings, able) if settings else [one.account for one in past] for settings in (old, new)]
    return [
        Case(
            path_of(one)[1:], one.account, one.succeeded, before, after, one.currency, one.amount,
            _cost(new, before, accounts, one), _cost(new, after, accounts, one),
        )
        for one, before, after in zip(past, *chosen, strict=True) if one.outcome is not None
    ]  # fmt: skip


def flattery(
    past: Sequence[Past], new: RoutingSettings, old: RoutingSettings | None, accounts: Mapping[str, str],
    times: int, seed: str, least: int = LEAST,
) -> float:  # fmt: skip
    """The mean over so many replays of made-up outcomes, which are the same for the same seed; in points of 1."""
    real = cases(past, new, old, accounts)
    leaves = [(one.account, path_of(one)[1:]) for one in past]
    wanted = list(dict.fromkeys(leaves))
    observed = Counter(((case.account, tuple(case.path)), case.succeeded) for case in real)
    rates = dict(zip(wanted, counterfactual.chances(observed, wanted), strict=True))
    chance = random.Random(seed)  # noqa: S311 - repeatable by design
    found: list[float] = []
    for _ in range(times):
        remade = [
            one if one.outcome is None else _ended(one, succeeded=chance.random() < rates[leaf])
            for one, leaf in zip(past, leaves, strict=True)
        ]
        found.append(counterfactual.flattery(real, cases(remade, new, old, accounts), least))
        if found == [0.0]:  # rules that do not learn decide the same whatever comes of payments
            return 0.0
    return sum(found) / max(len(found), 1)


def _ended(past: Past, *, succeeded: bool) -> Past:
    return replace(past, succeeded=succeeded, error=None if succeeded else ErrorClass.DECLINED_ISSUER)


def _chosen(past: Sequence[Past], settings: RoutingSettings, able: Sequence[Any]) -> list[str | None]:
    return [decision.chosen.account if decision.chosen else None for decision in replay(past, settings, able)]


def _cost(settings: RoutingSettings, account: str | None, accounts: Mapping[str, str], past: Past) -> int | None:
    """Minor units that a success there costs; nothing where nobody takes it."""
    if account is None:
        return 0
    cost = settings.cost_of(account, accounts[account], past.currency)
    return None if cost is None else cost.of(past.amount)


# -- report ------------------------------------------------------------------------------------------


def report(found: Comparison, left_out: int, *, against: bool, least: int = LEAST) -> Iterator[str]:
    """The tables, line by line."""
    yield f"{found.payments:,} payments by their first attempt, old is " + (
        "where --against would have sent them" if against else "where they really went"
    )
    if left_out:
        yield f"{left_out:,} more say nothing about their account (config, invalid_request, conflict) and are left out"
    yield f"\n{'':34}{'old':>30}{'new':>30}{'new - old':>30}"
    for title, kind in (
        (f"Success rate, %, of the {found.compared:,} payments that are not refused", "success"),
        ("Cost of these, by currency", "cost"),
        ("Cost of these, basis points of what is taken", "basis_points"),
        ("Share of all payments, %", "share"),
    ):
        rows = [row for row in found.rows if row.kind == kind]
        if rows:
            yield title
            yield from (_line(row) for row in rows)
            if kind == "success" and found.flattery:
                yield f"  {'all, less flattery':32}{'':60}{_shown(found.honest, 100.0, 2, '+'):>30}"
        else:
            yield from _not_known(kind, title, found)
    yield "Brackets are 95 % intervals: percentiles of resamples in which every estimate is made anew."
    if found.flattery:
        yield (
            f"Flattery ({100 * found.flattery:+.2f} points): rules that learn chose by the outcomes that judge them, "
            "and who had luck was chosen. Measured on outcomes made up from the estimates; the rows of a method and of "
            "costs have it in them."
        )
    yield ""
    if against:
        yield from _known("old", found.old, found, least)
    yield from _known("new", found.new, found, least)
    yield ""
    yield (
        "An estimate takes it that payments of one segment (method, amount band, network) are alike whichever account "
        "got them, and that accounts stay as they were.\n"
        "Rules by score or value learn here from where the payments really went: an account that got none keeps "
        "seeming good to them."
    )
    if found.refused > REFUSED:
        yield f"Nothing can be said about {found.refused:.1%} of the payments: too many for an answer."


def _not_known(kind: str, title: str, found: Comparison) -> Iterator[str]:
    """Why a table of this kind has no rows."""
    nothing = "every payment is refused" if found.payments else "no payment says anything about its account"
    if kind == "success":
        yield title
        yield f"  not known: {nothing}"
    elif kind == "cost" and not found.compared:
        yield f"Cost: not known, because {nothing}"
    elif kind == "cost":
        yield "Cost: not known, because the rules' costs do not say it of every account that plays a part"


def _line(row: Row) -> str:
    name = row.of.replace(" ", " at ") or "all"
    scale, digits = {"success": (100.0, 2), "share": (100.0, 1), "basis_points": (1.0, 1)}.get(row.kind, (1.0, 0))
    if row.kind == "cost":
        scale = 10.0 ** -EXPONENTS[row.of]
    old, new = (_shown(one, scale, digits, "") for one in (row.old, row.new))
    return f"  {name:32}{old:>30}{new:>30}{_shown(row.shift, scale, digits, '+'):>30}"


def _shown(of: Interval, scale: float, digits: int, sign: str) -> str:
    value, low, high = (f"{number * scale + 0.0:{sign},.{digits}f}" for number in (of.value, of.low, of.high))
    return f"{value} [{low}, {high}]"


def _known(name: str, known: Known, found: Comparison, least: int) -> Iterator[str]:
    refused = sum(known.refused.values())

    def part(count: int) -> str:
        return f"{count:>9,}  {count / max(found.payments, 1):6.1%}"

    yield f"What is known of the {name} way:"
    yield f"{part(known.factual)}  factual: go where they went, and keep their real outcome"
    if known.nobody:
        yield f"{part(known.nobody)}  nobody can take them: they fail"
    yield f"{part(known.estimated)}  counterfactual: go elsewhere, and their outcome there is an estimate"
    if known.leaning:
        yield (
            f"{part(known.leaning)}    of these lean on a wider segment: "
            f"fewer than {least} outcomes of their own segment there"
        )
    yield f"{part(refused)}  refused: no number is given, and they are in no rate or cost"
    for (method, account), count in sorted(known.refused.items()):
        seen = found.outcomes.get((method, account), 0)
        yield f"{part(count)}    {method} to {account}: {seen} outcomes there, {least} are needed"


# -- command -----------------------------------------------------------------------------------------


def _account(text: str) -> tuple[str, str]:
    account, _, provider = text.partition("=")
    if not account or not provider:
        message = "such as acc_new=stripe"
        raise argparse.ArgumentTypeError(message)
    return account, provider


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = "1 or more"
        raise argparse.ArgumentTypeError(message)
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the comparison; 1 for what cannot be read, 2 if too much of it cannot be known."""
    parser = argparse.ArgumentParser(description="Try routing rules on past payments.")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--history", type=Path, help="lines of JSON as infra/past.py describes them")
    source.add_argument("--seed", type=int, default=0, help="of 10,000 payments that are made up")
    parser.add_argument("--rules", type=Path, required=True, help="JSON as for PUT /v1/routing")
    parser.add_argument("--against", type=Path, help="other rules to compare with, instead of what was done")
    parser.add_argument(
        "--account", type=_account, action="append", default=[], help="id=provider of one without a past"
    )
    parser.add_argument("--bootstrap", type=_positive, default=RESAMPLES, help="resamples")
    parser.add_argument("--replays", type=_positive, default=REPLAYS, help="of made-up outcomes, where rules learn")
    parser.add_argument(
        "--least", type=_positive, default=LEAST, help="outcomes of an account with a method to speak of it"
    )
    given = parser.parse_args(arguments)
    try:
        wanted, current = _text(given.rules), _text(given.against) if given.against else None
        past = _history(given.history, given.seed)
        accounts = accounts_of(past, dict(given.account))
        new = rules(wanted, accounts, given.rules.name)
        old = None if current is None else rules(current, accounts, given.against.name)
    except HistoryError as error:
        print(error, file=sys.stderr)
        return 1
    compared = cases(past, new, old, accounts)
    found = compare(compared, given.bootstrap, f"backtest/{given.seed}", given.least)
    if found.refused < 1:
        too_good = flattery(past, new, old, accounts, given.replays, f"flattery/{given.seed}", given.least)
        found = replace(found, flattery=too_good)
    for line in report(found, len(past) - len(compared), against=old is not None, least=given.least):
        print(line)
    return 2 if found.refused > REFUSED else 0


def _history(file: Path | None, seed: int) -> Sequence[Past]:
    if file is None:
        return history.payments(seed)
    try:
        past = read(_text(file).splitlines())
    except HistoryError as error:
        message = f"{file.name}: {error}"
        raise HistoryError(message) from error
    if not past:
        message = f"{file.name}: no payments"
        raise HistoryError(message)
    return past


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{file.name}: cannot be read"
        raise HistoryError(message) from error


if __name__ == "__main__":
    sys.exit(main())
