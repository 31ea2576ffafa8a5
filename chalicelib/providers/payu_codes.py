"""PayU India's states and codes, sorted into ours; payu_wire.py reads them."""

from __future__ import annotations

from chalicelib.domain.outcome import ChargeStatus, EffectStatus
from chalicelib.providers.reasons import (
    ACCOUNT,
    AUTHENTICATION,
    BLOCKED,
    CONFLICT,
    GAVE_UP,
    INVALID,
    ISSUER,
    LATE,
    NO_FUNDS,
    NOT_TAKEN,
    OUTDATED,
    OVER_LIMIT,
    RISK,
    TECHNICAL,
    WRONG_INSTRUMENT,
    Verdict,
)

# A transaction's ``status`` and ``unmappedstatus`` in lower case. Anything else is pending: also a
# success that is neither held nor captured. PayU's list of states has no word for a canceled
# authorization; "cancelled" is its dashboard's.
STATUSES: dict[tuple[str, str], ChargeStatus] = {
    ("success", "captured"): ChargeStatus.SUCCEEDED,
    ("success", "auth"): ChargeStatus.AUTHORIZED,
    ("success", "cancelled"): ChargeStatus.CANCELED,
    ("failure", "cancelled"): ChargeStatus.CANCELED,
    ("failure", "failed"): ChargeStatus.DECLINED,
    ("failure", "bounced"): ChargeStatus.DECLINED,
    ("failure", "dropped"): ChargeStatus.DECLINED,
    ("failure", "usercancelled"): ChargeStatus.DECLINED,
    ("failure", "autorefund"): ChargeStatus.DECLINED,  # the bank said yes too late, and PayU gave it back
    ("pending", "pending"): ChargeStatus.PENDING,
    ("pending", "initiated"): ChargeStatus.PENDING,
    ("pending", "in progress"): ChargeStatus.PENDING,
}
# States that say why themselves. A transaction is dropped when the bank never answered: it is the one that
# may still succeed, so it must not look like a technical failure, which routing takes elsewhere at once.
UNMAPPED: dict[str, Verdict] = {"usercancelled": GAVE_UP, "dropped": LATE}
# And states that say something where neither code nor text does: a customer who left the page, a late yes.
OTHERWISE: dict[str, Verdict] = {"bounced": LATE, "autorefund": TECHNICAL}

NO_ERROR = "E000"
# ``error`` or ``error_code`` of a failed transaction. PayU shows E000 with failures too.
_BY_VERDICT: dict[Verdict, str] = {
    TECHNICAL: "E205 E206 E208 E209 E210 E211 E214 E216 E217 E218 E219 E309 E319 E320 E321 E334 E345 E600 E700 E801"
    " E802 E804 E1001",
    ISSUER: "E207 E304 E306 E307 E308 E312 E314 E315 E337 E348 E500 E705 E1201 E1202 E1903",
    NO_FUNDS: "E329 E336 E706 E713 E718 E719 E720 E1208",
    OUTDATED: "E311",
    BLOCKED: "E310 E325",
    OVER_LIMIT: "E1203",
    AUTHENTICATION: "E202 E300 E301 E302 E303 E313 E317 E326 E327 E335 E708 E710 E1000 E1204",
    GAVE_UP: "E502 E905 E1205 E1206 E9205",
    LATE: "E906 E1602",
    WRONG_INSTRUMENT: "E201 E305 E316 E318 E322 E323 E330 E707 E709 E717 E902 E903 E907 E908 E1632",
    RISK: "E324 E338",
    INVALID: "E331 E332 E333 E702 E703 E704 E711 E712 E714 E715 E901 E1020 E1101",
    CONFLICT: "E504",
    ACCOUNT: "E341 E800",
    NOT_TAKEN: "E803",
}
ERRORS: dict[str, Verdict] = {code: verdict for verdict, codes in _BY_VERDICT.items() for code in codes.split()}
# What ``error_Message`` and ``field9`` say where the code says nothing; the first that is found.
TEXTS: tuple[tuple[str, Verdict], ...] = (
    ("insufficient", NO_FUNDS),
    ("no user action", LATE),
    ("timed out", LATE),
    ("card has expired", OUTDATED),
    ("card has been expired", OUTDATED),
    ("expired card", OUTDATED),
    ("cancel", GAVE_UP),
    ("limit", OVER_LIMIT),
    ("risk", RISK),
    ("fraud", RISK),
    ("invalid vpa", WRONG_INSTRUMENT),
    ("authenticat", AUTHENTICATION),
    ("invalid otp", AUTHENTICATION),
    ("incorrect pin", AUTHENTICATION),
    ("unreachable", TECHNICAL),
    ("server", TECHNICAL),
    ("technical", TECHNICAL),
)

# ``error_code`` of a capture, cancelation or refund: queued, under way, or for PayU's own people to follow up.
ACCEPTED = frozenset({"100", "101", "102", "104", "107", "123", "126", "127", "225", "226"})
# An earlier try of ours may be what stands in the way: token used, logged already, locked, same amount and
# token, captured already. The list of actions decides; until it shows ours, nobody knows.
REPEATED = frozenset({"106", "109", "120", "227", "301"})
# Two refunds of one amount within five minutes; the first may be an earlier try of ours.
SAME_AMOUNT = "214"
# About the request itself or the account, so no try of ours can have brought it about.
REFUSED: dict[str, Verdict] = {
    **dict.fromkeys(("116", "117", "119", "231", "250"), CONFLICT),
    **dict.fromkeys(("128", "232", "237", "238", "239", "303", "304", "305", "306"), INVALID),
    **dict.fromkeys(("233", "234", "235"), ACCOUNT),
    "251": NOT_TAKEN,
}
# An earlier try of ours may have brought it about: too much, not in the state for it, a second part. Or PayU's
# people may still see to it. Final only where what others have done explains it.
DOUBTFUL: dict[str, Verdict] = {
    **dict.fromkeys(("103", "105", "111", "113", "115", "230"), CONFLICT),
    **dict.fromkeys(("110", "236"), INVALID),
}
# ``msg`` of a refusal without a code. "Request failed" and 108 are not among them: what failed may have been
# the answer, and only a row of ours in the list of actions says that it was the action.
SAYINGS: tuple[tuple[str, Verdict], ...] = (
    ("invalid payuid", CONFLICT),
    ("not exists", CONFLICT),
    ("not found", CONFLICT),
    ("is empty", INVALID),
    ("parameter missing", INVALID),
)
# ``msg`` of any command: too many of them, and credentials that are not an account's.
BUSY_SAYING = "requests limit reached"
ACCOUNT_SAYINGS = ("invalid hash", "invalid key", "invalid merchant key")

# ``status`` of an action in lower case.
ACTIONS: dict[str, EffectStatus] = {
    "success": EffectStatus.SUCCEEDED,
    "failure": EffectStatus.FAILED,
    "failed": EffectStatus.FAILED,
    "queued": EffectStatus.PENDING,
    "requested": EffectStatus.PENDING,
    "in progress": EffectStatus.PENDING,
    "in_progress": EffectStatus.PENDING,
    "pending": EffectStatus.PENDING,
    "od_hit": EffectStatus.PENDING,
}
